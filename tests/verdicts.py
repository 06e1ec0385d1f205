"""Verdicts as the tests read and make them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.verdict import VERDICT_FILE
from schemas.verdicts import SelectionVerdict


def verdict_in(folder: str | Path) -> dict[str, Any]:
    """What a gate wrote, as other programs read it."""
    return json.loads(Path(folder, VERDICT_FILE).read_text(encoding="utf-8"))


def selection_of(winner: str) -> SelectionVerdict:
    """What ModelSelector would say, for gates that ask for the winner only."""
    return SelectionVerdict(
        winner=winner, text="", examples=0, better=0, worse=0, difference=0.0, low=0.0, high=0.0, p_value=1.0
    )
