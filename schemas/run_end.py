"""How a run ended, and how `summary.json` is read. In a module of its own: a night with nothing to do needs no more."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from schemas.json_records import Record, from_json

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A node of the graph. upstream: the nodes that it waits for; empty in the summaries of older versions."""

    id: str
    state: str
    seconds: float = 0.0
    upstream: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """How a run ended: what can be read of a summary whatever else is in it.

    status: `pushed`, `not_pushed`, `stopped`, `failed` or `skipped`. reason: a sentence.
    """

    status: str
    reason: str = ""
    nodes: list[Step] = field(default_factory=list)


def read_summary_file(kind: type[Record], folder: Path) -> Record:
    """The content of a run's `summary.json`.

    Args:
      kind: `Summary`, or `RunEnd` for whoever needs no more.
      folder: of the run.

    Raises:
      OSError: it cannot be read.
      ValueError: it is not as this version writes it; the sentence names the key.
    """
    return from_json(kind, json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8")))
