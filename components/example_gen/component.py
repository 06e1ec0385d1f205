"""ImageExampleGen: from folders of photos to examples in three splits, with every rejected file listed.

A TFX `FileBasedExampleGen` with its own driver (it fingerprints whole folder trees, whatever their layout) and
Beam executor. Reference: https://www.tensorflow.org/tfx/guide/examplegen, "Custom ExampleGen".
"""

from __future__ import annotations

import json

from tfx.components.example_gen import utils
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.components.example_gen.driver import Driver
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import channel, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.artifacts import IngestReport
from components.example_gen import layouts
from components.example_gen.executor import PHOTOS_KEY, ImageExampleGenExecutor
from schemas.features import CONTENT_HASH, SPLITS


class ImageExampleGenDriver(Driver):
    """Fingerprints every file below every source, so that a changed folder is read again and no other."""

    def resolve_exec_properties(self, exec_properties, pipeline_info, component_info):
        del pipeline_info, component_info
        settings = json.loads(exec_properties[PHOTOS_KEY])
        exec_properties[utils.FINGERPRINT_PROPERTY_NAME] = ",".join(
            f"{dataset}:{layouts.fingerprint(layouts.list_files(folder))}"
            for dataset, folder in sorted(settings["sources"].items())
        )
        exec_properties[utils.SPAN_PROPERTY_NAME] = 0
        exec_properties[utils.VERSION_PROPERTY_NAME] = None
        return exec_properties


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
        min_side: int,
        max_pixels: int,
        code: str,
    ):
        """
        Args:
          sources: data set -> folder, in one of the layouts of `layouts.find_photos`.
          label_from: `label` (each data set's own classes) or `species`.
          split_buckets: hash buckets of `train`, `eval` and `test`; of `test` alone for photos to evaluate on.
          min_side: shorter photos are rejected, pixels.
          max_pixels: larger photos are rejected.
          code: fingerprint of the code this step runs; part of its cache key.
        """
        split_config = example_gen_pb2.SplitConfig(
            splits=[
                example_gen_pb2.SplitConfig.Split(name=name, hash_buckets=split_buckets[name])
                for name in SPLITS
                if name in split_buckets
            ],
            partition_feature_name=CONTENT_HASH,
        )
        settings = {
            "sources": sources,
            "label_from": label_from,
            "min_side": min_side,
            "max_pixels": max_pixels,
        }
        spec = ImageExampleGenSpec(
            input_base=sorted(sources.values())[0],
            input_config=utils.make_default_input_config(),
            output_config=example_gen_pb2.Output(split_config=split_config),
            custom_config=None,
            range_config=None,
            output_data_format=example_gen_pb2.FORMAT_TF_EXAMPLE,
            output_file_format=example_gen_pb2.FORMAT_TFRECORDS_GZIP,
            examples=channel.Channel(type=standard_artifacts.Examples),
            ingest_report=channel.Channel(type=IngestReport),
            **{PHOTOS_KEY: json.dumps(settings, sort_keys=True), "code": code},
        )
        base_beam_component.BaseBeamComponent.__init__(self, spec=spec)
