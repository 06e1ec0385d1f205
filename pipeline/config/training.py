"""What the models learn, from which pixels, and how."""

from __future__ import annotations

import contextlib
import operator
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from components.backbone import registry
from components.example_gen.photo_rules import WHITE, Colour
from pipeline.config.section import Section, regular_expression
from schemas import features
from schemas.words import did_you_mean

_SCHEMAS_FOLDER = Path(features.__file__).parent


class TaskConfig(Section):
    """What the models learn to tell apart."""

    kind: Literal["classification", "segmentation"] = Field(
        "classification",
        description="`classification`: a class for each photo; `segmentation`: a class for each pixel, learnt from "
        "masks.",
    )
    label: Literal["label", "species"] = Field(
        "label",
        description="`label`: the classes of the data set; `species`: cat or dog, for every data set. Segmentation "
        "learns the classes of the masks instead.",
    )
    ignore: list[str] = Field(
        [],
        description="Classes of masks, by name or id (0 is the first class), whose pixels are not counted: not in "
        "training and not in any metric. `[border]` is the convention of Oxford-IIIT Pets' authors, who call these "
        "pixels not classified.",
    )
    schema_name: str = Field(description="Name of the curated schema in schemas/, without .pbtxt.")

    @field_validator("ignore", mode="before")
    @classmethod
    def _ids_are_texts(cls, classes: object) -> object:
        if not isinstance(classes, list):
            return classes
        return [str(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in classes]

    @field_validator("schema_name")
    @classmethod
    def _is_there(cls, name: str) -> str:
        known = sorted(path.stem for path in _SCHEMAS_FOLDER.glob("*.pbtxt"))
        if name not in known:
            raise ValueError(f"no such schema{did_you_mean(name, known) or '; known: ' + ', '.join(known)}")
        return name

    @property
    def schema_has_masks(self) -> bool:
        """Whether the curated schema is one for segmentation."""
        content = (_SCHEMAS_FOLDER / f"{self.schema_name}.pbtxt").read_text(encoding="utf-8")
        return f'name: "{features.MASK}"' in content


class ImageConfig(Section):
    """How a photo becomes a tensor, in training and in serving."""

    size: int = Field(
        registry.DEFAULT_INPUT_SIZE,
        ge=32,
        le=1024,
        description="Side of the square that a photo is resized to, in pixels. Unless it is set, a built-in backbone "
        "gets the size that it was published for: 224 for efficientnet_lite0, 240 for efficientnet_lite1 and 260 for "
        "efficientnet_lite2.",
    )
    resize_method: Literal["bilinear", "bicubic", "area"] = Field(
        "bilinear", description="Method of `tf.image.resize`."
    )
    antialias: bool = Field(
        False,
        description="Applies a low-pass filter before shrinking a photo. Off by default, as in the input pipelines "
        "that the published backbones were trained with. Photos much larger than `size` benefit from it, at about half "
        "the speed.",
    )
    background: str = Field(
        str(WHITE),
        description='Colour behind transparent parts of a photo: a name such as white, "#ffffff" in quotes, or '
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
            from PIL import ImageColor  # only for other notations: Pillow is slow to import

            with contextlib.suppress(TypeError, ValueError):  # the former where it has an alpha
                return str(Colour(*ImageColor.getrgb(background)))
        raise ValueError('expected a colour: a name such as white, "#ffffff" in quotes, or [255, 255, 255]')


class BackboneConfig(Section):
    handle: str = Field(
        "efficientnet_lite0",
        description="Image feature vector to build on: a name that `warmstart backbone list` shows, a TF-Hub URL, a "
        "folder or a .tar.gz.",
    )


class HeadConfig(Section):
    """The classifier on top of the feature vector."""

    hidden_units: int = Field(0, ge=0, le=65_536, description="Width of a hidden ReLU layer; 0: none.")
    dropout: float = Field(
        0.2, ge=0, lt=1, description="Share of the inputs of the last layer that are dropped in training."
    )


class DecoderConfig(Section):
    """With `task.kind: segmentation`: what is on top of the backbone's tensors instead of the classifier."""

    strides: list[Literal[2, 4, 8, 16, 32]] = Field(
        [4, 8, 16, 32],
        min_length=1,
        description="Resolutions of the backbone's tensors that the decoder reads: pixels of the photo for each cell. "
        "Those that the backbone lacks are left out; at least one must be 8 or finer.",
    )
    widths: list[Annotated[int, Field(ge=1, le=4096)]] = Field(
        [160, 128, 96, 96], min_length=1, description="Channels at each of these resolutions, from coarse to fine."
    )
    dice: bool = Field(
        True, description="Adds a Dice term to the cross-entropy, which helps small classes and thin borders."
    )
    cache_gigabytes: float = Field(
        2.0,
        ge=0,
        description="Disk space for the backbone's tensors of the training photos. The run says beforehand how much "
        "they need; if it is more, each training step computes them, which takes about twice as long.",
    )

    @model_validator(mode="after")
    def _a_width_for_each_stride(self) -> DecoderConfig:
        if len(set(self.strides)) < len(self.strides):
            raise ValueError(f"strides {self.strides} has one twice")
        if len(self.widths) != len(self.strides):
            raise ValueError(
                f"widths {self.widths} has {len(self.widths)} values, but strides {self.strides} has "
                f"{len(self.strides)}; expected one for each"
            )
        if min(self.strides) > 8:
            raise ValueError(f"strides {self.strides} has none of 8 or finer, so masks would be coarse")
        return self


class AugmentationConfig(Section):
    """Random changes to the training photos. Evaluation and serving never see them."""

    mode: Literal["none", "mirror", "views", "online"] = Field(
        "none",
        description="`mirror`: the mirror image of each photo passes through the backbone once too and is cached; "
        "`views`: so does a fixed number of changed copies; `online`: every epoch sees new changes and runs the whole "
        "backbone again.",
    )
    views: int = Field(
        3, ge=1, le=100, description="Changed copies of each training photo, in addition to the photo itself."
    )
    flip: bool = Field(True, description="Flips every other photo from left to right.")
    rotation_degrees: float = Field(10.0, ge=0, le=180, description="Rotates by up to this angle, either way.")
    zoom: float = Field(0.1, ge=0, lt=1, description="Zooms by a factor between 1 - zoom and 1 + zoom.")
    scale_jitter: float = Field(
        0.2, ge=0, lt=1, description="Crops a random part whose sides are at least 1 - scale_jitter of the photo's."
    )
    colour: float = Field(
        0.1, ge=0, lt=1, description="Changes brightness, contrast and saturation by up to this share."
    )


class WarmStartConfig(Section):
    """The model that fine-tuning starts from, and feature extraction too if it fits."""

    source: str = Field(
        "feature_extraction",
        description="`feature_extraction`: the model of this run; `production`: the model in production; or the folder "
        "of a SavedModel. If a source does not fit, the run says why and uses its own model instead. Feature "
        "extraction starts from the source too if its backbone is the published one, and from scratch otherwise.",
    )
    epochs: int | None = Field(
        None,
        ge=0,
        le=10_000,
        description="Maximum epochs of a phase that starts from `source` with all its variables and without a new "
        "class. Such a model has already seen most of the photos and needs fewer; empty: the `epochs` of the phase.",
    )
    variables: str = Field(
        ".*",
        description="Regular expression that matches the start of a variable's name: what to copy from the source.",
    )
    renamed: dict[str, str] = Field(
        default_factory=dict,
        description="Names in the source of variables that the new model names differently: new name, old name.",
    )

    @field_validator("source")
    @classmethod
    def _is_there(cls, source: str) -> str:
        if source in ("feature_extraction", "production"):
            return source
        folder = Path(os.path.expanduser(source)).absolute()
        if not (folder / "saved_model.pb").is_file():
            near = did_you_mean(source, ["feature_extraction", "production"])
            raise ValueError(f"there is no SavedModel{near or '; expected feature_extraction, production or a folder'}")
        return str(folder)

    @field_validator("variables")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        return regular_expression(pattern)


class TunerConfig(Section):
    """KerasTuner's search over the head and the schedule, on cached vectors."""

    trials: int = Field(0, ge=0, le=1000, description="Sets of values to try; 0: no tuning.")
    epochs: int = Field(30, ge=1, le=10_000, description="Maximum epochs of each trial.")


class PhaseConfig(Section):
    epochs: int = Field(ge=0, le=10_000, description="Maximum number of epochs.")
    learning_rate: float = Field(gt=0, le=10, description="Peak learning rate.")
    patience: int = Field(ge=1, description="Epochs without a better eval loss before training ends early.")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="Schedule of the learning rate: constant, or falling to 0 along a cosine."
    )
    warmup_fraction: float = Field(
        0.0, ge=0, lt=1, description="Share of the steps in which the rate rises from 0 to its peak."
    )


class FeatureExtractionConfig(PhaseConfig):
    """Phase one: a new head on the frozen backbone, trained on cached feature vectors."""

    epochs: int = Field(60, ge=1, le=10_000, description="Maximum number of epochs.")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="Peak learning rate.")
    patience: int = Field(
        10, ge=1, description="Epochs without a better loss on the eval split before training ends early."
    )


class FineTuningConfig(PhaseConfig):
    """Phase two: starts from phase one, and trains a part of the backbone too."""

    epochs: int | None = Field(  # type: ignore[assignment]
        None,
        ge=0,
        le=10_000,
        description="Maximum number of epochs; 0: the model it starts from is kept; empty: 3 in a task near ImageNet, "
        "and 4 to 10 in one far from it (the more the fewer photos), 10 for masks.",
    )
    learning_rate: float | None = Field(  # type: ignore[assignment]
        None,
        gt=0,
        le=10,
        description="Peak learning rate; empty: a tenth of phase one's in a task near ImageNet, and phase one's in one "
        "far from it.",
    )
    schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="Schedule of the learning rate: constant, or falling to 0 along a cosine."
    )
    warmup_fraction: float = Field(
        0.1, ge=0, lt=1, description="Share of the steps in which the rate rises from 0 to its peak."
    )
    patience: int = Field(
        3, ge=1, description="Epochs without a better loss on the eval split before training ends early."
    )
    strategy: Literal["feature_extraction", "top", "all", "auto"] = Field(
        "auto",
        description="What trains besides the head. `feature_extraction`: nothing; `top`: the top of the backbone; "
        "`all`: the whole backbone; `auto`: the top of the backbone, and more of it if the task is far from ImageNet. "
        "With one of the four `unfreeze` keys it means `top`.",
    )
    unfreeze: str | None = Field(
        None,
        description="With `top`: regular expression that matches the start of the names of the variables to train. "
        "With none of the four `unfreeze` keys: the known backbone's default, or the last fifth of the kernels of "
        "another.",
    )
    unfreeze_blocks: list[str] | None = Field(None, min_length=1, description="With `top`: the blocks to train.")
    unfreeze_last: int | None = Field(None, ge=1, description="With `top`: how many of the last kernels to train.")
    unfreeze_fraction: float | None = Field(
        None, gt=0, le=1, description="With `top`: the share of the kernels to train, counted from the last."
    )
    block_rate: float = Field(
        1.0, gt=0, le=1, description="Learning rate of each block, as a multiple of the rate of the block above it."
    )
    stages: int = Field(1, ge=1, le=100, description="Stages of gradual unfreezing, in which the blocks join.")
    from_activations: bool = Field(
        True, description="Trains from activations cached at the freeze boundary, if the backbone can be cut there."
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
            raise ValueError(f"{' and '.join(given)} were both given; expected one of them")
        if given and self.strategy == "auto":  # what is chosen by hand leaves nothing to choose
            object.__setattr__(self, "strategy", "top")
        if given and self.strategy != "top":
            raise ValueError(f"{given[0]} needs strategy top, but strategy is {self.strategy}; drop one of them")
        return self


class TrainingConfig(Section):
    seed: int = Field(
        42, ge=0, lt=2**31, description="Seed of everything random: head, order of photos, augmentation, bootstrap."
    )
    batch_size: int = Field(32, ge=1, le=4096, description="Photos in a training step, in both phases.")
    optimizer: Literal["adam", "rmsprop"] = Field("adam", description="Optimizer of both phases.")
    gradient_clip_norm: float | None = Field(
        None, gt=0, description="Largest norm of all gradients together; empty: any."
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of each label that is spread evenly over all classes."
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="`balanced`: the weight of a class is inversely proportional to its number of photos."
    )
    mixed_precision: Literal["auto", "off"] = Field(
        "auto", description="`auto`: float16 on a GPU with tensor cores; a CPU always computes in float32."
    )
    calibrate: bool = Field(
        True,
        description="Divides the logits of the exported model by a temperature, fitted on the eval split, so that "
        "answers with a probability of 80 % are right four times in five.",
    )
    head: HeadConfig = HeadConfig()
    decoder: DecoderConfig = DecoderConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    warm_start: WarmStartConfig = WarmStartConfig()
    tuner: TunerConfig = TunerConfig()
    feature_extraction: FeatureExtractionConfig = FeatureExtractionConfig()
    fine_tuning: FineTuningConfig = FineTuningConfig()

    @property
    def fine_tuning_rate(self) -> float:
        """The learning rate of phase two."""
        return self.fine_tuning.learning_rate or self.feature_extraction.learning_rate / 10
