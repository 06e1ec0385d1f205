"""Small phrases of messages, so that all of them say the same thing in the same way."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def did_you_mean(name: str, known: Sequence[str], most: int = 1) -> str:
    """`; did you mean 'cat'?`, or an empty string where nothing known is like the name.

    Args:
      name: what was given.
      known: what could have been meant.
      most: how many of them are named, the nearest first.
    """
    near = difflib.get_close_matches(name, known, n=most, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def spelled(name: object) -> str:
    """A name in the code as people write it: `not_pushed` is "not pushed", `fine_tuned` is "fine-tuned"."""
    return str(name).replace("fine_tuned", "fine-tuned").replace("_", " ")


def and_more(items: Sequence[str], most: int, separator: str = ", ") -> str:
    """The first items in one line: `a, b and 3 more`.

    Args:
      items: what is listed.
      most: how many are shown.
      separator: between two.
    """
    shown = separator.join(items[:most])
    between = " and " if separator == ", " else f"{separator}and "
    return f"{shown}{between}{len(items) - most} more" if len(items) > most else shown


def on_one_line(error: BaseException | str, most: int | None = 300) -> str:
    """The text of an error on one line, or the name of its kind where it has none.

    Args:
      error: it, or its text.
      most: characters that are kept; None: all.
    """
    return " ".join(str(error).split())[:most] or type(error).__name__


def with_kind(error: BaseException, most: int | None = 300) -> str:
    """The name of an error's kind, and its text on one line: `OSError: disk full`; `most` as for `on_one_line`."""
    text = " ".join(str(error).split())[:most]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def first_line(error: BaseException | str) -> str:
    """The first line of an error's text, or the name of its kind where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
