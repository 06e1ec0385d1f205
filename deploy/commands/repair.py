"""The command `warmstart repair`."""

from __future__ import annotations

import sys

import click

from deploy import output
from deploy import repair as repairs
from deploy.commands.options import json_option, root_option
from deploy.root import find_root, shown
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
    try:
        found = repairs.repair_all(place)
    except OSError as error:
        raise BadInput(f"{place.folder} cannot be written ({error.strerror or error}); nothing was changed") from None
    if as_json:
        output.document([{"text": one.text, "done": one.done} for one in found])
    else:
        for one in found:
            click.echo(one.text)
        if not found:
            click.echo(f"nothing is wrong in {shown(place.folder)}")
    sys.exit(0 if all(one.done for one in found) else 2)
