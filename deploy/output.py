"""How much the command line says, where to, and in which form. Imports nothing slow.

The result goes to standard output, everything else to standard error: errors, notes, progress where `--json` was given.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, Literal, TextIO

import click

# quiet: the result and errors. verbose: also what the libraries log.
Loudness = Literal["quiet", "normal", "verbose"]

_loudness: Loudness = "normal"


def set_loudness(loudness: Loudness) -> None:
    """For this process, by the global options `--quiet` and `--verbose`."""
    global _loudness
    _loudness = loudness
    if loudness == "verbose":
        # TensorFlow reads it once, on import.
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"


def loudness() -> Loudness:
    """What was set last."""
    return _loudness


def colours(stream: TextIO) -> bool:
    """Whether colours may go there: to a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def note(text: str) -> None:
    """A sentence beside the result."""
    if _loudness != "quiet":
        click.echo(text, err=True)


def document(content: Any) -> None:
    """The one JSON document that a program reads, on standard output."""
    click.echo(json.dumps(content, indent=2))


def counter(total: int, what: str) -> Callable[[int], None]:
    """A function that is told how many are done, and shows it on a terminal, in one line."""

    def show(done: int) -> None:
        if _loudness != "quiet" and sys.stderr.isatty():
            click.echo(f"\r{done} of {total} {what}", nl=done == total, err=True)

    return show
