"""Two classifiers on the same examples: which is better, and how sure is that?"""

from __future__ import annotations

import numpy as np
from scipy import stats

from schemas.verdicts import Comparison


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
      confidence: level of the interval, such as 0.95.
      samples: bootstrap samples.
      seed: of the draws.

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


def is_gain(comparison: Comparison, minimum_gain: float) -> bool:
    """Whether the candidate is shown to be better: by `minimum_gain` at least, and the interval lies above zero."""
    return comparison.difference >= minimum_gain and comparison.low > 0


def is_loss(comparison: Comparison, tolerated_loss: float) -> bool:
    """Whether the candidate is shown to be worse, by more than `tolerated_loss`."""
    return comparison.difference < -tolerated_loss and comparison.high < 0


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


def describe(comparison: Comparison, confidence: float) -> str:
    """The comparison in words: `+3.0 points on 1,000 photos (95% interval 1.4 to 4.6; 50 better, ...)`."""
    c = comparison
    return (
        f"{100 * c.difference:+.1f} points on {c.examples:,} photos "
        f"({100 * confidence:.4g}% interval {100 * c.low:.1f} to {100 * c.high:.1f}; {c.better} better, "
        f"{c.worse} worse; p = {c.p_value:.2g})"
    )
