"""The command `warmstart repair`."""

from __future__ import annotations

import sys

import click

from deploy import output
from deploy.commands.options import json_option, root_option
from deploy.repair import Repair, repair_all
from deploy.root import find_root, shown
from deploy.tracking import tracker
from schemas.errors import BadInput


@click.command()
@root_option
@json_option
def repair(root: str | None, as_json: bool) -> None:
    """Mend files that were damaged between runs.

    If files of the version in production are missing or changed, its content is restored from another copy, as a new
    version. If the ML Metadata file is damaged, it is replaced by the copy made after the last run. Damaged files are
    kept, and nothing is trained.

    \b
    Examples:
      warmstart repair
      warmstart repair --root runs/photos --json

    \b
    Exit codes:
      0  everything is in order
      2  something could not be mended
    """
    place = find_root(root)
    done: list[Repair] = []
    try:
        done.extend(repair_all(place))
    except OSError as error:
        before = f"; done before that: {'; '.join(each.text for each in done)}" if done else "; nothing was changed"
        raise BadInput(
            f"{place.folder} cannot be written ({error.strerror or error}){before}. Free some space or change the "
            "permissions, and repair again"
        ) from None
    if as_json:
        output.document([{"text": each.text, "done": each.done} for each in done])
    else:
        for each in done:
            click.echo(each.text)
        if not done:
            click.echo(f"nothing is wrong in {shown(place.folder)}")
    if done and (not_moved := tracker.follow_production(place)):
        click.echo(f"note: {not_moved}", err=True)
    sys.exit(0 if all(each.done for each in done) else 2)
