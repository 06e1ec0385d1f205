"""A training phase: what it is given, and what comes out of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import tensorflow as tf

from components.legacy_keras import tf_keras
from components.task.training import Inputs, TrainingTask
from components.trainer.devices import Devices
from components.trainer.model import Classifier
from components.trainer.settings import PhaseSettings
from components.trainer.training_data import Photos, StoredRows, TrainingData, read_photos, read_rows
from components.trainer.warm_start import Source
from components.transform.augmentation import Augmentation
from schemas import features as f

P = TypeVar("P", bound=PhaseSettings)


class Files(NamedTuple):
    """The files of the two splits that a phase reads."""

    train: list[str]
    eval: list[str]


@dataclass(frozen=True)
class Phase(Generic[P]):
    """The inputs of a training phase."""

    settings: P
    task: TrainingTask
    labels: list[str]
    """Class names in the order of their indices."""
    transform: Callable[[tf.Tensor], tf.Tensor]
    """Photos' bytes, string [batch], to images, float32 [batch, size, size, 3]."""
    vectors: Files
    """From FeatureVectorGen."""
    photos: Files
    """From ImageExampleGen or Window."""
    base_model: str
    """Folder of the model that the first phase exported; empty in the first phase."""
    module_path: str
    """Folder of the backbone's SavedModel."""
    devices: Devices
    folder: str
    """Holds files that are needed until the phase ends."""
    log_folder: str
    resume_file: str | None

    @functools.cached_property
    def eval_vectors(self) -> StoredRows:
        """The vectors of the eval split."""
        return self.read_rows(self.vectors.eval)

    def read_rows(self, files: list[str], feature: str = f.FEATURE_VECTOR, shape: tuple[int, ...] = ()) -> StoredRows:
        """The vectors of a split, or its activations of `shape`."""
        return read_rows(files, self.labels, feature, self.folder, shape)

    def read_photos(self, files: list[str], augmentation: Augmentation | None = None) -> Photos:
        """The photos of a split."""
        return read_photos(files, self.transform, self.labels, augmentation)


@dataclass(frozen=True)
class TrainedPhase:
    """The result of a training phase."""

    model: Classifier
    """The trained model, at its best epoch."""
    eval_data: TrainingData
    """The eval split as inputs of `model`."""
    backbone: Any
    """Images to features: `FeatureVector` or `Encoder`."""
    head: tf_keras.Model
    """Features to logits."""
    inputs: Inputs
    """What it was trained on."""
    history: dict[str, Any]
    """From `loop.train`, with entries added by the phase."""
    is_frozen: bool = False
    """Whether the backbone is the published one."""
    unchanged: Source | None = None
    """The run's own model of the phase before, if this one has the same values: no epoch was better than the start."""
