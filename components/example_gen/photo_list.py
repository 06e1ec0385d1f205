"""The photos that a Beam job looks at, listed in a file, so that the graph of the job does not grow with them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator

import apache_beam as beam
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
