"""The command `warmstart retrain`."""

from __future__ import annotations

import sys

import click

from deploy import output
from deploy import retrain as retraining
from deploy.commands.options import config_options, required_folder_argument
from deploy.commands.session import begin


@click.command()
@config_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print the outcome, with summary.json if there was a run, as JSON."
)
@required_folder_argument
def retrain(
    config_name: str | None,
    data: tuple[str, ...],
    root: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    folder: str | None,
) -> None:
    """Train if there is new data in DIR, and otherwise say why not. Made for a schedule, and safe to call at any time.

    New data is anything that differs from the data of the last run that reached a decision: one more span, another
    version of a span, a span that was withdrawn, files that changed. Every call also checks that production is intact,
    and restores it if it is not. The outcome is appended to ROOT/retrain.jsonl and sent to notify.command.

    \b
    Examples:
      warmstart retrain photos
      warmstart retrain "photos/span-{SPAN}" --set data.window=4
      warmstart retrain --config pets.yaml --data photos
      warmstart --quiet retrain photos --json

    \b
    Exit codes:
      0  pushed, or nothing to do, or another run is active
      1  a step failed
      2  the input is wrong, or the data was stopped at a gate
      3  the run finished and pushed nothing, by verdict
      4  as 3, for the third time in a row (notify.alert_after_refusals); or production is damaged for good
    """
    session = begin(folder, config_name, data, root, overrides, as_json)
    done = retraining.retrain(session.config, session.root, session.display)
    if as_json:
        output.document(done.to_json())
    elif done.summary is not None and done.folder is not None:
        session.display.closing(done.summary, done.folder)
    else:
        session.display.status(done.status, done.reason)
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    if done.alert:
        click.echo(f"alert: {done.alert}", err=True)
    sys.exit(done.exit_code)
