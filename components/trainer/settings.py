"""The settings of the trainings: their part of the configuration, typed from the graph to the last function.

TFX passes the settings from the graph to a step as a JSON dictionary, `custom_config`: the graph calls `model_dump()`,
and the step parses the result once. Names mean the same as in the configuration.
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
    """Immutable settings; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def replaced(self: S, **values: Any) -> S:
        """A copy with some values replaced.

        Raises:
          pydantic.ValidationError: there is no such setting, or its value has the wrong type.
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
    """The settings of every training: of a phase, and of each of Tuner's trials."""

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
    """Folder of the model; empty for `feature_extraction`, or if no model is in production."""
    fingerprint: str
    """Fingerprint of the model's content, empty without a model; part of the cache key."""
    epochs: int | None
    variables: str
    renamed: dict[str, str]


class DecoderSettings(Settings):
    """The decoder of a segmentation model."""

    strides: tuple[int, ...]
    """Of the backbone's tensors that it reads."""
    widths: tuple[int, ...]
    """Channels at each of them, coarse to fine."""
    dice: bool
    """Whether the loss has a Dice term."""


class PhaseSettings(TrainingSettings):
    """The settings of both phases."""

    task: Literal["classification", "segmentation"] = "classification"
    decoder: DecoderSettings = DecoderSettings(strides=(4, 8, 16, 32), widths=(160, 128, 96, 96), dice=True)
    """Of segmentation."""

    backbone: str
    """Handle of an image feature vector (`components.backbone.registry`)."""
    backbone_fingerprint: str
    """Fingerprint of the backbone's content; part of the cache key."""
    image_size: int
    """Side of the images that Transform makes, pixels."""
    mixed_precision: Literal["auto", "off"]
    augmentation_mode: Literal["none", "mirror", "views", "online"]
    augmentation: Augmentation
    warm_start: WarmStart
    calibrate: bool
    abstain_below: float
    photo_rules: PhotoRules
    learning_rate_ratio: float
    """Learning rate of this phase divided by that of the first phase, which Tuner searches for."""
    resume_folder: str
    """Keeps the states of interrupted trainings; empty to keep none."""

    def tuned(self: P, hyperparameters: Mapping[str, Any] | None) -> P:
        """The settings with the best values found by TFX Tuner instead of the configured ones."""
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
    unfreeze_far: Unfreezing | None = None
    """What `auto` unfreezes instead in a task that is far from ImageNet, and activations are cached below; None with
    another strategy, or for masks."""
    calibrated_choice: bool = False
    """Whether the best epoch is the one whose loss is lowest after calibration, instead of before it."""
    epochs_by_task: bool = False
    """Whether `recipe` chooses the epochs; `epochs` is then the most that it may choose."""
    rate_by_task: bool = False
    """Whether the learning rate is `far_rate` times as high in a task that is far from ImageNet."""
    far_rate: float = 1.0
    block_rate: float
    stages: int
    from_activations: bool
