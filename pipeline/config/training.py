"""What is learnt, from which pixels, and how."""

from __future__ import annotations

import contextlib
import operator
import os
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from components.example_gen.photo_rules import WHITE, Colour
from pipeline.config.section import Section, regular_expression
from schemas import features
from schemas.words import did_you_mean

_SCHEMAS_FOLDER = Path(features.__file__).parent


class TaskConfig(Section):
    """What is learnt."""

    label: Literal["label", "species"] = Field(
        "label", description="`label`: each data set's own classes; `species`: cat or dog for every data set."
    )
    schema_name: str = Field(description="Curated schema in schemas/, without .pbtxt.")

    @field_validator("schema_name")
    @classmethod
    def _is_there(cls, name: str) -> str:
        known = sorted(path.stem for path in _SCHEMAS_FOLDER.glob("*.pbtxt"))
        if name not in known:
            raise ValueError(f"no such schema{did_you_mean(name, known) or '; known: ' + ', '.join(known)}")
        return name


class ImageConfig(Section):
    """How a photo becomes a tensor, in training and in serving."""

    size: int = Field(160, ge=32, le=1024, description="Side of the square the photo is resized to, pixels.")
    resize_method: Literal["bilinear", "bicubic", "area"] = Field(
        "bilinear", description="As `tf.image.resize` has it."
    )
    antialias: bool = Field(
        False,
        description="Low-pass filter before shrinking. Off, as in the input pipelines the published feature "
        "vectors were trained with; photos much larger than `size` gain from it at about half the speed.",
    )
    background: str = Field(
        str(WHITE),
        description='What transparent parts of a photo are seen on: a name such as white, "#ffffff" in quotes, or '
        "[255, 255, 255].",
    )

    @field_validator("background", mode="before")
    @classmethod
    def _colour(cls, background: object) -> str:
        if isinstance(background, list):
            with contextlib.suppress(TypeError, ValueError):
                return str(Colour(*map(operator.index, background)))
        if isinstance(background, str) and re.fullmatch("#[0-9a-fA-F]{6}", background):
            return background.lower()
        if isinstance(background, str):
            from PIL import ImageColor  # only for what is written otherwise: Pillow is slow to import

            with contextlib.suppress(TypeError, ValueError):  # the former where it has an alpha
                return str(Colour(*ImageColor.getrgb(background)))
        raise ValueError('expected a colour: a name such as white, "#ffffff" in quotes, or [255, 255, 255]')


class BackboneConfig(Section):
    handle: str = Field(
        "efficientnet_lite0", description="Known name, TF-Hub URL, folder, or .tar.gz of an image feature vector."
    )


class HeadConfig(Section):
    """What is put on the feature vector."""

    hidden_units: int = Field(0, ge=0, le=65_536, description="Width of a hidden ReLU layer; 0: none.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Share of the inputs of the last layer left out in training.")


class AugmentationConfig(Section):
    """Random changes of the training photos. Evaluation and serving never see them."""

    mode: Literal["none", "views", "online"] = Field(
        "none",
        description="`views`: a fixed number of changed copies goes through the backbone once, and is cached; "
        "`online`: every epoch sees new changes, and runs the whole backbone each time.",
    )
    views: int = Field(3, ge=1, le=100, description="Changed copies of each training photo, besides the photo itself.")
    flip: bool = Field(True, description="Left and right are exchanged in every other photo.")
    rotation_degrees: float = Field(10.0, ge=0, le=180, description="Turns by up to this, either way.")
    zoom: float = Field(0.1, ge=0, lt=1, description="Zooms by a factor in 1 +- this.")
    scale_jitter: float = Field(0.2, ge=0, lt=1, description="Crops with sides down to 1 - this, anywhere.")
    colour: float = Field(0.1, ge=0, lt=1, description="Brightness, contrast and saturation change up to this.")


class WarmStartConfig(Section):
    """Where the fine-tuned model starts from, and the head of feature extraction where it fits."""

    source: str = Field(
        "feature_extraction",
        description="`feature_extraction`: of this run; `production`: the model in production; or a SavedModel's "
        "folder. A source that does not fit is named with the reason, and the run's own model takes its place. Feature "
        "extraction starts from it too, if its backbone is the published one, and anew otherwise.",
    )
    epochs: int | None = Field(
        None,
        ge=0,
        le=10_000,
        description="Of a phase that starts from `source`, with all its variables and no new class, at most: a model "
        "that has learnt from most of the photos needs fewer; empty: as many as the phase's own `epochs`.",
    )
    variables: str = Field(
        ".*", description="Regular expression, from the start of a variable's name: what is copied from the source."
    )
    renamed: dict[str, str] = Field(
        default_factory=dict, description="Variable of the new model -> its name in the source."
    )

    @field_validator("source")
    @classmethod
    def _is_there(cls, source: str) -> str:
        if source in ("feature_extraction", "production"):
            return source
        folder = Path(os.path.expanduser(source)).absolute()
        if not (folder / "saved_model.pb").is_file():
            near = did_you_mean(source, ["feature_extraction", "production"])
            raise ValueError(f"no SavedModel there{near or '; expected feature_extraction, production or its folder'}")
        return str(folder)

    @field_validator("variables")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        return regular_expression(pattern)


class TunerConfig(Section):
    """KerasTuner over head and schedule, on the cached vectors."""

    trials: int = Field(0, ge=0, le=1000, description="Tried sets of values; 0: no tuning.")
    epochs: int = Field(30, ge=1, le=10_000, description="Of each trial, at most.")


class PhaseConfig(Section):
    epochs: int = Field(ge=0, le=10_000, description="At most.")
    learning_rate: float = Field(gt=0, le=10, description="At its peak.")
    patience: int = Field(ge=1, description="Epochs without a better eval loss before training ends early.")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="Of the learning rate: it stays, or falls to 0 as a cosine does."
    )
    warmup_fraction: float = Field(0.0, ge=0, lt=1, description="Share of all steps in which the rate rises from 0.")


class FeatureExtractionConfig(PhaseConfig):
    """Phase one: a new head on the frozen backbone, trained on cached feature vectors."""

    epochs: int = Field(60, ge=1, le=10_000, description="At most.")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="At its peak.")
    patience: int = Field(
        10, ge=1, description="Epochs without a better loss on the eval split before training ends early."
    )


class FineTuningConfig(PhaseConfig):
    """Phase two: warm-started from phase one, with a part of the backbone learning too."""

    epochs: int = Field(5, ge=0, le=10_000, description="At most; 0: the fine-tuned model is the one it starts from.")
    learning_rate: float | None = Field(None, gt=0, le=10, description="Empty: a tenth of phase one's.")  # type: ignore[assignment]
    patience: int = Field(
        3, ge=1, description="Epochs without a better loss on the eval split before training ends early."
    )
    strategy: Literal["feature_extraction", "top", "all", "auto"] = Field(
        "top",
        description="What learns besides the head: nothing, the top of the backbone, all of it, or chosen from the "
        "number of photos and how similar the task is to ImageNet.",
    )
    unfreeze: str | None = Field(
        None,
        description="Of `top`: regular expression, from the start of a variable's name. With none of the four "
        "`unfreeze` keys: the known backbone's own, or the last fifth of an unknown one's kernels.",
    )
    unfreeze_blocks: list[str] | None = Field(None, min_length=1, description="Of `top`: these blocks.")
    unfreeze_last: int | None = Field(None, ge=1, description="Of `top`: the last so many kernels.")
    unfreeze_fraction: float | None = Field(None, gt=0, le=1, description="Of `top`: this share of the kernels.")
    block_rate: float = Field(
        1.0, gt=0, le=1, description="Each block learns at this multiple of the rate of the block above it."
    )
    stages: int = Field(1, ge=1, le=100, description="Gradual unfreezing: the blocks join in so many stages.")
    from_activations: bool = Field(
        True, description="Trains from cached activations at the freeze boundary, where the backbone can be cut."
    )

    @field_validator("unfreeze")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return None if pattern is None else regular_expression(pattern)

    @model_validator(mode="after")
    def _one_way_to_unfreeze(self) -> FineTuningConfig:
        names = ("unfreeze", "unfreeze_blocks", "unfreeze_last", "unfreeze_fraction")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} say the same thing in two ways; expected one of them")
        if given and self.strategy != "top":
            raise ValueError(f"{given[0]} belongs to strategy top, not to {self.strategy}; drop one of them")
        return self


class TrainingConfig(Section):
    seed: int = Field(42, ge=0, lt=2**31, description="Of everything drawn: head, order, augmentation, bootstrap.")
    batch_size: int = Field(32, ge=1, le=4096, description="Photos a step, in both phases.")
    optimizer: Literal["adam", "rmsprop"] = Field("adam", description="Of both phases.")
    gradient_clip_norm: float | None = Field(None, gt=0, description="Largest norm of all gradients together.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of each label that goes to all classes alike.")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="`balanced`: a class weighs in inverse proportion to its number of photos."
    )
    mixed_precision: Literal["auto", "off"] = Field(
        "auto", description="`auto`: float16 where a GPU has tensor cores; a CPU always calculates in float32."
    )
    calibrate: bool = Field(
        True,
        description="The exported model divides its logits by one temperature, fitted on the eval split, so that a "
        "probability of 80 % is right four times in five.",
    )
    head: HeadConfig = HeadConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    warm_start: WarmStartConfig = WarmStartConfig()
    tuner: TunerConfig = TunerConfig()
    feature_extraction: FeatureExtractionConfig = FeatureExtractionConfig()
    fine_tuning: FineTuningConfig = FineTuningConfig()

    @property
    def fine_tuning_rate(self) -> float:
        """The learning rate of phase two."""
        return self.fine_tuning.learning_rate or self.feature_extraction.learning_rate / 10
