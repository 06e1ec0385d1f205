"""The training loop of both phases. It keeps the best epoch, and resumes after the last epoch if it was killed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging
from tfx.dsl.io import fileio

from components import progress
from components.legacy_keras import tf_keras
from components.sealed import seal, unseal
from components.trainer import HISTORY_FILE
from components.trainer.devices import even_batch_size
from components.trainer.model import NOT_FINITE, Classifier
from components.trainer.optimization import OpenStages, make_optimizer
from components.trainer.settings import TrainingSettings
from components.trainer.training_data import TrainingData

# TensorBoard's default.
_SMOOTHING = 0.6
_NAMES = {
    "loss": "train_loss",
    "accuracy": "train_accuracy",
    "val_log_loss": "eval_loss",
    "val_accuracy": "eval_accuracy",
    "val_calibrated_loss": "calibrated_eval_loss",
    # Of masks.
    "mean_iou": "train_mean_iou",
    "val_mean_iou": "eval_mean_iou",
}


class TrainingDiverged(RuntimeError):
    """The loss became NaN or infinite; the message names the photos of the batch."""


@dataclass
class _State:
    """The state that is saved after each epoch, from which training can resume.

    variables, best: values of the model's trainable variables now and at the best epoch. optimizer: values of the
    optimizer's variables. generators: states of the dropout layers' random generators.
    """

    epochs: list[dict[str, float]]
    least_badness: float
    best_epoch: int
    variables: list[np.ndarray]
    best: list[np.ndarray]
    optimizer: list[np.ndarray]
    generators: list[np.ndarray]

    def write(self, path: str) -> None:
        """Replaces the file at `path`, whole or not at all."""
        lists = {
            f"{name}-{i:05d}": value
            for name in ("variables", "best", "optimizer", "generators")
            for i, value in enumerate(getattr(self, name))
        }
        facts = json.dumps({"epochs": self.epochs, "least_badness": self.least_badness, "best_epoch": self.best_epoch})
        buffer = io.BytesIO()
        np.savez(buffer, facts=np.array(facts), **lists)
        with fileio.open(path + ".new", "wb") as file:
            file.write(seal(buffer.getvalue(), os.path.basename(path)))
        fileio.rename(path + ".new", path, overwrite=True)

    @classmethod
    def read(cls, path: str) -> _State | None:
        """Reads the state; None if the file was changed or truncated."""
        with fileio.open(path, "rb") as file:
            content = unseal(file.read(), os.path.basename(path))
        if content is None:
            return None
        stored = np.load(io.BytesIO(content))
        lists: dict[str, Any] = {
            name: [stored[key] for key in sorted(stored.files) if key.startswith(name + "-")]
            for name in ("variables", "best", "optimizer", "generators")
        }
        return cls(**json.loads(str(stored["facts"])), **lists)


class _KeepBest(tf_keras.callbacks.Callback):
    """Ends training after `patience` epochs that are no better on the eval split, and restores the best weights.

    The weights before the first epoch count too, so training never makes the model worse on the eval split. After each
    epoch, the state to resume from is written to `resume_file`.
    """

    def __init__(self, initial_badness: float, patience: int, resume_file: str | None):
        super().__init__()
        self.least_badness, self.best_epoch = initial_badness, 0
        self.epochs: list[dict[str, float]] = []
        self._best: list[np.ndarray] = []
        self._patience, self._resume_file = patience, resume_file

    def restore(self, state: _State) -> None:
        """Resumes from `state`; the model and its optimizer must be built."""
        self.epochs, self.least_badness, self.best_epoch = state.epochs, state.least_badness, state.best_epoch
        self._best = state.best
        for variables, values in (
            (self.model.trainable_variables, state.variables),
            (self.model.optimizer.variables, state.optimizer),
            (_generators(self.model), state.generators),
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    @property
    def is_over(self) -> bool:
        return len(self.epochs) - self.best_epoch >= self._patience

    def on_train_begin(self, logs=None):
        if not self._best:
            self._best = _values(self.model.trainable_variables)

    def on_epoch_end(self, epoch, logs=None):
        rate = tf_keras.backend.get_value(self.model.optimizer.learning_rate)
        curves = {ours: float(logs[keras]) for keras, ours in _NAMES.items() if keras in logs}
        self.epochs.append({**curves, "learning_rate": float(rate)})
        badness = self.model.badness(logs, "val_")
        if badness < self.least_badness:
            self.least_badness, self.best_epoch = badness, epoch + 1
            self._best = _values(self.model.trainable_variables)
        if self._resume_file:
            _State(
                self.epochs,
                self.least_badness,
                self.best_epoch,
                _values(self.model.trainable_variables),
                self._best,
                _values(self.model.optimizer.variables),
                _values(_generators(self.model)),
            ).write(self._resume_file)
        if self.is_over:
            self.model.stop_training = True

    def restore_best(self) -> None:
        """Leaves the model at its best epoch."""
        for variable, value in zip(self.model.trainable_variables, self._best, strict=True):
            variable.assign(value)


class _Progress(tf_keras.callbacks.Callback):
    """Reports each epoch and measures its time, including evaluation."""

    def __init__(self, epochs: int):
        super().__init__()
        self._epochs = epochs
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(round(time.perf_counter() - self._began, 4))
        progress.report("epochs", epoch + 1, self._epochs)


def _values(variables) -> list[np.ndarray]:
    return [variable.numpy() for variable in variables]


def _generators(model: tf_keras.Model) -> list[tf.Variable]:
    """States of the dropout layers, which Keras keeps out of a model's variables."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, tf_keras.layers.Dropout)]
    return [layer._random_generator._generator.state for layer in layers]


def train(
    model: Classifier,
    train_data: TrainingData,
    eval_data: TrainingData,
    settings: TrainingSettings,
    log_folder: str,
    multipliers: dict[str, float] | None = None,
    stages: dict[str, int] | None = None,
    resume_file: str | None = None,
    scale_loss: bool = False,
) -> dict[str, Any]:
    """Trains `model` in place and leaves it at its best epoch.

    Args:
      model: inputs to logits, float32 [batch, classes].
      train_data: shuffled again in every epoch.
      eval_data: decides which epoch is best.
      settings: length and optimizer of the training.
      log_folder: for TensorBoard.
      multipliers: variable name -> multiple of the learning rate.
      stages: variable name -> stage of gradual unfreezing from which it learns.
      resume_file: keeps the state after each epoch until the end. Training resumes from a state found there, unless the
        file is damaged.
      scale_loss: keeps small gradients from vanishing in float16.

    Returns:
      The learning curves: `before` (loss and accuracy on the eval split before training, and mean IoU of masks),
      `epochs` (one dict per epoch), `smoothed` (their exponential moving averages), `best_epoch` (0 if no epoch was
      better than before), `resumed_from` (epochs done before an interruption) and `epoch_seconds` (of the epochs done
      now).

    Raises:
      TrainingDiverged: the loss is not finite; the model keeps its values at that point.
    """
    epochs, replicas = settings.epochs, model.distribute_strategy.num_replicas_in_sync
    batch_size, eval_batch_size = (
        even_batch_size(len(data), settings.batch_size, replicas) for data in (train_data, eval_data)
    )
    steps = train_data.steps(batch_size)
    optimizer = make_optimizer(settings, steps, epochs, multipliers, stages)
    if scale_loss:
        optimizer = tf_keras.mixed_precision.LossScaleOptimizer(optimizer)
    loss, metrics = model.objective(settings.label_smoothing)
    model.compile(
        optimizer=optimizer,
        loss=loss,
        metrics=metrics,
        steps_per_execution=min(steps, model.steps_per_call),
    )
    # Variables that are made in the first step would have it traced twice.
    optimizer.build(model.trainable_variables)
    evaluation = eval_data.in_order(eval_batch_size)
    before = model.evaluate(evaluation, verbose=0, return_dict=True)
    keep_best = _KeepBest(model.badness(before), settings.patience, resume_file)
    keep_best.set_model(model)
    first, clock = 0, _Progress(epochs)
    if resume_file and fileio.exists(resume_file):
        state = _State.read(resume_file)
        if state is None:
            logging.warning("%s is damaged and is ignored; training starts over", resume_file)
        else:
            keep_best.restore(state)
            first = len(keep_best.epochs)
    if first < epochs and not (first and keep_best.is_over):
        callbacks = [keep_best, clock, tf_keras.callbacks.TensorBoard(log_folder, write_graph=False)]
        if stages:
            callbacks.append(OpenStages(max(stages.values()) + 1, epochs))
        try:
            model.fit(
                train_data.epochs(batch_size, settings.seed, first, epochs),
                steps_per_epoch=steps,
                validation_data=evaluation,
                initial_epoch=first,
                epochs=epochs,
                verbose=0,
                callbacks=callbacks,
            )
        except tf.errors.InvalidArgumentError as error:
            raise _diverged(error, len(keep_best.epochs) + 1, settings.learning_rate) from error
    if keep_best.epochs:
        keep_best.restore_best()
    return {
        "before": {
            ours: before[keras.removeprefix("val_")]
            for keras, ours in _NAMES.items()
            if keras.startswith("val_") and keras.removeprefix("val_") in before
        },
        "epochs": keep_best.epochs,
        "smoothed": _smoothed(keep_best.epochs),
        "best_epoch": keep_best.best_epoch,
        "resumed_from": first,
        "epoch_seconds": clock.seconds,
        "learning_rate": settings.learning_rate,
        "trainable_variables": [v.name for v in model.trainable_variables],
        "trainable_parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
    }


def _diverged(error: tf.errors.InvalidArgumentError, epoch: int, learning_rate: float) -> Exception:
    """A TrainingDiverged that names the photos, if the loss was not finite; otherwise the error itself."""
    found = re.search(re.escape(NOT_FINITE) + r"\W*\[(.*?)\]", error.message, re.DOTALL)
    if not found:
        return error
    names = re.findall(r"""["'](.+?)["']""", found[1]) or found[1].split()
    return TrainingDiverged(
        f"{NOT_FINITE} in epoch {epoch} at a learning rate of {learning_rate:g}, on the photos {', '.join(names)}: "
        "lower the learning rate, set training.gradient_clip_norm=1, or remove the photo that causes it"
    )


def _smoothed(epochs: list[dict[str, float]]) -> list[dict[str, float]]:
    """Exponential moving averages of the learning curves, corrected for their initial bias towards zero."""
    smoothed: list[dict[str, float]] = []
    sums: dict[str, float] = {}
    for number, epoch in enumerate(epochs, start=1):
        sums = {name: _SMOOTHING * sums.get(name, 0.0) + (1 - _SMOOTHING) * value for name, value in epoch.items()}
        smoothed.append({name: value / (1 - _SMOOTHING**number) for name, value in sums.items()})
    return smoothed


def resume_file(folder: str, phase: str, decides: Any) -> str | None:
    """The file that keeps the state of an interrupted training of `phase`. States of other trainings are removed.

    Args:
      folder: folder of all resume files; empty to keep none.
      phase: name of the phase.
      decides: everything that determines the training, ready for JSON.
    """
    if not folder:
        return None
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    phase_folder = os.path.join(folder, phase)
    fileio.makedirs(phase_folder)
    for name in fileio.listdir(phase_folder):
        if name != f"{key}.npz":
            fileio.remove(os.path.join(phase_folder, name))
    return os.path.join(phase_folder, f"{key}.npz")


def write_history(history: dict[str, Any], folder: str) -> None:
    """Writes the learning curves into the folder of the training run."""
    fileio.makedirs(folder)
    with fileio.open(os.path.join(folder, HISTORY_FILE), "w") as file:
        file.write(json.dumps(history, indent=2))
