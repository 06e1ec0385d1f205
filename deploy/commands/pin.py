"""The command `warmstart pin`."""

from __future__ import annotations

import click

from deploy import output, production
from deploy.commands.options import json_option, root_option
from deploy.root import find_root


@click.command()
@click.argument("version", type=int)
@click.option("--remove", is_flag=True, help="Remove the pin.")
@root_option
@json_option
def pin(version: int, remove: bool, root: str | None, as_json: bool) -> None:
    """Keep VERSION for ever, however many versions come after it.

    Old versions that are not pinned are removed once there are more than serving.keep_versions of them.

    \b
    Examples:
      warmstart pin 1790000001
      warmstart pin 1790000001 --remove
    """
    text = production.pin(find_root(root), version, remove)
    if as_json:
        output.document({"version": version, "pinned": not remove, "text": text})
    else:
        click.echo(text)
