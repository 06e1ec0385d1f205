"""Where the photos are, which of them are used, and when a new span differs too much from earlier ones."""

from __future__ import annotations

import contextlib
import datetime
import re
from typing import Literal, TypedDict

from pydantic import Field, field_validator, model_validator

from components.example_gen.photo_folder import SUCCESS_FILE
from components.example_gen.spans import SETTLE_SECONDS
from pipeline.config.section import DatasetName, Section, Source, absolute
from schemas.features import DATASETS

# TensorFlow decodes no larger photo.
_MOST_PIXELS = 2**29 - 1


class SplitBuckets(Section):
    """Shares of the three splits, as hash buckets: 8/1/1 is 80 %, 10 % and 10 %."""

    train: int = Field(8, ge=1, le=1000, description="Buckets of the split that the models train on.")
    eval: int = Field(
        1, ge=1, le=1000, description="Buckets of the split that decides on epochs, calibration and the winner."
    )
    test: int = Field(1, ge=1, le=1000, description="Buckets of the split that is reported and that guards production.")


class CompletenessOfSpans(TypedDict):
    success_file: str
    settle_seconds: float


class DataConfig(Section):
    """Where the photos are and which of them are used."""

    sources: dict[DatasetName, Source | None] = Field(
        description="Folder of each data set, or tfds:NAME for TensorFlow Datasets. In the path of a folder, {SPAN}, "
        "or {YYYY}, {MM} and {DD}, and {VERSION} stand for the latest. Set by --data."
    )
    span: int | datetime.date | None = Field(
        None,
        description="The span to read: a number such as 17 for {SPAN}, a day such as 2026-11-22 for {YYYY}, {MM} and "
        "{DD}; empty: the latest.",
    )
    window: int | Literal["all"] | None = Field(
        None,
        description="How many of the newest spans to train on: a number, or `all`; empty: one span on its own.",
    )
    test_spans: list[int | datetime.date] | None = Field(
        None,
        description="Spans whose photos alone form the test split, so that models of different months are compared on "
        "the same photos; empty: each span has its own test photos.",
    )
    success_file: str = Field(SUCCESS_FILE, description="The folder of a span is complete once it contains this file.")
    settle_seconds: float = Field(
        SETTLE_SECONDS,
        ge=0,
        allow_inf_nan=False,
        description="Without that file, a folder is complete once nothing in it has changed for this long; 0: at once.",
    )
    tfds_dir: str | None = Field(None, description="Where TensorFlow Datasets keeps prepared data sets.")
    labels: str = Field(
        "auto",
        min_length=1,
        description="Where the labels of an image_folder come from. `folders`: the names of the folders; a table in "
        "it, such as labels.csv, or labels.csv:breed for one of its columns; `auto`: the folders, or a table if the "
        "folders do not tell.",
    )
    group: str = Field(
        "",
        description="Which photos belong together and share a split. `folder`: those in one folder below the class's; "
        "`prefix:_`: those whose names are the same up to the first _; `column:patient`: those with the same value in "
        "this column of the table of labels; empty: each photo is on its own.",
    )
    corrections: str | None = Field(
        None,
        min_length=1,
        description="A CSV file with corrected labels and dropped photos, by the SHA-256 of each photo's file, as "
        "`warmstart serve --review` writes it; empty: nothing is corrected.",
    )
    max_rejected_fraction: float = Field(
        0.1,
        ge=0,
        le=1,
        description="The run stops if a larger share of all files, or of one class, is rejected. One rejected file in "
        "a class never stops it.",
    )
    max_contradictions: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Photos that are in two classes are left out. The run stops if they are a larger share of all "
        "photos: a few among thousands are slips, more are a mistake in the classes.",
    )
    min_side: int = Field(16, ge=1, description="Photos with a shorter side, in pixels, are rejected.")
    max_pixels: int = Field(
        100_000_000,
        ge=1,
        le=_MOST_PIXELS,
        description="Photos with more pixels are rejected before they are decoded. Ingestion keeps one photo at a time "
        "in memory, at up to 25 bytes a pixel.",
    )
    max_file_megabytes: int = Field(
        100,
        ge=1,
        le=2000,
        description="Larger files are rejected. No more than this is read of a file that does not start like a photo.",
    )
    convert: bool = Field(
        True,
        description="Converts WebP, TIFF, AVIF and HEIC to PNG, and those GIFs, PNGs and BMPs that TensorFlow decodes "
        "to other pixels than viewers show; false: rejects them.",
    )
    splits: SplitBuckets = SplitBuckets()

    @field_validator("group")
    @classmethod
    def _a_known_group(cls, group: str) -> str:
        if group in ("", "folder") or re.fullmatch("(prefix|column):.+", group):
            return group
        raise ValueError("expected `folder`, a separator such as prefix:_, a column such as column:patient, or nothing")

    @property
    def folders(self) -> dict[str, str]:
        """Data set -> folder or pattern; empty: none was given."""
        return {str(dataset): source or "" for dataset, source in self.sources.items()}

    @property
    def completeness(self) -> CompletenessOfSpans:
        """What makes a span complete, as keyword arguments of `find_spans`, `resolve_sources` and ImageExampleGen."""
        return {"success_file": self.success_file, "settle_seconds": self.settle_seconds}

    @field_validator("sources")
    @classmethod
    def _at_least_one(cls, sources: dict[str, str | None]) -> dict[str, str | None]:
        if not sources:
            raise ValueError(f"expected at least one of {', '.join(DATASETS)}")
        return {dataset: folder and absolute(folder) for dataset, folder in sources.items()}

    @field_validator("corrections")
    @classmethod
    def _of_this_machine(cls, file: str | None) -> str | None:
        return file and absolute(file)

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
    def _file_name(cls, name: str) -> str:
        if not name or name in (".", "..") or "/" in name or "\0" in name:
            raise ValueError(f"expected the name of a file in each span's folder, such as {SUCCESS_FILE}, without a /")
        return name


def _read_span(span: object) -> int | datetime.date | None:
    """The number or day of a span; None: the value is neither."""
    if isinstance(span, str) and re.fullmatch("[0-9]+", span):
        span = int(span)
    elif isinstance(span, str):
        with contextlib.suppress(ValueError):
            span = datetime.datetime.strptime(span, "%Y-%m-%d").date()
    return span if type(span) is datetime.date or (type(span) is int and 0 <= span < 10**18) else None


_NOTE = "A larger distance is noted in the summary; null: never."
_STOP = "A larger distance stops the run before it trains on the span; null: never."


class DriftCheck(Section):
    """Thresholds of one check of a new span against earlier ones; with neither, the check is off."""

    note: float | None = Field(ge=0, allow_inf_nan=False, description=_NOTE)
    stop: float | None = Field(ge=0, allow_inf_nan=False, description=_STOP)

    @model_validator(mode="after")
    def _noted_before_stopped(self) -> DriftCheck:
        if self.note is not None and self.stop is not None and self.note > self.stop:
            raise ValueError(f"note ({self.note:g}) is larger than stop ({self.stop:g}); expected a smaller one")
        return self


class LabelDistributionDrift(DriftCheck):
    """Share of the photos that would have to change class, in [0, 1]."""

    note: float | None = Field(0.2, ge=0, le=1, description=_NOTE)
    stop: float | None = Field(0.9, ge=0, le=1, description=_STOP)


class ImageSizeDrift(DriftCheck):
    """Mean change of the sides of a photo, in octaves: 1 is twice or half as long."""

    note: float | None = Field(0.5, ge=0, allow_inf_nan=False, description=_NOTE)
    stop: float | None = Field(None, ge=0, allow_inf_nan=False, description=_STOP)


class ImageFormatDrift(DriftCheck):
    """Share of the photos that would have to change format, in [0, 1]."""

    note: float | None = Field(0.3, ge=0, le=1, description=_NOTE)
    stop: float | None = Field(None, ge=0, le=1, description=_STOP)


class BrightnessDrift(DriftCheck):
    """Mean change of the brightness of a photo; black is 0, white is 1."""

    note: float | None = Field(0.1, ge=0, le=1, description=_NOTE)
    stop: float | None = Field(None, ge=0, le=1, description=_STOP)


class FeatureDrift(DriftCheck):
    """Content of the photos: maximum mean discrepancy of their feature vectors, 0 to 1.4."""

    note: float | None = Field(0.15, ge=0, le=2, description=_NOTE)
    stop: float | None = Field(0.45, ge=0, le=2, description=_STOP)


class ClassFeatureDrift(DriftCheck):
    """Content of the photos within each class: their vectors against the earlier ones of the class, 0 to 1.4."""

    note: float | None = Field(0.2, ge=0, le=2, description=_NOTE)
    stop: float | None = Field(0.3, ge=0, le=2, description=_STOP)


class DriftConfig(Section):
    """How a new span is compared with the earlier ones of the window.

    A distance counts if it is larger than its threshold and than chance explains. `note` puts it into the summary,
    `stop` stops the run before it trains on the span.
    """

    label_distribution: LabelDistributionDrift = LabelDistributionDrift()
    image_size: ImageSizeDrift = ImageSizeDrift()
    image_format: ImageFormatDrift = ImageFormatDrift()
    brightness: BrightnessDrift = BrightnessDrift()
    feature_distance: FeatureDrift = FeatureDrift()
    class_feature_distance: ClassFeatureDrift = ClassFeatureDrift()
    false_alarms: float = Field(
        0.001,
        ge=0.0001,
        le=0.1,
        description="How often a check may raise a false alarm: the share of spans without drift that exceed chance.",
    )
    far_quantile: float = Field(
        0.999,
        gt=0.5,
        lt=1,
        description="A photo is far if the earlier photo nearest to it is further away than is usual for this share of "
        "the earlier photos.",
    )
    listed_photos: int = Field(20, ge=0, le=1000, description="How many far photos are listed, the farthest first.")
