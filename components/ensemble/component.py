"""The Ensemble component: both models as one, and its export."""

import os
from itertools import zip_longest

import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.example_gen.photo_rules import INPUT_FILE
from components.trainer.serving_model import answer
from schemas.features import IMAGE
from schemas.labels import LABELS_FILE, read_labels, write_labels

_SIGNATURES = ("serving_default", "serve_examples", "transform_features", "feature_vector")


class EnsembleModel(tf.Module):
    """Two models exported by `serving_model.export`, served as one; the signatures are those of `ServedModel`.

    `serving_default` and `serve_examples` answer with the mean of both models' calibrated probabilities, with its
    largest one, with that one's label and with whether it is too low to answer. `transform_features` and
    `feature_vector` are the first model's: the first, the feature-extraction model, has the untouched backbone, whose
    vectors stay comparable from run to run.

    Each model is called through its own signatures, so whatever it does to a photo is what it did when it was
    evaluated. The price is that a photo is decoded twice; most of the time goes to the two backbones.
    """

    def __init__(self, first: tf.Module, second: tf.Module, labels: list[str]):
        super().__init__()
        # The loaded models are kept with their signatures, which do not keep their variables alive.
        self.models = [first, second]
        # What the next model starts from where this one is in production: the one of the two that learnt more.
        self.model_variables = list(second.model_variables)
        self.temperature = second.temperature  # of `warm_start_probabilities`
        self.abstain_below = first.abstain_below  # the configuration's, of both
        self._labels = labels
        image_shape = first.signatures["transform_features"].structured_outputs[IMAGE].shape[1:]
        self.probabilities_of_images = tf.function(
            lambda images: self._mean([model.probabilities_of_images(images) for model in self.models]),
            input_signature=[tf.TensorSpec([None, *image_shape], tf.float32, name="images")],
        )

    @staticmethod
    def _mean(probabilities: list[tf.Tensor]) -> tf.Tensor:
        return tf.add_n(probabilities) / len(probabilities)

    def _answer(self, signature: str, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        each = [model.signatures[signature](**inputs)["probabilities"] for model in self.models]
        return answer(self._mean(each), self._labels, self.abstain_below)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serving_default(self, image_bytes):
        return self._answer("serving_default", image_bytes=image_bytes)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve_examples(self, examples):
        return self._answer("serve_examples", examples=examples)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def warm_start_probabilities(self, image_bytes):
        """What the model of `model_variables` answers; a model that starts from these has to answer the same."""
        return self.models[1].signatures["serving_default"](image_bytes=image_bytes)["probabilities"]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def transform_features(self, examples):
        return self.models[0].signatures["transform_features"](examples=examples)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def feature_vector(self, image_bytes):
        return self.models[0].signatures["feature_vector"](image_bytes=image_bytes)


def export_ensemble(first_folder: str, second_folder: str, target_folder: str) -> None:
    """Writes the two models as one SavedModel, which needs neither of the two folders any more.

    Args:
      first_folder: a model exported by `serving_model.export`, here the feature-extraction model.
      target_folder: where the `EnsembleModel` goes, with the files of `assets.extra`.

    Raises:
      ValueError: the models' labels differ, by name or order; nothing is written then.
    """
    labels, others = read_labels(first_folder) or [], read_labels(second_folder) or []
    if labels != others:
        pairs = enumerate(zip_longest(labels, others, fillvalue=""), 1)
        line, label, other = next((line, label, other) for line, (label, other) in pairs if label != other)
        raise ValueError(
            "the probabilities of two models can be averaged only if their labels are the same in the same order: "
            f"line {line} of {LABELS_FILE} is {label!r} in {first_folder} and {other!r} in {second_folder}"
        )
    ensemble = EnsembleModel(tf.saved_model.load(first_folder), tf.saved_model.load(second_folder), labels)
    tf.saved_model.save(ensemble, target_folder, signatures={name: getattr(ensemble, name) for name in _SIGNATURES})
    write_labels(target_folder, labels)
    fileio.copy(os.path.join(first_folder, INPUT_FILE), os.path.join(target_folder, INPUT_FILE))


@component
def Ensemble(
    feature_extraction: InputArtifact[standard_artifacts.Model],
    fine_tuned: InputArtifact[standard_artifacts.Model],
    model: OutputArtifact[standard_artifacts.Model],
    code: Parameter[str],
):
    """Makes the third candidate out of the two trained models.

    Args:
      feature_extraction: the cheaper model; features and feature vectors come from it.
      fine_tuned: the model warm-started from it.
    """
    del code
    export_ensemble(
        path_utils.serving_model_path(feature_extraction.uri),
        path_utils.serving_model_path(fine_tuned.uri),
        path_utils.serving_model_dir(model.uri),
    )
