"""What the trainings are told: their part of the configuration, typed from the graph to the last function.

TFX carries the settings from the graph to a step as a dictionary that JSON can hold, `custom_config`: the graph gives
`model_dump()`, and the step parses it once. Names that the configuration has too mean the same there and here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from components.backbone.unfreezing import Unfreezing
from components.example_gen.photo_rules import PhotoRules
from components.transform.augmentation import Augmentation

S = TypeVar("S", bound="Settings")
P = TypeVar("P", bound="PhaseSettings")


class Settings(BaseModel):
    """Settings that do not change; a key that none of them has is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def replaced(self: S, **values: Any) -> S:
        """A copy with other values.

        Raises:
          pydantic.ValidationError: there is no such setting, or its value is of another type.
        """
        return self.model_validate({**dict(self), **values})


class OptimizerSettings(Settings):
    """The optimizer, and its learning rate."""

    optimizer: Literal["adam", "rmsprop"]
    learning_rate: float
    schedule: Literal["constant", "cosine"]
    warmup_fraction: float
    gradient_clip_norm: float | None


class TrainingSettings(OptimizerSettings):
    """What every training is told: that of a phase, and that of each of the Tuner's trials."""

    code: str
    """Fingerprint of the code that the step runs; part of its cache key."""
    seed: int
    batch_size: int
    epochs: int
    patience: int
    label_smoothing: float
    class_weights: Literal["none", "balanced"]
    hidden_units: int
    dropout: float


class TunerSettings(TrainingSettings):
    """The search over the head and its schedule."""

    trials: int


class WarmStart(Settings):
    """The model that a phase starts from."""

    source: str
    folder: str
    """Of the model; empty for `feature_extraction`, and where no model is in production."""
    fingerprint: str
    """Of the model's content, empty where there is none to read; part of the cache key."""
    epochs: int | None
    variables: str
    renamed: dict[str, str]


class PhaseSettings(TrainingSettings):
    """What both phases are told."""

    backbone: str
    """Handle of an image feature vector (`components.backbone.registry`)."""
    backbone_fingerprint: str
    """Of the backbone's content; part of the cache key."""
    image_size: int
    """Side of the images that Transform makes, pixels."""
    mixed_precision: Literal["auto", "off"]
    augmentation_mode: Literal["none", "views", "online"]
    augmentation: Augmentation
    warm_start: WarmStart
    calibrate: bool
    abstain_below: float
    photo_rules: PhotoRules
    learning_rate_ratio: float
    """Of this phase to the first one, whose learning rate the Tuner looks for."""
    resume_folder: str
    """Where the states of interrupted trainings are kept; empty: they are not."""

    def tuned(self: P, hyperparameters: Mapping[str, Any] | None) -> P:
        """The settings with the best values that TFX Tuner found in the place of the configured ones."""
        found = (hyperparameters or {}).get("values", {})
        values = {name: value for name, value in found.items() if name in type(self).model_fields}
        if "learning_rate" in values:
            values["learning_rate"] *= self.learning_rate_ratio
        return self.replaced(**values)


class FeatureExtractionSettings(PhaseSettings):
    """Phase one."""


class FineTuningSettings(PhaseSettings):
    """Phase two."""

    strategy: Literal["feature_extraction", "top", "all", "auto"]
    unfreeze: Unfreezing
    block_rate: float
    stages: int
    from_activations: bool
