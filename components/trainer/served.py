"""What every exported model has in common: the Transform graph, the backbone and what sits on it in one SavedModel."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import tensorflow as tf
from tfx.dsl.io import fileio

from components.example_gen.photo_rules import INPUT_FILE, PhotoRules, as_json
from schemas.features import IMAGE
from schemas.labels import write_labels


class Served(tf.Module):
    """The base of `ServedModel` and `ServedSegmenter`, which say what `serving_default` answers.

    Signatures:
      `serving_default`: `image_bytes` string [batch] -> what `_answer` gives. TensorFlow Serving's REST takes
        `{"b64": ...}` for a photo.
      `serve_examples`: `examples` string [batch], serialised tf.Example with the feature `image` -> the same.
      `transform_features`: `examples` -> `image` float32 [batch, size, size, 3], range [0, 1].
      `feature_vector`: `image_bytes` -> `feature_vector` float32 [batch, width].

    Beside them, once it is loaded again:
      `probabilities_of_images`: a function of images float32 [batch, size, size, 3], range [0, 1], to probabilities
        float32 [batch, ..., classes]: all that comes after the Transform graph.
      `temperature`: float32 variable; probabilities are softmax(logits / temperature).
      `model_variables`: every variable of the backbone and of what sits on it, under its own name.
    """

    signature_names: Sequence[str] = ("serving_default", "serve_examples", "transform_features", "feature_vector")

    def __init__(
        self,
        transform: Callable[[tf.Tensor], tf.Tensor],
        variables: Sequence[tf.Variable],
        vectors: Callable[[tf.Tensor], tf.Tensor],
        logits: Callable[[tf.Tensor], tf.Tensor],
        temperature: float,
    ):
        """
        Args:
          transform: photos' bytes to images, with the attribute `layer`, as `load_transform` gives it.
          variables: of the backbone and of what sits on it.
          vectors, logits: of images; functions and no layers, or Keras would trace these once more for the export.
          temperature: what the logits are divided by.
        """
        super().__init__()
        # Both are traced once, not once a signature.
        self._transform = tf.function(transform, input_signature=[tf.TensorSpec([None], tf.string)])
        image_shape = self._transform.get_concrete_function().structured_outputs.shape[1:]
        self.probabilities_of_images = tf.function(
            self._probabilities, input_signature=[tf.TensorSpec([None, *image_shape], tf.float32, name="images")]
        )
        self.transform_layer = transform.layer  # type: ignore[attr-defined]
        self._vectors, self._logits = vectors, logits
        # Read again by warm_start.read_source: every variable of the model under its own name.
        self.model_variables = list(variables)
        # A variable, since a SavedModel keeps no plain numbers; none of those above, since it is no part of a start.
        self.temperature = tf.Variable(temperature, trainable=False, dtype=tf.float32, name="temperature")

    def save(self, folder: str, labels: Sequence[str], rules: PhotoRules) -> None:
        """Writes the model, and beside it, for people and programs, its class names and what it takes.

        Args:
          folder: where it goes.
          labels: class names in the order of the logits.
          rules: by which the photos that it learnt from were read.
        """
        tf.saved_model.save(self, folder, signatures={name: getattr(self, name) for name in self.signature_names})
        write_labels(folder, labels)
        with fileio.open(os.path.join(folder, INPUT_FILE), "w") as file:
            file.write(as_json(rules))

    def _answer(self, photo_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """What `serving_default` and `serve_examples` give for photos, string [batch]."""
        raise NotImplementedError

    def _probabilities(self, images: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(self._logits(images) / self.temperature)

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
