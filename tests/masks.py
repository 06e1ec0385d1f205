"""Stored answers of a segmentation, made by hand: for the tests of all that judges masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf

from components.evaluator import confusions
from components.evaluator.metrics import BINS
from components.evaluator.stored_masks import (
    COUNTED_PIXELS,
    confidence_gaps_key,
    confusion_key,
    ids_png,
    mask_key,
    pixel_loss_key,
)
from schemas import features as f

CLASSES = ("pet", "background", "border")
SIDE = 24  # pixels of the drawn masks


def drawn_mask(row: int, classes: Sequence[str] = CLASSES, side: int = SIDE) -> np.ndarray:
    """Ids of a round pet with a border on a background, uint8 [side, side]; of another size in every photo."""
    rng = np.random.default_rng(row)
    y, x = np.mgrid[:side, :side] + 0.5
    centre = side * rng.uniform(0.4, 0.6, 2)
    distance = np.hypot(y - centre[0], x - centre[1])
    radius = side * rng.uniform(0.2, 0.35)
    ids = np.full((side, side), 1, np.uint8)
    ids[distance < radius] = 2 % len(classes)
    ids[distance < radius - side / 10] = 0
    return ids


def damaged(ids: np.ndarray, wrong: Mapping[int, tuple[int, float]], row: int, seed: int = 0) -> np.ndarray:
    """A mask in which a share of the pixels of some classes has another class; id -> its replacement and share."""
    rng = np.random.default_rng((seed, row))
    found = ids.copy()
    for true, (other, share) in wrong.items():
        found[(ids == true) & (rng.random(ids.shape) < share)] = other
    return found


def mask_prediction(
    row: int,
    true: np.ndarray,
    answers: Mapping[str, np.ndarray],
    classes: Sequence[str] = CLASSES,
    losses: Mapping[str, float] | None = None,
    **texts: str,
) -> tf.train.Example:
    """A stored answer to photo `row`; `answers` are ids by model, and `texts` are features such as `species`."""
    example = tf.train.Example()
    feature = example.features.feature
    facts = {f.CONTENT_HASH: f"{row:064d}", f.FILE_NAME: f"{row}.jpg", f.DATASET: "oxford_iiit_pet", **texts}
    for name, value in facts.items():
        feature[name].bytes_list.value.append(value.encode())
    feature[COUNTED_PIXELS].int64_list.value.append(int(np.sum(true < len(classes))))
    for model, ids in answers.items():
        confusion = confusions.count(true, ids, len(classes))
        wrong = 1 - np.trace(confusion) / max(confusion.sum(), 1)
        feature[confusion_key(model)].int64_list.value.extend(confusion.ravel())
        feature[pixel_loss_key(model)].float_list.value.append((losses or {}).get(model, 0.1 + wrong))
        feature[confidence_gaps_key(model)].float_list.value.extend([0.0] * (BINS - 1) + [0.01])
        feature[mask_key(model)].bytes_list.value.append(ids_png(ids))
    return example
