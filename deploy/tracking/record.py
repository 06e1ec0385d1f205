"""`mlflow.json` in the root folder: which server hears of this root, and which runs it has not heard of yet."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from components.whole_file import write_whole
from schemas.json_records import from_json, to_json

RECORD_FILE = "mlflow.json"


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """What the server is told, and where."""

    uri: str
    experiment: str
    model: str
    alias: str
    waiting: list[str] = field(default_factory=list)
    """Runs that the server has not heard of, the oldest first."""


def read_tracking(root: Path) -> Tracking | None:
    """The record of a root folder; None: there is none that can be read, so nothing is tracked."""
    try:
        return from_json(Tracking, json.loads((root / RECORD_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def write_tracking(root: Path, tracking: Tracking) -> None:
    """Writes the record of a root folder.

    Raises:
      OSError: the disk does not take it.
    """
    write_whole(root / RECORD_FILE, json.dumps(to_json(tracking), indent=2).encode() + b"\n")
