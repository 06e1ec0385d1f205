"""The thresholds of DriftGate: `drift` of the configuration, where each key is described."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Thresholds(BaseModel):
    """The thresholds of one check; a check without thresholds is off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    note: float | None = None
    stop: float | None = None

    @property
    def is_off(self) -> bool:
        return self.note is None and self.stop is None


class DriftSettings(BaseModel):
    """The keys in the same order as in the configuration, so that both give the same JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label_distribution: Thresholds
    image_size: Thresholds
    image_format: Thresholds
    brightness: Thresholds
    feature_distance: Thresholds
    class_feature_distance: Thresholds
    false_alarms: float
    far_quantile: float
    listed_photos: int

    @property
    def checks(self) -> dict[str, Thresholds]:
        """Name -> thresholds of each check."""
        return {name: value for name, value in self if isinstance(value, Thresholds)}
