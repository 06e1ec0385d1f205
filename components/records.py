"""Reading the examples of a split back, in order."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import tensorflow as tf
from tfx.dsl.io import fileio
from tfx.types import Artifact, artifact_utils

from schemas import features as f

# How the names of folders begin in which Beam writes files that are not whole yet.
BEAMS_OWN = "beam-temp-"


def split_files(examples: Artifact, split: str) -> list[str]:
    """The files of one split of an Examples artifact, sorted."""
    found = matching_files([artifact_utils.get_split_uri([examples], split) + "/*"])
    return [path for path in found if not os.path.basename(path).startswith(BEAMS_OWN)]


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


def count_records(files: Sequence[str]) -> int:
    """The number of examples."""
    return int(read_records(files).reduce(0, lambda count, _: count + 1).numpy()) if files else 0


def text(example: tf.train.Example, name: str) -> str:
    """Value of a bytes feature, as text."""
    return example.features.feature[name].bytes_list.value[0].decode("utf-8", "replace")


def matching_files(patterns: Sequence[str]) -> list[str]:
    """The files that match any of the patterns, sorted."""
    return sorted(path for pattern in patterns for path in fileio.glob(pattern))


def copy_without(file: str, target: str, content_hashes: Collection[str]) -> None:
    """Copies a file of examples, less those of some photos."""
    # In the form of the others, but as they are: photos would not get smaller, and packing them takes the most time.
    options = tf.io.TFRecordOptions(compression([file]), compression_level=0)
    with tf.io.TFRecordWriter(target, options) as writer:
        for record in read_records([file]).as_numpy_iterator():
            if text(tf.train.Example.FromString(record), f.CONTENT_HASH) not in content_hashes:
                writer.write(record)


def remove_photos(examples: Artifact, photos: Iterable[tuple[str, str]]) -> None:
    """Rewrites the files of an Examples artifact without the given photos, (split, content hash) each."""
    by_split: dict[str, set[str]] = defaultdict(set)
    for split, content_hash in photos:
        by_split[split].add(content_hash)
    for split, content_hashes in by_split.items():
        for file in split_files(examples, split):
            rest = f"{file}.rest"
            copy_without(file, rest, content_hashes)
            tf.io.gfile.rename(rest, file, overwrite=True)


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
