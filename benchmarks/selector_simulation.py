"""How often the selector would switch models, on drawn evaluation sets: `python -m benchmarks.selector_simulation`.

In each set the candidate alone is right about some photos and the baseline alone about others; how many is drawn. The
selector's own rule decides: a gain of at least `selection.minimum_gain`, here 0, and an interval above zero. With two
equally good models every switch is a mistake, and there may be one in no more than 5 % of the sets. A true gain of 3
points has to be found in at least 80 % of the sets of 1,000 photos.

The log loss, which decides where accuracy does not, is tried on drawn probabilities, both rules together: the share of
sets in which the candidate wins by either. The candidate is the best of `EPOCHS` by its loss on the very set that
decides, as fine-tuning's epoch is. Equally good models must again be switched in no more than 5 % of the sets:

- `equally noisy`: the start and every epoch are off the truth by noise of the same size;
- `too sure against too unsure`: one epoch, far too sure, against a start that is too unsure, with the same expected
  loss. A set without one of its rare large losses makes it look better than it is.

A candidate whose probabilities really are better, though it is about as often right, has to be found more often with
more photos.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

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
MARGIN = 4.0  # mean and standard deviation of the true logits in favour of the second of two classes, in size
NOISE = 1.0  # standard deviation of a model's logits about the true ones
TOO_UNSURE, TOO_SURE = 0.6, 2.164  # of the true logits; both have an expected loss of 0.104
BETTER = 0.7  # the noise of a better candidate
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


def share_of_switches_with_losses(
    photos: int,
    candidates: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    start: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    sets: int,
    seed: int,
    epochs_told: int | None = None,
) -> float:
    """In what share of drawn sets the selector prefers the candidate, by accuracy or by loss.

    Two classes. A photo's true logit is drawn from two normal distributions on either side of 0, and its class by that
    logit; so a model that answers the true logits is calibrated.

    Args:
      photos: size of each set.
      candidates: true logits, float [photos] -> the logits of each epoch, float [epochs, photos]. The start counts as
        an epoch too, and the best of all by the loss on the set is the candidate.
      start: true logits -> those of the baseline, from which the epochs start, float [1, photos].
      sets: how many to draw.
      seed: of the sets.
      epochs_told: how many the selector divides the error by; None: as many as there are.
    """
    rng = np.random.default_rng(seed)
    switches = 0
    for _ in range(sets):
        logits = rng.choice([-1, 1], photos) * rng.normal(MARGIN, MARGIN, photos)
        signs = np.where(rng.random(photos) < 1 / (1 + np.exp(-logits)), 1, -1)
        baseline = signs * start(logits, rng)[0]
        epochs = np.vstack([baseline, signs * candidates(logits, rng)])
        losses = np.logaddexp(0, -epochs)
        best = int(np.argmin(losses.mean(axis=1)))
        comparison = compare(epochs[best] > 0, baseline > 0, CONFIDENCE, BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED)
        level = loss_confidence(CONFIDENCE, len(epochs) - 1 if epochs_told is None else epochs_told)
        loss = compare_losses(losses[best], losses[0], level)
        switches += is_gain(comparison, minimum_gain=0.0) or is_better_calibrated(comparison, loss)
    return switches / sets


def noisy(noise: float, epochs: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Models whose logits are off the true ones by normal noise of this standard deviation, [epochs, photos]."""
    return lambda logits, rng: logits + rng.normal(0, noise, (epochs, len(logits)))


def scaled(factor: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """A model whose logits are the true ones times `factor`: too sure above 1, too unsure below, [1, photos]."""
    return lambda logits, rng: factor * logits[None]


SCENARIOS = {
    "equally noisy": (noisy(NOISE, EPOCHS), noisy(NOISE, 1)),
    "too sure against too unsure": (scaled(TOO_SURE), scaled(TOO_UNSURE)),
    "better probabilities": (noisy(BETTER, EPOCHS), noisy(NOISE, 1)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=2000, help="evaluation sets to draw for each number")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    def cell(photos: int, better: float, worse: float) -> str:
        return written(share_of_switches(photos, better, worse, arguments.sets, arguments.seed))

    def written(share: float) -> str:
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
    print(
        f"\n{f'with the loss of the best of {EPOCHS}':<32}" + "".join(f"{f'{photos:,} photos':>17}" for photos in SIZES)
    )
    for name, (candidates, start) in SCENARIOS.items():
        shares = (
            share_of_switches_with_losses(photos, candidates, start, arguments.sets, arguments.seed) for photos in SIZES
        )
        print(f"{name:<32}" + "".join(f"{written(share):>17}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
