"""Accuracy: the measure of classifiers. A photo's score is whether the first answer is right, bool."""

from __future__ import annotations

import numpy as np

from components.evaluator.metrics import share_interval
from components.model_selector.paired_comparison import compare, photos_to_show
from schemas.release import Interval
from schemas.verdicts import Comparison


class Accuracy:
    """See `components.task.judging.Measure`."""

    name = key = "accuracy"
    prefix = ""

    def value(self, scores: np.ndarray) -> float:
        return float(np.mean(scores))

    def interval(self, scores: np.ndarray, confidence: float) -> Interval | None:
        found = share_interval(int(scores.sum()), len(scores), confidence)
        return Interval(**found) if found else None

    def compare(
        self, candidate: np.ndarray, baseline: np.ndarray, confidence: float, samples: int, seed: int
    ) -> Comparison:
        return compare(candidate, baseline, confidence, samples, seed)

    def compare_classes(self, candidate: np.ndarray, baseline: np.ndarray, confidence: float) -> dict[int, Comparison]:
        return {}

    def photos_to_show(self, comparison: Comparison, confidence: float) -> int | None:
        return photos_to_show(comparison, confidence)
