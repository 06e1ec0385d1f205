"""How a run ended, and reading `summary.json`. A separate module, because a night with nothing to do needs no more."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from schemas.json_records import Record, from_json

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A node of the graph."""

    id: str
    state: str
    seconds: float = 0.0
    upstream: list[str] = field(default_factory=list)
    """The nodes that it waits for; empty in summaries from older versions."""


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """How a run ended: the part of a summary that can be read whatever else is in it."""

    status: str
    """`pushed`, `not_pushed`, `stopped`, `failed` or `skipped`."""
    reason: str = ""
    """One sentence."""
    nodes: list[Step] = field(default_factory=list)


def read_summary_file(kind: type[Record], folder: Path) -> Record:
    """Reads a run's `summary.json`.

    Args:
      kind: `Summary`, or `RunEnd` if that is enough.
      folder: folder of the run's report.

    Raises:
      OSError: the file cannot be read.
      ValueError: the content is not what this version writes; the message names the key.
    """
    return from_json(kind, json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8")))
