"""The folders of a pipeline."""

from __future__ import annotations

from dataclasses import dataclass


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
