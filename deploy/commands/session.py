"""The start of `run` and `retrain` on the command line."""

from __future__ import annotations

from collections.abc import Sequence

import click

from deploy import local, output, session
from deploy.display import ConsoleDisplay
from deploy.root import CONTEXT_KEY


def begin(
    folder: str | None,
    config_name: str | None,
    data: Sequence[str],
    root: str | None,
    overrides: Sequence[str],
    as_json: bool,
) -> session.Session:
    """`session.begin` with a display on standard output, or on standard error if the former is for a document."""
    display = ConsoleDisplay(local.terminal_stream(2 if as_json else 1), output.loudness())
    begun = session.begin([folder, *data] if folder else data, config_name, root, overrides, display)
    click.get_current_context().meta[CONTEXT_KEY] = begun.root
    return begun
