"""Runs a training phase: what both phases and every task share."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable
from typing import TypeVar

from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.io import fileio

from components.backbone import feature_vector
from components.legacy_keras import tf_keras
from components.linked_copy import copy_folder
from components.loaded_models import remember_model
from components.records import matching_files
from components.task.training import TrainingTask
from components.trainer import calibration, loop
from components.trainer.classification import Classification
from components.trainer.devices import Devices, training_devices
from components.trainer.phase import Files, Phase, TrainedPhase
from components.trainer.segmentation import Segmentation
from components.trainer.settings import PhaseSettings
from components.trainer.training_data import example_files
from components.transform.graph import load_transform
from schemas import features as f
from schemas import schema_files

_SAME_TEMPERATURE = 1e-3
P = TypeVar("P", bound=PhaseSettings)

TASKS: dict[str, TrainingTask] = {f.CLASSIFICATION: Classification(), f.SEGMENTATION: Segmentation()}


def _devices(settings: PhaseSettings, task: TrainingTask) -> contextlib.AbstractContextManager[Devices]:
    return training_devices(settings.mixed_precision, task.one_device)


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
    task = TASKS[settings.task]
    labels = task.classes(schema_files.read_schema(fn_args.schema_path))
    files = [matching_files(patterns) for patterns in (fn_args.train_files, fn_args.eval_files)]
    decides = [settings.model_dump(), labels, *files, fn_args.base_model]
    resume_file = loop.resume_file(settings.resume_folder, name, decides)
    with tempfile.TemporaryDirectory() as folder, _devices(settings, task) as devices:
        phase = Phase(
            settings=settings,
            task=task,
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
    # Stored activations are rounded, and so is a temperature that is fitted from them.
    same = trained.unchanged
    if same and math.isclose(calibrated["temperature"], same.temperature, rel_tol=_SAME_TEMPERATURE):
        calibrated["temperature"] = same.temperature
    else:
        same = None
    history = {**trained.history, "devices": devices.note, "calibration": calibrated}
    loop.write_history(history, fn_args.model_run_dir)
    if same is None:
        task.export(fn_args.serving_model_dir, phase, trained, calibrated["temperature"])
    else:
        copy_folder(same.folder, fn_args.serving_model_dir)
        remember_model(fn_args.serving_model_dir, same.model)
    if resume_file and fileio.exists(resume_file):
        fileio.remove(resume_file)
