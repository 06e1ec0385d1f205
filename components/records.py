"""Reading the examples of a split back, in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tensorflow as tf
from tfx.dsl.io import fileio
from tfx.types import Artifact, artifact_utils

from schemas import features as f


def split_files(examples: Artifact, split: str) -> list[str]:
    """The files of one split of an Examples artifact, sorted."""
    return matching_files([artifact_utils.get_split_uri([examples], split) + "/*"])


def compression(files: Sequence[str]) -> str:
    """TensorFlow's name of the compression of TFRecord files, from their suffix."""
    return "GZIP" if files and files[0].endswith(".gz") else ""


def read_records(files: Sequence[str]) -> tf.data.Dataset:
    """Serialised examples, string scalars, in the order of the files."""
    return tf.data.TFRecordDataset(list(files), compression_type=compression(files))


def read_examples(files: Sequence[str]) -> Iterable[tf.train.Example]:
    """The examples, one after another."""
    for record in read_records(files).as_numpy_iterator():
        yield tf.train.Example.FromString(record)


def text(example: tf.train.Example, name: str) -> str:
    """Value of a bytes feature, as text."""
    return example.features.feature[name].bytes_list.value[0].decode("utf-8", "replace")


def matching_files(patterns: Sequence[str]) -> list[str]:
    """The files that match any of the patterns, sorted."""
    return sorted(path for pattern in patterns for path in fileio.glob(pattern))


def choose_golden(examples: Iterable[tf.train.Example], count: int) -> list[tf.train.Example]:
    """`count` examples in the order of their content hashes, one of each true format first."""
    ordered = sorted(examples, key=lambda example: text(example, f.CONTENT_HASH))
    seen: set[str] = set()
    first: list[tf.train.Example] = []
    others: list[tf.train.Example] = []
    for example in ordered:
        image_format = text(example, f.IMAGE_FORMAT)
        (others if image_format in seen else first).append(example)
        seen.add(image_format)
    return (first + others)[:count]
