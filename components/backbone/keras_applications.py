"""Keras applications exported as TF-Hub feature vectors: VGG, ResNet, Inception, Xception, MobileNetV2.

An application expects pixels in the range it was trained with, each another one: blue, green, red less their ImageNet
means (VGG, ResNet50), or [-1, 1] (the others). Its own `preprocess_input` becomes part of the SavedModel, so all of
them take what every backbone here takes. Source: https://keras.io/api/applications/
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from components.backbone.feature_vector import load, write_whole
from components.backbone.registry import (
    KerasApplication,
    require_absent,
    require_exportable,
    require_keras_application,
)
from components.backbone.saved_feature_vector import save_feature_vector
from components.legacy_keras import tf_keras
from schemas.errors import BadInput
from schemas.words import first_line

# Relative to the largest feature: between two graphs of the same operations there is only float noise.
TOLERANCE = 1e-4
DEFAULT_SEED = 7


class Export(NamedTuple):
    """What `export` wrote."""

    application: KerasApplication
    width: int  # of the feature vector
    parameters: int  # trainable ones
    size: int | None  # pixels, of the only size it takes; None if height and width are open
    difference: float  # from the Keras model, the largest, relative to the largest feature


def build(
    application: KerasApplication,
    weights: str = "imagenet",
    pooling: str = "avg",
    size: int | None = None,
    seed: int = DEFAULT_SEED,
) -> tf_keras.Model:
    """The application below its ImageNet head, as Keras makes it.

    Args:
      weights: `imagenet` (Keras downloads them, or finds them in its own cache), `none` (random), or a file that
        tf_keras saved of the application, with or without its head of 1000 classes.
      pooling: `avg` or `max` over height and width, or `flatten`, which needs a fixed size.
      size: height and width in pixels; None leaves them open, or with `flatten` takes the application's own.

    Returns:
      A model of float32 [batch, height, width, 3], in the range of the application's `preprocess_input`, to float32
      [batch, width of the vector]. With open sizes MobileNetV2 pads as Keras does for even ones: equal to the model of
      a fixed size wherever that is a multiple of 32.

    Raises:
      BadInput: the weights cannot be had or are of another model; the size is too small; the pooling is unknown.
    """
    require_exportable(application, weights, pooling, size)
    if pooling == "flatten":
        size = size or application.input_size
    function = getattr(tf_keras.applications, application.name)
    arguments = {
        "include_top": False,
        "input_shape": (size, size, 3),
        "pooling": None if pooling == "flatten" else pooling,
    }
    if weights == "imagenet":
        try:
            model = function(weights="imagenet", **arguments)
        except Exception as error:  # Keras raises a plain Exception for a download, and h5py its own for a bad file.
            raise BadInput(
                f"The ImageNet weights of {application.name} could not be downloaded ({first_line(error)}): give "
                "--weights FILE for a file that you have, or --weights none for random weights."
            ) from error
    else:
        tf_keras.utils.set_random_seed(seed)
        model = function(weights=None, **arguments)
        if weights != "none":
            _load_weights(model, application, Path(os.path.expanduser(weights)))
    if pooling == "flatten":
        model = tf_keras.Model(model.input, tf_keras.layers.Flatten(name="flatten")(model.output))
    return model


def _load_weights(model: tf_keras.Model, application: KerasApplication, file: Path) -> None:
    """Copies the weights in `file` into `model`; those of a head are left out."""
    try:
        model.load_weights(str(file))
    except Exception as error:  # h5py, zipfile, Keras and NumPy each raise their own.
        mismatch = first_line(error)
    else:
        return
    # A .h5 file is matched by the order of its layers, so one with a head needs a model with a head. Names would not
    # do: Keras numbers the layers of InceptionV3 by what was built before.
    whole = getattr(tf_keras.applications, application.name)(weights=None)
    try:
        whole.load_weights(str(file))
    except Exception as error:
        raise BadInput(
            f"Weights {file} do not fit {application.name} ({mismatch}): give a file that tf_keras saved of "
            f"tf_keras.applications.{application.name}, with or without its head of 1000 classes."
        ) from error
    for variable, value in zip(model.weights, whole.weights, strict=False):  # The head comes last.
        variable.assign(value)


def _preprocess_input(application: KerasApplication):
    """The application's function of pixels in the range [0, 255], RGB, arrays or tensors."""
    return getattr(tf_keras.applications, application.module).preprocess_input


def feature_vector_model(application: KerasApplication, model: tf_keras.Model) -> tf_keras.Model:
    """The model from `build` with its preprocessing in front.

    Inputs: float32 [batch, height, width, 3], range [0, 1]. Outputs: float32 [batch, width of the vector].
    """
    images = tf_keras.Input(model.input_shape[1:], name="images")
    pixels = tf_keras.layers.Rescaling(255.0, name="rescaling")(images)
    outputs = model(tf_keras.layers.Lambda(_preprocess_input(application), name="preprocess_input")(pixels))
    return tf_keras.Model(images, outputs, name="feature_vector")


def largest_difference(application: KerasApplication, model: tf_keras.Model, folder: Path) -> float:
    """How far the feature vector in `folder` is from `model` with `preprocess_input` applied by hand.

    Both see the same two random images of the model's size, or the application's own where it is open.

    Returns:
      The largest absolute difference of a feature, divided by the largest absolute feature.

    Raises:
      BadInput: the folder holds no feature vector, as `feature_vector.load` checks.
    """
    size = model.input_shape[1] or application.input_size
    images = np.random.default_rng(0).random([2, size, size, 3], np.float32)
    found = load(folder, size)(images).numpy()
    expected = model(_preprocess_input(application)(255 * images)).numpy()
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


def export(
    name: str,
    folder: str | Path,
    weights: str = "imagenet",
    pooling: str = "avg",
    size: int | None = None,
    seed: int = DEFAULT_SEED,
) -> Export:
    """Writes a Keras application as a feature vector that `backbone.handle` can name, and checks what it wrote.

    Args:
      folder: a folder that does not exist yet; it is written whole or not at all.

    Raises:
      BadInput: as `build`; the name is unknown; the folder exists or cannot be written; what was written is no
        feature vector, or differs from the Keras model by more than `TOLERANCE`.
    """
    application, folder = require_keras_application(name), Path(folder)
    require_absent(folder)
    model = build(application, weights, pooling, size, seed)
    differences = []

    def write(temporary: Path) -> None:
        save_feature_vector(feature_vector_model(application, model), temporary)
        differences.append(largest_difference(application, model, temporary))
        if not differences[0] <= TOLERANCE:  # also when it is no number
            raise BadInput(
                f"The export of {application.name} differs from the Keras model by {differences[0]:.1e} of the "
                f"largest feature, more than {TOLERANCE:.0e}; nothing was written."
            )

    try:
        write_whole(folder, write)
    except (OSError, tf.errors.OpError) as error:
        raise BadInput(f"{folder} cannot be written ({first_line(error)}): give another folder.") from error
    return Export(
        application=application,
        width=model.output_shape[1],
        parameters=sum(int(np.prod(variable.shape)) for variable in model.trainable_variables),
        size=model.input_shape[1],
        difference=differences[0],
    )
