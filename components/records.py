"""Reading the examples of a split back, in order."""

from __future__ import annotations

import gzip
import os
import struct
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

import tensorflow as tf
from tensorflow.core.example import example_pb2
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


def read_examples(files: Sequence[str]) -> Iterator[example_pb2.Example]:
    """The examples, one after another."""
    for record in iterate_records(files):
        yield example_pb2.Example.FromString(record)


def iterate_records(files: Sequence[str]) -> Iterator[bytes]:
    """Serialised examples in the order of the files; of gzipped ones without TensorFlow, which takes long to import.

    Raises:
      OSError, EOFError: a file is damaged or cut off.
    """
    for file in files:
        if not file.endswith(".gz"):
            yield from read_records([file]).as_numpy_iterator()
            continue
        # The records' own checksums add nothing to that of gzip.
        with fileio.open(file, "rb") as packed, gzip.GzipFile(fileobj=packed) as stream:
            while head := stream.read(12):  # the length, and its checksum
                record = stream.read(struct.unpack("<Q", head[:8])[0]) if len(head) == 12 else b""
                if len(stream.read(4)) < 4:
                    raise EOFError(f"{file} ends within a record")
                yield record


def count_records(files: Sequence[str]) -> int:
    """The number of examples."""
    return sum(1 for _ in iterate_records(files))


def text(example: example_pb2.Example, name: str) -> str:
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


def choose_golden(examples: Iterable[example_pb2.Example], count: int) -> list[example_pb2.Example]:
    """`count` examples in the order of their content hashes, one of each true format first."""
    ordered = sorted(examples, key=lambda example: text(example, f.CONTENT_HASH))
    seen: set[str] = set()
    first: list[example_pb2.Example] = []
    others: list[example_pb2.Example] = []
    for example in ordered:
        image_format = text(example, f.IMAGE_FORMAT)
        (others if image_format in seen else first).append(example)
        seen.add(image_format)
    return (first + others)[:count]
