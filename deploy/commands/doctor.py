"""The command `warmstart doctor`."""

from __future__ import annotations

import sys

import click

from deploy import checks, output
from deploy import doctor as doctors
from deploy.commands.options import complete_config, json_option
from deploy.display import make_console


@click.command()
@click.option(
    "--config",
    "config_name",
    metavar="NAME|FILE",
    shell_complete=complete_config,
    help="What you want to run.  [default: what all configurations share]",
)
@click.option("--data", multiple=True, metavar="[DATASET=]DIR", help="As for `warmstart run`; checked if given.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="As for `warmstart run`.")
@click.option("--root", metavar="DIR", help="As for `warmstart run`.  [default: runs/<name of the photo folder>]")
@click.option("--kubeflow-endpoint", metavar="URL", help="A cluster to ask.  [env: KFP_ENDPOINT; default: none]")
@click.option("--no-start", is_flag=True, help="Do not start TensorFlow and TFX, which takes ten seconds.")
@json_option
def doctor(
    config_name: str | None,
    data: tuple[str, ...],
    overrides: tuple[str, ...],
    root: str | None,
    kubeflow_endpoint: str | None,
    no_start: bool,
    as_json: bool,
) -> None:
    """Check whether this machine can run the pipeline, and say what to do if it cannot.

    Each check is one line: `ok`; `warn` if a run will work, but you should know something; `fail` if it will not. The
    memory and disk that a run needs are estimates. Nothing is changed.

    \b
    Examples:
      warmstart doctor
      warmstart doctor --config cats_vs_dogs --data ~/photos/PetImages --root runs/cats_vs_dogs
      warmstart doctor --config pets.yaml --set training.batch_size=256 --no-start --json
      warmstart doctor --kubeflow-endpoint http://localhost:8080

    \b
    Exit codes:
      0  nothing fails
      2  something fails
    """
    console = make_console(sys.stdout)
    options = doctors.DoctorOptions(config_name, data, overrides, root, kubeflow_endpoint, not no_start)
    done = []
    for check in doctors.examine(options):
        done.append(check)
        if not as_json and (check.state == "fail" or output.loudness() != "quiet"):
            console.print(checks.line(check), soft_wrap=True)
    if as_json:
        output.document(checks.for_programs(done))
    sys.exit(checks.exit_code(done))
