"""What is known of a model that is released. In a module of its own, for `rollback` reads it and is not to wait."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A measured value, and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Release:
    """What Pusher writes into a version's manifest, from `release.json` beside ReleaseGate's blessing.

    metrics: accuracy, loss and calibration error of the winner. compared_with: the version in production then.
    """

    winner: str | None = None
    reason: str | None = None
    forced: str | None = None
    metrics: dict[str, Interval | None] | None = None
    data_fingerprint: str | None = None
    compared_with: int | None = None
