"""The photos that a Beam job looks at, listed in a file, so that the graph of the job does not grow with them."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator

import apache_beam as beam
import tensorflow as tf
from tfx.dsl.io import fileio

from components.beam_records import runs_here
from components.example_gen.found_photos import Photo
from components.shared_folder import require_shared


def write_photo_list(photos: Iterable[Photo], file: str) -> str:
    """Lists photos, none of which has its mask read, in a file; returns its path."""
    fileio.makedirs(os.path.dirname(file))
    with fileio.open(file, "w") as lines:
        for photo in photos:
            fields = {name: value for name, value in vars(photo).items() if name != "mask_bytes"}
            lines.write(json.dumps(fields) + "\n")
    return file


class ReadPhotoList(beam.PTransform):
    """The photos of a list, in its order; away from this process they are spread over the workers instead."""

    def __init__(self, file: str):
        super().__init__()
        self._file = file

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        photos = begin | "List" >> beam.Create([self._file]) | "Read" >> beam.ParDo(_ReadList())
        return photos if runs_here(begin.pipeline) else photos | "Spread" >> beam.Reshuffle()


class _ReadList(beam.DoFn):
    """File of `write_photo_list` -> its photos."""

    def process(self, file: str) -> Iterator[Photo]:
        require_shared(file)
        with fileio.open(file, "r") as lines:
            for line in lines:
                yield Photo(**json.loads(line))


# What opening and reading a file raises, here or at an address.
READ_ERRORS = (OSError, tf.errors.OpError, fileio.NotFoundError)
_OF_THE_FILE = (
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
)


def is_of_the_file(error: Exception) -> bool:
    """Whether reading failed because of the file itself, and so would fail again tomorrow."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _OF_THE_FILE
    return isinstance(error, (tf.errors.NotFoundError, tf.errors.PermissionDeniedError, fileio.NotFoundError))
