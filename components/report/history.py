"""What `warmstart history` tells: the versions and runs of a root folder. Imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass

from components.serving_folder.manifest import PastVersion
from schemas.release import Interval


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """status: as in `summary.json`, or `unreadable`, `unfinished` or `running`. accuracy: of the winner on the test
    split. difference, interval, verdict: of ModelSelector, the last its sentence. production_before, production_after:
    versions. What is not known is None.
    """

    run_id: str
    status: str
    reason: str
    winner: str | None = None
    accuracy: Interval | None = None
    difference: float | None = None
    interval: list[float] | None = None
    verdict: str | None = None
    production_before: int | None = None
    production_after: int | None = None
    duration_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class History:
    """All versions and runs, oldest first. production: the version, or None. problem: what is wrong with the version
    that should be there, a sentence; empty: nothing is.
    """

    production: int | None
    problem: str
    versions: list[PastVersion]
    runs: list[PastRun]
