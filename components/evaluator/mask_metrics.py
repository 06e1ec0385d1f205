"""A metric of TFX Evaluator for masks, from the stored confusions of pixels.

TensorFlow Model Analysis has counts of true and false positives for masks, but no false negatives, and so no IoU; and
it takes 60 ms a photo for them. Here, for every slice, in one pass:

- `mean_iou`, over the classes in the truth of the slice's photos, each of which weighs the same;
- `photo_mean_iou`: the mean of the photos' own mean IoU;
- `pixel_accuracy`: the mean of the photos' shares of right pixels;
- `iou`, `precision` and `recall` of each class (`class_id`); NaN where undefined.

They are defined as in `components.evaluator.confusions`. Only sums are kept, so memory does not grow with the photos.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from tensorflow_model_analysis.metrics import metric_types

from components.evaluator import confusions
from components.evaluator.one_pass_metric import OnePassCombiner, OnePassMetric


class MaskMetrics(OnePassMetric):
    """The metrics above; `EvalConfig` names it by its class and module.

    Its thresholds are those of `mean_iou`, whose name it has.
    """

    def __init__(self, name: str = "mean_iou", code: str = ""):
        super().__init__(_Combiner, name, code)


@dataclass
class _SliceSums:
    """Running sums over the photos of a slice that have a counted pixel."""

    photos: int = 0
    scores: np.ndarray | None = None
    """Sum of the scaled confusions, float64 [classes, classes]; None: no photo was seen."""
    mean_iou: float = 0.0
    accuracy: float = 0.0
    """Sum of the photos' shares of right pixels."""


class _OnePhoto(NamedTuple):
    score: np.ndarray
    """The scaled confusion, float64 [classes, classes]."""
    mean_iou: float
    accuracy: float


@functools.lru_cache(maxsize=8)
def _count(confusion: bytes) -> _OnePhoto | None:
    """What a photo adds to each of its slices, which come one after another; None: everything in it is ignored.

    Args:
      confusion: float64 [classes * classes].
    """
    flat = np.frombuffer(confusion, np.float64)
    if not flat.any():
        return None
    classes = round(np.sqrt(flat.size))
    [score] = confusions.scaled(flat.reshape(1, classes, classes))
    return _OnePhoto(score, float(confusions.mean_iou(score)), float(confusions.pixel_accuracy(score)))


class _Combiner(OnePassCombiner):
    def create_accumulator(self) -> _SliceSums:
        return _SliceSums()

    def add_input(self, seen: _SliceSums, element: metric_types.StandardMetricInputs) -> _SliceSums:
        flat = element.get_predictions(self._key.model_name or None, self._key.output_name or None)
        photo = _count(np.asarray(flat, np.float64).tobytes())
        if photo is None:
            return seen
        seen.photos += 1
        seen.scores = photo.score if seen.scores is None else seen.scores + photo.score
        seen.mean_iou += photo.mean_iou
        seen.accuracy += photo.accuracy
        return seen

    def merge_accumulators(self, accumulators: Iterable[_SliceSums]) -> _SliceSums:
        merged = _SliceSums()
        for seen in accumulators:
            merged.photos += seen.photos
            merged.mean_iou += seen.mean_iou
            merged.accuracy += seen.accuracy
            if seen.scores is not None:
                merged.scores = seen.scores if merged.scores is None else merged.scores + seen.scores
        return merged

    def extract_output(self, seen: _SliceSums) -> dict[metric_types.MetricKey, float]:
        if seen.scores is None:
            return {}
        values = {
            self._key: float(confusions.mean_iou(seen.scores)),
            self._named("photo_mean_iou"): seen.mean_iou / seen.photos,
            self._named("pixel_accuracy"): seen.accuracy / seen.photos,
        }
        shares = confusions.class_shares(seen.scores)
        for class_id in range(len(seen.scores)):
            for name in ("iou", "precision", "recall"):
                values[self._named(name, class_id)] = float(shares[name][class_id])
        return values
