"""The model that learns a class for every pixel: its loss, its scores, and what it hands to calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from components.legacy_keras import tf_keras
from components.trainer.model import Classifier
from schemas.features import IGNORE

# Pixels of each photo on a grid that a temperature is fitted on: neighbours say the same.
_CALIBRATION_SIDE = 32


def _planes(logits: tf.Tensor) -> tf.Tensor:
    """[batch, height, width, classes] -> [batch, classes, pixels]: sums over a short last axis take several times as
    long."""
    shape = tf.shape(logits)
    return tf.reshape(tf.transpose(logits, [0, 3, 1, 2]), [shape[0], logits.shape[-1], shape[1] * shape[2]])


def _true_planes(ids: tf.Tensor, classes: int) -> tf.Tensor:
    """[batch, height, width] -> float32 [batch, classes, pixels]: 1 where a pixel has the class; it may have none."""
    flat = tf.reshape(ids, [tf.shape(ids)[0], 1, -1])
    return tf.cast(flat == tf.reshape(tf.cast(tf.range(classes), ids.dtype), [1, classes, 1]), tf.float32)


def _log_softmax(planes: tf.Tensor) -> tf.Tensor:
    """Logs of probabilities from logits, [batch, classes, pixels]; `tf.nn.log_softmax` moves the classes to the last
    axis and back, which takes several times as long."""
    shifted = planes - tf.stop_gradient(tf.reduce_max(planes, 1, keepdims=True))
    return shifted - tf.math.log(tf.reduce_sum(tf.exp(shifted), 1, keepdims=True))


def pixel_cross_entropy(true: tf.Tensor, log_probabilities: tf.Tensor) -> tf.Tensor:
    """Mean over each photo's counted pixels, float32 [batch]; 0 for a photo without any.

    Args:
      true: float32 [batch, classes, pixels], see `_true_planes`; weights and smoothed labels may be in it.
      log_probabilities: float32 [batch, classes, pixels].
    """
    return -tf.math.divide_no_nan(tf.reduce_sum(true * log_probabilities, [1, 2]), tf.reduce_sum(true, [1, 2]))


def dice_loss(true: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """1 minus the overlap of each photo's classes, float32 [batch]; a class that is not in the photo does not count.

    Milletari et al. 2016, "V-Net", arXiv:1606.04797, with plain sums in the denominator, by photo and class.

    Args:
      true: float32 [batch, classes, pixels], 0 or 1.
      probabilities: float32 [batch, classes, pixels], of counted pixels.
    """
    counted = tf.reduce_sum(true, 1, keepdims=True)
    both = tf.reduce_sum(true * probabilities, 2)
    of_truth = tf.reduce_sum(true, 2)
    overlap = tf.math.divide_no_nan(2 * both, of_truth + tf.reduce_sum(counted * probabilities, 2))
    present = tf.cast(of_truth > 0, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(present * (1 - overlap), 1), tf.reduce_sum(present, 1))


class MaskLoss(tf_keras.losses.Loss):
    """Cross-entropy of the counted pixels, plus a Dice term; each photo weighs the same.

    Args:
      dice: whether there is a Dice term.
      label_smoothing: share of each pixel's label that is spread over all classes, in the cross-entropy.
      class_weights: of the pixels of each class in the cross-entropy, or None.
    """

    def __init__(self, dice: bool, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None):
        super().__init__(name="mask_loss")
        self.dice, self.label_smoothing, self.class_weights = dice, label_smoothing, class_weights

    def call(self, y_true, y_pred):
        logits = _planes(y_pred)
        classes = logits.shape[1]
        true = _true_planes(y_true, classes)
        log_probabilities = _log_softmax(logits)
        target = true
        if self.class_weights is not None:
            target *= tf.reshape(tf.constant(self.class_weights, tf.float32), [1, classes, 1])
        if self.label_smoothing:
            spread = tf.reduce_sum(target, 1, keepdims=True) / classes
            target = (1 - self.label_smoothing) * target + self.label_smoothing * spread
        loss = pixel_cross_entropy(target, log_probabilities)
        if self.dice:
            loss += dice_loss(true, tf.exp(log_probabilities))
        return loss

    def get_config(self):
        return {
            **super().get_config(),
            "from_logits": True,
            "dice": self.dice,
            "label_smoothing": self.label_smoothing,
            "class_weights": self.class_weights,
        }


class MaskScores(tf_keras.metrics.Metric):
    """`log_loss` (mean cross-entropy of a pixel), `accuracy` (of a pixel) and `mean_iou`; each photo weighs the same.

    mean_iou: mean over the classes that are in the truth of intersection over union, from the confusions of all photos,
    each scaled to a sum of 1.
    """

    def __init__(self, classes: int):
        super().__init__(name="mask_scores")
        self._classes = classes
        self._confusion = self.add_weight(name="confusion", shape=[classes, classes], initializer="zeros")
        self._log_loss = self.add_weight(name="log_loss", initializer="zeros")
        self._photos = self.add_weight(name="photos", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        logits = _planes(y_pred)
        true = _true_planes(y_true, self._classes)
        answers = _true_planes(tf.argmax(logits, 1, output_type=tf.int32), self._classes)
        counts = tf.einsum("btp,bap->bta", true, answers)
        scaled = tf.math.divide_no_nan(counts, tf.reduce_sum(counts, [1, 2], keepdims=True))
        self._confusion.assign_add(tf.reduce_sum(scaled, 0))
        self._log_loss.assign_add(tf.reduce_sum(pixel_cross_entropy(true, _log_softmax(logits))))
        counted = tf.cast(tf.reduce_sum(true, [1, 2]) > 0, tf.float32)
        self._photos.assign_add(tf.reduce_sum(counted))

    def reset_state(self):
        for variable in self.variables:
            variable.assign(tf.zeros_like(variable))

    def result(self):
        confusion = self._confusion
        right = tf.linalg.diag_part(confusion)
        of_truth = tf.reduce_sum(confusion, 1)
        iou = tf.math.divide_no_nan(right, of_truth + tf.reduce_sum(confusion, 0) - right)
        present = tf.cast(of_truth > 0, tf.float32)
        return {
            "log_loss": tf.math.divide_no_nan(self._log_loss, self._photos),
            "accuracy": tf.math.divide_no_nan(tf.reduce_sum(right), self._photos),
            "mean_iou": tf.math.divide_no_nan(tf.reduce_sum(present * iou), tf.reduce_sum(present)),
        }


class Segmenter(Classifier):
    """Learns from batches of (inputs, ids uint8 [batch, size, size], names), and names the photos it breaks on.

    Args:
      classes: of pixels.
      dice: whether the loss has a Dice term.
      pixel_weights: of the pixels of each class in the loss, or None.
    """

    # What the verdict is about. The loss is lowest long before the masks are at their best: pixels get too sure, and
    # that is mended afterwards, by the temperature.
    chosen_by = "mean_iou"
    more_is_better = True
    # A step takes far longer than the call for it, and Keras traces a loop of steps twice.
    steps_per_call = 1

    def __init__(self, *args, classes: int, dice: bool, pixel_weights: Sequence[float] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self._classes, self._dice = classes, dice
        self._pixel_weights = None if pixel_weights is None else tuple(pixel_weights)

    def objective(self, label_smoothing: float) -> tuple[tf_keras.losses.Loss, list[Any]]:
        return MaskLoss(self._dice, label_smoothing, self._pixel_weights), [MaskScores(self._classes)]

    def predict_step(self, data: tuple[Any, tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits of pixels on a grid, float32 [batch, pixels, classes], and their true classes, int64 [batch, pixels],
        -1 where a pixel is not counted."""
        inputs, ids, _ = data
        logits = self(inputs, training=False)
        size = logits.shape[1]
        side = min(size, _CALIBRATION_SIDE)
        places = [int((i + 0.5) * size / side) for i in range(side)]
        for axis in (1, 2):
            logits, ids = tf.gather(logits, places, axis=axis), tf.gather(ids, places, axis=axis)
        true = tf.where(ids == IGNORE, tf.constant(-1, tf.int64), tf.cast(ids, tf.int64))
        return tf.reshape(logits, [-1, side * side, self._classes]), tf.reshape(true, [-1, side * side])
