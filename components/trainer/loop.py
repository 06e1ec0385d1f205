"""Training with the best epoch kept; the same loop for both phases."""

from __future__ import annotations

import json
import os
from typing import Any

import tensorflow as tf
from tfx.dsl.io import fileio

from components import progress
from components.legacy_keras import tf_keras
from components.trainer.model import make_loss

HISTORY_FILE = "training.json"


class KeepBest(tf_keras.callbacks.Callback):
    """Ends training after `patience` epochs without a better eval loss, and restores the best weights.

    The weights before the first epoch count too, so that training can never leave the model worse on the eval
    split than it began.
    """

    def __init__(self, initial_loss: float, patience: int):
        super().__init__()
        self.best_loss, self.best_epoch = initial_loss, 0
        self._patience = patience

    def on_train_begin(self, logs=None):
        self._best = self._values()

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_loss"] < self.best_loss:
            self.best_loss, self.best_epoch = logs["val_loss"], epoch + 1
            self._best = self._values()
        elif epoch + 1 - self.best_epoch >= self._patience:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        for variable, value in zip(self.model.trainable_variables, self._best, strict=True):
            variable.assign(value)

    def _values(self):
        return [variable.numpy() for variable in self.model.trainable_variables]


class _Progress(tf_keras.callbacks.Callback):
    def __init__(self, epochs: int):
        super().__init__()
        self._epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        progress.report("epochs", epoch + 1, self._epochs)


def train(
    model: tf_keras.Model,
    train_data: tf.data.Dataset,
    eval_data: tf.data.Dataset,
    phase: dict[str, Any],
    log_folder: str,
) -> dict[str, Any]:
    """Trains `model` in place and leaves it at its best epoch.

    Args:
      model: inputs to logits, float32 [batch, classes].
      train_data: batches of (inputs, int64 [batch] class indices), shuffled.
      eval_data: the same, in order; it chooses the epoch.
      phase: `epochs`, `learning_rate` and `patience` of the configuration.
      log_folder: for TensorBoard.

    Returns:
      The learning curves: `before` (loss and accuracy on the eval split before training), `epochs` (one dict
      each) and `best_epoch` (0: none was better than before).
    """
    model.compile(optimizer=tf_keras.optimizers.Adam(phase["learning_rate"]), loss=make_loss(), metrics=["accuracy"])
    before = model.evaluate(eval_data, verbose=0, return_dict=True)
    keep_best = KeepBest(before["loss"], phase["patience"])
    history: dict[str, list[float]] = {}
    if phase["epochs"]:
        history = model.fit(
            train_data,
            validation_data=eval_data,
            epochs=phase["epochs"],
            verbose=0,
            callbacks=[
                keep_best,
                _Progress(phase["epochs"]),
                tf_keras.callbacks.TensorBoard(log_folder, write_graph=False),
            ],
        ).history
    names = {
        "loss": "train_loss",
        "accuracy": "train_accuracy",
        "val_loss": "eval_loss",
        "val_accuracy": "eval_accuracy",
    }
    epochs = [
        {new: float(history[old][epoch]) for old, new in names.items()} for epoch in range(len(history.get("loss", [])))
    ]
    return {
        "before": {"eval_loss": before["loss"], "eval_accuracy": before["accuracy"]},
        "epochs": epochs,
        "best_epoch": keep_best.best_epoch,
        "learning_rate": phase["learning_rate"],
        "trainable_variables": [v.name for v in model.trainable_variables],
    }


def write_history(history: dict[str, Any], folder: str) -> None:
    """Keeps the learning curves with the training run."""
    fileio.makedirs(folder)
    with fileio.open(os.path.join(folder, HISTORY_FILE), "w") as file:
        file.write(json.dumps(history, indent=2))
