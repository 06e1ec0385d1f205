"""The head on a feature vector, the one loss that both phases share, and the training step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from components.legacy_keras import tf_keras
from components.trainer.calibrated_loss import CalibratedLogLoss

HEAD_NAME = "head"
HIDDEN_NAME = "head_hidden"
# In front of what a stopped training says; `loop` looks for it.
NOT_FINITE = "the loss is not finite"


def build_head(width: int, classes: int, hidden_units: int, dropout: float, seed: int) -> tf_keras.Sequential:
    """Feature vectors to logits: float32 [batch, width] -> float32 [batch, classes].

    The last layer starts from zeros: the first answer is that every class is equally likely.
    """
    layers = [tf_keras.layers.Input([width])]
    if hidden_units:
        initializer = tf_keras.initializers.GlorotUniform(seed)
        layers.append(tf_keras.layers.Dense(hidden_units, "relu", name=HIDDEN_NAME, kernel_initializer=initializer))
    layers += [
        # A stateful generator, whose state can be kept when training is interrupted.
        tf_keras.layers.Dropout(dropout, seed=seed, rng_type="stateful"),
        # Logits are float32 in mixed precision too.
        tf_keras.layers.Dense(classes, name=HEAD_NAME, kernel_initializer="zeros", dtype="float32"),
    ]
    return tf_keras.Sequential(layers, name="classifier_head")


class _SmoothedCrossEntropy(tf_keras.losses.Loss):
    """Cross-entropy on logits with a share of each label spread over all classes (Szegedy et al. 2016, section 7)."""

    def __init__(self, label_smoothing: float):
        super().__init__(name="smoothed_cross_entropy")
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        one_hot = tf.one_hot(tf.cast(tf.reshape(y_true, [-1]), tf.int32), tf.shape(y_pred)[-1])
        return tf_keras.losses.categorical_crossentropy(
            one_hot, y_pred, from_logits=True, label_smoothing=self.label_smoothing
        )

    def get_config(self):
        return {**super().get_config(), "from_logits": True, "label_smoothing": self.label_smoothing}


def make_loss(label_smoothing: float = 0.0) -> tf_keras.losses.Loss:
    """The loss of both phases: the models give logits, never probabilities, until they are exported."""
    if label_smoothing:
        return _SmoothedCrossEntropy(label_smoothing)
    return tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Classifier(tf_keras.Model):
    """A Keras model that learns from batches of (inputs, classes, names), and names the photos it breaks on.

    Args:
      class_weights: class index -> its weight in the loss, for every class, or None.
      calibrated: whether the loss after calibration chooses the best epoch.
    """

    def __init__(self, *args, class_weights: dict[int, float] | None = None, calibrated: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        if calibrated:
            self.chosen_by = "calibrated_loss"
        weights = class_weights and [class_weights[i] for i in range(len(class_weights))]
        self._class_weights = tf.constant(weights) if weights else None

    # The score on the eval split that chooses the best epoch: a smoothed cross-entropy is no measure of a model.
    chosen_by = "log_loss"
    more_is_better = False
    # A step of a head takes less time than Keras takes to call for it.
    steps_per_call = 16

    def badness(self, scores: Mapping[str, float], prefix: str = "") -> float:
        """The less the better: what chooses the best epoch, from Keras' scores, whose names begin with `prefix`."""
        score = float(scores[f"{prefix}{self.chosen_by}"])
        return -score if self.more_is_better else score

    def objective(self, label_smoothing: float) -> tuple[tf_keras.losses.Loss, list[Any]]:
        """The loss, and the metrics `accuracy`, `log_loss` and what else there is, for `compile`."""
        log_loss = tf_keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="log_loss")
        further = [CalibratedLogLoss()] if self.chosen_by == "calibrated_loss" else []
        return make_loss(label_smoothing), ["accuracy", log_loss, *further]

    def train_step(self, data: tuple[Any, tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        inputs, classes, names = data
        weights = None if self._class_weights is None else tf.gather(self._class_weights, classes)
        with tf.GradientTape() as tape:
            logits = self(inputs, training=True)
            loss = self.compute_loss(inputs, classes, logits, weights)
        # Before anything is changed by it.
        finite = tf.debugging.Assert(tf.math.is_finite(loss), [NOT_FINITE, names], summarize=-1)
        with tf.control_dependencies([finite]):
            self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        return self.compute_metrics(inputs, classes, logits, None)

    def test_step(self, data: tuple[Any, tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        inputs, classes, _ = data
        logits = self(inputs, training=False)
        self.compute_loss(inputs, classes, logits, None)
        return self.compute_metrics(inputs, classes, logits, None)

    def predict_step(self, data: tuple[Any, tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits with the true classes beside them, whatever order the data come in."""
        inputs, classes, _ = data
        return self(inputs, training=False), classes
