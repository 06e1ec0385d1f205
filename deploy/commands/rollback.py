"""The command `warmstart rollback`."""

from __future__ import annotations

import click

from deploy import output, production
from deploy.commands.options import json_option, root_option
from deploy.root import find_root
from deploy.tracking import tracker


@click.command()
@click.argument("version", metavar="[VERSION]", type=int, required=False)
@root_option
@click.option("--reason", default="", metavar="TEXT", help="Why; shown in the history.")
@json_option
def rollback(version: int | None, root: str | None, reason: str, as_json: bool) -> None:
    """Put an earlier version back into production: VERSION, or the one before the current content.

    The earlier content gets a new, highest version number. Servers that watch the folder pick it up as they would a
    push, and no file that they are reading goes away. The model that was rolled back from is not pushed again, unless
    a run is forced to.

    \b
    Examples:
      warmstart rollback --reason "dogs in snow are called cats"
      warmstart rollback 1790000001 --root runs/photos
    """
    place = find_root(root)
    text = production.rollback(place, version, reason.strip())
    if as_json:
        output.document({"production": place.serving_folder().production(), "text": text})
    else:
        click.echo(text)
    if not_moved := tracker.follow_production(place):
        click.echo(f"note: {not_moved}", err=True)
