"""The command `warmstart inspect`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from deploy import output


@click.command(short_help="Says what a folder of photos is understood to hold.")
@click.argument("folder", metavar="DIR")
@click.option(
    "--config",
    "config_name",
    metavar="NAME|FILE",
    help="As of `run`.  [default: what the folder looks like]",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Overrides one key; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="The same for programs.")
def inspect(folder: str, config_name: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Says what a folder of photos is understood to hold: classes, splits, and what is left out. Reads names and lists
    only, and changes nothing.

    \b
    Examples:
      warmstart inspect ~/photos/PetImages
      warmstart inspect dog-breeds --set data.labels=labels.csv
      warmstart inspect frames --set data.group=prefix:_
      warmstart inspect flowers --json
    """
    from components.example_gen.layouts import guess_dataset
    from deploy.data_folders import check_sources, look_at_folders
    from pipeline.config import load_config

    # Each data set has a configuration of its name.
    name = config_name or guess_dataset(folder)
    config = load_config(name, list(overrides), [folder])
    if as_json:
        sources = {str(dataset): source or "" for dataset, source in config.data.sources.items()}
        output.document([overview.as_dict() for overview in look_at_folders(config, sources, config.task.label)])
        return
    check_sources(config, click.echo)
    words = ["warmstart", "run", "--config", name, "--data", str(Path(folder).resolve()) if folder == "." else folder]
    for override in overrides:
        words += ["--set", override]
    click.echo(f"to train on it: {shlex.join(words)}")
