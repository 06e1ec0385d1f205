"""The configuration: typed, read from YAML, validated completely before TensorFlow or TFX is imported.

    config = load_config("cats_vs_dogs", overrides=["image.size=224"], data=["/photos"])

A configuration file is YAML with the keys of `Config`; whatever it leaves out has the default written here. The
ready-made ones lie in `pipeline/configs`. All problems are reported at once, each with the nearest right key.
"""

from __future__ import annotations

import contextlib
import datetime
import difflib
import operator
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from components.backbone import registry
from components.example_gen.layouts import FolderRules
from components.example_gen.photo_folder import SUCCESS_FILE
from components.example_gen.photo_rules import WHITE, Colour, PhotoRules
from components.example_gen.spans import SETTLE_SECONDS, parse_pattern
from schemas import features
from schemas.errors import BadInput
from schemas.features import DATASETS, SLICES

# What pydantic calls them; `_unknown_keys` has better sentences.
_UNKNOWN_KEY = ("extra_forbidden", "invalid_key")
CONFIGS_FOLDER = Path(__file__).parent / "configs"
_SCHEMAS_FOLDER = Path(features.__file__).parent
# TensorFlow decodes no larger photo.
_MOST_PIXELS = 2**29 - 1

DatasetName = Literal["cats_vs_dogs", "oxford_iiit_pet", "image_folder"]
assert get_args(DatasetName) == DATASETS
SliceName = Literal["label", "breed", "species", "dataset", "image_size", "image_format"]
assert get_args(SliceName) == SLICES


Fraction = Annotated[float, Field(ge=0, le=1)]


def _span_is_readable(source: str) -> str:
    parse_pattern(source)
    return source


Source = Annotated[str, AfterValidator(_span_is_readable)]


def _read_span(span: object) -> int | datetime.date | None:
    """The number or day that was written; None for what is neither."""
    if isinstance(span, str) and re.fullmatch("[0-9]+", span):
        span = int(span)
    elif isinstance(span, str):
        with contextlib.suppress(ValueError):
            span = datetime.datetime.strptime(span, "%Y-%m-%d").date()
    return span if type(span) is datetime.date or (type(span) is int and 0 <= span < 10**18) else None


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class SplitBuckets(Section):
    """Shares of the three splits, as hash buckets: 8/1/1 is 80 %, 10 % and 10 %."""

    train: int = Field(8, ge=1, le=1000, description="Buckets of the split that is learnt from.")
    eval: int = Field(
        1, ge=1, le=1000, description="Buckets of the split that epochs, calibration and the winner are chosen on."
    )
    test: int = Field(1, ge=1, le=1000, description="Buckets of the split that is reported, and guards production.")


class CompletenessOfSpans(TypedDict):
    success_file: str
    settle_seconds: float


class DataConfig(Section):
    """Where the photos are and which of them are taken."""

    sources: dict[DatasetName, Source | None] = Field(
        description="Data set -> folder, or tfds:NAME for TensorFlow Datasets; in a folder's path {SPAN}, or {YYYY}, "
        "{MM} and {DD}, and {VERSION} stand for the latest. Set by --data."
    )
    span: int | datetime.date | None = Field(
        None,
        description="Which span of `sources` with {SPAN} (17), or with {YYYY}, {MM} and {DD} (2026-11-22); empty: the "
        "latest.",
    )
    window: int | Literal["all"] | None = Field(
        None,
        description="How many of the newest spans are trained on: a number of them, or all; empty: one span, on its "
        "own.",
    )
    test_spans: list[int | datetime.date] | None = Field(
        None,
        description="Only the photos of these spans make the test split, so that months are compared on the same "
        "photos; empty: each span's own.",
    )
    success_file: str = Field(SUCCESS_FILE, description="The folder of a span is complete when this file is in it.")
    settle_seconds: float = Field(
        SETTLE_SECONDS,
        ge=0,
        allow_inf_nan=False,
        description="Without that file it is complete when nothing in it has changed for so long; 0: at once.",
    )
    tfds_dir: str | None = Field(None, description="Where TensorFlow Datasets keeps prepared data sets.")
    labels: str = Field(
        "auto",
        min_length=1,
        description="Of an image_folder: `folders`, whose names are the classes; a table beside them such as "
        "labels.csv, or labels.csv:breed for one of its columns; `auto`: the folders, and a table where they say "
        "nothing.",
    )
    group: str = Field(
        "",
        description="Photos of one series share a split: `folder` (below the class's), `prefix:_` (of the file's name, "
        "up to the first _) or `column:patient` (of the table of labels); empty: each photo on its own.",
    )
    max_rejected_fraction: float = Field(
        0.1,
        ge=0,
        le=1,
        description="More rejected files than this share of all files, or of a class, stop the run; a class may always "
        "lose one.",
    )
    max_contradictions: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Photos that lie in two classes are left out; more of them than this share of all photos stop the "
        "run. A few among thousands are slips; more are a mistake in how the classes were put together.",
    )
    min_side: int = Field(16, ge=1, description="Photos with a shorter side, in pixels, are rejected.")
    max_pixels: int = Field(
        100_000_000,
        ge=1,
        le=_MOST_PIXELS,
        description="Photos with more pixels are rejected, before they are decoded. Ingestion holds one photo at a "
        "time, at up to 25 bytes a pixel.",
    )
    max_file_megabytes: int = Field(
        100,
        ge=1,
        le=2000,
        description="Larger files are rejected, and of files that do not begin like a photo no more is read than that.",
    )
    convert: bool = Field(
        True,
        description="WebP, TIFF, AVIF and HEIC, and GIFs, PNGs and BMPs that TensorFlow would decode to other pixels "
        "than viewers show, are converted to PNG; false: they are rejected.",
    )
    splits: SplitBuckets = SplitBuckets()

    @property
    def folder_rules(self) -> FolderRules:
        """How the folders of photos are read."""
        return FolderRules(self.success_file, self.labels, self.group)

    @field_validator("group")
    @classmethod
    def _a_known_group(cls, group: str) -> str:
        if group in ("", "folder") or re.fullmatch("(prefix|column):.+", group):
            return group
        raise ValueError(
            "expected folder, prefix: and a separator such as prefix:_, column: and a column's name, or nothing"
        )

    @property
    def completeness(self) -> CompletenessOfSpans:
        """When a span is complete: keyword arguments of `find_spans`, `resolve_sources` and ImageExampleGen."""
        return {"success_file": self.success_file, "settle_seconds": self.settle_seconds}

    @field_validator("sources")
    @classmethod
    def _at_least_one(cls, sources: dict[str, str | None]) -> dict[str, str | None]:
        if not sources:
            raise ValueError(f"expected at least one of {', '.join(DATASETS)}")
        return {dataset: folder and _absolute(folder) for dataset, folder in sources.items()}

    @field_validator("span", mode="before")
    @classmethod
    def _number_or_day(cls, span: object) -> int | datetime.date | None:
        read = _read_span(span)
        if span is not None and read is None:
            raise ValueError("expected a span's number such as 17, a day such as 2026-11-22, or nothing for the latest")
        return read

    @field_validator("window", mode="before")
    @classmethod
    def _number_or_all(cls, window: object) -> int | str | None:
        if isinstance(window, str) and re.fullmatch("[0-9]{1,9}", window):
            window = int(window)
        if window in (None, "all") or (type(window) is int and window >= 1):
            return window
        raise ValueError("expected a number of spans such as 4, all, or nothing for one span on its own")

    @field_validator("test_spans", mode="before")
    @classmethod
    def _numbers_or_days(cls, spans: object) -> object:
        read = [_read_span(span) for span in spans] if isinstance(spans, list) else []
        if spans is not None and (not read or None in read):
            raise ValueError("expected a list of spans, by number such as [1, 2] or by day such as [2026-11-22]")
        return read or None

    @field_validator("success_file")
    @classmethod
    def _a_file_s_name(cls, name: str) -> str:
        if not name or name in (".", "..") or "/" in name or "\0" in name:
            raise ValueError(f"expected the name of a file in each span's folder, such as {SUCCESS_FILE}, without a /")
        return name


_NOTE = "A larger distance is written into the summary; null: none is."
_STOP = "A larger distance ends the run before anything is learnt from the span; null: none does."


class DriftCheck(Section):
    """When a check of a new span against the earlier ones speaks; with neither threshold it is switched off."""

    note: float | None = Field(ge=0, allow_inf_nan=False, description=_NOTE)
    stop: float | None = Field(ge=0, allow_inf_nan=False, description=_STOP)

    @model_validator(mode="after")
    def _noted_before_stopped(self) -> DriftCheck:
        if self.note is not None and self.stop is not None and self.note > self.stop:
            raise ValueError(f"note ({self.note:g}) is larger than stop ({self.stop:g}); expected it to be smaller")
        return self


class LabelDistributionDrift(DriftCheck):
    """Share of the photos that would have to change class, in [0, 1]."""

    note: float | None = Field(0.2, ge=0, le=1, description=_NOTE)
    stop: float | None = Field(0.9, ge=0, le=1, description=_STOP)


class ImageSizeDrift(DriftCheck):
    """How far the sides of a photo would have to change, in the mean, in octaves: 1 is twice or half as long."""

    note: float | None = Field(0.5, ge=0, allow_inf_nan=False, description=_NOTE)
    stop: float | None = Field(None, ge=0, allow_inf_nan=False, description=_STOP)


class ImageFormatDrift(DriftCheck):
    """Share of the photos that would have to change format, in [0, 1]."""

    note: float | None = Field(0.3, ge=0, le=1, description=_NOTE)
    stop: float | None = Field(None, ge=0, le=1, description=_STOP)


class BrightnessDrift(DriftCheck):
    """How far the brightness of a photo would have to change, in the mean; black is 0, white 1."""

    note: float | None = Field(0.1, ge=0, le=1, description=_NOTE)
    stop: float | None = Field(None, ge=0, le=1, description=_STOP)


class FeatureDrift(DriftCheck):
    """What the photos show: maximum mean discrepancy of their feature vectors, 0 to 1.4."""

    note: float | None = Field(0.15, ge=0, le=2, description=_NOTE)
    stop: float | None = Field(0.45, ge=0, le=2, description=_STOP)


class ClassFeatureDrift(DriftCheck):
    """What the photos show within their classes: each against the earlier ones of its class, 0 to 1.4."""

    note: float | None = Field(0.2, ge=0, le=2, description=_NOTE)
    stop: float | None = Field(0.3, ge=0, le=2, description=_STOP)


class DriftConfig(Section):
    """A new span against the earlier ones of the window. A distance counts where it exceeds its threshold and chance.

    `note` writes it into the summary, `stop` ends the run before anything is learnt from the span.
    """

    label_distribution: LabelDistributionDrift = LabelDistributionDrift()
    image_size: ImageSizeDrift = ImageSizeDrift()
    image_format: ImageFormatDrift = ImageFormatDrift()
    brightness: BrightnessDrift = BrightnessDrift()
    feature_distance: FeatureDrift = FeatureDrift()
    class_feature_distance: ClassFeatureDrift = ClassFeatureDrift()
    false_alarms: float = Field(
        0.001, ge=0.0001, le=0.1, description="How often a check may exceed chance without any drift."
    )
    far_quantile: float = Field(
        0.999,
        gt=0.5,
        lt=1,
        description="A photo is far when its nearest earlier photo is further away than this share of the earlier ones "
        "are from theirs.",
    )
    listed_photos: int = Field(20, ge=0, le=1000, description="Far photos that are listed, the farthest first.")


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
            raise ValueError(f"no such schema{_nearest(name, known) or '; known: ' + ', '.join(known)}")
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


def _regular_expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    return pattern


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
            near = _nearest(source, ["feature_extraction", "production"])
            raise ValueError(f"no SavedModel there{near or '; expected feature_extraction, production or its folder'}")
        return str(folder)

    @field_validator("variables")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        return _regular_expression(pattern)


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
        return None if pattern is None else _regular_expression(pattern)

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


class SelectionConfig(Section):
    """When a dearer model is preferred to a cheaper one."""

    minimum_gain: float = Field(0.0, ge=0, le=1, description="Least gain in accuracy on the eval split.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of every interval in the summary.")
    bootstrap_samples: int = Field(2000, ge=200, le=100_000, description="Draws behind every interval.")
    ensemble: bool = Field(False, description="The mean of both models' probabilities is a third candidate.")


class EvaluationConfig(Section):
    """On what the models are evaluated, besides the eval and test splits."""

    minimum_slice_examples: int = Field(
        20, ge=1, description="A slice with fewer photos is reported, and nothing is decided by it."
    )
    further: dict[DatasetName, Source] = Field(
        default_factory=dict,
        description="Further data set -> folder, also the latest as in data.sources, or tfds:NAME; scored, never "
        "learnt from.",
    )
    further_label: Literal["label", "species"] = Field(
        "species", description="Which label of the further data sets the models should answer with."
    )
    further_minimum_accuracy: float | None = Field(
        None, ge=0, le=1, description="What the winner must reach on each further data set; empty: reported only."
    )

    @field_validator("further")
    @classmethod
    def _absolute_folders(cls, further: dict[str, str]) -> dict[str, str]:
        return {dataset: _absolute(folder) for dataset, folder in further.items()}


class ReleaseConfig(Section):
    """What the winner must show on the test split before it may be pushed."""

    minimum_accuracy: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Least accuracy of the winner on all test photos. Above 0 it must also beat always answering their "
        "commonest class; 0 asks for neither.",
    )
    minimum_slice_accuracy: dict[SliceName, Fraction] = Field(
        default_factory=dict, description="Slice -> least accuracy of each of its values with enough photos."
    )
    tolerated_loss: float = Field(
        0.01, ge=0, le=1, description="What the winner may lose in accuracy against the model in production."
    )
    evidence: Literal["observed", "proven"] = Field(
        "observed",
        description="`observed`: the loss on the test photos is at most `tolerated_loss`; `proven`: so is the loss at "
        "the worse end of its interval, which takes many photos.",
    )
    guarded_slices: list[SliceName] = Field(
        ["label"],
        description="On no value of these, with enough photos, may the winner be shown to lose more than "
        "`tolerated_loss`.",
    )
    incomparable: Literal["refuse", "floors"] = Field(
        "refuse",
        description="If the model in production cannot be compared (unreadable, no common labels, other signature): "
        "refuse, or release by the floors above alone.",
    )


class ServingConfig(Section):
    """What a model must be to be served, and what is kept of those that were."""

    golden_photos: int = Field(16, ge=1, le=1000, description="Photos the servable check asks about.")
    tolerance: float = Field(1e-5, gt=0, le=0.1, description="Largest difference of a probability allowed.")
    abstain_below: float = Field(
        0.0, ge=0, lt=1, description="The served model abstains where its probability is lower; 0: it never does."
    )
    maximum_load_seconds: float | None = Field(60.0, gt=0, description="Until the model is loaded; empty: any.")
    maximum_latency_milliseconds: float | None = Field(1000.0, gt=0, description="Of one photo; empty: any.")
    maximum_batch_latency_milliseconds: float | None = Field(10_000.0, gt=0, description="Of 32 photos; empty: any.")
    maximum_megabytes: float | None = Field(1000.0, gt=0, description="Of the model on disk; empty: any.")
    exports: list[Literal["tflite", "onnx"]] = Field(
        default_factory=list, description="Further formats, put beside the SavedModel; each must answer as it does."
    )
    export_tolerance: float = Field(1e-4, gt=0, le=0.1, description="Largest difference of these allowed.")
    keep_versions: int = Field(
        5, ge=0, le=10_000, description="Old versions kept besides the one in production and the pinned ones."
    )


class StepResources(Section):
    """What a step may use where each step is a container of its own; on this machine it means nothing."""

    retries: int = Field(2, ge=0, le=100, description="Further tries of a step that failed or was killed.")
    timeout_minutes: float | None = Field(None, gt=0, description="A try that takes longer is ended; empty: never.")
    cpu: str | None = Field("1", pattern=r"^[0-9]+(\.[0-9]+)?m?$", description="Cores, such as 2 or 500m.")
    memory: str | None = Field("4G", pattern=r"^[0-9]+(E|P|T|G|M|K|Ei|Pi|Ti|Gi|Mi|Ki)?$", description="Such as 8G.")
    accelerator: str | None = Field(None, min_length=1, description="Kind, such as nvidia.com/gpu.")
    accelerators: int = Field(0, ge=0, le=64, description="How many of that kind.")

    @field_validator("cpu", mode="before")
    @classmethod
    def _as_text(cls, cpu: object) -> object:
        return f"{cpu:g}" if isinstance(cpu, int | float) and not isinstance(cpu, bool) else cpu

    @model_validator(mode="after")
    def _kind_and_number(self) -> StepResources:
        if bool(self.accelerator) != bool(self.accelerators):
            raise ValueError("expected accelerator and accelerators together, such as nvidia.com/gpu and 1")
        return self


class RuntimeConfig(Section):
    beam_pipeline_args: list[str] = Field(
        default_factory=list, description="Arguments for Apache Beam; empty: in this process, in memory."
    )
    every_step: StepResources = StepResources()
    steps: dict[str, StepResources] = Field(
        default_factory=dict, description="Step -> resources of that step, in place of `every_step` as a whole."
    )

    def resources(self, step: str) -> StepResources:
        """What a step may use."""
        return self.steps.get(step, self.every_step)


RunStatus = Literal["pushed", "not_pushed", "stopped", "failed", "restored", "skipped"]


class NotifyConfig(Section):
    """Who is told how a run ended."""

    command: list[str] | None = Field(
        None,
        description="Program and arguments, run without a shell, with the summary on standard input; empty: nobody.",
    )
    timeout_seconds: float = Field(60.0, gt=0, le=86_400, description="Until it is killed, with all that it started.")
    # Not `on`, which YAML reads as true.
    when: list[RunStatus] = Field(
        ["pushed", "not_pushed", "stopped", "failed", "restored"], description="After runs that ended so."
    )

    alert_after_refusals: int = Field(
        3, ge=1, description="So many models refused in a row are somebody's business: `retrain` then exits with 4."
    )

    @field_validator("command", mode="before")
    @classmethod
    def _a_program(cls, command: object) -> object:
        if isinstance(command, str) or (isinstance(command, list) and (not command or not command[0])):
            raise ValueError("expected a list, the program first, such as [mail, -s, warmstart, ann@example.org]")
        return command


class RetentionConfig(Section):
    """How long is kept what nothing needs (`warmstart clean`)."""

    days: int = Field(
        30,
        ge=1,
        le=36_500,
        description="What no run has used for so many days is removed; never what production, a version in serving/ "
        "or the next run needs.",
    )


class Config(Section):
    """The whole configuration; `warmstart run --config NAME|FILE --set key=value`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$", description="Name of the pipeline and its configuration.")
    data: DataConfig
    drift: DriftConfig = DriftConfig()
    task: TaskConfig
    image: ImageConfig = ImageConfig()
    backbone: BackboneConfig = BackboneConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    selection: SelectionConfig = SelectionConfig()
    release: ReleaseConfig = ReleaseConfig()
    serving: ServingConfig = ServingConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    notify: NotifyConfig = NotifyConfig()
    retention: RetentionConfig = RetentionConfig()

    @model_validator(mode="after")
    def _spans_go_together(self) -> Config:
        for key, sources in (("data.sources", self.data.sources), ("evaluation.further", self.evaluation.further)):
            patterns = [pattern for source in sources.values() if source and (pattern := parse_pattern(source))]
            for other in patterns[1:]:
                if (other.dated, other.versioned) != (patterns[0].dated, patterns[0].versioned):
                    raise ValueError(
                        f"{key} has {patterns[0].text} and {other.text}; expected either numbers or days in all of "
                        "them, and {VERSION} in all of them or in none"
                    )
        given = [source for source in self.data.sources.values() if source]
        pattern = next(filter(None, map(parse_pattern, given)), None)
        window, tested = self.data.window, self.data.test_spans
        asked = [] if self.data.span is None else [("data.span", "is", self.data.span)]
        asked += [("data.test_spans", "has", span) for span in tested or []]
        for key, verb, value in [*asked, *([] if window is None else [("data.window", "is", window)])]:
            if given and pattern is None:
                raise ValueError(
                    f"{key} {verb} {value}, but there are no spans in {' and '.join(given)}; expected a path such as "
                    f"/photos/span-{{SPAN}}, or no {key}"
                )
        for key, verb, span in asked:
            if pattern is not None and isinstance(span, datetime.date) != pattern.dated:
                kinds = ("days", "2026-11-22") if pattern.dated else ("numbers", "17")
                raise ValueError(
                    f"{key} {verb} {span}, but the spans of {pattern.text} are {kinds[0]}; expected one such as "
                    f"{kinds[1]}"
                )
        return self

    @model_validator(mode="after")
    def _species_are_known(self) -> Config:
        if self.task.label == "species" and "image_folder" in self.data.sources:
            raise ValueError(
                "task.label is 'species', but data.sources has image_folder, whose photos have no species; "
                "expected cats_vs_dogs and oxford_iiit_pet only"
            )
        if self.evaluation.further_label == "species" and "image_folder" in self.evaluation.further:
            raise ValueError(
                "evaluation.further has image_folder, whose photos have no species; expected "
                "evaluation.further_label: label"
            )
        if self.task.label == "label" and len(self.data.sources) > 1:
            raise ValueError(
                f"data.sources has {' and '.join(self.data.sources)}, whose classes differ; expected one data "
                "set, or task.label: species"
            )
        return self

    @property
    def photo_rules(self) -> PhotoRules:
        """How photos are judged and read; the models carry it."""
        return PhotoRules.of({**self.data.model_dump(), **self.image.model_dump()})


# A configuration has some hundred keys, four levels deep.
_MOST_LEVELS, _MOST_VALUES = 32, 20_000


def known_configs() -> list[str]:
    """Names of the configurations that come with warmstart."""
    return sorted(path.stem for path in CONFIGS_FOLDER.glob("*.yaml"))


def load_config(
    name_or_file: str,
    overrides: list[str] | None = None,
    data: list[str] | None = None,
    default_folder: str = "",
) -> Config:
    """Reads, overrides and validates a configuration.

    Args:
      name_or_file: one of `known_configs()`, or the path of a YAML file.
      overrides: `key.subkey=value` each, the value in YAML.
      data: `FOLDER` for a configuration of one data set, or `DATASET=FOLDER` each.
      default_folder: of photos of which nobody says where they are; of several data sets each has its own below it.

    Raises:
      BadInput: with every problem found, one a line.
    """
    raw = _read_yaml(name_or_file)
    problems: list[str] = []
    for override in overrides or []:
        problems += _apply_override(raw, override)
    problems += _apply_data(raw, data or [], default_folder)
    problems += _unknown_keys(raw, Config, ())
    config: Config | None = None
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems += [_sentence(e, raw) for e in error.errors() if e["type"] not in _UNKNOWN_KEY]
    if config is not None:
        problem = registry.check_handle(config.backbone.handle)
        if problem:
            problems.append(f"backbone.handle: {problem}")
        missing = [dataset for dataset, folder in config.data.sources.items() if not folder]
        if missing and len(config.data.sources) == 1:
            problems.append(f"no photos given: say where the {missing[0]} photos are with --data DIR")
        elif missing:
            flags = " ".join(f"--data {dataset}=DIR" for dataset in config.data.sources)
            problems.append(f"no folder given for {' and '.join(missing)}: use {flags}")
    if problems:
        title = f"configuration {name_or_file}: "
        if len(problems) == 1:
            raise BadInput(title + problems[0])
        raise BadInput(title + f"{len(problems)} problems\n" + "\n".join(f"  - {p}" for p in problems))
    assert config is not None
    return config


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML; reading it again gives the same configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def read_dumped_config(file: Path) -> Config:
    """The configuration that `dump_config` wrote into a run's folder.

    Raises:
      OSError, yaml.YAMLError, ValidationError: it is not there, or of another version of warmstart.
    """
    return Config.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))


def _read_yaml(name_or_file: str) -> dict[str, Any]:
    looks_like_file = "/" in name_or_file or name_or_file.endswith((".yaml", ".yml"))
    path = Path(name_or_file) if looks_like_file else CONFIGS_FOLDER / f"{name_or_file}.yaml"
    if not os.path.isfile(path):
        if looks_like_file:
            found = "is a folder" if os.path.isdir(path) else "does not exist"
            raise BadInput(f"configuration file {path} {found}; expected a YAML file")
        near = _nearest(name_or_file, known_configs())
        raise BadInput(
            f"unknown configuration {name_or_file!r}{near + ' Known' if near else '; known'}: "
            f"{', '.join(known_configs())}, or the path of a YAML file"
        )
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_excess(text)
        raw = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise BadInput(f"configuration file {path} cannot be read as YAML: {' '.join(str(error).split())}") from None
    if raw is None:
        raise BadInput(f"configuration file {path} is empty; expected keys such as `data:`")
    if not isinstance(raw, dict):
        raise BadInput(f"configuration file {path} holds {type(raw).__name__}; expected keys such as `data:`")
    return raw


def _refuse_excess(text: str) -> None:
    """Refuses YAML that is nested so deep, or repeats so much by its aliases, that nobody can have meant it.

    Raises:
      ValueError: it is so.
    """
    values, within = 0, dict[str | None, int]()
    opened = list[tuple[str | None, int]]()  # of every collection that is open: its anchor, and the values up to it
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            values += within.get(event.anchor, 0)
            if event.anchor in (anchor for anchor, _ in opened):
                raise ValueError(f"the alias *{event.anchor} is a part of what it stands for")
        elif isinstance(event, yaml.CollectionStartEvent):
            values += 1
            opened.append((event.anchor, values))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor:
                within[anchor] = values - before + 1
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
        if len(opened) > _MOST_LEVELS:
            raise ValueError(f"it is nested more than {_MOST_LEVELS} levels deep")
        if values > _MOST_VALUES:
            raise ValueError(f"it holds more than {_MOST_VALUES:,} values, those counted that its aliases repeat")


class _Loader(yaml.SafeLoader):
    """Refuses a key written twice, of which YAML would silently take the last, and reads 010 as ten, not as eight."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        decimal = re.fullmatch("[0-9]+", node.value)
        return int(node.value) if decimal else super().construct_yaml_int(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is there twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _apply_override(raw: dict[str, Any], override: str) -> list[str]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        return [f"--set {override!r}: expected key=value, such as image.size=224"]
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return [f"--set {override!r}: the value cannot be read as YAML"]
    # YAML 1.1 reads 1e-3 as text; a person means the number.
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        value = float(value)
    *parents, last = key.split(".")
    section: Any = raw
    for name in parents:
        if section.get(name) is None:
            section[name] = {}
        section = section[name]
        if not isinstance(section, dict):
            return [f"--set {override!r}: {name} is a value, not a section"]
    section[last] = value
    return []


def _apply_data(raw: dict[str, Any], data: list[str], default_folder: str) -> list[str]:
    sources = (raw.get("data") or {}).get("sources") if isinstance(raw.get("data"), dict) else None
    if not isinstance(sources, dict):
        return []  # the validation says so
    problems = []
    given = set()
    for item in data:
        name, equals, folder = item.partition("=")
        dataset = None
        if equals and name in DATASETS:
            if name in sources:
                dataset = name
            else:
                problems.append(
                    f"--data {item}: this configuration has no data set {name}; expected "
                    + " or ".join(map(str, sources))
                )
        elif equals and "/" not in name and _close_dataset(name):
            problems.append(f"--data {item}: unknown data set {name!r}{_nearest(name, list(DATASETS))}")
        elif len(sources) == 1:
            dataset, folder = next(iter(sources)), item
        else:
            problems.append(
                f"--data {item}: this configuration has {len(sources)} data sets; expected "
                + " ".join(f"--data {source}=DIR" for source in sources)
            )
        if dataset in given:
            problems.append(f"--data {item}: {dataset} has a folder already; expected one folder a data set")
        elif dataset is not None:
            sources[dataset] = folder
            given.add(dataset)
    for source in sources if default_folder else ():
        sources[source] = sources[source] or (f"{default_folder}/{source}" if len(sources) > 1 else default_folder)
    return problems


def _absolute(folder: str) -> str:
    """The folder as seen from everywhere; the names of TensorFlow Datasets and addresses stay."""
    if not folder or folder.startswith("tfds:") or "://" in folder:
        return folder
    return str(Path(os.path.expanduser(folder)).absolute())


def _close_dataset(name: str) -> bool:
    return bool(difflib.get_close_matches(name, DATASETS, n=1, cutoff=0.6))


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _unknown_keys(raw: Any, section: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    """One sentence for each key that the types do not have, at any depth."""
    if not isinstance(raw, dict):
        return []
    problems = []
    for key, value in raw.items():
        field = section.model_fields.get(str(key))
        dotted = ".".join((*path, str(key)))
        if field is None:
            near = _nearest_key(str(key), path, section)
            problems.append(f"unknown key {dotted!r}{near}")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            problems += _unknown_keys(value, field.annotation, (*path, str(key)))
        elif field.annotation == dict[str, StepResources] and isinstance(value, dict):
            for step, resources in value.items():
                problems += _unknown_keys(resources, StepResources, (*path, str(key), str(step)))
    return problems


def _nearest_key(key: str, path: tuple[str, ...], section: type[BaseModel]) -> str:
    same_name = [dotted for dotted in all_keys() if dotted.rsplit(".", 1)[-1] == key]
    if same_name:
        return f"; did you mean {' or '.join(map(repr, same_name))}?"
    close = difflib.get_close_matches(key, list(section.model_fields), n=1, cutoff=0.5)
    if close:
        return f"; did you mean {'.'.join((*path, close[0]))!r}?"
    where = ".".join(path) or "a configuration"
    return f"; {where} has: {', '.join(section.model_fields)}"


def all_keys(section: type[BaseModel] = Config, path: tuple[str, ...] = ()) -> list[str]:
    """Every key of the configuration, dotted, in the order of the types."""
    keys = []
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += all_keys(field.annotation, (*path, name))
        else:
            keys.append(".".join((*path, name)))
    return keys


def _sentence(error: Any, raw: dict[str, Any]) -> str:
    parts = [str(part) for part in error["loc"] if part != "[key]"]
    key = ".".join(parts)
    message = error["msg"].removeprefix("Value error, ")
    if not parts:
        return message
    if error["type"] == "missing":
        return f"{key} is missing"
    message = message[0].lower() + message[1:]
    found = error.get("input")
    if error["type"] in ("model_type", "dict_type"):
        below = [known for known in all_keys() if known.startswith(key + ".")]
        if parts[:2] == ["runtime", "steps"]:
            below = [f"runtime.steps.{parts[2] if len(parts) > 2 else 'FineTuning'}.memory"]
        below = below or [f"{key}.{DATASETS[0]}"]
        return f"{key} {'is empty' if found is None else f'(={found!r})'}: expected keys below it, such as {below[0]}"
    if "[key]" in error["loc"] or (len(parts) == 3 and parts[:2] == ["data", "sources"] and parts[2] not in DATASETS):
        what, known = ("slice", SLICES) if parts[-2] == "minimum_slice_accuracy" else ("data set", DATASETS)
        near = _nearest(parts[-1], list(known))
        return f"{'.'.join(parts[:-1])}: unknown {what} {parts[-1]!r}{near or '; known: ' + ', '.join(known)}"
    return f"{key} (={found!r}): {message}"
