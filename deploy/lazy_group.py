"""A group of commands that are imported only when they are called, like metaflow's `LazyGroup`."""

from __future__ import annotations

import pkgutil
from collections import UserDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem


class LazyCommand(NamedTuple):
    """Where a command is defined, and its line in the help of the group."""

    target: str
    """`package.module:name` of the command."""
    short_help: str
    """One line."""


class LazyGroup(click.Group):
    """Lists its commands and completes their names without importing any."""

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.lazy = lazy
        self.commands = _LazyCommands(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.short_help) for name, command in self.lazy.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        fitting = {name: command for name, command in self.lazy.items() if name.startswith(incomplete)}
        names = [CompletionItem(name, help=command.short_help) for name, command in fitting.items()]
        return names + click.Command.shell_complete(self, ctx, incomplete)


class _LazyCommands(UserDict):
    """Commands by name, imported when they are looked up."""

    def __getitem__(self, name: str) -> click.Command:
        return pkgutil.resolve_name(super().__getitem__(name).target)
