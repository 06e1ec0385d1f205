"""The commands `warmstart kubeflow ...`. Nothing slow is imported and nobody contacted until a command needs it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy import output
from deploy.kubeflow import METADATA_SERVICE, MOUNT, VOLUME_CLAIM
from schemas.errors import BadInput

if TYPE_CHECKING:
    from deploy.kubeflow.client import Connection, Endpoint
    from deploy.kubeflow.package import Resolved, Wanted
    from deploy.kubeflow.package_file import Package


@click.group(short_help="The same pipeline on Kubeflow Pipelines.")
def kubeflow() -> None:
    """The same pipeline on Kubeflow Pipelines 2.5 or newer: one container a step.

    \b
    From an image and a volume to a run every night:
      warmstart doctor --kubeflow-endpoint http://localhost:8080
      warmstart kubeflow compile --config cats_vs_dogs --image registry.example/warmstart:1
      warmstart kubeflow submit --config cats_vs_dogs --image registry.example/warmstart:1 --follow
      warmstart kubeflow schedule set nightly --cron "0 3 * * *" --config cats_vs_dogs --image registry.example/w:1

    Photos and root lie on the volume, which every step finds at --mount. deploy/README.md tells how to set a cluster
    up.
    """


def _package_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a package is made of."""
    for option in reversed(
        [
            click.option("--config", "config_name", required=True, metavar="NAME|FILE", help="As in `warmstart run`."),
            click.option(
                "--image", required=True, envvar="WARMSTART_IMAGE", help="Of every step.  [env: WARMSTART_IMAGE]"
            ),
            click.option(
                "--data",
                multiple=True,
                metavar="[DATASET=]DIR",
                help="Photos as the cluster sees them: below --mount, gs://... or tfds:NAME.  [default: MOUNT/photos, "
                "or MOUNT/photos/DATASET of several]",
            ),
            click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Overrides one key."),
            click.option("--span", default="", help="Number or date of the span.  [default: the latest]"),
            click.option("--root", metavar="DIR", help="Below --mount.  [default: MOUNT/runs/<configuration>]"),
            click.option(
                "--tfx-pipeline-root", default="", metavar="DIR", help="Where artifacts go.  [default: into the root]"
            ),
            click.option("--volume-claim", default=VOLUME_CLAIM, show_default=True, help="PersistentVolumeClaim."),
            click.option("--mount", default=MOUNT, show_default=True, help="Where every step finds it."),
            click.option(
                "--metadata",
                default=METADATA_SERVICE,
                show_default=True,
                metavar="ADDRESS",
                help="ML Metadata: grpc://HOST:PORT, or mysql://USER@HOST[:PORT]/DATABASE.",
            ),
            click.option(
                "--metadata-secret", default="", metavar="NAME", help="Secret whose key `password` is that user's."
            ),
        ]
    ):
        command = option(command)
    return command


def _cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which Kubeflow."""
    for option in reversed(
        [
            click.option(
                "--endpoint",
                metavar="URL",
                help="Of Kubeflow Pipelines.  [env: KFP_ENDPOINT; default: through the kubeconfig]",
            ),
            click.option("--namespace", help="[env: KFP_NAMESPACE; default: kubeflow]"),
            # Read from the environment by the client, so that --help shows no token.
            click.option("--token", help="Better in the environment.  [env: KFP_TOKEN]"),
        ]
    ):
        command = option(command)
    return command


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How a run is started."""
    for option in reversed(
        [
            click.option("--experiment", help="[default: the pipeline's name]"),
            click.option("--service-account", help="Of the run's pods.  [default: the cluster's]"),
        ]
    ):
        command = option(command)
    return command


@kubeflow.command("compile", short_help="Writes a package that Kubeflow Pipelines takes.")
@_package_options
@click.option("--output", type=click.Path(path_type=Path), help="[default: <configuration>.yaml]")
@click.option(
    "--target",
    type=click.Choice(["kubeflow", "vertex"]),
    default="kubeflow",
    show_default=True,
    help="Vertex AI takes what TFX's KubeflowV2DagRunner writes; steps that it cannot run are named.",
)
def compile_command(output: Path | None, target: str, **package: Any) -> None:
    """Writes the pipeline as a package that Kubeflow Pipelines takes, also in its own pages.

    The options become the defaults of the run's parameters: config, data, span, overrides, root, tfx_pipeline_root and
    force_push can be set anew for every run, as long as the steps stay the same.

    \b
    Examples:
      warmstart kubeflow compile --config cats_vs_dogs --image registry.example/warmstart:1
      warmstart kubeflow compile --config pets.yaml --image registry.example/w:1 --data "/warmstart/photos/span-{SPAN}"
      warmstart kubeflow compile --config species --image registry.example/w:1 --set runtime.steps.FineTuning.memory=8G
    """
    from deploy.kubeflow.package import make_graph, make_package, resolve
    from deploy.quiet import quiet_libraries

    resolved = resolve(_wanted(**package))
    quiet_libraries()
    if target == "vertex":
        from deploy.kubeflow.vertex import compile_for_vertex

        file = output or Path(f"{resolved.config.name}.json")
        compile_for_vertex(make_graph(resolved)[0], resolved.cluster.image, file)
        click.echo(f"{file}: {resolved.config.name}, for Vertex AI")
        return
    name, text = make_package(resolved)
    file = output or Path(f"{resolved.config.name}.yaml")
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{file} cannot be written ({error.strerror}); give another file with --output") from None
    tasks = text.count("- deploy.kubeflow.node\n")
    click.echo(f"{file}: the pipeline {name}, {tasks} tasks, {len(text.encode()) / 1000:.0f} kB")


@kubeflow.command(short_help="Uploads the pipeline and starts a run.")
@_package_options
@_cluster_options
@_run_options
@click.option("--run-name", help="[default: the pipeline's name and the time]")
@click.option("--force-push", metavar="REASON", help="As in `warmstart run`.")
@click.option("--follow", is_flag=True, help="Waits for the end; Ctrl-C stops waiting, not the run.")
def submit(
    endpoint: str | None,
    namespace: str | None,
    token: str | None,
    experiment: str | None,
    service_account: str | None,
    run_name: str | None,
    force_push: str | None,
    follow: bool,
    **package: Any,
) -> None:
    """Compiles, uploads a new version unless it is there already, starts a run and prints its address.

    --span and --force-push are of this run alone; the other options become the version's defaults, as in compile.

    With --follow the exit code is 1 when the run failed, and 0 when Kubeflow says that it succeeded. For Kubeflow a run
    that pushed nothing, by verdict, has succeeded, and its API does not tell the verdict. Where the root can be read
    here too, as in a pod with the volume, `summary.json` is, and the exit code is that of `warmstart run`: 3 for
    such a run, 2 for one that was stopped. Elsewhere the run's page in Kubeflow says what became of it.

    \b
    Examples:
      warmstart kubeflow submit --config cats_vs_dogs --image registry.example/warmstart:1 --follow
      warmstart kubeflow submit --config cats_vs_dogs --image registry.example/warmstart:1 --span 2026-11-22
      KFP_ENDPOINT=https://kubeflow.example/pipeline warmstart kubeflow submit --config pets.yaml --image a/b:1
    """
    from datetime import datetime, timezone

    from deploy.kubeflow import client
    from deploy.kubeflow.package import resolve

    if force_push is not None and not force_push.strip():
        raise BadInput("--force-push was given without a reason; expected why the model must be pushed, in words")
    to = client.find_endpoint(endpoint, namespace, token)
    resolved = resolve(_wanted(**package))
    of_this_run = {"span": resolved.defaults.span, "force_push": (force_push or "").strip()}
    with _compiled(resolved, to, of_this_run) as (connection, name, compiled):
        submitted = client.submit(
            connection,
            compiled,
            name,
            experiment or name,
            run_name or f"{name} {datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S}",
            service_account,
        )
    click.echo(f"pipeline {name}: {'uploaded' if submitted.new_version else 'there already'}, {submitted.version_id}")
    click.echo(f"run {submitted.run_id}\n{submitted.run_url}")
    if hint := connection.ui_hint():
        click.echo(f"to open it: {hint}")
    if follow:
        reports = Path(resolved.defaults.root, "reports", submitted.run_id)
        sys.exit(_follow(connection, submitted.run_id, compiled.tasks, reports))


@kubeflow.group(short_help="Runs that Kubeflow starts by itself.")
def schedule() -> None:
    """Runs that Kubeflow starts by itself: one at a time, and none for times that were missed.

    \b
    Examples:
      warmstart kubeflow schedule set nightly --cron "0 3 * * *" --config cats_vs_dogs --image registry.example/w:1
      warmstart kubeflow schedule list
      warmstart kubeflow schedule delete nightly
    """


@schedule.command("set", short_help="Creates the schedule NAME, or replaces it.")
@click.argument("name")
@click.option(
    "--cron", required=True, help='Minute, hour, day, month, day of the week: "0 3 * * *" is every night at three.'
)
@click.option("--time-zone", default="UTC", show_default=True, help="That the expression is in.")
@click.option(
    "--cluster-time-zone",
    default="UTC",
    show_default=True,
    help="CRON_SCHEDULE_TIMEZONE of that Kubeflow; it has one for all schedules.",
)
@_package_options
@_cluster_options
@_run_options
def schedule_set(
    name: str,
    cron: str,
    time_zone: str,
    cluster_time_zone: str,
    endpoint: str | None,
    namespace: str | None,
    token: str | None,
    experiment: str | None,
    service_account: str | None,
    **package: Any,
) -> None:
    """Creates the schedule NAME, or replaces it; done twice, it changes nothing.

    \b
    Example:
      warmstart kubeflow schedule set nightly --cron "0 3 * * *" --config cats_vs_dogs --image registry.example/w:1
    """
    from deploy.kubeflow import client
    from deploy.kubeflow.package import resolve, scheduled_parameters
    from deploy.kubeflow.timetable import timetable

    when = timetable(cron, time_zone, cluster_time_zone)
    to = client.find_endpoint(endpoint, namespace, token)
    resolved = resolve(_wanted(**package))
    of_each_run = {} if resolved.defaults.span else scheduled_parameters(resolved.config)
    with _compiled(resolved, to, of_each_run) as (connection, pipeline_name, compiled):
        done = client.schedule(
            connection, compiled, pipeline_name, name, when, experiment or pipeline_name, service_account
        )
    click.echo(f"schedule {name}: {done.action}; the pipeline {pipeline_name}, {when.cron} in {when.time_zone}")
    for time in when.next_times(3):
        click.echo(f"  next {time:%Y-%m-%d %H:%M %Z}")


@schedule.command("list")
@_cluster_options
@click.option("--json", "as_json", is_flag=True, help="The same for programs.")
def schedule_list(endpoint: str | None, namespace: str | None, token: str | None, as_json: bool) -> None:
    """Shows the schedules that warmstart made.

    \b
    Examples:
      warmstart kubeflow schedule list
      KFP_ENDPOINT=https://kubeflow.example/pipeline warmstart kubeflow schedule list --json
    """
    from deploy.kubeflow import client

    found = client.list_schedules(client.connect(client.find_endpoint(endpoint, namespace, token)))
    if as_json:
        import dataclasses

        output.document([dataclasses.asdict(one) for one in found])
        return
    for one in found:
        click.echo(f"{one.name}  {one.described}{'' if one.enabled else '  (switched off)'}")
    if not found:
        click.echo("there are no schedules of warmstart")


@schedule.command("delete")
@click.argument("name")
@_cluster_options
def schedule_delete(name: str, endpoint: str | None, namespace: str | None, token: str | None) -> None:
    """Deletes the schedule NAME; runs that it started stay.

    \b
    Example:
      warmstart kubeflow schedule delete nightly
    """
    from deploy.kubeflow import client

    client.delete_schedule(client.connect(client.find_endpoint(endpoint, namespace, token)), name)
    click.echo(f"schedule {name}: deleted")


def _wanted(
    config_name: str,
    image: str,
    volume_claim: str,
    mount: str,
    metadata: str,
    metadata_secret: str,
    root: str | None,
    span: str,
    **more: Any,
) -> Wanted:
    """What the package options say."""
    from deploy.kubeflow.compiler import Cluster
    from deploy.kubeflow.package import Wanted

    cluster = Cluster(image, volume_claim, mount.rstrip("/"), metadata, metadata_secret)
    return Wanted(config_name, cluster, root=(root or "").rstrip("/"), span=span.strip(), **more)


@contextmanager
def _compiled(
    resolved: Resolved, to: Endpoint, of_this_run: Mapping[str, str]
) -> Iterator[tuple[Connection, str, Package]]:
    """The connection, the pipeline's name, and its package, compiled and checked; the image was asked for.

    Parameters of this run alone, empty ones left out, are no defaults of the package: whoever starts its newest version
    in Kubeflow's pages does not ask for them.
    """
    import dataclasses

    from deploy.kubeflow import client
    from deploy.kubeflow.image import check_image
    from deploy.kubeflow.package import make_package
    from deploy.kubeflow.package_file import read_package
    from deploy.quiet import quiet_libraries

    if note := check_image(resolved.cluster.image):
        output.note(f"note: {note}")
    connection = client.connect(to)
    quiet_libraries()
    if "span" in of_this_run:
        resolved = dataclasses.replace(resolved, defaults=dataclasses.replace(resolved.defaults, span=""))
    name, text = make_package(resolved)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"{name}.yaml")
        file.write_text(text, encoding="utf-8")
        yield connection, name, read_package(file, {key: value for key, value in of_this_run.items() if value})


def _follow(connection: Connection, run_id: str, tasks: Mapping[str, str], reports: Path) -> int:
    """Tells of every task until the run ends, and how it did, from its summary if that can be read here.

    Returns:
      the exit code.
    """
    from deploy.kubeflow import client
    from deploy.root import EXIT_CODES

    def show(change: client.TaskChange) -> None:
        seconds = "" if change.seconds is None else f"{change.seconds:8.0f} s"
        click.echo(f"  {change.name:<28} {change.state.lower():<12}{seconds}")

    ended = client.follow(connection, run_id, show, tasks)
    if ended.stopped:
        click.echo(f"no longer following; the run goes on: {connection.run_url(run_id)}")
        return 0
    outcome, succeeded = _outcome(reports), ended.state == client.SUCCEEDED
    # Whatever a summary says, a run of which a task failed is no success.
    if outcome and (succeeded or EXIT_CODES[outcome[0]]):
        code = EXIT_CODES[outcome[0]]
        click.echo(f"status: {outcome[0]}  {outcome[1]}")
    else:
        code = 0 if succeeded else 1
        click.echo(f"status: {ended.state.lower()}")
    for task in ended.failed:
        click.echo(f"  {task.name}: {task.error or 'its log in Kubeflow says why'}")
    if ended.error:
        click.echo(f"  {ended.error}")
    return code


def _outcome(reports: Path) -> tuple[str, str] | None:
    """Status and reason of the summary in a run's folder; None where there is none to read, as on most machines."""
    from deploy.root import EXIT_CODES
    from schemas.run_end import RunEnd, read_summary_file

    try:
        end = read_summary_file(RunEnd, reports)
    except (OSError, ValueError):
        return None
    return (end.status, end.reason) if end.status in EXIT_CODES else None
