"""ImageExampleGen: turns folders of photos into examples in three splits, and lists every rejected file.

A TFX `FileBasedExampleGen` with its own Beam executor and its own driver, which chooses the span and fingerprints whole
folder trees of any layout. Reference: https://www.tensorflow.org/tfx/guide/examplegen, "Custom ExampleGen".
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from tfx.components.example_gen import utils
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.components.example_gen.driver import Driver
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import channel, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.artifacts import IngestReport
from components.example_gen import spans
from components.example_gen.executor import PHOTOS_KEY, ImageExampleGenExecutor
from components.example_gen.found_photos import FolderRules
from components.example_gen.photo_rules import PhotoRules
from components.example_gen.settings import IngestSettings
from schemas.corrections import fingerprint_of, read_corrections, with_corrections
from schemas.features import CONTENT_HASH, SPLITS


@dataclass(frozen=True)
class SpanSettings(IngestSettings):
    """The settings of the driver: sources may be patterns here, which it resolves to folders for the executor."""

    span: int | None = None
    """Number of the requested span; None for the latest."""
    settle_seconds: float = spans.SETTLE_SECONDS


class ImageExampleGenDriver(Driver):
    """Chooses the span's folder for each source, and fingerprints every file in it.

    Both are part of the cache key and of the executor's input, so that exactly the spans that are new or have changed
    are read. Corrections of labels are part of both too. A span that was requested and the same span found as the
    latest are one execution. Span and version are written to the examples, where TFX's resolvers look for them.
    """

    def resolve_exec_properties(self, exec_properties, pipeline_info, component_info):
        del pipeline_info, component_info
        settings = SpanSettings.from_json(exec_properties[PHOTOS_KEY])
        rules = settings.folder_rules
        span = spans.resolve_sources(
            settings.sources,
            settings.span,
            success_file=rules.success_file,
            settle_seconds=settings.settle_seconds,
        )
        corrections = fingerprint_of(read_corrections(Path(settings.corrections))) if settings.corrections else ""
        path = settings.corrections if corrections else ""  # a file that changes nothing is none
        found = IngestSettings(span.folders, settings.label_from, settings.rules, rules, path, corrections)
        exec_properties[PHOTOS_KEY] = found.to_json()
        exec_properties[standard_component_specs.INPUT_BASE_KEY] = _input_base(span.folders)
        fingerprint = spans.fingerprint(span, rules.success_file)
        exec_properties[utils.FINGERPRINT_PROPERTY_NAME] = with_corrections(fingerprint, corrections)
        exec_properties[utils.SPAN_PROPERTY_NAME] = span.number
        exec_properties[utils.VERSION_PROPERTY_NAME] = span.version
        return exec_properties


def _input_base(sources: dict[str, str]) -> str:
    """TFX requires one folder; nothing reads it."""
    return sorted(sources.values())[0]


class ImageExampleGenSpec(standard_component_specs.FileBasedExampleGenSpec):
    PARAMETERS = {  # noqa: RUF012
        **standard_component_specs.FileBasedExampleGenSpec.PARAMETERS,
        PHOTOS_KEY: ExecutionParameter(type=str),
        "code": ExecutionParameter(type=str),
    }
    OUTPUTS = {  # noqa: RUF012
        **standard_component_specs.FileBasedExampleGenSpec.OUTPUTS,
        "ingest_report": ChannelParameter(type=IngestReport),
    }


class ImageExampleGen(FileBasedExampleGen):
    """Reads photos into examples (`schemas/features.py`) and reports what was rejected.

    Outputs: `examples` (splits train, eval, test; gzipped TFRecord of tf.train.Example) and `ingest_report`.
    """

    SPEC_CLASS = ImageExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(ImageExampleGenExecutor)
    DRIVER_CLASS = ImageExampleGenDriver

    def __init__(
        self,
        sources: dict[str, str],
        label_from: str,
        split_buckets: dict[str, int],
        rules: PhotoRules,
        code: str,
        folder_rules: FolderRules,
        span: int | datetime.date | None = None,
        settle_seconds: float = spans.SETTLE_SECONDS,
        corrections: str = "",
    ):
        """
        Args:
          sources: data set -> folder in one of the layouts of `layouts.find_photos`, or a pattern for one such folder
            per span (`spans.py`).
          label_from: `label` (each data set's own classes) or `species`.
          split_buckets: hash buckets of `train`, `eval` and `test`; only `test` if the photos are for evaluation.
          rules: which photos are rejected, and how the others are read.
          code: fingerprint of the code this step runs; part of its cache key.
          folder_rules: how the folders are read.
          span: number or day of the span to read; None for the latest complete one when the step runs.
          settle_seconds: a span's folder without changes for this long is complete.
          corrections: path of a file of corrections (`schemas/corrections.py`); empty: there is none.
        """
        split_config = example_gen_pb2.SplitConfig(
            splits=[
                example_gen_pb2.SplitConfig.Split(name=name, hash_buckets=split_buckets[name])
                for name in SPLITS
                if name in split_buckets
            ],
            partition_feature_name=CONTENT_HASH,
        )
        settings = SpanSettings(
            sources,
            label_from,
            rules,
            folder_rules,
            corrections,
            span=spans.span_number(span),
            settle_seconds=settle_seconds,
        )
        spec = ImageExampleGenSpec(
            input_base=_input_base(sources),
            input_config=utils.make_default_input_config(),
            output_config=example_gen_pb2.Output(split_config=split_config),
            custom_config=None,
            range_config=None,
            output_data_format=example_gen_pb2.FORMAT_TF_EXAMPLE,
            output_file_format=example_gen_pb2.FORMAT_TFRECORDS_GZIP,
            examples=channel.Channel(type=standard_artifacts.Examples),
            ingest_report=channel.Channel(type=IngestReport),
            **{PHOTOS_KEY: settings.to_json(), "code": code},
        )
        base_beam_component.BaseBeamComponent.__init__(self, spec=spec)
