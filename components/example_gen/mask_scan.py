"""Reads the files of masks; where no list names the classes, once more beforehand, to see which values they hold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator

import apache_beam as beam
import tensorflow as tf
from tfx.dsl.io import fileio

from components.example_gen.found_photos import Photo
from components.example_gen.mask_classes import ValuesFound
from components.example_gen.masks import values_in
from components.example_gen.photo import PhotoRejected
from components.example_gen.photo_list import READ_ERRORS, ReadPhotoList, is_of_the_file
from components.example_gen.photo_rules import PhotoRules
from schemas.features import IGNORE


def read_mask_file(found: Photo, rules: PhotoRules) -> bytes:
    """The bytes of a photo's mask.

    Raises:
      PhotoRejected: the file is too large.
      READ_ERRORS: it cannot be read.
    """
    size = tf.io.gfile.stat(found.mask).length
    if size > rules.max_file_megabytes * 1e6:
        raise PhotoRejected(
            "mask_unreadable",
            f"has a mask, {found.mask_name}, of {size / 1e6:,.0f} MB, more than data.max_file_megabytes "
            f"({rules.max_file_megabytes}); save the mask as a PNG.",
        )
    with fileio.open(found.mask, "rb") as file:
        return file.read()


def write_values(pipeline: beam.Pipeline, photo_list: str, rules: PhotoRules, prefix: str) -> None:
    """Writes the values that the masks of listed photos hold, as JSON lines: values, and masks with just these."""
    _ = (
        pipeline
        | "PhotosWithMasks" >> ReadPhotoList(photo_list)
        | "ValuesOfMasks" >> beam.ParDo(_ValuesOfMask(rules))
        | "CountMasks" >> beam.CombinePerKey(sum)
        | "ValuesToJson" >> beam.Map(json.dumps)
        | "WriteValues" >> beam.io.WriteToText(prefix)
    )


def values_found(lines: Iterable[str]) -> ValuesFound:
    """Sums up what `write_values` wrote."""
    masks_with: Counter[int] = Counter()
    masks = only_0_and_255 = 0
    for values, count in map(json.loads, lines):
        masks += count
        masks_with.update(dict.fromkeys(values, count))
        if IGNORE in values and set(values) <= {0, IGNORE}:
            only_0_and_255 += count
    return ValuesFound(masks_with, masks, only_0_and_255)


class _ValuesOfMask(beam.DoFn):
    """Photo -> (values in its mask, 1). Masks that cannot be used are passed over: reading the photo rejects them."""

    def __init__(self, rules: PhotoRules):
        self._rules = rules

    def process(self, found: Photo) -> Iterator[tuple[tuple[int, ...], int]]:
        try:
            values = values_in(read_mask_file(found, self._rules), found.mask_name, self._rules.max_pixels)
        except PhotoRejected:
            return
        except READ_ERRORS as error:
            if not is_of_the_file(error):
                raise
            return
        yield tuple(sorted(values)), 1
