"""Test photos that look like photos of the train split: the model has nearly seen them, and answers them too well."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from tfx.types import Artifact

from components.example_gen.perceptual_hash import bits
from components.records import read_examples, split_files, text
from components.report.near_duplicates import alike, signs_of
from schemas import features as f

_BATCH = 512


def find_look_alikes(vectors: Artifact) -> set[str]:
    """Content hashes of the test photos that are near-duplicates of train photos (`report/near_duplicates.py`).

    Every photo is compared. The vectors of the test photos are in memory, and those of a few train photos at a time;
    the train split is read twice, first for the mean.

    Args:
      vectors: examples of FeatureVectorGen, with perceptual hashes and feature vectors.
    """
    total: Any = 0.0
    count = 0
    for split in ("train", "test"):
        for _, _, some in _photos(vectors, split):
            total, count = total + some.sum(axis=0, dtype=np.float64), count + len(some)
    mean = (total / max(count, 1)).astype(np.float32) if count else np.zeros(0, np.float32)
    tested = list(_photos(vectors, "test"))
    found = [np.zeros(len(hashes), bool) for hashes, _, _ in tested]
    for _, other_signs, other_vectors in _photos(vectors, "train"):
        for i, (_, signs, its_vectors) in enumerate(tested):
            found[i] |= alike(signs, its_vectors, other_signs, other_vectors, mean)
    return {content_hash for (hashes, _, _), rows in zip(tested, found, strict=True) for content_hash in hashes[rows]}


def _photos(vectors: Artifact, split: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Content hashes, signs and vectors of a few photos at a time; not of their augmented views."""
    photos = (
        # A span of an older version has no perceptual hashes.
        (
            text(e, f.CONTENT_HASH),
            text(e, f.PERCEPTUAL_HASH) if f.PERCEPTUAL_HASH in e.features.feature else "",
            np.array(e.features.feature[f.FEATURE_VECTOR].float_list.value, np.float32),
        )
        for e in read_examples(split_files(vectors, split))
        if not any(e.features.feature[f.VIEW].int64_list.value)
    )
    while some := list(itertools.islice(photos, _BATCH)):
        hashes, perceptual_hashes, values = zip(*some, strict=True)
        signs = signs_of([bits(each) for each in perceptual_hashes])
        yield np.array(hashes, object), signs.reshape(len(hashes), -1), np.stack(values)
