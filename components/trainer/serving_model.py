"""Export of the whole model: the photo's file in, class and probabilities out."""

from __future__ import annotations

import os
from collections.abc import Callable

import tensorflow as tf
import tensorflow_hub as hub
from tfx.dsl.io import fileio

from components.backbone.layer import FeatureVector
from components.legacy_keras import tf_keras
from schemas.features import IMAGE

LABELS_FILE = os.path.join("assets.extra", "labels.txt")


class ServedModel(tf.Module):
    """What is served: the Transform graph, the backbone and the head in one SavedModel.

    Signatures:
      `serving_default`: `image_bytes` string [batch] -> `label` string [batch], `probability` float32 [batch],
        `probabilities` float32 [batch, classes]. TensorFlow Serving's REST takes `{"b64": ...}` for a photo.
      `serve_examples`: `examples` string [batch], serialised tf.Example with the feature `image` -> the same.
      `transform_features`: `examples` -> `image` float32 [batch, size, size, 3], range [0, 1].
      `feature_vector`: `image_bytes` -> `feature_vector` float32 [batch, width].
    """

    def __init__(
        self,
        transform: Callable[[tf.Tensor], tf.Tensor],
        backbone: FeatureVector,
        head: tf_keras.Model,
        labels: list[str],
    ):
        super().__init__()
        # Traced once, not once a signature.
        self._transform = tf.function(transform, input_signature=[tf.TensorSpec([None], tf.string)])
        self.transform_layer = transform.layer  # type: ignore[attr-defined]
        self.backbone = backbone.resolved_object
        # A function and no attribute, or Keras would trace the layer once more for the export.
        self._vectors = lambda images: backbone(images)
        self._logits = lambda vectors: head(vectors, training=False)
        # Read again by warm_start.read_source: every variable of the model under its own name.
        self.model_variables = [*backbone.resolved_object.variables, *head.variables]
        self._labels = labels

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def _answer(self, photo_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = self._logits(self._vectors(self._transform(photo_bytes)))
        probabilities = tf.nn.softmax(logits)
        return {
            "label": tf.gather(tf.constant(self._labels), tf.argmax(probabilities, axis=-1)),
            "probability": tf.reduce_max(probabilities, axis=-1),
            "probabilities": probabilities,
        }

    @staticmethod
    def _photos(examples: tf.Tensor) -> tf.Tensor:
        return tf.io.parse_example(examples, {IMAGE: tf.io.FixedLenFeature([], tf.string)})[IMAGE]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serving_default(self, image_bytes):
        return self._answer(image_bytes)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve_examples(self, examples):
        return self._answer(self._photos(examples))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def transform_features(self, examples):
        return {IMAGE: self._transform(self._photos(examples))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def feature_vector(self, image_bytes):
        return {"feature_vector": self._vectors(self._transform(image_bytes))}


def on_one_device(
    module_path: str, backbone: FeatureVector, head: tf_keras.Model, new_head: tf_keras.Model
) -> tuple[FeatureVector, tf_keras.Model]:
    """Copies of a backbone and a head that learnt on several devices: a module loaded for these cannot be exported.

    Args:
      module_path: what `backbone` was loaded from.
      backbone, head: what learnt.
      new_head: built as `head`, for its values.
    """
    new_backbone = FeatureVector(hub.load(module_path))
    values = {v.name: v.numpy() for v in [*backbone.resolved_object.variables, *head.variables]}
    for variable in [*new_backbone.resolved_object.variables, *new_head.variables]:
        variable.assign(values[variable.name])
    return new_backbone, new_head


def export(
    folder: str,
    transform: Callable[[tf.Tensor], tf.Tensor],
    backbone: FeatureVector,
    head: tf_keras.Model,
    labels: list[str],
) -> None:
    """Writes a `ServedModel` to `folder`, and the class names beside it for people and programs."""
    served = ServedModel(transform, backbone, head, labels)
    names = ("serving_default", "serve_examples", "transform_features", "feature_vector")
    tf.saved_model.save(served, folder, signatures={name: getattr(served, name) for name in names})
    fileio.makedirs(os.path.join(folder, os.path.dirname(LABELS_FILE)))
    with fileio.open(os.path.join(folder, LABELS_FILE), "w") as file:
        file.write("".join(label + "\n" for label in labels))
