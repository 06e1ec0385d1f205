"""Changed copies of each training photo, and of its mask."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import tensorflow as tf

from components.transform.augmentation import Augmentation, augment, seeds_for
from components.transform.mask_ops import augment_masks


@dataclass(frozen=True)
class Views:
    """The copies of each training photo: their number, their changes, and the seed of the run.

    With `mirror`, the only copy is the photo's mirror image. Otherwise each copy is changed at random.
    """

    count: int
    seed: int
    changes: Augmentation
    mirror: bool = False

    @classmethod
    def of(cls, views: int, seed: int, mirror: bool = False, **changes: Any) -> Views:
        return cls(views, seed, Augmentation(**changes), bool(mirror))

    @property
    def address(self) -> str:
        """Identifies the look of the copies, independent of their number."""
        look = {"mirror": True} if self.mirror else {**asdict(self.changes), "seed": self.seed}
        return hashlib.sha256(json.dumps(look, sort_keys=True).encode()).hexdigest()[:12]

    def _seeds(self, hashes: Sequence[str], view: int) -> tf.Tensor:
        return seeds_for(tf.constant(hashes), view, self.seed)

    def of_images(self, images: tf.Tensor, hashes: Sequence[str], view: int) -> tf.Tensor:
        """The copies number `view` of photos, which are themselves at 0.

        Args:
          images: float32 [batch, size, size, 3], range [0, 1].
          hashes: content hash of each photo.
          view: from 0 to `count`.
        """
        if not view:
            return images
        return images[:, :, ::-1] if self.mirror else _augment(images, self._seeds(hashes, view), self.changes)

    def of_masks(self, ids: tf.Tensor, hashes: Sequence[str], view: int) -> tf.Tensor:
        """The same of their masks, uint8 [batch, size, size]."""
        if not view:
            return ids
        return ids[:, :, ::-1] if self.mirror else _augment_masks(ids, self._seeds(hashes, view), self.changes)


@tf.function(reduce_retracing=True)
def _augment(images: tf.Tensor, seeds: tf.Tensor, changes: Augmentation) -> tf.Tensor:
    return augment(images, seeds, changes)


@tf.function(reduce_retracing=True)
def _augment_masks(ids: tf.Tensor, seeds: tf.Tensor, changes: Augmentation) -> tf.Tensor:
    return augment_masks(ids, seeds, changes)
