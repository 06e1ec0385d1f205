"""The command `warmstart history`."""

from __future__ import annotations

import click

from components.report.page import write_history_page
from deploy import output, production
from deploy.commands.options import json_option, root_option
from deploy.commands.report import open_page
from deploy.root import find_root
from schemas.errors import BadInput
from schemas.json_records import to_json


@click.command()
@root_option
@json_option
@click.option(
    "--html", "as_page", is_flag=True, help="Write a page with charts, print its path, and open it on a desktop."
)
def history(root: str | None, as_json: bool, as_page: bool) -> None:
    """Show all versions that were ever in production, all runs, and what is in production now.

    \b
    Examples:
      warmstart history
      warmstart history --root runs/photos --json
      warmstart history --html
    """
    if as_json and as_page:
        raise BadInput("--json and --html were both given; expected one of them")
    place = find_root(root)
    found = production.history(place)
    if as_page:
        place.reports.mkdir(exist_ok=True)
        open_page(write_history_page(found, place.folder.name, place.reports))
    elif as_json:
        output.document(to_json(found))
    else:
        click.echo(production.history_text(found, place))
