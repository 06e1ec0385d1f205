"""The loss that is left after calibration, while a model is still in training."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from components.legacy_keras import tf_keras

LEAST_TEMPERATURE, GREATEST_TEMPERATURE = 0.05, 20.0


class CalibratedLogLoss(tf_keras.metrics.Metric):
    """The log loss that is left after calibration: the lowest at any of a row of temperatures, 7% apart.

    Training that goes on too long makes a model too sure long before its answers get worse. Since the exported model
    is calibrated, only the latter counts.
    """

    def __init__(self, name: str = "calibrated_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self._temperatures = np.geomspace(LEAST_TEMPERATURE, GREATEST_TEMPERATURE, 89).astype(np.float32)
        self._sums = self.add_weight("sums", [len(self._temperatures)], initializer="zeros")
        self._count = self.add_weight("count", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Classes, integers [batch], and logits, float [batch, classes]; every example weighs the same."""
        del sample_weight
        scaled = tf.cast(y_pred, tf.float32)[tf.newaxis] / self._temperatures[:, np.newaxis, np.newaxis]
        classes = tf.broadcast_to(tf.reshape(tf.cast(y_true, tf.int64), [1, -1]), tf.shape(scaled)[:2])
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(classes, scaled)
        self._sums.assign_add(tf.reduce_sum(losses, axis=1))
        self._count.assign_add(tf.cast(tf.shape(scaled)[1], tf.float32))

    def reset_state(self):
        for variable in self.variables:
            variable.assign(tf.zeros_like(variable))

    def result(self):
        best = tf.argmin(self._sums + np.log(self._temperatures) ** 2 / 2)  # the prior of `calibration.fit_temperature`
        return tf.gather(self._sums, best) / self._count
