"""Reading and writing the splits of an Examples artifact in a Beam step, and where that step runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import Artifact, artifact_utils

from components.records import read_records, split_files


def runs_here(pipeline: beam.Pipeline) -> bool:
    """Whether the pipeline runs in this process, in memory.

    Then nothing is reshuffled and records are written in the order they were read, so that the same photos give
    the same files. On a distributed runner a reshuffle spreads the work, and the order is the runner's.
    """
    return isinstance(pipeline.runner, FnApiRunner)


def read_splits(pipeline: beam.Pipeline, examples: Artifact, splits: Sequence[str]) -> beam.PCollection:
    """(split, serialised example) of all the splits, in one collection, so that a model is loaded once for all."""
    files = [(split, file) for split in splits for file in split_files(examples, split)]
    return (
        pipeline | "Files" >> beam.Create(files, reshuffle=not runs_here(pipeline)) | "Read" >> beam.ParDo(_ReadFile())
    )


class _ReadFile(beam.DoFn):
    """(split, file) -> (split, record) each."""

    def process(self, element: tuple[str, str]):
        split, file = element
        for record in read_records([file]).as_numpy_iterator():
            yield split, record


def write_splits(collections: Mapping[str, beam.PCollection], examples: Artifact, splits: Sequence[str]) -> None:
    """Writes one collection of serialised examples a split as gzipped TFRecord, and says so in the artifact."""
    examples.split_names = artifact_utils.encode_split_names(list(splits))
    examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, "tfrecords_gzip")
    for split in splits:
        output = os.path.join(artifact_utils.get_split_uri([examples], split), "data_tfrecord")
        _ = collections[split] | f"Write[{split}]" >> beam.io.WriteToTFRecord(output, file_name_suffix=".gz")
