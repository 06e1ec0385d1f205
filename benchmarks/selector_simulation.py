"""How often the selector would switch models, on drawn evaluation sets: `python -m benchmarks.selector_simulation`.

In each set the candidate alone is right about some photos and the baseline alone about others; how many is drawn. The
selector's own rule decides: a gain of at least `selection.minimum_gain`, here 0, and an interval above zero. With two
equally good models every switch is a mistake, and there may be one in no more than 5 % of the sets. A true gain of 3
points has to be found in at least 80 % of the sets of 1,000 photos.

The log loss, which decides where accuracy does not, is tried on drawn probabilities. The candidate is the best of
`EPOCHS`, and of the start, by its loss on the very set that decides, as the epoch of fine-tuning is. Each number is
the share of sets in which it wins by either rule, and in parentheses by its loss. Of equally good models the loss may
switch no more than 2.5 %:

- `equally noisy`: the start and the epochs are off the truth by noise of the same size, and each epoch's noise is like
  that of the one before (correlation 0.9), as where one is trained on from the other;
- `the same, unrelated`: each epoch has noise of its own. The accuracy takes no account of how many epochs there were
  to choose from, and this is the worst that can do;
- `too sure, too unsure`: one epoch that is far too sure against a start that is too unsure, with the same expected
  loss. A set that lacks one of its rare large losses makes it look better than it is.

A candidate whose probabilities really are better is found the more often the more photos there are: with `better
probabilities` it is also more often right, and where it is `calibrated` it gives the same answers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from components.evaluator.metrics import log_loss
from components.model_selector.paired_comparison import (
    compare,
    compare_losses,
    is_better_calibrated,
    is_gain,
    loss_confidence,
)
from schemas.verdicts import Comparison

SIZES = (50, 200, 1000)  # photos
SHARES = (0.02, 0.05, 0.1, 0.2)  # of the photos, on which one model is right and the other wrong
GAIN = (0.065, 0.035)  # better and worse: 3 points
CONFIDENCE = 0.95
BOOTSTRAP_SAMPLES = 2000
EPOCHS = 5  # of fine-tuning, as configured
MARGIN = 4.0  # of the true logits in favour of the one or the other class: mean and standard deviation
NOISE = 1.0  # standard deviation of a model's logits about the true ones
BETTER_NOISE, WORSE_NOISE = 0.7, 1.5
TOO_UNSURE, TOO_SURE = 0.6, 1.633  # times the true logits; both have an expected loss of 0.219
BOOTSTRAP_SEED = 42  # the selector's own draws have one seed, that of the configuration


def share_of_switches(
    photos: int,
    better: float,
    worse: float,
    sets: int,
    seed: int,
    rule: Callable[[Comparison], bool] = lambda comparison: is_gain(comparison, minimum_gain=0.0),
) -> float:
    """In what share of drawn sets the selector prefers the candidate.

    Args:
      photos: size of each set.
      better: probability that only the candidate is right about a photo.
      worse: probability that only the baseline is. Photos that both answer alike do not bear on the decision.
      sets: how many to draw.
      seed: of the sets.
      rule: the decision.
    """
    counts = np.random.default_rng(seed).multinomial(photos, [better, worse, 1 - better - worse], size=sets)
    switches = 0
    # Sets with the same numbers are decided alike, so each of them once.
    for drawn, times in zip(*np.unique(counts, axis=0, return_counts=True), strict=True):
        candidate = np.repeat([True, False, True], drawn)
        baseline = np.repeat([False, True, True], drawn)
        if rule(compare(candidate, baseline, CONFIDENCE, BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED)):
            switches += int(times)
    return switches / sets


Models = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def shares_with_losses(photos: int, models: Models, sets: int, seed: int) -> tuple[float, float]:
    """In what share of drawn sets the selector prefers the candidate: by accuracy or loss, and by its loss.

    Two classes. A photo's true logit is drawn from two normal distributions on either side of 0, and its class by that
    logit: a model that answers the true logits is calibrated.

    Args:
      photos: size of each set.
      models: true logits, float [photos] -> those of the start, and of each epoch after it, float [1 + epochs, photos].
        The candidate is the one with the least loss.
      sets: how many to draw.
      seed: of the sets.
    """
    rng = np.random.default_rng(seed)
    by_accuracy = by_loss = 0
    for _ in range(sets):
        logits = rng.choice([-1, 1], photos) * rng.normal(MARGIN, MARGIN, photos)
        classes = (rng.random(photos) < 1 / (1 + np.exp(-logits))).astype(int)
        of_second = 1 / (1 + np.exp(-models(logits, rng)))
        answers = np.stack([1 - of_second, of_second], axis=2)
        start, best = answers[0], min(answers, key=lambda answer: float(np.mean(log_loss(answer, classes))))
        candidate, baseline = (np.argmax(answer, axis=1) == classes for answer in (best, start))
        comparison = compare(candidate, baseline, CONFIDENCE, BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED)
        loss = compare_losses(best, start, classes, loss_confidence(CONFIDENCE, len(answers) - 1))
        by_accuracy += is_gain(comparison, minimum_gain=0.0)
        by_loss += is_better_calibrated(comparison, loss)
    return (by_accuracy + by_loss) / sets, by_loss / sets


def noisy(start: float, epochs: float, correlation: float) -> Models:
    """Models whose logits are off the true ones by normal noise.

    Args:
      start, epochs: standard deviations.
      correlation: of an epoch's noise with that of the model before it.
    """

    def models(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        noise = [rng.normal(0, 1, len(logits))]
        for _ in range(EPOCHS):
            noise.append(correlation * noise[-1] + np.sqrt(1 - correlation**2) * rng.normal(0, 1, len(logits)))
        return logits + np.stack([start * noise[0], *(epochs * of_epoch for of_epoch in noise[1:])])

    return models


def scaled(*factors: float) -> Models:
    """Models whose logits are the true ones times these: too sure above 1, too unsure below."""
    return lambda logits, rng: np.outer(factors, logits)


EQUALLY_GOOD = {
    "equally noisy": noisy(NOISE, NOISE, 0.9),
    "the same, unrelated": noisy(NOISE, NOISE, 0.0),
    "too sure, too unsure": scaled(TOO_UNSURE, TOO_SURE),
}
BETTER = {
    "better probabilities": noisy(WORSE_NOISE, BETTER_NOISE, 0.9),
    "calibrated, was too unsure": scaled(0.4, 1.0),
    "calibrated, was too sure": scaled(2.5, 1.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=2000, help="evaluation sets to draw for each number")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    def cell(photos: int, better: float, worse: float) -> str:
        share = share_of_switches(photos, better, worse, arguments.sets, arguments.seed)
        error = np.sqrt(share * (1 - share) / arguments.sets)
        return f"{100 * share:8.1f} ± {100 * error:.1f} %"

    print(f"switches in {arguments.sets:,} drawn sets, with their standard error\n")
    print(f"{'two equally good models':<32}" + "".join(f"{f'{photos:,} photos':>17}" for photos in SIZES))
    for share in SHARES:
        cells = "".join(f"{cell(photos, share / 2, share / 2):>17}" for photos in SIZES)
        print(f"{f'that differ on {100 * share:.0f} %':<32}{cells}", flush=True)
    better, worse = GAIN
    cells = "".join(f"{cell(photos, better, worse):>17}" for photos in SIZES)
    print(f"{f'a gain of {100 * (better - worse):.0f} points, {100 * better:g} - {100 * worse:g}':<32}{cells}")
    print(f"\n{f'with the loss, best of {EPOCHS} epochs':<32}" + "".join(f"{f'{n:,} photos':>17}" for n in SIZES))
    for name, models in {**EQUALLY_GOOD, **BETTER}.items():
        shares = (shares_with_losses(photos, models, arguments.sets, arguments.seed) for photos in SIZES)
        cells = "".join(f"{f'{100 * either:.1f} ({100 * loss:.1f}) %':>17}" for either, loss in shares)
        print(f"{name:<32}{cells}", flush=True)


if __name__ == "__main__":
    main()
