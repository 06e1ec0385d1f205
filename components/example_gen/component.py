"""ImageExampleGen: turns folders of photos into examples in three splits, and lists every rejected file.

A TFX `FileBasedExampleGen` with its own Beam executor and its own driver, which chooses the span and fingerprints whole
folder trees of any layout. Reference: https://www.tensorflow.org/tfx/guide/examplegen, "Custom ExampleGen".
"""

from __future__ import annotations

import datetime

from tfx.components.example_gen import utils
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import channel, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.artifacts import IngestReport
from components.example_gen import spans
from components.example_gen.driver import ImageExampleGenDriver, SpanSettings, input_base
from components.example_gen.executor import ImageExampleGenExecutor
from components.example_gen.found_photos import FolderRules
from components.example_gen.photo_rules import PhotoRules
from components.example_gen.settings import PHOTOS_KEY
from schemas.features import CONTENT_HASH, SPLITS


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
            input_base=input_base(sources),
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
