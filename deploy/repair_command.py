"""The command `warmstart repair`."""

from __future__ import annotations

import sys

import click

from deploy import output


@click.command(short_help="Puts right what was damaged: production, ML Metadata.")
@click.option("--root", metavar="DIR", help="The root folder.  [default: the only one below runs/]")
@click.option("--json", "as_json", is_flag=True, help="The same for programs.")
def repair(root: str | None, as_json: bool) -> None:
    """Puts right what was damaged while nobody ran.

    A version in production whose files are missing or changed gets its content back from another copy, as a new
    version. ML Metadata's file, if it is damaged, is replaced by the copy that was made after the last run. What was
    damaged is kept, and no run is needed for it.

    \b
    Examples:
      warmstart repair
      warmstart repair --root runs/flowers --json

    \b
    Exit codes:
      0  nothing is wrong any more
      2  something could not be put right
    """
    from deploy import repair as repairs
    from deploy.root import find_root, shown
    from schemas.errors import BadInput

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
