"""How much the command line prints, where and in which form. Imports nothing slow.

The result goes to standard output. Errors, notes and, with `--json`, progress go to standard error.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, TextIO

import click

# quiet: the result and errors. verbose: also what the libraries log.
Loudness = Literal["quiet", "normal", "verbose"]

_loudness: Loudness = "normal"


def set_loudness(loudness: Loudness) -> None:
    """Sets the loudness of this process, from the global options `--quiet` and `--verbose`."""
    global _loudness
    _loudness = loudness
    if loudness == "verbose":
        # TensorFlow reads it once, on import.
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"


def loudness() -> Loudness:
    """The loudness of this process."""
    return _loudness


def colours(stream: TextIO) -> bool:
    """Whether a stream may have colours: a terminal may, unless NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def note(text: str) -> None:
    """Prints a sentence that is not part of the result, unless `--quiet` was given."""
    if _loudness != "quiet":
        click.echo(text, err=True)


def document(content: Any) -> None:
    """Prints the JSON document of a command on standard output."""
    click.echo(json.dumps(content, indent=2))


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Says on a terminal what takes a while, as long as it does."""
    shown = _loudness != "quiet" and sys.stderr.isatty()
    if shown:
        click.echo(f"{what} ...", nl=False, err=True)
    try:
        yield
    finally:
        if shown:
            click.echo(f"\r{' ' * (len(what) + 4)}\r", nl=False, err=True)


def counter(total: int, what: str) -> Callable[[int], None]:
    """A function that shows on one line of a terminal how many of `total` are done."""

    def show(done: int) -> None:
        if _loudness != "quiet" and sys.stderr.isatty():
            click.echo(f"\r{done} of {total} {what}", nl=done == total, err=True)

    return show


def quiet_libraries() -> None:
    """Hides everything but errors of TensorFlow and Abseil, unless `--verbose` was given.

    Call it before TensorFlow is imported.
    """
    if loudness() == "verbose":
        return
    # TensorFlow reads it once, on import.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    warnings.filterwarnings("ignore")
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
