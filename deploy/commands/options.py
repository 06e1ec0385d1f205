"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def complete_config(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes the known configurations, or files if none of them fits."""
    known = sorted(file.stem for file in Path(__file__).parents[2].glob("pipeline/configs/*.yaml"))
    found = [CompletionItem(name) for name in known if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def _require_photos(context: click.Context, parameter: click.Parameter, folder: str | None) -> str | None:
    """Runs after the options (the argument is declared last), unless DIR was given before them."""
    photos_or_config = folder or context.params.get("data") or context.params.get("config_name")
    if not photos_or_config and not context.resilient_parsing:
        raise click.MissingParameter(ctx=context, param=parameter, param_hint="'DIR'")
    return folder


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
root_option = click.option("--root", metavar="DIR", help="The root folder.  [default: the only one below runs/]")
folder_argument = click.argument("folder", metavar="[DIR]", required=False)
required_folder_argument = click.argument("folder", metavar="[DIR]", required=False, callback=_require_photos)


def several(*options: _Decorator) -> _Decorator:
    """Several options as one, in this order in the help."""

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


# What to train on, how, and where to keep everything.
config_options = several(
    click.option(
        "--config",
        "config_name",
        metavar="NAME|FILE",
        shell_complete=complete_config,
        help="A known configuration or a YAML file.  [default: image_folder, or the data set that DIR looks like]",
    ),
    click.option(
        "--data",
        multiple=True,
        metavar="[DATASET=]DIR",
        help="The same as DIR. Repeat it with names for several data sets: --data NAME=DIR.",
    ),
    click.option("--root", metavar="DIR", help="Where everything is kept.  [default: runs/<name of the photo folder>]"),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override one key of the configuration. Repeatable.",
    ),
)
