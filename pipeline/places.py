"""The folders of a pipeline, and the earlier spans that it learns from."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Places:
    """Where a pipeline keeps what it makes.

    artifacts: of every step. serving: the folder production reads. vectors: feature vectors by content hash. resume:
    the state of interrupted trainings. production_model: the SavedModel in production, or empty. production_identity:
    of its content (`components.serving_folder.files.model_identity`). lost_version: the version last pushed, if it is
    no longer in `serving`: then it is pushed anew.
    """

    artifacts: str
    serving: str
    vectors: str = ""
    resume: str = ""
    production_model: str = ""
    production_identity: str = ""
    lost_version: str = ""


@dataclass(frozen=True)
class EarlierSpans:
    """The spans of a window before the newest, and which spans it has.

    photos, vectors, reports: numbers of their artifacts in ML Metadata, of ImageExampleGen and FeatureVectorGen, which
    have ingested and checked them. trained: numbers of all spans whose train and eval splits are learnt from. tested:
    of all whose test splits are tested on. planned: what the window was planned from.
    """

    photos: list[int] = field(default_factory=list)
    vectors: list[int] = field(default_factory=list)
    reports: list[int] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    tested: list[int] = field(default_factory=list)
    planned: list[str] = field(default_factory=list)
