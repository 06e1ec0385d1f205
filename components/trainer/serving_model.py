"""Export of the whole model: the photo's file in, class and probabilities out."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

import tensorflow as tf
import tensorflow_hub as hub
from tfx.dsl.io import fileio

from components.backbone.cut import Cut
from components.backbone.layer import FeatureVector
from components.example_gen.photo_rules import INPUT_FILE, PhotoRules, as_json
from components.legacy_keras import tf_keras
from schemas.features import IMAGE
from schemas.labels import write_labels


def answer(probabilities: tf.Tensor, labels: list[str], abstain_below: tf.Variable) -> dict[str, tf.Tensor]:
    """What `serving_default` and `serve_examples` give, from probabilities float32 [batch, classes]."""
    probability = tf.reduce_max(probabilities, axis=-1)
    return {
        "label": tf.gather(tf.constant(labels), tf.argmax(probabilities, axis=-1)),
        "probability": probability,
        "probabilities": probabilities,
        "abstains": probability < abstain_below,
    }


class ServedModel(tf.Module):
    """What is served: the Transform graph, the backbone and the head in one SavedModel.

    Signatures:
      `serving_default`: `image_bytes` string [batch] -> `label` string [batch], `probability` float32 [batch],
        `probabilities` float32 [batch, classes], `abstains` bool [batch]. TensorFlow Serving's REST takes
        `{"b64": ...}` for a photo.
      `serve_examples`: `examples` string [batch], serialised tf.Example with the feature `image` -> the same.
      `transform_features`: `examples` -> `image` float32 [batch, size, size, 3], range [0, 1].
      `feature_vector`: `image_bytes` -> `feature_vector` float32 [batch, width].

    Beside them, once it is loaded again:
      `probabilities_of_images`: a function of images float32 [batch, size, size, 3], range [0, 1], to probabilities
        float32 [batch, classes]: all that comes after the Transform graph.
      `probabilities_of_vectors`: of a model with the published backbone: the same of what FeatureVectorGen stores of a
        photo, float32 [batch, width].
      `probabilities_of_activations`: of a model that has changed the backbone only above a cut: the same of its
        activations, float32 [batch, ...], at the tensor whose name the variable `boundary` holds.
      `temperature`: float32 variable; probabilities are softmax(logits / temperature).
      `abstain_below`: float32 variable; the model abstains where `probability` is lower.
    """

    def __init__(
        self,
        transform: Callable[[tf.Tensor], tf.Tensor],
        backbone: FeatureVector,
        head: tf_keras.Model,
        labels: list[str],
        temperature: float,
        abstain_below: float,
        cached: Cut | Literal["vectors"] | None = None,
    ):
        super().__init__()
        # Both are traced once, not once a signature.
        self._transform = tf.function(transform, input_signature=[tf.TensorSpec([None], tf.string)])
        image_shape = self._transform.get_concrete_function().structured_outputs.shape[1:]
        self.probabilities_of_images = tf.function(
            self._probabilities, input_signature=[tf.TensorSpec([None, *image_shape], tf.float32, name="images")]
        )
        self.transform_layer = transform.layer  # type: ignore[attr-defined]
        self.backbone = backbone.resolved_object
        # A function and no attribute, or Keras would trace the layer once more for the export.
        self._vectors = lambda images: backbone(images)
        self._logits = lambda vectors: head(vectors, training=False)
        # Read again by warm_start.read_source: every variable of the model under its own name.
        self.model_variables = [*backbone.resolved_object.variables, *head.variables]
        # Variables, since a SavedModel keeps no plain numbers; none of those above, since they are no part of a start.
        self.temperature = tf.Variable(temperature, trainable=False, dtype=tf.float32, name="temperature")
        self.abstain_below = tf.Variable(abstain_below, trainable=False, dtype=tf.float32, name="abstain_below")
        self._labels = labels
        if cached == "vectors":
            self.probabilities_of_vectors = tf.function(
                self._of_vectors, input_signature=[tf.TensorSpec([None, head.input_shape[-1]])]
            )
        elif cached is not None:
            self.boundary = tf.Variable(cached.boundary, trainable=False, name="boundary")
            self.probabilities_of_activations = tf.function(
                lambda activations: self._of_vectors(cached.top(activations)),
                input_signature=[tf.TensorSpec([None, *cached.shape])],
            )

    def _probabilities(self, images: tf.Tensor) -> tf.Tensor:
        return self._of_vectors(self._vectors(images))

    def _of_vectors(self, vectors: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(self._logits(vectors) / self.temperature)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def _answer(self, photo_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(self.probabilities_of_images(self._transform(photo_bytes)), self._labels, self.abstain_below)

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
    temperature: float = 1.0,
    abstain_below: float = 0.0,
    cached: Cut | Literal["vectors"] | None = None,
    rules: PhotoRules = PhotoRules(),  # noqa: B008  (it cannot be changed)
) -> ServedModel:
    """Writes a `ServedModel` to `folder`, and beside it, for people and programs, its class names and what it takes.

    Args:
      folder: where it goes.
      transform: photos' bytes to images, with the attribute `layer`, as `load_transform` gives it.
      backbone, head: images to logits, float32 [batch, classes].
      labels: class names in the order of the logits.
      temperature: what the logits are divided by, above 0; 1 leaves them as they are.
      abstain_below: the model abstains where its probability is lower, range [0, 1); 0: it never does.
      cached: what stored values it can answer from: `vectors`, where the backbone is the published one; activations at
        a cut below which it is; None: from photos only.
      rules: by which the photos that it learnt from were read.

    Returns:
      The model, with `signatures` as it has them when it is loaded again.
    """
    served = ServedModel(transform, backbone, head, labels, temperature, abstain_below, cached)
    names = ("serving_default", "serve_examples", "transform_features", "feature_vector")
    tf.saved_model.save(served, folder, signatures={name: getattr(served, name) for name in names})
    write_labels(folder, labels)
    with fileio.open(os.path.join(folder, INPUT_FILE), "w") as file:
        file.write(as_json(rules))
    served.signatures = {name: getattr(served, name).get_concrete_function() for name in names}
    return served
