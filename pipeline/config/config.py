"""The whole configuration, and the rules that span several sections."""

from __future__ import annotations

import datetime
from typing import Any

from pydantic import BaseModel, Field, model_validator

from components.backbone import registry
from components.example_gen.found_photos import FolderRules
from components.example_gen.photo_rules import PhotoRules
from components.example_gen.spans import parse_pattern
from pipeline.config.data import DataConfig, DriftConfig
from pipeline.config.release import (
    EvaluationConfig,
    NotifyConfig,
    ReleaseConfig,
    RetentionConfig,
    RuntimeConfig,
    SelectionConfig,
    ServingConfig,
    TrackingConfig,
)
from pipeline.config.section import Section
from pipeline.config.training import BackboneConfig, ImageConfig, TaskConfig, TrainingConfig
from schemas.features import MASK_DATASETS, SEGMENTATION

# Keys that only one task has, and what to do instead with the other.
_OF_CLASSIFICATION = {
    "release.minimum_accuracy": "expected release.minimum_mean_iou",
    "serving.abstain_below": "masks have no answer to abstain from, so leave it out",
}
_OF_SEGMENTATION = {
    "task.ignore": "photos of a class are left out by removing its folder",
    "release.minimum_mean_iou": "expected release.minimum_accuracy",
    "release.guarded_classes": "classes of photos are guarded by release.guarded_slices: [label]",
}


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
    tracking: TrackingConfig = TrackingConfig()
    retention: RetentionConfig = RetentionConfig()

    @model_validator(mode="after")
    def _size_fits_the_backbone(self) -> Config:
        """The size that the backbone was published for, unless another is set."""
        if "size" not in self.image.model_fields_set:
            size = registry.input_size(self.backbone.handle)
            object.__setattr__(self, "image", self.image.model_copy(update={"size": size}))
        return self

    @model_validator(mode="after")
    def _spans_go_together(self) -> Config:
        for key, sources in (("data.sources", self.data.sources), ("evaluation.further", self.evaluation.further)):
            patterns = [pattern for source in sources.values() if source and (pattern := parse_pattern(source))]
            for other in patterns[1:]:
                if (other.dated, other.versioned) != (patterns[0].dated, patterns[0].versioned):
                    raise ValueError(
                        f"{key} has {patterns[0].text} and {other.text}; expected all of them to use numbers or all "
                        "days, and {VERSION} in all of them or in none"
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
                    f"/photos/span-{{SPAN}}, or leave out {key}"
                )
        for key, verb, span in asked:
            if pattern is not None and isinstance(span, datetime.date) != pattern.dated:
                kinds = ("days", "2026-11-22") if pattern.dated else ("numbers", "17")
                raise ValueError(
                    f"{key} {verb} {span}, but the spans of {pattern.text} are {kinds[0]}; expected a span such as "
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
                f"data.sources has {' and '.join(self.data.sources)}, whose classes differ; expected a single data "
                "set, or task.label: species"
            )
        return self

    @model_validator(mode="after")
    def _masks_are_for_segmentation(self) -> Config:
        segmentation = self.task.kind == SEGMENTATION
        if segmentation != self.task.schema_has_masks:
            have = "has no masks" if segmentation else "has masks"
            raise ValueError(
                f"task.kind is {self.task.kind!r}, but the schema {self.task.schema_name} (task.schema_name) {have}; "
                f"expected {'oxford_iiit_pet_masks or image_masks' if segmentation else 'task.kind: segmentation'}"
            )
        for dataset in self.data.sources:
            if segmentation and dataset not in MASK_DATASETS:
                raise ValueError(
                    f"task.kind is 'segmentation', but data.sources has {dataset}, which has no masks; expected "
                    f"{' or '.join(MASK_DATASETS)}"
                )
            if not segmentation and dataset == "image_masks":
                raise ValueError("data.sources has image_masks; expected task.kind: segmentation")
        if segmentation and self.evaluation.further:
            raise ValueError(
                "evaluation.further is not for segmentation yet; expected no further data sets with task.kind: "
                "segmentation"
            )
        if segmentation and self.task.label == "species":
            raise ValueError(
                "task.label is 'species', but segmentation learns the classes of the masks; leave out task.label"
            )
        return self

    @model_validator(mode="after")
    def _release_fits_the_task(self) -> Config:
        """A key of the other task, set to anything but its default, would be passed over in silence."""
        segmentation = self.task.kind == SEGMENTATION
        for key in _OF_CLASSIFICATION if segmentation else _OF_SEGMENTATION:
            section, name = key.split(".")
            given = getattr(getattr(self, section), name)
            default = type(getattr(self, section)).model_fields[name].get_default(call_default_factory=True)
            if given != default:
                instead = _OF_CLASSIFICATION[key] if segmentation else _OF_SEGMENTATION[key]
                raise ValueError(f"{key} is {given}, but task.kind is {self.task.kind!r}; {instead}")
        return self

    @property
    def mask_size(self) -> int:
        """Side of the masks that the models give, in pixels; 0: they give a class for each photo."""
        return self.image.size if self.task.kind == SEGMENTATION else 0

    @property
    def stored_taps(self) -> dict[str, Any]:
        """Which of the backbone's tensors are stored for the decoder: parameters of FeatureVectorGen."""
        if not self.mask_size:
            return {}
        stored = self.training.decoder.model_dump(include={"strides", "cache_gigabytes"})
        # Photos that change in every epoch are never read from there.
        return stored | ({"cache_gigabytes": 0.0} if self.training.augmentation.mode == "online" else {})

    @property
    def floor(self) -> float:
        """The accuracy, of masks the mean IoU, that a model must reach."""
        return self.release.minimum_mean_iou if self.mask_size else self.release.minimum_accuracy

    @property
    def guard(self) -> dict[str, Any]:
        """Which classes of the pixels must not be lost: parameters of ModelSelector; empty for a classification."""
        if not self.mask_size:
            return {}
        guarded = self.release.model_dump(include={"guarded_classes", "tolerated_loss"})
        return {**guarded, "minimum_slice_examples": self.evaluation.minimum_slice_examples}

    @property
    def photo_rules(self) -> PhotoRules:
        """The rules by which photos are accepted and read; a model keeps them."""
        return PhotoRules.of({**self.data.model_dump(), **self.image.model_dump()})

    @property
    def folder_rules(self) -> FolderRules:
        """The rules by which folders of photos are read."""
        data = self.data
        masks = self.task.kind == SEGMENTATION
        return FolderRules(data.success_file, data.labels, data.group, masks, tuple(self.task.ignore))


def all_keys(section: type[BaseModel] = Config, path: tuple[str, ...] = ()) -> list[str]:
    """Every key of the configuration, dotted, in the order of the sections."""
    keys = []
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += all_keys(field.annotation, (*path, name))
        else:
            keys.append(".".join((*path, name)))
    return keys
