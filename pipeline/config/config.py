"""The whole configuration, and the rules that span several sections."""

from __future__ import annotations

import datetime

from pydantic import BaseModel, Field, model_validator

from components.backbone import registry
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
)
from pipeline.config.section import Section
from pipeline.config.training import BackboneConfig, ImageConfig, TaskConfig, TrainingConfig


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

    @property
    def photo_rules(self) -> PhotoRules:
        """The rules by which photos are accepted and read; a model keeps them."""
        return PhotoRules.of({**self.data.model_dump(), **self.image.model_dump()})


def all_keys(section: type[BaseModel] = Config, path: tuple[str, ...] = ()) -> list[str]:
    """Every key of the configuration, dotted, in the order of the sections."""
    keys = []
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += all_keys(field.annotation, (*path, name))
        else:
            keys.append(".".join((*path, name)))
    return keys
