"""The versions and runs of a root folder, as `warmstart history` shows them. Imports nothing slow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from components.serving_folder.manifest import PastVersion
from schemas.json_records import OPTIONAL
from schemas.release import Interval


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """A run of the past. Anything unknown is None."""

    run_id: str
    status: str
    """As in `summary.json`, or `unreadable`, `unfinished` or `running`."""
    reason: str
    winner: str | None = None
    accuracy: Interval | None = None
    """Accuracy of the winner on the test split."""
    mean_iou: Interval | None = field(default=None, metadata=OPTIONAL)
    """Of masks: its mean IoU."""
    difference: float | None = None
    """Gain in accuracy, or in mean IoU, from fine-tuning, from ModelSelector."""
    interval: list[float] | None = None
    verdict: str | None = None
    production_before: int | None = None
    production_after: int | None = None
    duration_seconds: float | None = None


def measure_of(runs: Iterable[PastRun]) -> str:
    """What the runs are compared by, in words."""
    found = {"mean IoU" if run.mean_iou else "accuracy" for run in runs if run.mean_iou or run.accuracy}
    return " or ".join(sorted(found)) or "accuracy"


@dataclass(frozen=True, kw_only=True)
class History:
    """All versions and runs, oldest first."""

    production: int | None
    problem: str
    """One sentence on what is wrong with the version that should be in production; empty if nothing is."""
    versions: list[PastVersion]
    runs: list[PastRun]
