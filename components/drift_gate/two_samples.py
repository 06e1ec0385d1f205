"""Measures how far apart two groups of photos are, and how far apart chance alone would put them.

Chance is measured by regrouping: both groups are mixed, as many photos as there are new ones are drawn, and the
distance is measured again. If the distributions are equal, the observed distance is the largest with probability at
most 1 / (regroupings + 1), however few photos there are (Phipson & Smyth 2010, "Permutation p-values should never be
zero"). So a night of 20 photos must be further off than one of 2,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Of each side, drawn where there are more: the kernel matrix grows with the square.
KERNEL_PHOTOS = 1000
# Fewer new photos, in all or of a class, say nothing about what photos show now: one odd photo is no drift.
FEWEST_PHOTOS = 5
_REGROUPED_VALUES = 2_000_000  # at once
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Distance:
    """A distance, >= 0, compared with chance."""

    observed: float  # of the new photos from the earlier ones
    null: float  # the largest distance found by chance

    def exceeds(self, threshold: float | None) -> bool:
        """Whether the distance exceeds both the threshold and chance; never with None, for no threshold."""
        return threshold is not None and self.observed > threshold and self.observed > self.null


def share_distance(
    new: Sequence[str], earlier: Sequence[str], regroupings: int, rng: np.random.Generator
) -> tuple[Distance, dict[str, tuple[int, int]]]:
    """Total variation distance, in [0, 1], between the shares that values have: what share would have to change.

    Returns:
      The distance, and value -> its numbers in `new` and in `earlier`, sorted by value.
    """
    values, places = np.unique([*new, *earlier], return_inverse=True)
    counts = np.stack([np.bincount(side, minlength=len(values)) for side in np.split(places, [len(new)])])
    drawn = rng.multivariate_hypergeometric(counts.sum(axis=0), len(new), size=regroupings, method="marginals")
    groups = np.concatenate([counts[:1], drawn])
    differences = groups / len(new) - (counts.sum(axis=0) - groups) / len(earlier)
    table = {str(value): (int(a), int(b)) for value, a, b in zip(values, *counts, strict=True)}
    return _distance(np.abs(differences).sum(axis=1) / 2), table


def wasserstein_distance(new: np.ndarray, earlier: np.ndarray, regroupings: int, rng: np.random.Generator) -> Distance:
    """1-Wasserstein distance of two samples of numbers, in their unit: how far a photo's value would have to move.

    Source: Ramdas, Garcia Trillos & Cuturi 2017, "On Wasserstein two-sample testing and related families of
    nonparametric tests". Kolmogorov and Smirnov's statistic has no unit: where all photos have one size,
    any other size is as far as can be.

    Args:
      new: float [photos].
      earlier: float [photos].
    """
    values = np.concatenate([new, earlier]).astype(np.float64)
    order = np.argsort(values, kind="stable")
    gaps = np.diff(values[order])

    def distances(is_new: np.ndarray) -> np.ndarray:
        new_below = np.cumsum(is_new[:, :-1], axis=1)
        earlier_below = np.arange(1, len(values)) - new_below
        return np.abs(new_below / len(new) - earlier_below / len(earlier)) @ gaps

    observed = (order < len(new))[np.newaxis]
    found = [distances(observed)]
    at_once = max(1, _REGROUPED_VALUES // len(values))
    for start in range(0, regroupings, at_once):
        rows = min(at_once, regroupings - start)
        found.append(distances(rng.permuted(np.repeat(observed, rows, axis=0), axis=1)))
    return _distance(np.concatenate(found))


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors at length 1, float32 [photos, width]; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)


def kernel_scale(new: np.ndarray, earlier: np.ndarray, rng: np.random.Generator) -> float:
    """Of the Gaussian kernel exp(-d^2 / scale) of unit vectors: the median of d^2 over all photos.

    Source: the median heuristic of Gretton et al. 2012 (see `feature_distance`).
    """
    pooled = np.concatenate([_drawn(side, rng) for side in (new, earlier)])
    return float(np.median(_squared_distances(pooled)[np.triu_indices(len(pooled), 1)])) or 1.0


def feature_distance(
    new: np.ndarray, earlier: np.ndarray, scale: float, regroupings: int, rng: np.random.Generator
) -> Distance:
    """Maximum mean discrepancy of two sets of unit vectors: the root of its unbiased estimate, 0 where that is below.

    Source: Gretton, Borgwardt, Rasch, Schölkopf & Smola 2012, "A kernel two-sample test", lemma 6. 0 for equal
    distributions, sqrt(2) at most.

    Args:
      new: float32 [photos, width], two photos at least.
      earlier: float32 [photos, width], two photos at least.
      scale: see `kernel_scale`.
      rng: draws them, and `KERNEL_PHOTOS` of a side where there are more.
    """
    sample = [_drawn(side, rng) for side in (new, earlier)]
    n, m = map(len, sample)
    within_new, within_earlier, between = _sums(_kernel(np.concatenate(sample), scale), n, regroupings, rng)
    estimates = within_new / (n * (n - 1)) + within_earlier / (m * (m - 1)) - 2 * between / (n * m)
    return _root(_distance(estimates))


def class_feature_distances(
    new: dict[str, np.ndarray],
    earlier: dict[str, np.ndarray],
    scale: float,
    regroupings: int,
    rng: np.random.Generator,
) -> tuple[Distance | None, dict[str, Distance]]:
    """How much less the new photos resemble the earlier ones of their class than those resemble each other.

    The root of 2 (E k(Y, Y') - E k(X, Y)) for new photos X and earlier ones Y of a class, 0 where that is below. It is
    the maximum mean discrepancy, E k(X, X') + E k(Y, Y') - 2 E k(X, Y), of classes as wide as they were, and unlike it
    can be estimated from a single new photo: with 20 photos of 37 classes that is all there is. Photos are regrouped
    within their class.

    Args:
      new, earlier: class -> unit vectors, float32 [photos, width].
      scale: see `kernel_scale`.
      rng: draws them, and `KERNEL_PHOTOS` of a class where there are more.

    Returns:
      The distance over the new photos of all classes that have two earlier ones at least, None where there are fewer
      than `FEWEST_PHOTOS`; and class -> distance, of those with so many new photos of their own. What chance gives is
      then the largest of all these classes (max-T; Westfall & Young 1993, "Resampling-based multiple testing"), so
      that many classes raise no more false alarms than one.
    """
    names = [name for name in sorted(new) if len(new[name]) and len(earlier.get(name, ())) > 1]
    if sum(len(new[name]) for name in names) < FEWEST_PHOTOS:
        return None, {}
    columns = []
    for name in names:
        sample = [_drawn(side[name], rng) for side in (new, earlier)]
        n, m = map(len, sample)
        _, within_earlier, between = _sums(_kernel(np.concatenate(sample), scale), n, regroupings, rng)
        columns.append(2 * (within_earlier / (m * (m - 1)) - between / (n * m)))
    estimates = np.stack(columns, axis=1)  # [1 + regroupings, classes]
    photos = np.array([len(new[name]) for name in names])
    together = _root(_distance(estimates @ (photos / photos.sum())))
    large = np.flatnonzero(photos >= FEWEST_PHOTOS)
    if not large.size:
        return together, {}
    centre, spread = estimates.mean(axis=0), estimates.std(axis=0)
    worst = ((estimates - centre) / np.maximum(spread, _ROUNDING))[1:, large].max()
    nulls = centre + worst * spread
    return together, {names[i]: _root(Distance(float(estimates[0, i]), _above(nulls[i]))) for i in large}


def nearest(queries: np.ndarray, earlier: np.ndarray, own: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Cosine distance of each query to its nearest of `earlier`, float32 [queries], and which one, int64 [queries].

    Args:
      queries: unit vectors, float32 [queries, width].
      earlier: unit vectors, float32 [photos, width]; one at least.
      own: the places of the queries in `earlier`, which are not looked at; None: they are not in it.
    """
    distances, places = np.empty(len(queries), np.float32), np.empty(len(queries), np.int64)
    at_once = max(1, 8 * _REGROUPED_VALUES // len(earlier))
    for start in range(0, len(queries), at_once):
        rows = slice(start, start + at_once)
        similarity = queries[rows] @ earlier.T
        if own is not None:
            similarity[np.arange(len(similarity)), own[rows]] = -np.inf
        places[rows] = similarity.argmax(axis=1)
        distances[rows] = 1 - similarity.max(axis=1)
    return np.maximum(distances, 0), places


def _squared_distances(vectors: np.ndarray) -> np.ndarray:
    return np.maximum(2 - 2 * vectors @ vectors.T, 0)


def _kernel(vectors: np.ndarray, scale: float) -> np.ndarray:
    """Gaussian kernel of unit vectors, float64 [photos, photos], range [0, 1]; zeros on the diagonal."""
    matrix = np.exp(_squared_distances(vectors) / -scale).astype(np.float64)
    np.fill_diagonal(matrix, 0)
    return matrix


def _drawn(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if len(vectors) <= KERNEL_PHOTOS:
        return vectors
    return vectors[rng.choice(len(vectors), KERNEL_PHOTOS, replace=False)]


def _sums(matrix: np.ndarray, n: int, regroupings: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Sums of the kernel within the first group, within the second, and between them; float64 [1 + regroupings] each.

    Of the first, the first `n` rows are the first group; of the others, `n` rows that are drawn.
    """
    first = np.zeros((1 + regroupings, len(matrix)))
    first[:, :n] = 1
    rng.permuted(first[1:], axis=1, out=first[1:])
    to_first = first @ matrix
    within_first = (to_first * first).sum(axis=1)
    between = to_first.sum(axis=1) - within_first
    return within_first, matrix.sum() - within_first - 2 * between, between


def _distance(values: np.ndarray) -> Distance:
    """Of the observed value, which is the first, and those of the regroupings."""
    return Distance(float(values[0]), _above(values[1:].max()))


def _above(value: float) -> float:
    """The same regrouping must not lie below itself by a rounding error."""
    return float(value + _ROUNDING)


def _root(squared: Distance) -> Distance:
    return Distance(*(float(np.sqrt(max(value, 0))) for value in (squared.observed, squared.null)))
