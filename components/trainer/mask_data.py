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

from components.records import count_records, read_examples, read_records
from components.trainer.training_data import NO_EXAMPLE, SHUFFLED_PHOTOS
from components.transform.augmentation import Augmentation, augment, seeds_for
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


@dataclass(frozen=True)
class MaskPhotos:
    """The photos and masks of a split, decoded as they are read; with an augmentation both change in every epoch.

    The order in each epoch depends on that of the records in the files, which a distributed Beam runner may change.
    """

    files: list[str]
    transform: Callable[[tf.Tensor], tf.Tensor]
    size: int
    photos: int
    augmentation: Augmentation | None = None

    def __len__(self) -> int:
        return self.photos

    @property
    def classes(self) -> np.ndarray:
        """The id of each counted pixel."""
        ids = np.concatenate([batch.ravel() for _, batch, _ in self.in_order(32).as_numpy_iterator()])
        return ids[ids != f.IGNORE]

    def steps(self, batch_size: int) -> int:
        return math.ceil(len(self) / batch_size)

    def epochs(self, batch_size: int, seed: int, first: int, last: int) -> tf.data.Dataset:
        def one_epoch(epoch):
            drawn = tf.random.stateless_uniform([], [tf.cast(seed, tf.int64), epoch], None, None, tf.int64)
            records = read_records(self.files).shuffle(SHUFFLED_PHOTOS, seed=drawn)
            return records.batch(batch_size).map(lambda batch: (epoch, batch))

        def decode(epoch, records):
            images, ids, names, hashes = self._parse(records)
            if self.augmentation is not None:
                seeds = seeds_for(hashes, epoch, seed)
                images, ids = augment(images, seeds, self.augmentation), augment_masks(ids, seeds, self.augmentation)
            return images, ids, names

        batches = tf.data.Dataset.range(first, last).flat_map(one_epoch)
        return batches.map(decode, num_parallel_calls=2).prefetch(2)

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        batches = read_records(self.files).batch(batch_size)
        batches = batches.apply(tf.data.experimental.assert_cardinality(self.steps(batch_size)))
        return batches.map(lambda records: self._parse(records)[:3], num_parallel_calls=2).prefetch(2)

    def _parse(self, records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        names = (f.IMAGE, f.MASK, f.FILE_NAME, f.CONTENT_HASH)
        examples = tf.io.parse_example(records, {name: tf.io.FixedLenFeature([], tf.string) for name in names})
        ids = masks_to_ids(examples[f.MASK], self.size)
        return self.transform(examples[f.IMAGE]), ids, examples[f.FILE_NAME], examples[f.CONTENT_HASH]


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
    return MaskPhotos(files, transform, size, photos, augmentation)
