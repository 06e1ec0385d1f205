"""The command `warmstart inspect`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from deploy import output
from deploy.commands.options import complete_config, json_option
from deploy.config_choice import choose_config
from deploy.data_folders import check_sources, look_at_folders


@click.command()
@click.argument("folder", metavar="DIR")
@click.option(
    "--config",
    "config_name",
    metavar="NAME|FILE",
    shell_complete=complete_config,
    help="As for `warmstart run`.  [default: image_folder, or the data set that DIR looks like]",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="As for `warmstart run`.")
@json_option
def inspect(folder: str, config_name: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show how a folder of photos is understood: its classes, its splits, and what is left out.

    Only names and lists are read, and nothing is changed.

    \b
    Examples:
      warmstart inspect photos
      warmstart inspect dog-breeds --set data.labels=labels.csv
      warmstart inspect frames --set data.group=prefix:_
      warmstart inspect photos --json
    """
    notes: list[str] = []
    _, config = choose_config(config_name, [folder], overrides, notes.append)
    if as_json:
        overviews = look_at_folders(config, config.data.folders, config.task.label)
        output.document([overview.as_dict() for overview in overviews])
        return
    check_sources(config, click.echo)
    for note in notes:
        click.echo(note)
    words = ["warmstart", "run", str(Path(folder).resolve()) if folder == "." else folder]
    words += ["--config", config_name] if config_name else []
    for override in overrides:
        words += ["--set", override]
    click.echo(f"to train on it: {shlex.join(words)}")
