"""Two models on the same examples: which is better, and how sure is that?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from components.evaluator.metrics import SMALLEST_PROBABILITY, log_loss
from schemas.verdicts import ClassComparison, Comparison, LossComparison

if TYPE_CHECKING:
    from components.task.judging import Measure

# Of a probability: no further apart than this, two models are the same one. As much as the servable check allows.
SAME_WITHIN = 1e-5


def compare(
    candidate_correct: np.ndarray, baseline_correct: np.ndarray, confidence: float, samples: int, seed: int
) -> Comparison:
    """Compares paired answers.

    Sources: McNemar 1947 (exact form: binomial test on the discordant pairs); Efron & Tibshirani 1993, chapter 13
    (percentile interval). The bootstrap resamples examples; the mean difference depends on the numbers of better
    and worse ones alone, so a multinomial draw of these is the same thing.

    Args:
      candidate_correct: bool [examples].
      baseline_correct: bool [examples], the same examples in the same order.

    Raises:
      ValueError: the two differ in length, or are empty.
    """
    if candidate_correct.shape != baseline_correct.shape or not candidate_correct.size:
        raise ValueError(
            f"expected answers to the same examples, got {candidate_correct.shape} and {baseline_correct.shape}"
        )
    examples = len(candidate_correct)
    better = int(np.sum(candidate_correct & ~baseline_correct))
    worse = int(np.sum(~candidate_correct & baseline_correct))
    discordant = better + worse
    p_value = float(stats.binomtest(better, discordant, 0.5).pvalue) if discordant else 1.0
    shares = np.array([better, worse, examples - discordant]) / examples
    draws = np.random.default_rng(seed).multinomial(examples, shares, size=samples)
    differences = (draws[:, 0] - draws[:, 1]) / examples
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Comparison(examples, better, worse, (better - worse) / examples, float(low), float(high), p_value)


def compare_losses(
    candidate: np.ndarray, baseline: np.ndarray, classes: np.ndarray, confidence: float
) -> LossComparison:
    """Compares the mean log losses of paired answers by a paired t interval.

    Sources: Student 1908, "The Probable Error of a Mean"; Diebold & Mariano 1995, "Comparing Predictive Accuracy", for
    the mean difference of two losses as what is tested.

    A model that is too sure looks better than it is on a set that lacks one of its rare, very large losses. So the
    interval counts one photo more, which both get wrong, as sure as they are on average. Imaginary observations are
    what Agresti & Coull 1998, "Approximate is Better than Exact", add to shares; `benchmarks/selector_simulation.py`
    shows that one photo is enough here. On 50 drawn photos, at a level of 95 %, a model that was too sure was preferred
    to an equally good one in 0 % of the sets, without the imaginary photo in 20 %; with an interval corrected for
    skewness in 13 % (Hall 1992) and 14 % (the bootstrap's t).

    Args:
      candidate: probabilities, float [examples, classes].
      baseline: of the same examples in the same order.
      classes: int [examples], the true ones.

    Raises:
      ValueError: the two do not fit together, or are empty.
    """
    if candidate.shape != baseline.shape or not candidate.size:
        raise ValueError(f"expected answers to the same examples, got {candidate.shape} and {baseline.shape}")
    differences = log_loss(candidate, classes) - log_loss(baseline, classes)
    imaginary = np.mean(_loss_where_wrong(candidate) - _loss_where_wrong(baseline))
    counted = np.append(differences, imaginary)
    half = stats.t.ppf((1 + confidence) / 2, len(counted) - 1) * np.std(counted, ddof=1) / np.sqrt(len(counted))
    difference, centre = float(np.mean(differences)), float(np.mean(counted))
    return LossComparison(
        difference=difference,
        low=min(difference, centre - float(half)),
        high=max(difference, centre + float(half)),
        confidence=confidence,
    )


def _loss_where_wrong(probabilities: np.ndarray) -> np.ndarray:
    """What each answer would cost if it were wrong, but for how many other classes there are; float64 [examples]."""
    return -np.log(np.maximum(1 - probabilities.max(axis=1).astype(np.float64), SMALLEST_PROBABILITY))


def are_identical(candidate: np.ndarray, baseline: np.ndarray) -> bool:
    """Whether both give every example the same probabilities, but for rounding; float [examples, classes] each."""
    return candidate.shape == baseline.shape and bool(np.allclose(candidate, baseline, rtol=0, atol=SAME_WITHIN))


def loss_confidence(confidence: float, epochs: int) -> float:
    """At which level the losses are compared, so that accuracy and loss together prefer a model that is no better in
    no more than 1 - `confidence` of all cases.

    Either test is one-sided in effect and takes half of that. The epoch was chosen by its loss on the same photos, out
    of `epochs`: the best of several equals looks better than it is, so the loss's half is divided by how many there
    were (Bonferroni; Dunn 1961, "Multiple Comparisons Among Means").
    """
    return 1 - (1 - confidence) / max(1, epochs)


def is_better_calibrated(comparison: Comparison, loss: LossComparison) -> bool:
    """Whether the candidate wins by its loss, shown to be lower where accuracy shows neither gain nor loss."""
    return comparison.low <= 0 <= comparison.high and loss.high < 0


def is_gain(comparison: Comparison, minimum_gain: float) -> bool:
    """Whether the candidate is shown to be better: by `minimum_gain` at least, and the interval lies above zero."""
    return comparison.difference >= minimum_gain and comparison.low > 0


def is_loss(comparison: Comparison, tolerated_loss: float) -> bool:
    """Whether the candidate is shown to be worse, by more than `tolerated_loss`."""
    return comparison.difference < -tolerated_loss and comparison.high < 0


@dataclass(frozen=True)
class Guard:
    """Which classes of the pixels must not be lost."""

    classes: tuple[str, ...] = ()
    """Empty: all."""
    tolerated_loss: float = 0.0
    """Of a class's IoU, in [0, 1]."""
    minimum_examples: int = 1
    """Photos with the class; with fewer it decides nothing."""


def compare_guarded(
    measure: Measure,
    candidate: np.ndarray,
    baseline: np.ndarray,
    labels: Sequence[str],
    guard: Guard,
    confidence: float,
) -> tuple[list[ClassComparison], float]:
    """Compares two models by each guarded class of the pixels, and says which of them are lost.

    A class is lost if it is shown to lose more than tolerated, at the level 1 - (1 - `confidence`) / classes
    (Bonferroni), so that many classes make no more false alarms than one.

    Args:
      measure: of the scores; a measure of whole photos has no classes to guard.
      candidate, baseline: scores of the same photos.
      labels: the classes in the order of their indices.
      confidence: level of all the intervals together.

    Returns:
      the comparisons, and the level of each interval.
    """

    def compared(level: float) -> dict[int, Comparison]:
        found = measure.compare_classes(candidate, baseline, level)
        wanted = {i: each for i, each in found.items() if not guard.classes or labels[i] in guard.classes}
        return {i: each for i, each in wanted.items() if each.examples >= guard.minimum_examples}

    level = 1 - (1 - confidence) / max(len(compared(confidence)), 1)
    return [
        ClassComparison(**asdict(each), label=labels[i], lost=is_loss(each, guard.tolerated_loss))
        for i, each in compared(level).items()
    ], level


def describe_lost(classes: Sequence[ClassComparison], confidence: float) -> list[str]:
    """A part of a sentence for each class that is lost: `'border': IoU -2.1 points on 114 photos (...)`."""
    return [f"{each.label!r}: {describe(each, confidence, 'IoU ')}" for each in classes if each.lost]


def photos_to_show(comparison: Comparison, confidence: float) -> int | None:
    """How many photos would show a gain of this size four times in five; None where there is no gain.

    Source: Miettinen 1968, "The matched pairs design in the case of all-or-none responses", for a power of 0.8.
    """
    c = comparison
    if c.difference <= 0:
        return None
    variance = (c.better + c.worse) / c.examples - c.difference**2
    quantiles = stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(0.8)
    return max(c.examples, int(np.ceil(variance * (quantiles / c.difference) ** 2)))


def describe(comparison: Comparison, confidence: float, prefix: str = "") -> str:
    """The comparison in words: `+3.0 points on 1,000 photos (95% interval 1.4 to 4.6; 50 better, ...)`.

    Args:
      prefix: what the points are of, with a blank at its end (`Measure.prefix`).
    """
    c = comparison
    return (
        f"{prefix}{100 * c.difference:+.1f} points on {c.examples:,} photos "
        f"({100 * confidence:.4g}% interval {100 * c.low:.1f} to {100 * c.high:.1f}; {c.better} better, "
        f"{c.worse} worse; p = {c.p_value:.2g})"
    )


def describe_loss(loss: LossComparison) -> str:
    """The comparison of the losses in words: `log loss -0.021 (99% interval -0.034 to -0.008)`."""
    return f"log loss {loss.difference:+.3f} ({100 * loss.confidence:.4g}% interval {loss.low:.3f} to {loss.high:.3f})"
