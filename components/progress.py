"""Progress inside long steps: shown by the command line locally, and by nothing on a distributed runner."""

from __future__ import annotations

from collections.abc import Callable

# (what is counted, how many so far, how many there are or 0 where unknown)
Listener = Callable[[str, int, int], None]

_listener: Listener | None = None


def listen(listener: Listener | None) -> None:
    """Sends the progress of this process to `listener`; None for nowhere."""
    global _listener
    _listener = listener


def report(what: str, done: int, total: int = 0) -> None:
    """Reports that `done` of `total` `what` are done; a total of 0 is unknown."""
    if _listener is not None:
        _listener(what, done, total)


class Counter:
    """Counts items of one kind across the workers of this process."""

    def __init__(self, what: str, total: int = 0):
        self._what, self._total, self._done = what, total, 0

    def add(self, items: int = 1) -> None:
        self._done += items
        report(self._what, self._done, self._total)
