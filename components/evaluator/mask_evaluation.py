"""Metrics of one segmentation model with intervals, from stored confusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from components.evaluator import confusions as of_pixels
from components.evaluator.mean_iou import MeanIoU, class_interval, mean_interval
from components.evaluator.metrics import LARGEST_LOSS, percentile_interval, resampled
from components.task.judging import IntervalSettings

_SHARES = ("iou", "precision", "recall", "f1")


def evaluate(
    confusions: np.ndarray,
    pixel_losses: np.ndarray,
    confidence_gaps: np.ndarray,
    labels: Sequence[str],
    settings: IntervalSettings,
    own_confusions: np.ndarray | None = None,
) -> dict[str, Any]:
    """Metrics of one model, each with its interval. Every photo weighs the same, see `evaluator/confusions.py`.

    Intervals are the jackknife's, which for a mean is Student's t; that of the calibration error is the bootstrap's,
    moved as `components.evaluator.metrics.evaluate` moves it.

    Args:
      confusions: int64 [photos, classes, classes], at least one photo; each has a counted pixel.
      pixel_losses: mean natural-log loss of each photo's pixels, float [photos].
      confidence_gaps: mean confidence minus share of right answers in each photo, by bin, float [photos, 15].
      own_confusions: as `confusions`, at the photos' own size; None: they are not known.

    Returns:
      Ready for JSON; every metric is `value`, `low` and `high`, or None where it is undefined.
      `mean_iou`; `own_size_mean_iou`: the same at the photos' own size; `photo_mean_iou`: mean over the photos of each
      one's own mean IoU; `accuracy`: share of the pixels that are answered rightly; `loss`: natural-log, of a pixel;
      `calibration_error`: of a pixel;
      `per_class`: label -> `examples` (photos that have the class), `iou`, `precision`, `recall`, `f1` of its pixels;
      `confusion_matrix`: pixels by true class (row) and answered class (column), at the model's size.

    Raises:
      ValueError: there is no photo, or the classes do not fit.
    """
    if not len(confusions) or confusions.shape[1:] != (len(labels), len(labels)):
        raise ValueError(
            f"expected confusions of [photos, classes, classes], at least one photo, got {confusions.shape} for "
            f"{len(labels)} labels"
        )
    level, scores = settings.confidence, of_pixels.scaled(confusions)

    def share(name: str, index: int) -> dict[str, float] | None:
        found = class_interval(scores, name, index, level)
        return asdict(found) if found else None

    measure = MeanIoU(len(labels))
    mean_iou = measure.interval(scores, level)
    assert mean_iou is not None
    own = None
    if own_confusions is not None:
        counted = own_confusions[own_confusions.any(axis=(1, 2))]
        own = measure.interval(of_pixels.scaled(counted), level)
    return {
        "mean_iou": asdict(mean_iou),
        "own_size_mean_iou": asdict(own) if own else None,
        "photo_mean_iou": asdict(mean_interval(of_pixels.mean_iou(confusions), level, 1.0)),
        "accuracy": asdict(mean_interval(of_pixels.pixel_accuracy(confusions), level, 1.0)),
        "loss": asdict(mean_interval(pixel_losses, level, LARGEST_LOSS)),
        "calibration_error": _calibration_error(confidence_gaps, settings),
        "per_class": {
            label: {
                "examples": int(np.sum(confusions[:, index].sum(axis=1) > 0)),
                **{name: share(name, index) for name in _SHARES},
            }
            for index, label in enumerate(labels)
        },
        "confusion_matrix": confusions.sum(axis=0).tolist(),
    }


def _calibration_error(gaps: np.ndarray, settings: IntervalSettings) -> dict[str, float] | None:
    photos = len(gaps)
    value = float(np.abs(gaps.mean(axis=0)).sum())
    draws = np.concatenate(
        [np.abs(weights @ gaps / photos).sum(axis=1) for weights in resampled(photos, settings.samples, settings.seed)]
    )
    return percentile_interval(value, np.clip(value + draws - np.median(draws), 0, 1), settings.confidence)
