"""How models are asked for masks, and how their answers are stored (`components/evaluator/stored_masks.py`)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from components.evaluator import confusions
from components.evaluator.metrics import BINS, SMALLEST_PROBABILITY, calibration_bins
from components.evaluator.stored_masks import (
    COUNTED_PIXELS,
    IGNORED_CLASSES,
    confidence_gaps_key,
    confusion_key,
    ids_png,
    mask_key,
    own_confusion_key,
    pixel_loss_key,
    png_ids,
)
from components.transform.mask_ops import ids_at_size, masks_to_ids
from schemas import features as f

# 150 classes at 224 pixels are 30 MB a photo.
BATCH = 8
# The longer side of a photo at its own size, pixels: a photo of 12 million pixels takes a second.
_LONGEST_SIDE = 1024
_SMALLEST = 1e-30  # probability with a logarithm


class AskForMasks:
    """Asks a model for the probabilities of the pixels, by the signature `probabilities`.

    Args:
      size: the answers are resized to, bilinearly; 0: they stay as large as the model makes them.
      order: the model's classes in the order in which they are wanted; empty: as they are.
    """

    def __init__(self, size: int = 0, order: Sequence[int] = ()):
        self._size, self._order = size, list(order)

    def __call__(self, model: Any, records: Sequence[bytes]) -> np.ndarray:
        """Probabilities float32 [photos, size, size, classes] of serialised examples with photos."""
        spec = {f.IMAGE: tf.io.FixedLenFeature([], tf.string)}
        photos = tf.io.parse_example(tf.constant(records), spec)[f.IMAGE]
        probabilities = model.signatures["probabilities"](image_bytes=photos)["probabilities"]
        if self._size and probabilities.shape[1] != self._size:
            probabilities = tf.image.resize(probabilities, [self._size, self._size])
        if self._order:
            probabilities = tf.gather(probabilities, self._order, axis=-1)
        return probabilities.numpy()


class MaskAnswers:
    """Stores what is counted of each model's mask, and the mask itself.

    Args:
      ignored: names of those that are not counted beside them.
    """

    def __init__(self, classes: int, ignored: Sequence[str] = ()):
        self._classes, self._ignored = classes, [name.encode("utf-8", "surrogateescape") for name in ignored]

    def store(
        self, examples: Sequence[tf.train.Example], answers: Mapping[str, np.ndarray], splits: Sequence[str]
    ) -> None:
        """Adds the answers to the examples, and takes their masks out.

        Args:
          answers: model -> probabilities, float32 [photos, size, size, classes].
          splits: of the photos; those of the test split are also judged at their own size.
        """
        size = next(iter(answers.values())).shape[1]
        masks = [example.features.feature[f.MASK].bytes_list.value[0] for example in examples]
        truth = masks_to_ids(tf.constant(masks), size).numpy()
        for i, example in enumerate(examples):
            feature = example.features.feature
            del feature[f.MASK]
            true, counted = truth[i], truth[i] < self._classes
            feature[COUNTED_PIXELS].int64_list.value.append(int(counted.sum()))
            if self._ignored:
                feature[IGNORED_CLASSES].bytes_list.value.extend(self._ignored)
            own_truth = _at_most(png_ids(masks[i])) if splits[i] == "test" else None
            for name, probabilities in answers.items():
                if own_truth is not None:
                    own = confusions.count(own_truth, _as_served(probabilities[i], *own_truth.shape), self._classes)
                    feature[own_confusion_key(name)].int64_list.value.extend(own.ravel())
                answered = np.argmax(probabilities[i], axis=-1)
                loss, gaps = _losses(probabilities[i][counted], true[counted], answered[counted])
                confusion = confusions.count(true, answered, self._classes)
                feature[confusion_key(name)].int64_list.value.extend(confusion.ravel())
                feature[pixel_loss_key(name)].float_list.value.append(loss)
                feature[confidence_gaps_key(name)].float_list.value.extend(gaps)
                feature[mask_key(name)].bytes_list.value.append(ids_png(answered))


def _losses(probabilities: np.ndarray, true: np.ndarray, answered: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean loss of the pixels, and their mean confidence minus the share that is right, by bin; 0 without a pixel."""
    if not len(true):
        return 0.0, np.zeros(BINS)
    rows = np.arange(len(true))
    of_truth = np.clip(probabilities[rows, true].astype(np.float64), SMALLEST_PROBABILITY, 1.0)
    confidence = probabilities[rows, answered].astype(np.float64)
    gaps = np.bincount(calibration_bins(confidence), confidence - (answered == true), BINS)
    return float(-np.log(of_truth).mean()), gaps / len(true)


def _at_most(ids: np.ndarray) -> np.ndarray:
    """The mask, its longer side at most `_LONGEST_SIDE` pixels, by nearest neighbour."""
    height, width = ids.shape
    if max(height, width) <= _LONGEST_SIDE:
        return ids
    scale = _LONGEST_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))


def _as_served(probabilities: np.ndarray, height: int, width: int) -> np.ndarray:
    """The ids that the model serves for a photo of this size, uint8 [height, width].

    Logarithms of probabilities are the logits but for a factor and one number a pixel, which change no largest class.
    """
    size, _, classes = probabilities.shape
    logits = np.log(np.maximum(probabilities, _SMALLEST))
    return _enlarge(size, classes)(tf.constant(logits), height, width).numpy()


@functools.lru_cache
def _enlarge(size: int, classes: int) -> Callable[..., tf.Tensor]:
    sides = [tf.TensorSpec([], tf.int32)] * 2
    return tf.function(ids_at_size, input_signature=[tf.TensorSpec([size, size, classes], tf.float32), *sides])
