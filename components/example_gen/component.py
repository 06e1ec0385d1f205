"""ImageExampleGen: from folders of photos to examples in three splits, with every rejected file listed.

A TFX `FileBasedExampleGen` with its own driver (it chooses the span, and fingerprints whole folder trees, whatever
their layout) and Beam executor. Reference: https://www.tensorflow.org/tfx/guide/examplegen, "Custom ExampleGen".
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

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
from schemas.features import CONTENT_HASH, SPLITS


@dataclass(frozen=True)
class SpanSettings(IngestSettings):
    """What the driver is told: the sources may be patterns; the executor is told the folders instead."""

    span: int | None = None
    """Asked for; None: the latest."""
    settle_seconds: float = spans.SETTLE_SECONDS


class ImageExampleGenDriver(Driver):
    """Chooses the folder of each source's span, and fingerprints every file below.

    Both become part of the cache key and of what the executor gets: a span that comes, or changes, is read, and no
    other one; a span asked for and the same one found as the latest are one execution, however it was seen to be
    complete. Span and version are written on the examples, as by TFX's own driver, where its resolvers look for them.
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
        found = IngestSettings(span.folders, settings.label_from, settings.rules, rules)
        exec_properties[PHOTOS_KEY] = found.to_json()
        exec_properties[standard_component_specs.INPUT_BASE_KEY] = _input_base(span.folders)
        exec_properties[utils.FINGERPRINT_PROPERTY_NAME] = spans.fingerprint(span, rules.success_file)
        exec_properties[utils.SPAN_PROPERTY_NAME] = span.number
        exec_properties[utils.VERSION_PROPERTY_NAME] = span.version
        return exec_properties


def _input_base(sources: dict[str, str]) -> str:
    """TFX wants one folder; nobody reads it."""
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
    ):
        """
        Args:
          sources: data set -> folder, in one of the layouts of `layouts.find_photos`; or a pattern of such folders, one
            a span (`spans.py`), of which one is read.
          label_from: `label` (each data set's own classes) or `species`.
          split_buckets: hash buckets of `train`, `eval` and `test`; of `test` alone for photos to evaluate on.
          rules: which photos are rejected, and how the others are read.
          code: fingerprint of the code this step runs; part of its cache key.
          span: number or day of the span to read; None: the latest complete one when the step runs.
          folder_rules: how the folders are read.
          settle_seconds: without a change, after which a folder of a span is complete all the same.
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
            sources, label_from, rules, folder_rules, span=spans.span_number(span), settle_seconds=settle_seconds
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
