"""Reading and writing the splits of an Examples artifact in a Beam step, and where that step runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions
from tfx.components.util import examples_utils
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import Artifact, artifact_utils

from components.records import BEAMS_OWN, read_records, split_files
from components.shared_folder import require_shared

# Runners that run the workers in this process, unless they are told otherwise.
_RUNNERS_HERE = ("FnApiRunner", "DirectRunner", "BundleBasedDirectRunner", "SwitchingDirectRunner")


def runs_here(pipeline: beam.Pipeline) -> bool:
    """Whether the pipeline runs in this process, in memory, with one worker.

    Then nothing is reshuffled and records are written in the order they were read, so that the same photos give
    the same files. Elsewhere a reshuffle spreads the work, and the order is the runner's.
    """
    options = pipeline.options.view_as(DirectOptions)
    return (
        type(pipeline.runner).__name__ in _RUNNERS_HERE
        and options.direct_running_mode == "in_memory"
        and options.direct_num_workers == 1
    )


def read_splits(pipeline: beam.Pipeline, examples: Artifact, splits: Sequence[str]) -> beam.PCollection:
    """(split, serialised example) of all the splits, in one collection, so that a model is loaded once for all.

    Away from this process the records are spread too: a split is often one file, which one worker would read and
    process alone.
    """
    files = [(split, file) for split in splits for file in split_files(examples, split)]
    here = runs_here(pipeline)
    records = (
        pipeline
        | "Files" >> beam.Create(files, reshuffle=not here)
        | "Read" >> beam.ParDo(_ReadFile(examples.uri)).with_output_types(tuple[str, bytes])
    )
    return records if here else records | "Spread" >> beam.Reshuffle()


class _ReadFile(beam.DoFn):
    """(split, file) -> (split, record) each."""

    def __init__(self, folder: str):
        self._folder = folder

    def setup(self):
        require_shared(self._folder)

    def process(self, element: tuple[str, str]):
        split, file = element
        for record in read_records([file]).as_numpy_iterator():
            yield split, record


def write_splits(
    collections: Mapping[str, beam.PCollection], examples: Artifact, splits: Sequence[str], packed: bool = True
) -> None:
    """Writes one collection of serialised examples a split as TFRecord, and says so in the artifact.

    Args:
      collections: of each split.
      examples: the artifact.
      splits: of it.
      packed: whether the files are gzipped.
    """
    examples.split_names = artifact_utils.encode_split_names(list(splits))
    examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, "tfrecords_gzip" if packed else "tfrecords")
    for split in splits:
        output = os.path.join(artifact_utils.get_split_uri([examples], split), "data_tfrecord")
        _ = collections[split] | f"Write[{split}]" >> beam.io.WriteToTFRecord(
            output, file_name_suffix=".gz" if packed else ""
        )


def remove_leftovers(examples: Artifact, splits: Sequence[str]) -> None:
    """Removes what Beam leaves in the folders of the splits if it cannot tidy up; other steps read all that is there.

    Call it when the pipeline has run.
    """
    for split in splits:
        for path in fileio.glob(os.path.join(artifact_utils.get_split_uri([examples], split), f"{BEAMS_OWN}*")):
            fileio.rmtree(path)
