"""How often the selector would switch models, on drawn evaluation sets: `python -m benchmarks.selector_simulation`.

In each set the candidate alone is right about some photos and the baseline alone about others; how many is drawn. The
selector's own rule decides: a gain of at least `selection.minimum_gain`, here 0, and an interval above zero. With two
equally good models every switch is a mistake, and there may be one in no more than 5 % of the sets. A true gain of 3
points has to be found in at least 80 % of the sets of 1,000 photos.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from components.model_selector.paired_comparison import compare, is_gain
from schemas.verdicts import Comparison

SIZES = (50, 200, 1000)  # photos
SHARES = (0.02, 0.05, 0.1, 0.2)  # of the photos, on which one model is right and the other wrong
GAIN = (0.065, 0.035)  # better and worse: 3 points
CONFIDENCE = 0.95
BOOTSTRAP_SAMPLES = 2000
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


if __name__ == "__main__":
    main()
