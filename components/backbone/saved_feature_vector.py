"""A Keras model written as an image feature vector in TF-Hub's SavedModel format."""

from pathlib import Path

import tensorflow as tf

from components.legacy_keras import tf_keras


class _FeatureVector(tf.Module):
    """TF-Hub's "reusable SavedModel" interface, which `hub.KerasLayer` and `hub.load` read.

    Source: https://www.tensorflow.org/hub/reusable_saved_models
    """

    # tf.Module computes these two, and a SavedModel would lose them; as plain attributes they are saved.
    variables = ()
    trainable_variables = ()

    def __init__(self, model: tf_keras.Model):
        super().__init__()
        self.variables = model.variables
        self.trainable_variables = model.trainable_variables
        self.regularization_losses: list[tf.Tensor] = []
        images = tf.TensorSpec(model.input_shape, tf.float32, name="inputs")

        def call(inputs, training=False):
            return model(inputs, training=training)

        self.__call__ = tf.function(call, autograph=False)  # nothing to rewrite, and tracing is far faster
        for training in (False, True):
            self.__call__.get_concrete_function(images, training=training)


def save_feature_vector(model: tf_keras.Model, folder: str | Path) -> None:
    """Writes `model` as a SavedModel that `hub.KerasLayer(folder, trainable=True)` can fine-tune.

    Args:
      model: maps float32 [batch, height, width, 3], range [0, 1], to float32 [batch, width of the vector]. A height
        and width of None stay open. Variables keep their names, such as `block7a_project_conv/kernel:0`.
      folder: a local folder, made if absent.
    """
    tf.saved_model.save(_FeatureVector(model), str(folder))
