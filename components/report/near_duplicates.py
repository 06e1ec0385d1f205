"""Photos in different splits that are almost the same: a model that learnt one has seen the other.

Two measures, since each finds copies that the other misses:

- the **perceptual hash** from ImageExampleGen finds photos that were saved again, resized or brightened.
- the **cosine distance of the feature vectors** after subtracting their mean, so that a distance means much the same
  for any backbone: two unrelated photos have 1. It finds mirrored, cropped or recoloured photos and photos of a series.

The limits were chosen on all 476,776 pairs of 977 photos from cats_vs_dogs, PetImages and Oxford-IIIT Pets, 102 of
which are the same photo saved again, and on copies made of a quarter of them, with EfficientNet-Lite0 at 160 pixels.

| | hash, limit 8 of 64 bits | vector, limit 0.15 |
|---|---|---|
| the same photo in cats_vs_dogs and PetImages | all | all |
| other pairs within the limit | two | the same two: a photo that a data set contains twice |
| the nearest pair that is not a duplicate | 12 | 0.18, two photos from one series of a dog |
| copies saved again at quality 95, 50, 20 | 100, 100, 100 % | 100, 100, 84 % |
| of half the size; 160 pixels wide | 100, 100 % | 91, 70 % |
| a fifth brighter; grey | 100, 100 % | 98, 28 % |
| without 2, 5 % at each edge | 98, 42 % | 99, 89 % |
| mirrored | 0 % | 97 % |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from components.example_gen.perceptual_hash import BITS

HASH, VECTOR = "perceptual hash", "feature vector"
MOST_BITS = 8  # that differ between near-duplicates
MOST_COSINE = 0.15  # distance of near-duplicates
# Rows of the one and of the other split whose vectors and distances are in memory at a time: some 30 MB.
_BLOCK = (512, 1024)


@dataclass(frozen=True)
class Pair:
    """Two near-duplicates."""

    first: int  # row of the photo
    second: int  # row of the photo
    method: str  # by which they were found
    distance: float  # in bits, or cosine distance


def find_pairs(
    hashes: Sequence[np.ndarray | None], vectors: np.ndarray | None, splits: Sequence[str], most: int
) -> tuple[int, list[Pair]]:
    """The number of near-duplicate pairs across splits, and the closest of them.

    Distances are compared as fractions of their limits. Only one block of them is in memory at a time.

    Args:
      hashes: bits of each photo's perceptual hash, bool [64], or None.
      vectors: float [photos, width], with rows of zeros for photos without a vector; None without any vectors.
    """
    signs = signs_of(hashes)
    mean = None if vectors is None else vectors.mean(axis=0, dtype=np.float32)
    rows_by_split = [np.flatnonzero(np.array(splits) == split) for split in sorted(set(splits))]
    found, closest = 0, np.zeros((0, 4))
    for one, other in _blocks(rows_by_split):
        bits = _bits_apart(signs[one], signs[other])
        shares = bits / MOST_BITS
        cosine = np.full_like(bits, np.inf)
        if vectors is not None and mean is not None:
            cosine = _cosine_distances(vectors[one], vectors[other], mean)
        least = np.minimum(shares, cosine / MOST_COSINE)
        i, j = np.nonzero(least <= 1)
        found += len(i)
        rows = np.stack([least[i, j], one[i], other[j], np.where(shares[i, j] <= least[i, j], bits[i, j], -1)], axis=1)
        closest = np.concatenate([closest, rows])
        closest = closest[np.lexsort((closest[:, 2], closest[:, 1], closest[:, 0]))][:most]
    return found, [
        Pair(int(first), int(second), HASH, float(bit_count))
        if bit_count >= 0
        else Pair(int(first), int(second), VECTOR, float(max(share * MOST_COSINE, 0)))
        for share, first, second, bit_count in closest
    ]


def alike(
    signs: np.ndarray, vectors: np.ndarray, other_signs: np.ndarray, other_vectors: np.ndarray, mean: np.ndarray
) -> np.ndarray:
    """Which photos are near-duplicates of any of the others, bool [photos].

    Args:
      signs, other_signs: from `signs_of`.
      vectors, other_vectors: float [photos, width]; width 0 without vectors.
    """
    found = _bits_apart(signs, other_signs) <= MOST_BITS
    return np.any(found | (_cosine_distances(vectors, other_vectors, mean) <= MOST_COSINE), axis=1)


def signs_of(hashes: Sequence[np.ndarray | None]) -> np.ndarray:
    """The bits of perceptual hashes as 1 and -1, or zeros for a missing hash: float32 [photos, 64]."""
    return np.array([np.zeros(BITS) if bits is None else np.where(bits, 1, -1) for bits in hashes], np.float32)


def _bits_apart(signs: np.ndarray, others: np.ndarray) -> np.ndarray:
    # Each bit that differs takes 2 from a product of 64; a photo without a hash, zeros, is 32 bits from any other.
    return (BITS - signs @ others.T) / 2


def _cosine_distances(vectors: np.ndarray, others: np.ndarray, mean: np.ndarray) -> np.ndarray:
    return 1 - _unit(vectors, mean) @ _unit(others, mean).T


def _blocks(rows_by_split: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every pair of rows of two splits, in blocks."""
    for i, rows in enumerate(rows_by_split):
        for other_rows in rows_by_split[i + 1 :]:
            for start in range(0, len(rows), _BLOCK[0]):
                for other_start in range(0, len(other_rows), _BLOCK[1]):
                    yield rows[start : start + _BLOCK[0]], other_rows[other_start : other_start + _BLOCK[1]]


def _unit(vectors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Rows minus the mean, scaled to length 1; rows of zeros stay zeros, and are far from all others."""
    moved = np.where(vectors.any(axis=1, keepdims=True), vectors.astype(np.float32) - mean, 0)
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.divide(moved, length, out=moved, where=length > 0)
