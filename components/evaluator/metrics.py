"""Metrics of one model with intervals, from stored predictions."""

from __future__ import annotations

import numpy as np

_BINS = 15


def log_loss(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Natural-log loss of each example, float64 [examples].

    Args:
      probabilities: float [examples, classes], rows sum to 1.
      classes: int [examples], the true ones.
    """
    chosen = probabilities[np.arange(len(classes)), classes].astype(np.float64)
    return -np.log(np.clip(chosen, 1e-7, 1.0))


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """How far confidence and accuracy are apart, in [0, 1]: 15 bins of equal width, weighted by examples.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2.

    Args:
      confidence: probability of the first answer, float [examples].
      correct: whether it is right, bool [examples].
    """
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, confidence, _BINS) - np.bincount(bins, correct, _BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def with_intervals(
    probabilities: np.ndarray, classes: np.ndarray, confidence: float, samples: int, seed: int
) -> dict[str, dict[str, float]]:
    """Accuracy, log loss and calibration error, each with a bootstrap percentile interval.

    The calibration error of a resampled set is too high, since it takes the noise of the draw for miscalibration;
    its draws are moved so that their median is the value. Otherwise a good model's interval misses its own value.

    Returns:
      `accuracy`, `loss`, `calibration_error`, each with `value`, `low` and `high`.
    """
    correct = np.argmax(probabilities, axis=1) == classes
    top = probabilities.max(axis=1).astype(np.float64)
    losses = log_loss(probabilities, classes)
    rng = np.random.default_rng(seed)
    draws = {"accuracy": [], "loss": [], "calibration_error": []}  # type: dict[str, list[float]]
    for _ in range(samples):
        rows = rng.integers(0, len(classes), len(classes))
        draws["accuracy"].append(float(correct[rows].mean()))
        draws["loss"].append(float(losses[rows].mean()))
        draws["calibration_error"].append(expected_calibration_error(top[rows], correct[rows]))
    values = {
        "accuracy": float(correct.mean()),
        "loss": float(losses.mean()),
        "calibration_error": expected_calibration_error(top, correct),
    }
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    moved = np.subtract(draws["calibration_error"], np.median(draws["calibration_error"]))
    draws["calibration_error"] = list(np.clip(values["calibration_error"] + moved, 0, 1))
    intervals = {name: np.quantile(drawn, tails) for name, drawn in draws.items()}
    return {
        name: {"value": value, "low": float(intervals[name][0]), "high": float(intervals[name][1])}
        for name, value in values.items()
    }
