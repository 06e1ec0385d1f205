"""The inputs of the trainers: cached vectors or activations, mapped from disk, or the photos themselves.

Every batch is (inputs, classes int64 [batch], names string [batch]); the names are for error messages. The order of
each epoch follows from the seed and the number of the epoch, so that a resumed training sees the same batches as an
uninterrupted one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tensorflow as tf

from components.records import read_records
from components.transform.augmentation import Augmentation, augment, seeds_for
from schemas import features as f
from schemas.errors import BadInput

_READ_BATCH = 256
_SHUFFLED_PHOTOS = 2048
_EVAL_VECTORS = 1024
NO_EXAMPLE = "there are no examples to train or evaluate on; expected some in each split: add photos"


class TrainingData(Protocol):
    """A split to train or evaluate on."""

    @property
    def classes(self) -> np.ndarray:
        """Class of each example, int64 [examples], in no particular order."""

    def __len__(self) -> int:
        """Number of examples in an epoch."""

    def steps(self, batch_size: int) -> int:
        """Number of batches in an epoch, including a smaller last one."""

    def epochs(self, batch_size: int, seed: int, first: int, last: int) -> tf.data.Dataset:
        """The shuffled batches of the epochs from `first` up to but not including `last`, one after another."""

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        """Every example once, always in the same order."""


@dataclass(frozen=True)
class StoredRows:
    """The vectors or activations of a split, in the order of content hash, file name and view."""

    values: np.ndarray
    """float32 [examples, width], or float16 or float32 [examples, ...]; mapped from disk, in the order of reading."""
    rows: np.ndarray
    """Row of each example in `values`, int64 [examples]."""
    classes: np.ndarray
    """int64 [examples]."""
    names: np.ndarray
    """bytes [examples]."""

    def __len__(self) -> int:
        return len(self.classes)

    def steps(self, batch_size: int) -> int:
        return math.ceil(len(self.classes) / batch_size)

    def epochs(self, batch_size: int, seed: int, first: int, last: int) -> tf.data.Dataset:
        def batches():
            for epoch in range(first, last):
                order = np.random.default_rng([seed, epoch]).permutation(len(self.classes))
                yield from self._batches(order, batch_size)

        return self._dataset(batches)

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        if self.values.ndim == 2:
            batch_size = _EVAL_VECTORS
        count = self.steps(batch_size)
        dataset = self._dataset(lambda: self._batches(np.arange(len(self.classes)), batch_size))
        return dataset.apply(tf.data.experimental.assert_cardinality(count))

    def _batches(self, order: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, ...]]:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            yield self.values[self.rows[chosen]], self.classes[chosen], self.names[chosen]

    def _dataset(self, batches: Callable[[], Iterator]) -> tf.data.Dataset:
        signature = (
            tf.TensorSpec([None, *self.values.shape[1:]], self.values.dtype),
            tf.TensorSpec([None], tf.int64),
            tf.TensorSpec([None], tf.string),
        )
        return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(4)


def read_rows(
    files: list[str], labels: list[str], feature: str, folder: str, shape: tuple[int, ...] = ()
) -> StoredRows:
    """Copies one feature of a split into an uncompressed file and maps it, so that memory use does not grow.

    Args:
      files: TFRecords from FeatureVectorGen.
      labels: class names in the order of their indices.
      feature: `features.FEATURE_VECTOR`, or `features.ACTIVATIONS` with their `shape`.
      folder: holds the file, and must outlive the result.
      shape: shape of one photo's activations.

    Raises:
      BadInput: there are no examples.
    """
    is_vector = feature == f.FEATURE_VECTOR
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in (f.LABEL, f.FILE_NAME, f.CONTENT_HASH)}
    spec[f.VIEW] = tf.io.FixedLenFeature([], tf.int64)
    spec[feature] = tf.io.FixedLenSequenceFeature([], tf.float32, True) if is_vector else spec[f.LABEL]
    dtype = np.dtype(np.float32 if is_vector else np.float16)
    index = {label.encode(): i for i, label in enumerate(labels)}
    classes, keys = [], []
    path = os.path.join(folder, f"{feature}-{len(os.listdir(folder))}")
    with open(path, "wb") as file:
        parse = lambda records: tf.io.parse_example(records, spec)  # noqa: E731
        for batch in read_records(files).batch(_READ_BATCH).map(parse).prefetch(1).as_numpy_iterator():
            if is_vector:
                shape = batch[feature].shape[1:]
                file.write(np.ascontiguousarray(batch[feature]).tobytes())
            else:
                dtype = np.dtype(f"float{8 * len(batch[feature][0]) // math.prod(shape)}")
                file.write(b"".join(batch[feature]))
            classes += [index[label] for label in batch[f.LABEL]]
            keys += list(zip(batch[f.CONTENT_HASH], batch[f.FILE_NAME], batch[f.VIEW].tolist(), strict=True))
    if not keys:
        raise BadInput(NO_EXAMPLE)
    values = np.memmap(path, dtype, "r", shape=(len(keys), *shape))
    rows = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    return StoredRows(
        values=values,
        rows=rows,
        classes=np.array(classes, np.int64)[rows],
        names=np.array([name for _, name, _ in keys], object)[rows],
    )


@dataclass(frozen=True, kw_only=True)
class ReadPhotos:
    """The base of photos that are decoded as they are read; with an augmentation they change in every epoch.

    The order in each epoch depends on that of the records in the files, which a distributed Beam runner may change.
    """

    files: list[str]
    transform: Callable[[tf.Tensor], tf.Tensor]
    augmentation: Augmentation | None = None

    def __len__(self) -> int:
        raise NotImplementedError

    def _targets(self, given: tf.Tensor) -> tf.Tensor:
        """What is learnt of each photo, from the values of the feature `_target_feature`, string [batch]."""
        raise NotImplementedError

    @property
    def _target_feature(self) -> str:
        raise NotImplementedError

    def _augmented_targets(self, targets: tf.Tensor, seeds: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
        """The targets of photos that are changed with these seeds."""
        return targets

    def steps(self, batch_size: int) -> int:
        return math.ceil(len(self) / batch_size)

    def epochs(self, batch_size: int, seed: int, first: int, last: int) -> tf.data.Dataset:
        def one_epoch(epoch):
            drawn = tf.random.stateless_uniform([], [tf.cast(seed, tf.int64), epoch], None, None, tf.int64)
            records = read_records(self.files).shuffle(_SHUFFLED_PHOTOS, seed=drawn)
            return records.batch(batch_size).map(lambda batch: (epoch, batch))

        def decode(epoch, records):
            images, targets, names, hashes = self._parse(records)
            if self.augmentation is not None:
                seeds = seeds_for(hashes, epoch, seed)
                images = augment(images, seeds, self.augmentation)
                targets = self._augmented_targets(targets, seeds, self.augmentation)
            return images, targets, names

        batches = tf.data.Dataset.range(first, last).flat_map(one_epoch)
        return batches.map(decode, num_parallel_calls=2).prefetch(2)

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        batches = read_records(self.files).batch(batch_size)
        batches = batches.apply(tf.data.experimental.assert_cardinality(self.steps(batch_size)))
        return batches.map(lambda records: self._parse(records)[:3], num_parallel_calls=2).prefetch(2)

    def _parse(self, records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        names = (f.IMAGE, self._target_feature, f.FILE_NAME, f.CONTENT_HASH)
        examples = tf.io.parse_example(records, {name: tf.io.FixedLenFeature([], tf.string) for name in names})
        images, targets = self.transform(examples[f.IMAGE]), self._targets(examples[self._target_feature])
        return images, targets, examples[f.FILE_NAME], examples[f.CONTENT_HASH]


@dataclass(frozen=True, kw_only=True)
class Photos(ReadPhotos):
    """The photos of a split with their classes."""

    labels: list[str]
    classes: np.ndarray
    _target_feature = f.LABEL

    def __len__(self) -> int:
        return len(self.classes)

    def _targets(self, given: tf.Tensor) -> tf.Tensor:
        index = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(self.labels, tf.range(len(self.labels), dtype=tf.int64)), -1
        )
        return index.lookup(given)


def read_photos(
    files: list[str],
    transform: Callable[[tf.Tensor], tf.Tensor],
    labels: list[str],
    augmentation: Augmentation | None = None,
) -> Photos:
    """The photos of a split; the files are read once to find the classes."""
    spec = {f.LABEL: tf.io.FixedLenFeature([], tf.string)}
    index = {label.encode(): i for i, label in enumerate(labels)}
    batches = read_records(files).batch(_READ_BATCH).map(lambda r: tf.io.parse_example(r, spec)[f.LABEL])
    classes = np.array([index[label] for batch in batches.as_numpy_iterator() for label in batch], np.int64)
    if not len(classes):
        raise BadInput(NO_EXAMPLE)
    return Photos(files=files, transform=transform, labels=labels, classes=classes, augmentation=augmentation)


def example_files(files: list[str], feature: str) -> list[str]:
    """The files whose examples have `feature`; TFX passes photos and vectors in one list."""
    return [
        file
        for file in files
        for record in read_records([file]).take(1).as_numpy_iterator()
        if feature in tf.train.Example.FromString(record).features.feature
    ]


def count_photos(files: list[str]) -> int:
    """The number of photos in files from FeatureVectorGen, where augmented views of a photo are separate examples."""
    spec = {f.VIEW: tf.io.FixedLenFeature([], tf.int64)}
    views = read_records(files).batch(_READ_BATCH).map(lambda records: tf.io.parse_example(records, spec)[f.VIEW])
    return sum(int(np.sum(batch == 0)) for batch in views.as_numpy_iterator())
