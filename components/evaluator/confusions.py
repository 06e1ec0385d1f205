"""Confusions of pixels, and the shares that follow from them.

A confusion counts the pixels of a mask: the row is the true class, the column the answered one. Pixels that the mask
ignores are counted nowhere. Where photos are added up, each confusion is scaled to the sum 1 first, so that every photo
weighs the same whatever its size and however much of it is ignored.

Convention of a mean over classes: it is over the classes that are in the truth of the photos in question. So two models
are always compared over the same classes, and a stray pixel of a class that is not there costs only what it takes away
from the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def count(true: np.ndarray, answered: np.ndarray, classes: int) -> np.ndarray:
    """The confusion of a mask, int64 [classes, classes].

    Args:
      true: class ids, integers of any shape; what is not below `classes` is ignored.
      answered: class ids below `classes`, of the same shape.
    """
    counted = true < classes
    cells = true[counted].astype(np.int64) * classes + answered[counted]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def scaled(confusions: np.ndarray) -> np.ndarray:
    """Confusions scaled to the sum 1, float64 [photos, classes, classes]; each has at least one counted pixel."""
    return confusions / confusions.sum(axis=(-2, -1), keepdims=True)


def class_shares(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """`iou`, `precision`, `recall` and `f1` (which is Dice) of each class, float64 [..., classes].

    NaN where they are undefined: the IoU, recall and F1 of a class that is not in the truth, the precision of one that
    is never answered.

    Args:
      confusions: [..., classes, classes], counts or shares.
    """
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    own, given = confusions.sum(axis=-1), confusions.sum(axis=-2)
    there = own > 0
    return {
        "iou": iou(confusions),
        "precision": _ratio(hits, given, given > 0),
        "recall": _ratio(hits, own, there),
        "f1": _ratio(2 * hits, own + given, there),
    }


def iou(confusions: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, float64 [..., classes]; NaN for a class that is not in the truth."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    own = confusions.sum(axis=-1)
    return _ratio(hits, own + confusions.sum(axis=-2) - hits, own > 0)


def mean_iou(confusions: np.ndarray) -> np.ndarray:
    """Mean IoU over the classes in the truth, float64 [...]; each confusion has at least one counted pixel."""
    found = iou(confusions)
    there = ~np.isnan(found)
    return np.where(there, found, 0).sum(axis=-1) / there.sum(axis=-1)


def pixel_accuracy(confusions: np.ndarray) -> np.ndarray:
    """Share of the pixels that are answered rightly, float64 [...]."""
    return np.trace(confusions, axis1=-2, axis2=-1) / confusions.sum(axis=(-2, -1))


def without_each(scores: np.ndarray) -> np.ndarray:
    """The sum of all confusions but one, for each of them, float64 [photos, classes, classes].

    A cell that no other photo has anything in is exactly 0, so that a class of a single photo is seen to be gone.
    """
    filled = scores > 0
    others = filled.sum(axis=0) - filled
    return np.where(others > 0, scores.sum(axis=0) - scores, 0.0)


def merged(confusions: np.ndarray, into: Sequence[int | None]) -> np.ndarray:
    """The confusions in another convention, with fewer classes.

    Args:
      confusions: [..., classes, classes].
      into: of each class, which class it becomes; None: its pixels are ignored, and where it is answered on a pixel of
        another class, that answer is wrong.

    Returns:
      [..., n, n], in which answers of an ignored class have a last column of their own, whose row is empty.
    """
    last = 1 + max(new for new in into if new is not None)
    size = last + (None in into)
    found = np.zeros((*confusions.shape[:-2], size, size), confusions.dtype)
    for true, new_true in enumerate(into):
        for answered, new_answered in enumerate(into):
            if new_true is not None:
                found[..., new_true, last if new_answered is None else new_answered] += confusions[..., true, answered]
    return found


def _ratio(numerator: np.ndarray, denominator: np.ndarray, defined: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(np.shape(denominator), np.nan), where=defined)
