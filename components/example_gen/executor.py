"""The Beam executor of ImageExampleGen."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent import futures
from dataclasses import replace
from typing import Any, NamedTuple

import apache_beam as beam
import tensorflow as tf
from tfx.components.example_gen.base_example_gen_executor import BaseExampleGenExecutor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import proto_utils

from components import progress
from components.beam_records import remove_leftovers, runs_here, write_splits
from components.example_gen import copies, layouts, mask_scan, tfds_source
from components.example_gen.conversion import ReadPhoto, read_file, read_photo
from components.example_gen.corrections import Corrections
from components.example_gen.found_photos import OFFICIAL_SPLITS, FolderContents, Photo
from components.example_gen.mask_classes import MaskClasses, classes_from_values
from components.example_gen.masks import Mask, read_mask
from components.example_gen.photo import PhotoRejected
from components.example_gen.photo_folder import UnusedFile
from components.example_gen.photo_list import READ_ERRORS, ReadPhotoList, is_of_the_file, write_photo_list
from components.example_gen.report import (
    CONVERTED,
    CORRECTED,
    FACTS,
    KEYS,
    MASK_VALUES,
    PARTS,
    PHOTO_LIST,
    REJECTED,
    read_lines,
    read_photos,
    write_report,
)
from components.example_gen.settings import PHOTOS_KEY, IngestSettings
from components.records import remove_photos
from components.shared_folder import require_shared
from schemas import features as f
from schemas.words import on_one_line

# Photos in a batch, and how many of them are decoded at once: each may be large.
_BATCH, _DECODERS = 16, 4


def choose_split(content_hash: str, official_split: str, buckets: dict[str, int], group: str = "") -> str:
    """The split of a photo, which never changes.

    Args:
      content_hash: SHA-256 of the photo's bytes, hexadecimal.
      official_split: the split that the data set itself defines, a key of `OFFICIAL_SPLITS`.
      buckets: split -> number of hash buckets, in order. Only the splits that `official_split` leaves open take part.
      group: the photo's series, which is hashed instead of the photo; empty for none.
    """
    if list(buckets) == ["test"]:  # photos to evaluate on have no other split
        return "test"
    shares = {name: n for name, n in buckets.items() if name in OFFICIAL_SPLITS[official_split]}
    number = hashlib.sha256(group.encode("utf-8", "surrogateescape")).hexdigest() if group else content_hash
    bucket = int(number, 16) % sum(shares.values())
    for name, n in shares.items():
        if bucket < n:
            return name
        bucket -= n
    raise AssertionError("a bucket lies within the sum of the shares")


def make_example(
    found: Photo, read: ReadPhoto, content_hash: str, label: str, mask: Mask | None = None, classes: Sequence[str] = ()
) -> tf.train.Example:
    """One example with every feature of `schemas/features.py`.

    Args:
      content_hash: of the original file.
    """
    facts = read.facts

    def text(*values: str) -> tf.train.Feature:
        encoded = [value.encode("utf-8", "surrogateescape") for value in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))

    def number(value: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    of_mask = {}
    if mask:
        of_mask = {
            f.MASK: tf.train.Feature(bytes_list=tf.train.BytesList(value=[mask.png])),
            f.MASK_CLASSES: text(*classes),
            f.MASK_HASH: text(mask.content_hash),
        }
    return tf.train.Example(
        features=tf.train.Features(
            feature={
                f.IMAGE: tf.train.Feature(bytes_list=tf.train.BytesList(value=[read.photo_bytes])),
                f.LABEL: text(label),
                f.FILE_NAME: text(found.file_name),
                f.DATASET: text(found.dataset),
                f.SPECIES: text(found.species),
                f.BREED: text(found.breed),
                f.IMAGE_FORMAT: text(facts.image_format),
                f.WIDTH: number(facts.width),
                f.HEIGHT: number(facts.height),
                f.CONTENT_HASH: text(content_hash),
                f.PERCEPTUAL_HASH: text(facts.perceptual_hash),
                **of_mask,
            }
        )
    )


def _rejection(rejected: UnusedFile) -> beam.pvalue.TaggedOutput:
    return beam.pvalue.TaggedOutput(REJECTED, json.dumps(rejected.as_line(), sort_keys=True))


def _rejected(found: Photo, why: PhotoRejected, label_from: str, content_hash: str = "") -> beam.pvalue.TaggedOutput:
    detail = f"{found.file_name} {why.detail}"
    label = _label(found, label_from)
    return _rejection(UnusedFile(found.file_name, found.dataset, why.reason, detail, label, content_hash))


def _label(of: Photo, label_from: str) -> str:
    return of.species if label_from == "species" else of.label


def _sums(facts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Adds up pairs of (photos, identity); the result does not depend on their order."""
    photos, identity = 0, 0
    for more, other in facts:
        photos, identity = photos + more, (identity + other) % copies.MODULUS
    return photos, identity


class _ReadFile(beam.DoFn):
    """Photo -> (Photo, bytes).

    A file that is gone or may not be read is rejected. A disk or network error fails the step: if it were recorded as a
    rejection, the photo would stay rejected until its folder changes.
    """

    def __init__(self, settings: IngestSettings):
        self._settings = settings

    def setup(self):
        # Without its folder every photo would be rejected as unreadable.
        for folder in self._settings.sources.values():
            require_shared(folder, "the photos")

    def process(self, found: Photo):
        try:
            size = tf.io.gfile.stat(found.path).length
            with fileio.open(found.path, "rb") as file:
                photo_bytes = read_file(file, size, self._settings.rules)
            if found.mask:
                found = replace(found, mask_bytes=mask_scan.read_mask_file(found, self._settings.rules))
        except PhotoRejected as rejected:
            yield _rejected(found, rejected, self._settings.label_from)
            return
        except READ_ERRORS as error:
            if not is_of_the_file(error):
                raise
            detail = f"{found.file_name} cannot be read: {on_one_line(error, most=None)}"
            yield _rejection(
                UnusedFile(
                    found.file_name, found.dataset, "unreadable", detail, _label(found, self._settings.label_from)
                )
            )
            return
        yield found, photo_bytes


class _ReadShard(beam.DoFn):
    """Shard of a folder prepared by TensorFlow Datasets -> (Photo, bytes) for each photo."""

    def process(self, shard):
        yield from tfds_source.read_shard(shard)


class _Photo(NamedTuple):
    """A photo that is to be read."""

    found: Photo
    file_bytes: bytes
    content_hash: str
    split: str
    label: str


class _ToExample(beam.DoFn):
    """Batch of (Photo, bytes) -> serialised examples, tagged with their splits, or rejections, in the same order."""

    def __init__(
        self,
        settings: IngestSettings,
        buckets: dict[str, int],
        total: int,
        mask_classes: Mapping[str, MaskClasses],
        corrections: Corrections,
        photo_list: str,
    ):
        """
        Args:
          buckets: split -> number of hash buckets.
          total: number of photos; 0: unknown.
          mask_classes: data set -> what its masks hold; empty for classification.
          photo_list: a file that every worker must see.
        """
        self._settings, self._buckets, self._total, self._photo_list = settings, buckets, total, photo_list
        self._mask_classes, self._corrections = mask_classes, corrections

    def setup(self):
        require_shared(self._photo_list)
        self._counter = progress.Counter("photos read", self._total)
        # Decoders work without the interpreter's lock.
        self._pool = futures.ThreadPoolExecutor(min(os.cpu_count() or 1, _DECODERS))

    def teardown(self):
        self._pool.shutdown()

    def process(self, batch: list[tuple[Photo, bytes]]) -> Iterable[Any]:
        photos: list[_Photo] = []
        for found, file_bytes in batch:
            # Of the file, not of what it was converted to: another version of Pillow must not change a photo's split.
            content_hash = hashlib.sha256(file_bytes).hexdigest()
            label = _label(found, self._settings.label_from)
            split = choose_split(content_hash, found.official_split, self._buckets, found.group)
            corrected: Photo | None = found
            if content_hash in self._corrections.by_hash:
                line = self._corrections.line(found, content_hash, split, label)
                yield beam.pvalue.TaggedOutput(CORRECTED, json.dumps(line))
                corrected = self._corrections.corrected(found, content_hash, self._settings.label_from)
            if corrected is not None:
                label = _label(corrected, self._settings.label_from)
                photos.append(_Photo(corrected, file_bytes, content_hash, split, label))
        for photo, read in zip(photos, self._pool.map(self._read, photos), strict=True):
            if isinstance(read, PhotoRejected):
                yield _rejected(photo.found, read, self._settings.label_from, photo.content_hash)
            else:
                yield from self._outputs(photo, *read)
        self._counter.add(len(batch))

    def _read(self, photo: _Photo) -> tuple[ReadPhoto, Mask | None, list[str]] | PhotoRejected:
        try:
            read = read_photo(photo.file_bytes, self._settings.rules)
            return read, *self._mask(photo.found, read)
        except PhotoRejected as rejected:
            return rejected

    def _outputs(self, photo: _Photo, read: ReadPhoto, mask: Mask | None, classes: list[str]) -> Iterable[Any]:
        found, _, content_hash, split, label = photo
        example = make_example(found, read, content_hash, label, mask, classes)
        mask_hash, pixels = (mask.content_hash, sorted(mask.pixels.items())) if mask else ("", [])
        identity = copies.identity(content_hash, label, split, mask_hash)
        yield beam.pvalue.TaggedOutput(FACTS, ((found.dataset, split, label, read.facts.image_format), (1, identity)))
        key = copies.AcceptedPhoto(
            content_hash, split, label, found.dataset, found.file_name, read.facts.image_format, mask_hash, pixels
        )
        yield beam.pvalue.TaggedOutput(KEYS, json.dumps(key))
        if read.converted:
            yield beam.pvalue.TaggedOutput(CONVERTED, read.facts.image_format)
        yield beam.pvalue.TaggedOutput(split, example.SerializeToString(deterministic=True))

    def _mask(self, found: Photo, read: ReadPhoto) -> tuple[Mask | None, list[str]]:
        classes = self._mask_classes.get(found.dataset)
        if classes is None:
            return None, []
        mask = read_mask(found.mask_bytes, found.mask_name, classes, read.facts, self._settings.rules.max_pixels)
        return mask, classes.names_of(mask.pixels)


class ImageExampleGenExecutor(BaseExampleGenExecutor):
    """Lists the files of every source, reads and checks each photo once, and writes three splits and a report.

    Raises:
      BadInput: a source is missing, empty, or in no known layout.
    """

    def GetInputSourceToExamplePTransform(self) -> beam.PTransform:
        raise NotImplementedError("Do() reads the sources itself: one pass fills all splits and the report")

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = IngestSettings.from_json(exec_properties[PHOTOS_KEY])
        output_config = example_gen_pb2.Output()
        proto_utils.json_to_proto(exec_properties[standard_component_specs.OUTPUT_CONFIG_KEY], output_config)
        buckets = {split.name: split.hash_buckets for split in output_config.split_config.splits}

        examples = artifact_utils.get_single_instance(output_dict["examples"])
        report_uri = artifact_utils.get_single_instance(output_dict["ingest_report"]).uri

        photos: list[Photo] = []
        shards: list[Any] = []
        found_by_dataset = {}
        for dataset, folder in sorted(settings.sources.items()):
            found = layouts.find_photos(folder, dataset, settings.folder_rules)
            found_by_dataset[dataset] = found
            photos += found.photos
            if found.layout == "tfds":
                shards += tfds_source.list_shards(folder, dataset, settings.folder_rules.masks)
        if settings.folder_rules.masks:
            self._fill_in_mask_classes(found_by_dataset, settings, report_uri)
        mask_classes = {name: found.mask_classes for name, found in found_by_dataset.items() if found.mask_classes}

        corrections = Corrections.read(settings.corrections, settings.corrections_fingerprint, photos)
        total = len(photos) + sum(shard.examples for shard in shards)
        photo_list = write_photo_list(photos, os.path.join(report_uri, PARTS, PHOTO_LIST))
        with self._make_beam_pipeline() as pipeline:
            spread = not runs_here(pipeline)
            from_files = (
                pipeline
                | "Photos" >> ReadPhotoList(photo_list)
                | "ReadFile" >> beam.ParDo(_ReadFile(settings)).with_outputs(REJECTED, main="photos")
            )
            from_shards = (
                pipeline | "Shards" >> beam.Create(shards, reshuffle=spread) | "ReadShard" >> beam.ParDo(_ReadShard())
            )
            outputs = (
                (from_files["photos"], from_shards)
                | "Flatten" >> beam.Flatten()
                | "Batch" >> beam.BatchElements(_BATCH, _BATCH)
                | "ToExample"
                >> beam.ParDo(_ToExample(settings, buckets, total, mask_classes, corrections, photo_list)).with_outputs(
                    *buckets, REJECTED, FACTS, KEYS, CONVERTED, CORRECTED
                )
            )
            write_splits(outputs, examples, list(buckets))
            _ = (
                (from_files[REJECTED], outputs[REJECTED])
                | "FlattenRejected" >> beam.Flatten()
                | "WriteRejected" >> beam.io.WriteToText(os.path.join(report_uri, PARTS, REJECTED))
            )
            _ = (
                outputs[FACTS]
                | "Count" >> beam.CombinePerKey(_sums)
                | "FactsToJson" >> beam.Map(json.dumps)
                | "WriteFacts" >> beam.io.WriteToText(os.path.join(report_uri, PARTS, FACTS))
            )
            _ = outputs[CONVERTED] | "WriteConverted" >> beam.io.WriteToText(os.path.join(report_uri, PARTS, CONVERTED))
            _ = outputs[KEYS] | "WriteKeys" >> beam.io.WriteToText(os.path.join(report_uri, PARTS, KEYS))
            _ = outputs[CORRECTED] | "WriteCorrected" >> beam.io.WriteToText(os.path.join(report_uri, PARTS, CORRECTED))
        remove_leftovers(examples, list(buckets))
        removals = copies.find_removals(functools.partial(read_photos, report_uri))
        remove_photos(examples, [(removed.split, removed.content_hash) for removed, _ in removals])
        write_report(report_uri, found_by_dataset, settings.label_from, removals, corrections)

    def _fill_in_mask_classes(
        self, found: Mapping[str, FolderContents], settings: IngestSettings, report_uri: str
    ) -> None:
        """Reads what the masks of data sets without a list of classes hold."""
        for dataset, contents in found.items():
            if contents.mask_classes is None:
                prefix = os.path.join(report_uri, PARTS, f"{MASK_VALUES}-{dataset}")
                with self._make_beam_pipeline() as pipeline:
                    photo_list = write_photo_list(contents.photos, os.path.join(report_uri, PARTS, PHOTO_LIST))
                    mask_scan.write_values(pipeline, photo_list, settings.rules, prefix)
                values = mask_scan.values_found(read_lines(prefix))
                classes = classes_from_values(values, settings.sources[dataset])
                contents.mask_classes = classes.without(settings.folder_rules.ignore)
