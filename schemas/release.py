"""The description of a released model. A separate module, so that `rollback` reads it without slow imports."""

from __future__ import annotations

from dataclasses import dataclass

# Keys of `Release.metrics`, as far as a task has them.
RELEASE_METRICS = ("mean_iou", "accuracy", "loss", "calibration_error")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A measured value, and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Release:
    """Facts for a version's manifest. Pusher reads them from `release.json` next to ReleaseGate's blessing."""

    winner: str | None = None
    reason: str | None = None
    forced: str | None = None
    """The reason given for a forced push."""
    metrics: dict[str, Interval | None] | None = None
    """Accuracy, loss and calibration error of the winner; of masks also its mean IoU."""
    data_fingerprint: str | None = None
    compared_with: int | None = None
    """The version that was in production at the time."""
