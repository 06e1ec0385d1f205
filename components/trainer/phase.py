"""The work that both phases share: reading their inputs, and storing and exporting the trained model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.io import fileio

from components.backbone import feature_vector
from components.backbone.cut import Cut
from components.backbone.layer import FeatureVector
from components.legacy_keras import tf_keras
from components.loaded_models import remember_model
from components.records import matching_files
from components.trainer import calibration, loop, serving_model
from components.trainer.devices import Devices, training_devices
from components.trainer.model import Classifier, build_head
from components.trainer.settings import PhaseSettings
from components.trainer.training_data import Photos, StoredRows, TrainingData, example_files, read_photos, read_rows
from components.transform.augmentation import Augmentation
from components.transform.graph import load_transform
from schemas import features as f
from schemas import schema_files

P = TypeVar("P", bound=PhaseSettings)


class Files(NamedTuple):
    """The files of the two splits that a phase reads."""

    train: list[str]
    eval: list[str]


@dataclass(frozen=True)
class Phase(Generic[P]):
    """The inputs of a training phase."""

    settings: P
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

    def new_head(self, width: int) -> tf_keras.Sequential:
        """An untrained head for vectors of the given width."""
        settings = self.settings
        return build_head(width, len(self.labels), settings.hidden_units, settings.dropout, settings.seed)

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
    backbone: FeatureVector
    head: tf_keras.Sequential
    cached: Cut | Literal["vectors"] | None
    """The stored values that the exported model can answer from, see `serving_model.export`."""
    history: dict[str, Any]
    """From `loop.train`, with entries added by the phase."""


def run_phase(name: str, settings: P, fn_args: FnArgs, train: Callable[[Phase[P]], TrainedPhase]) -> None:
    """Runs a phase; `train` does the part that is specific to it.

    Args:
      name: name of the phase, under which the state of an interrupted training is stored.
      settings: as configured.
      fn_args: from TFX Trainer; hyperparameters found by Tuner replace configured values.
      train: trains on the devices of the phase, and leaves the model at its best epoch.
    """
    settings = settings.tuned(fn_args.hyperparameters)
    tf_keras.utils.set_random_seed(settings.seed)
    labels = schema_files.labels(schema_files.read_schema(fn_args.schema_path))
    files = [matching_files(patterns) for patterns in (fn_args.train_files, fn_args.eval_files)]
    decides = [settings.model_dump(), labels, *files, fn_args.base_model]
    resume_file = loop.resume_file(settings.resume_folder, name, decides)
    with tempfile.TemporaryDirectory() as folder, training_devices(settings.mixed_precision) as devices:
        phase = Phase(
            settings=settings,
            labels=labels,
            transform=load_transform(fn_args.transform_graph_path),
            vectors=Files(*(example_files(split, f.FEATURE_VECTOR) for split in files)),
            photos=Files(*(example_files(split, f.IMAGE) for split in files)),
            base_model=fn_args.base_model or "",
            module_path=str(feature_vector.resolve(settings.backbone)),
            devices=devices,
            folder=folder,
            log_folder=fn_args.model_run_dir,
            resume_file=resume_file,
        )
        trained = train(phase)
        calibrated = calibration.calibrate(trained.model, trained.eval_data, settings)
    history = {**trained.history, "devices": devices.note, "calibration": calibrated}
    loop.write_history(history, fn_args.model_run_dir)
    backbone, head = trained.backbone, trained.head
    if devices.strategy.num_replicas_in_sync > 1:
        new_head = phase.new_head(head.input_shape[-1])
        backbone, head = serving_model.on_one_device(phase.module_path, backbone, head, new_head)
    served = serving_model.export(
        fn_args.serving_model_dir,
        phase.transform,
        backbone,
        head,
        labels,
        calibrated["temperature"],
        settings.abstain_below,
        cached=trained.cached,
        rules=settings.photo_rules,
    )
    remember_model(fn_args.serving_model_dir, served)  # the steps that follow in this process need not load it
    if resume_file and fileio.exists(resume_file):
        fileio.remove(resume_file)
