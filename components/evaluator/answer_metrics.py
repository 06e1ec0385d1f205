"""A metric of TFX Evaluator for what TensorFlow Model Analysis lacks, or computes too slowly for many classes.

For every slice it yields, in one pass over the examples and for any number of classes:

- `expected_calibration_error`, which TensorFlow Model Analysis has not;
- `loss`: natural-log, at a fraction of the cost of Keras' metric, which keeps state for every slice;
- `top_3_accuracy`, with more than three classes;
- `auc`, with two classes: exact, where its own sums over 200 thresholds;
- `precision`, `recall` and `f1_score` of each class (`class_id`), by the first answers; NaN where undefined. Its own
  must be told the classes in advance, take a minute and more for a thousand examples of 37 classes, and ask whether a
  class has more than half of the probability.

They are defined as in `components.evaluator.metrics`. Reference:
https://www.tensorflow.org/tfx/model_analysis/metrics#custom_tfma_metrics
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from tensorflow_model_analysis.metrics import metric_types, metric_util

from components.evaluator.metrics import (
    BINS,
    TOP,
    area_under_curve,
    calibration_bins,
    is_in_top,
    log_loss,
    per_class_ratios,
)
from components.evaluator.one_pass_metric import OnePassCombiner, OnePassMetric


class AnswerMetrics(OnePassMetric):
    """The metrics above; `EvalConfig` names it by its class and module."""

    def __init__(self, name: str = "answer_metrics", code: str = ""):
        super().__init__(_Combiner, name, code)


@dataclass
class _SliceCounts:
    """Running counts over the examples of a slice."""

    classes: int = 0
    answers: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(true class, top answer) -> number of examples."""
    loss: float = 0.0
    gaps: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    """Sum of the confidences minus the number of right answers, by bin."""
    in_top: int = 0
    scores: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    """With two classes: whether the second is the true one -> its probabilities."""


class _Combiner(OnePassCombiner):
    def create_accumulator(self) -> _SliceCounts:
        return _SliceCounts()

    def add_input(self, seen: _SliceCounts, element: metric_types.StandardMetricInputs) -> _SliceCounts:
        label, probabilities, _ = next(
            metric_util.to_label_prediction_example_weight(
                element, model_name=self._key.model_name, output_name=self._key.output_name, flatten=False
            )
        )
        true, answer = int(label.item()), int(np.argmax(probabilities))
        confidence = probabilities[answer].astype(np.float64)
        seen.classes = len(probabilities)
        seen.answers[true, answer] += 1
        seen.gaps[calibration_bins(confidence)] += confidence - (answer == true)
        seen.loss += float(log_loss(probabilities[None], np.array([true]))[0])
        seen.in_top += int(is_in_top(probabilities[None], np.array([true]))[0])
        if seen.classes == 2:
            seen.scores[true == 1].append(float(probabilities[1]))
        return seen

    def merge_accumulators(self, accumulators: Iterable[_SliceCounts]) -> _SliceCounts:
        merged = _SliceCounts()
        for seen in accumulators:
            merged.classes = max(merged.classes, seen.classes)
            merged.answers.update(seen.answers)
            merged.loss += seen.loss
            merged.gaps += seen.gaps
            merged.in_top += seen.in_top
            for positive, scores in seen.scores.items():
                merged.scores[positive] += scores
        return merged

    def extract_output(self, seen: _SliceCounts) -> dict[metric_types.MetricKey, float]:
        matrix = np.zeros((seen.classes, seen.classes))
        for cell, count in seen.answers.items():
            matrix[cell] = count
        examples = float(matrix.sum())
        values = {
            self._named("loss"): seen.loss / examples,
            self._named("expected_calibration_error"): float(np.abs(seen.gaps).sum()) / examples,
        }
        if seen.classes > TOP:
            values[self._named("top_3_accuracy")] = seen.in_top / examples
        if seen.classes == 2:
            negatives, positives = seen.scores[False], seen.scores[True]
            scores = np.array(negatives + positives)
            positive = np.arange(len(scores)) >= len(negatives)
            values[self._named("auc")] = float(area_under_curve(scores, positive, np.ones((1, len(scores))))[0])
        ratios = per_class_ratios(np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0))
        for class_id in range(seen.classes):
            for name, metric in (("precision", "precision"), ("recall", "recall"), ("f1_score", "f1")):
                values[self._named(name, class_id)] = float(ratios[metric][class_id])
        return values
