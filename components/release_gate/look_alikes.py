"""Test photos that look like photos of the train split: the model has nearly seen them, and answers them too well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tfx.types import Artifact

from components.example_gen.perceptual_hash import bits
from components.records import read_records, split_files
from components.report.near_duplicates import alike, signs_of
from schemas import features as f

_BATCH = 512
_SPEC: dict[str, Any] = {
    f.CONTENT_HASH: tf.io.FixedLenFeature([], tf.string),
    f.PERCEPTUAL_HASH: tf.io.FixedLenFeature([], tf.string, ""),  # a span of an older version has none
    f.FEATURE_VECTOR: tf.io.FixedLenSequenceFeature([], tf.float32, True),
    f.VIEW: tf.io.FixedLenFeature([], tf.int64, 0),
}


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
    records = read_records(split_files(vectors, split)).batch(_BATCH)
    for batch in records.map(lambda records: tf.io.parse_example(records, _SPEC)).as_numpy_iterator():
        rows = batch[f.VIEW] == 0
        hashes = np.array([each.decode() for each in batch[f.CONTENT_HASH][rows]], object)
        signs = signs_of([bits(each.decode()) for each in batch[f.PERCEPTUAL_HASH][rows]])
        yield hashes, signs.reshape(len(hashes), -1), batch[f.FEATURE_VECTOR][rows]
