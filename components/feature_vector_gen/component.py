"""The FeatureVectorGen component."""

from collections.abc import Iterable

import apache_beam as beam
import tensorflow as tf
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts

from components import progress
from components.backbone import feature_vector
from components.backbone.layer import FeatureVector
from components.beam_records import read_splits, write_splits
from components.transform.graph import load_transform
from schemas import features as f

# Larger batches are no faster and take far more memory.
_BATCH = 32


class _Vectors(beam.DoFn):
    """Batch of (split, serialised example with photo) -> serialised examples with vectors, tagged with the split."""

    def __init__(self, transform_graph_uri: str, module_path: str):
        self._transform_graph_uri, self._module_path = transform_graph_uri, module_path

    def setup(self):
        transform = load_transform(self._transform_graph_uri)
        backbone = FeatureVector(self._module_path)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def vectors(photo_bytes):
            return backbone(transform(photo_bytes))

        self._vectors = vectors
        self._counter = progress.Counter("photos through the backbone")

    def process(self, batch: list[tuple[str, bytes]]) -> Iterable[beam.pvalue.TaggedOutput]:
        examples = [tf.train.Example.FromString(record) for _, record in batch]
        photos = [example.features.feature[f.IMAGE].bytes_list.value[0] for example in examples]
        vectors = self._vectors(tf.constant(photos)).numpy()
        for (split, _), example, vector in zip(batch, examples, vectors, strict=True):
            del example.features.feature[f.IMAGE]
            example.features.feature[f.FEATURE_VECTOR].float_list.value.extend(vector)
            yield beam.pvalue.TaggedOutput(split, example.SerializeToString(deterministic=True))
        self._counter.add(len(batch))


@component(use_beam=True)
def FeatureVectorGen(
    examples: InputArtifact[standard_artifacts.Examples],
    transform_graph: InputArtifact[standard_artifacts.TransformGraph],
    schema: InputArtifact[standard_artifacts.Schema],
    feature_vectors: OutputArtifact[standard_artifacts.Examples],
    backbone: Parameter[str],
    backbone_fingerprint: Parameter[str],
    image_size: Parameter[int],
    code: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """One pass of the frozen backbone over every split.

    Args:
      examples: photos, from ImageExampleGen.
      transform_graph: decodes, resizes and rescales them.
      schema: of DataGate; it is not read, but without it nothing runs.
      feature_vectors: the same examples without `image` and with `feature_vector`, float32 [width].
      backbone: handle of an image feature vector (`components.backbone.registry`).
      backbone_fingerprint: its content; part of the cache key.
      image_size: side of the images that Transform makes, pixels.
      code: fingerprint of the code this step runs; part of the cache key.
      beam_pipeline: given by TFX.

    Raises:
      BadInput: the backbone cannot be had, or is no image feature vector.
    """
    del schema, backbone_fingerprint, code
    module_path = str(feature_vector.resolve(backbone))
    feature_vector.check_feature_vector(module_path, image_size)
    splits = artifact_utils.decode_split_names(examples.split_names)
    with beam_pipeline as pipeline:
        vectors = (
            read_splits(pipeline, examples, splits)
            | "Batch" >> beam.BatchElements(_BATCH, _BATCH)
            | "Vectors" >> beam.ParDo(_Vectors(transform_graph.uri, module_path)).with_outputs(*splits)
        )
        write_splits(vectors, feature_vectors, splits)
