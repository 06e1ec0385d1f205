"""Export of the whole model: the photo's file in, class and probabilities out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import tensorflow as tf
import tensorflow_hub as hub

from components.backbone.cut import Cut
from components.backbone.layer import FeatureVector
from components.example_gen.photo_rules import PhotoRules
from components.legacy_keras import tf_keras
from components.trainer.served import Served


def answer(probabilities: tf.Tensor, labels: list[str], abstain_below: tf.Variable) -> dict[str, tf.Tensor]:
    """What `serving_default` and `serve_examples` give, from probabilities float32 [batch, classes]."""
    probability = tf.reduce_max(probabilities, axis=-1)
    return {
        "label": tf.gather(tf.constant(labels), tf.argmax(probabilities, axis=-1)),
        "probability": probability,
        "probabilities": probabilities,
        "abstains": probability < abstain_below,
    }


class ServedModel(Served):
    """What is served of a classification.

    Signatures: those of `Served`, of which `serving_default` and `serve_examples` give `label` string [batch],
    `probability` float32 [batch], `probabilities` float32 [batch, classes] and `abstains` bool [batch].

    Beside those of `Served`, once it is loaded again:
      `probabilities_of_vectors`: of a model with the published backbone: the same of what FeatureVectorGen stores of a
        photo, float32 [batch, width].
      `probabilities_of_activations`: of a model that has changed the backbone only above a cut: the same of its
        activations, float32 [batch, ...], at the tensor whose name the variable `boundary` holds.
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
        def of_vectors(vectors: tf.Tensor) -> tf.Tensor:
            return head(vectors, training=False)

        super().__init__(
            transform,
            [*backbone.resolved_object.variables, *head.variables],
            vectors=lambda images: backbone(images),
            logits=lambda images: of_vectors(backbone(images)),
            temperature=temperature,
        )
        self.backbone = backbone.resolved_object  # whatever else it reads, such as tables, belongs to the model
        self.abstain_below = tf.Variable(abstain_below, trainable=False, dtype=tf.float32, name="abstain_below")
        self._labels = labels
        if cached == "vectors":
            self.probabilities_of_vectors = tf.function(
                lambda vectors: tf.nn.softmax(of_vectors(vectors) / self.temperature),
                input_signature=[tf.TensorSpec([None, head.input_shape[-1]])],
            )
        elif cached is not None:
            self.boundary = tf.Variable(cached.boundary, trainable=False, name="boundary")
            self.probabilities_of_activations = tf.function(
                lambda activations: tf.nn.softmax(of_vectors(cached.top(activations)) / self.temperature),
                input_signature=[tf.TensorSpec([None, *cached.shape])],
            )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def _answer(self, photo_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(self.probabilities_of_images(self._transform(photo_bytes)), self._labels, self.abstain_below)


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
    served.save(folder, labels, rules)
    served.signatures = {name: getattr(served, name).get_concrete_function() for name in served.signature_names}
    return served
