"""Small pieces of sentences."""

from __future__ import annotations

from collections.abc import Sequence


def and_more(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are: `a, b and 3 more`."""
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
