"""The folders of a pipeline, and the earlier spans that it trains on."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Places:
    """Where a pipeline keeps its outputs."""

    artifacts: str
    serving: str
    """Versions that production reads."""
    vectors: str = ""
    resume: str = ""
    """State of interrupted trainings."""
    production_model: str = ""
    """SavedModel in production; empty: there is none."""
    production_identity: str = ""
    """Identity of its content (`components.serving_folder.files.model_identity`)."""
    lost_version: str = ""
    """The version that was pushed last, if it is no longer in `serving` and must be pushed again."""


@dataclass(frozen=True)
class EarlierSpans:
    """The earlier spans of a window, which were ingested and checked before, and the roles of all its spans."""

    photos: list[int] = field(default_factory=list)
    """Numbers in ML Metadata of their photos, from ImageExampleGen."""
    vectors: list[int] = field(default_factory=list)
    reports: list[int] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    """Numbers of all spans whose train and eval splits the models train on."""
    tested: list[int] = field(default_factory=list)
    """Numbers of all spans whose test splits the models are tested on."""
    planned: list[str] = field(default_factory=list)
    """The plan of the window (`deploy.data_folders.planned`)."""
