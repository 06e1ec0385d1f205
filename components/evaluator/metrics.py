"""Metrics of one model with intervals, from stored predictions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas import features as f

if TYPE_CHECKING:
    from components.task.judging import StoredAnswers

BINS = 15
TOP = 3
SMALLEST_PROBABILITY = 1e-7  # that a loss is computed of; smaller ones count as this
LARGEST_LOSS = -math.log(SMALLEST_PROBABILITY)
# How many numbers of drawn sets are in memory at a time: 16 MB.
_NUMBERS_AT_A_TIME = 2**21

Interval = dict[str, float]  # value, low, high


def log_loss(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Natural-log loss of each example, float64 [examples].

    Args:
      probabilities: float [examples, classes], rows sum to 1.
      classes: int [examples], the true ones.
    """
    chosen = probabilities[np.arange(len(classes)), classes].astype(np.float64)
    return -np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1.0))


def is_in_top(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Whether fewer than three classes are more probable than the true one, bool [examples]."""
    chosen = probabilities[np.arange(len(classes)), classes]
    return np.sum(probabilities > chosen[:, None], axis=1) < TOP


def calibration_bins(confidence: np.ndarray) -> np.ndarray:
    """Which of 15 bins of equal width each confidence in [0, 1] lies in, int of the same shape."""
    return np.minimum((confidence * BINS).astype(int), BINS - 1)


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """How far confidence and accuracy are apart, in [0, 1]: 15 bins of equal width, weighted by examples.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2.

    Args:
      confidence: probability of the first answer, float [examples].
      correct: whether it is right, bool [examples].
    """
    bins = calibration_bins(confidence)
    gaps = np.bincount(bins, confidence, BINS) - np.bincount(bins, correct, BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def area_under_curve(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each weighted set, float64 [sets]; NaN where a set is of one class.

    It is the probability that a positive example scores higher than a negative one, ties counting half.
    Source: Hanley & McNeil 1982, "The meaning and use of the area under a receiver operating characteristic curve".

    Args:
      scores: float [examples].
      positive: bool [examples].
      weights: how often each example is in each set, float [sets, examples].
    """
    order = np.argsort(scores, kind="stable")
    runs = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # where the scores rise
    positives = np.add.reduceat(weights[:, order] * positive[order], runs, axis=1)
    negatives = np.add.reduceat(weights[:, order] * ~positive[order], runs, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return _ratio((positives * below).sum(axis=1), pairs)


def per_class_ratios(hits: np.ndarray, own: np.ndarray, given: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1, of any shape; NaN where they are undefined.

    Precision is undefined where the class is never answered, recall where it has no example, F1 where neither is.
    Calling them 0 would blame a model for what nobody asked it.

    Args:
      hits: examples of the class answered with it.
      given: examples answered with the class.
    """
    return {"precision": _ratio(hits, given), "recall": _ratio(hits, own), "f1": _ratio(2 * hits, own + given)}


def share_interval(count: float, total: float, confidence: float) -> Interval | None:
    """A share of examples with its Wilson score interval; None where there is no example.

    It is true at the edge, where resampling knows nothing of what it has not seen: 11 right answers of 11 show an
    accuracy of 74 % at least, not of 100 %.
    Sources: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference"; Brown, Cai & DasGupta
    2001, "Interval Estimation for a Binomial Proportion", which recommends it for few examples.

    Args:
      count: examples of the share, from 0 to `total`.
    """
    if not total:
        return None
    share = count / total
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2 / total
    centre = share + z2 / 2
    half = math.sqrt(z2 * (share * (1 - share) + z2 / 4))
    # Rounding must not part the value from its own interval.
    low = 0.0 if not count else min(share, (centre - half) / (1 + z2))
    high = 1.0 if count == total else max(share, (centre + half) / (1 + z2))
    return {"value": float(share), "low": float(low), "high": float(high)}


def evaluate(
    probabilities: np.ndarray,
    classes: np.ndarray,
    labels: Sequence[str],
    confidence: float,
    samples: int,
    seed: int,
    abstain_below: float = 0.0,
) -> dict[str, Any]:
    """Metrics of one model, each with its interval.

    Shares of examples (accuracies, precision, recall) have Wilson's, see `share_interval`; those of precision and
    of the answers not abstained from take how many answers there were as given. Loss, calibration error, area and F1
    have bootstrap percentile intervals, all from the same resampled sets of examples (Efron & Tibshirani 1993, "An
    Introduction to the Bootstrap", chapter 13). Where all examples are alike these have no width: the bootstrap knows
    nothing of what it has not seen, so read them together with the number of examples.

    The calibration error of a resampled set is too high, since it takes the noise of the draw for miscalibration;
    its draws are moved so that their median is the value. Otherwise a good model's interval misses its own value.

    Args:
      probabilities: float [examples, classes], rows sum to 1.
      classes: int [examples], the true ones.
      confidence: level of the intervals, such as 0.95.
      abstain_below: the model gives no answer below this confidence; 0: it always answers.

    Returns:
      Ready for JSON; every metric is `value`, `low` and `high`, or None where the examples leave it undefined, and an
      interval by the bootstrap is that of the draws that define it.
      `accuracy`, `loss` (natural-log), `calibration_error`;
      `top_3_accuracy`, with more than three classes only;
      `auc`, with two classes only: how well the probability of the second one parts them;
      `per_class`: label -> `examples`, `precision`, `recall`, `f1`, of all first answers, abstained from or not;
      `confusion_matrix`: examples by true class (row) and first answer (column);
      `abstention`, with `abstain_below` only: `below`, `abstained` (share of the examples), `accuracy_of_answered`.

    Raises:
      ValueError: there is no example, or the three do not fit together.
    """
    if probabilities.shape != (len(classes), len(labels)) or not len(classes):
        raise ValueError(
            f"expected probabilities of [examples, classes], at least one example, got {probabilities.shape} for "
            f"{len(classes)} examples and {len(labels)} labels"
        )
    answers = np.argmax(probabilities, axis=1)
    correct = answers == classes
    top = probabilities.max(axis=1).astype(np.float64)
    answered = top >= abstain_below
    one_hot = np.eye(len(labels))
    columns = {
        "loss": log_loss(probabilities, classes),
        "gaps": np.eye(BINS)[calibration_bins(top)] * (top - correct)[:, None],
        "hits": one_hot[classes] * correct[:, None],
        "own": one_hot[classes],
        "given": one_hot[answers],
    }

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        """Each metric of each weighted set, [sets] or [sets, classes]; `weights`: float64 [sets, examples]."""
        sums = {name: weights @ column for name, column in columns.items()}
        measured = {
            "loss": sums["loss"] / len(classes),
            "calibration_error": np.abs(sums["gaps"]).sum(axis=1) / len(classes),
            "f1": per_class_ratios(sums["hits"], sums["own"], sums["given"])["f1"],
        }
        if len(labels) == 2:
            measured["auc"] = area_under_curve(probabilities[:, 1], classes == 1, weights)
        return measured

    values = {name: measured[0] for name, measured in measure(np.ones((1, len(classes)))).items()}
    parts = [measure(weights) for weights in resampled(len(classes), samples, seed)]
    draws = {name: np.concatenate([part[name] for part in parts]) for name in values}
    moved = draws["calibration_error"] - np.median(draws["calibration_error"])
    draws["calibration_error"] = np.clip(values["calibration_error"] + moved, 0, 1)

    def share(of: np.ndarray, among: np.ndarray | None = None) -> Interval | None:
        """How many examples are `of`, `among` those or all: bool [examples] each."""
        return share_interval(int(of.sum()), len(classes) if among is None else int(among.sum()), confidence)

    whole = ["loss", "calibration_error"] + (["auc"] if len(labels) == 2 else [])
    matrix = np.bincount(classes * len(labels) + answers, minlength=len(labels) ** 2).reshape(len(labels), -1)
    metrics: dict[str, Any] = {"accuracy": share(correct)}
    metrics |= {name: percentile_interval(values[name], draws[name], confidence) for name in whole}
    if len(labels) > TOP:
        metrics["top_3_accuracy"] = share(is_in_top(probabilities, classes))
    metrics["per_class"] = {
        label: {
            "examples": int(matrix[i].sum()),
            "precision": share_interval(int(matrix[i, i]), int(matrix[:, i].sum()), confidence),
            "recall": share_interval(int(matrix[i, i]), int(matrix[i].sum()), confidence),
            "f1": percentile_interval(values["f1"][i], draws["f1"][:, i], confidence),
        }
        for i, label in enumerate(labels)
    }
    metrics["confusion_matrix"] = matrix.tolist()
    if abstain_below > 0:
        metrics["abstention"] = {
            "below": abstain_below,
            "abstained": float(np.mean(~answered)),
            "accuracy_of_answered": share(answered & correct, among=answered),
        }
    return metrics


def evaluate_slices(
    stored: StoredAnswers, model: str, minimum_examples: int, confidence: float
) -> dict[str, dict[str, dict[str, Any]]]:
    """What a model reaches on each slice, with intervals.

    Args:
      minimum_examples: how many a slice needs for anything to be concluded from it.

    Returns:
      Feature of `SLICES` that any example has -> its value -> `examples`, `accuracy` (`value`, `low`, `high`; of masks
      `mean_iou` too) and whether the examples are `enough`. Examples whose value is unknown are in no slice of the
      feature.
    """

    def describe(rows: np.ndarray) -> dict[str, Any]:
        reached = stored.describe_slice(model, rows, confidence)
        return {"examples": len(rows), **reached, "enough": len(rows) >= minimum_examples}

    rows_by_feature = {feature: stored.rows_by_value(feature) for feature in f.SLICES}
    return {
        feature: {value: describe(rows) for value, rows in rows_by_value.items()}
        for feature, rows_by_value in rows_by_feature.items()
        if rows_by_value
    }


def resampled(examples: int, samples: int, seed: int) -> Iterable[np.ndarray]:
    """How often each example is in each resampled set, float64 [some of the sets, examples] at a time."""
    rng = np.random.default_rng(seed)
    at_a_time = max(1, _NUMBERS_AT_A_TIME // examples)
    for start in range(0, samples, at_a_time):
        sets = min(at_a_time, samples - start)
        rows = rng.integers(0, examples, (sets, examples)) + examples * np.arange(sets)[:, None]
        yield np.bincount(rows.ravel(), minlength=sets * examples).reshape(sets, examples).astype(np.float64)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(denominator), np.nan), where=denominator > 0)


def percentile_interval(value: float, draws: np.ndarray, confidence: float) -> Interval | None:
    """The value with the percentile interval of the defined draws; None where the value is undefined."""
    if np.isnan(value):
        return None
    low, high = np.quantile(draws[~np.isnan(draws)], [(1 - confidence) / 2, (1 + confidence) / 2])
    return {"value": float(value), "low": float(low), "high": float(high)}
