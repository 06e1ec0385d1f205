"""The inputs of a segmentation training: cached taps, mapped from disk, or the photos themselves; each with masks.

Every batch is (inputs, ids uint8 [batch, size, size], names string [batch]). In each epoch every photo comes once, in
one of its views. The order and the views follow from the seed and the number of the epoch, so that a resumed training
sees the same batches as an uninterrupted one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from components.records import count_records, read_examples
from components.trainer.training_data import NO_EXAMPLE, ReadPhotos
from components.transform.augmentation import Augmentation
from components.transform.mask_ops import augment_masks, masks_to_ids
from schemas import features as f
from schemas.errors import BadInput


@dataclass(frozen=True)
class MaskRows:
    """Taps and masks of a split, in the order of content hash and file name."""

    taps: np.ndarray
    """float16 [examples, values], mapped from disk: all taps of an example one after another."""
    ids: np.ndarray
    """uint8 [examples, size, size], mapped from disk."""
    views: list[np.ndarray]
    """Of each photo: the rows of its views, the photo itself first, int64 [views]."""
    names: np.ndarray
    """bytes [photos]."""
    shapes: tuple[tuple[int, ...], ...]
    """Of each tap of one example."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def classes(self) -> np.ndarray:
        """The id of each counted pixel of the photos themselves."""
        ids = np.concatenate([self.ids[rows[0]].ravel() for rows in self.views])
        return ids[ids != f.IGNORE]

    def steps(self, batch_size: int) -> int:
        return math.ceil(len(self) / batch_size)

    def epochs(self, batch_size: int, seed: int, first: int, last: int) -> tf.data.Dataset:
        def batches():
            for epoch in range(first, last):
                random = np.random.default_rng([seed, epoch])
                order = random.permutation(len(self))
                views = random.random(len(self))
                rows = [self.views[i][int(views[i] * len(self.views[i]))] for i in order]
                yield from self._batches(order, np.array(rows), batch_size)

        return self._dataset(batches)

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        order, rows = np.arange(len(self)), np.array([rows[0] for rows in self.views])
        dataset = self._dataset(lambda: self._batches(order, rows, batch_size))
        return dataset.apply(tf.data.experimental.assert_cardinality(self.steps(batch_size)))

    def _batches(self, order: np.ndarray, rows: np.ndarray, batch_size: int) -> Iterator[tuple]:
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])
        for start in range(0, len(order), batch_size):
            photos, chosen = order[start : start + batch_size], rows[start : start + batch_size]
            parts = np.split(self.taps[chosen], ends[:-1], axis=1)
            taps = tuple(part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True))
            yield taps, self.ids[chosen], self.names[photos]

    def _dataset(self, batches: Callable[[], Iterator]) -> tf.data.Dataset:
        signature = (
            tuple(tf.TensorSpec([None, *shape], tf.float16) for shape in self.shapes),
            tf.TensorSpec([None, *self.ids.shape[1:]], tf.uint8),
            tf.TensorSpec([None], tf.string),
        )
        return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(4)


def has_taps(files: Sequence[str], names: Sequence[str]) -> bool:
    """Whether examples from FeatureVectorGen hold the taps of these names."""
    feature = next(iter(read_examples(files))).features.feature
    stored = [name.decode() for name in feature[f.TAP_NAMES].bytes_list.value] if f.TAP_NAMES in feature else []
    return set(names) <= set(stored)


def read_taps(
    files: Sequence[str], names: Sequence[str], shapes: Sequence[tuple[int, ...]], size: int, folder: str
) -> MaskRows:
    """Copies the taps and masks of a split into uncompressed files and maps them, so that memory use does not grow.

    Args:
      files: TFRecords from FeatureVectorGen, which hold the taps (`has_taps`).
      names, shapes: of the taps, see `Pyramid.cached`.
      size: side of the masks, pixels.
      folder: holds the files, and must outlive the result.

    Raises:
      BadInput: there are no examples.
    """
    number = len(os.listdir(folder))
    taps_path, ids_path = (os.path.join(folder, f"{what}-{number}") for what in (f.TAPS, f.MASK_IDS))
    keys: list[tuple[bytes, bytes, int]] = []
    with open(taps_path, "wb") as taps, open(ids_path, "wb") as ids:
        for example in read_examples(files):
            feature = example.features.feature
            stored = dict(zip(feature[f.TAP_NAMES].bytes_list.value, feature[f.TAPS].bytes_list.value, strict=True))
            for name in names:
                taps.write(stored[name.encode()])
            ids.write(feature[f.MASK_IDS].bytes_list.value[0])
            content_hash, file_name = (feature[name].bytes_list.value[0] for name in (f.CONTENT_HASH, f.FILE_NAME))
            keys.append((content_hash, file_name, feature[f.VIEW].int64_list.value[0]))
    if not keys:
        raise BadInput(NO_EXAMPLE)
    by_photo: dict[tuple[bytes, bytes], list[int]] = {}
    for row in sorted(range(len(keys)), key=keys.__getitem__):
        by_photo.setdefault(keys[row][:2], []).append(row)
    values = sum(math.prod(shape) for shape in shapes)
    return MaskRows(
        taps=np.memmap(taps_path, np.float16, "r", shape=(len(keys), values)),
        ids=np.memmap(ids_path, np.uint8, "r", shape=(len(keys), size, size)),
        views=[np.array(rows, np.int64) for rows in by_photo.values()],
        names=np.array([file_name for _, file_name in by_photo], object),
        shapes=tuple(shapes),
    )


@dataclass(frozen=True, kw_only=True)
class MaskPhotos(ReadPhotos):
    """The photos of a split with their masks, which move as the photos do."""

    size: int
    photos: int
    _target_feature = f.MASK

    def __len__(self) -> int:
        return self.photos

    @property
    def classes(self) -> np.ndarray:
        """The id of each counted pixel."""
        ids = np.concatenate([batch.ravel() for _, batch, _ in self.in_order(32).as_numpy_iterator()])
        return ids[ids != f.IGNORE]

    def _targets(self, given: tf.Tensor) -> tf.Tensor:
        return masks_to_ids(given, self.size)

    def _augmented_targets(self, targets: tf.Tensor, seeds: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
        return augment_masks(targets, seeds, augmentation)


def read_mask_photos(
    files: list[str],
    transform: Callable[[tf.Tensor], tf.Tensor],
    size: int,
    augmentation: Augmentation | None = None,
) -> MaskPhotos:
    """The photos and masks of a split.

    Raises:
      BadInput: there are no examples.
    """
    photos = count_records(files)
    if not photos:
        raise BadInput(NO_EXAMPLE)
    return MaskPhotos(files=files, transform=transform, size=size, photos=photos, augmentation=augmentation)
