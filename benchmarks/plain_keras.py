"""The other side of the comparison: transfer learning in plain Keras, as the tutorials teach it, without a pipeline.

    python -m benchmarks.plain_keras DIR --backbone efficientnet_lite0 --epochs 10 --fine-tuning-epochs 10

DIR (and `--test DIR`) holds one folder of JPEG or PNG photos for each class. Written after
https://www.tensorflow.org/tutorials/images/transfer_learning and
https://www.tensorflow.org/hub/tutorials/tf2_image_retraining: photos decoded anew in each epoch by tf.data with
AUTOTUNE, a dropout and a dense layer on the frozen module, validation after each epoch, then fine-tuning at a tenth of
the rate. Whatever makes Keras itself quick helps this side too: the AutoGraph rule of `components.legacy_keras`, the
module loaded once for both phases. Prints one JSON object.
"""
# ruff: noqa: E402

from __future__ import annotations

import time

_STARTED = time.perf_counter()  # before the slow imports, which count

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import numpy as np
import tensorflow as tf
import tensorflow_hub as hub

from benchmarks.more_photos import photos_by_class
from components.backbone import feature_vector, freezing, registry
from components.backbone.layer import FeatureVector
from components.legacy_keras import tf_keras
from schemas.errors import BadInput

BATCH_SIZE = 32
DROPOUT = 0.2
LEARNING_RATE = 1e-3
FINE_TUNING_LEARNING_RATE = LEARNING_RATE / 10
VALIDATION_SHARE = 0.2


Photos = tuple[list[str], list[int]]  # paths, and their class indices


def list_photos(folder: Path, labels: list[str] | None = None) -> tuple[Photos, list[str]]:
    """The photos of a folder, and the class names that their indices stand for.

    Args:
      folder: with one folder of photos for each class.
      labels: class names to take the indices from; by default the names of the folders, sorted.

    Raises:
      BadInput: no photos, or a folder that is none of `labels`.
    """
    photos = photos_by_class(folder)
    labels = labels or list(photos)
    if unknown := sorted(set(photos) - set(labels)):
        raise BadInput(f"{folder} has the classes {', '.join(unknown)}; expected only {', '.join(labels)}.")
    paths = [str(path) for each in photos.values() for path in each]
    classes = [labels.index(label) for label, each in photos.items() for _ in each]
    return (paths, classes), labels


def split(photos: Photos, seed: int) -> tuple[Photos, Photos]:
    """80 % of the photos for training and 20 % for validation, drawn by `seed`."""
    paths, classes = photos
    order = np.random.default_rng(seed).permutation(len(paths))
    held_out = max(1, round(len(paths) * VALIDATION_SHARE))
    train, validation = (
        ([paths[i] for i in chosen], [classes[i] for i in chosen]) for chosen in (order[held_out:], order[:held_out])
    )
    return train, validation


def batches(photos: Photos, image_size: int, shuffle_seed: int | None = None) -> tf.data.Dataset:
    """Batches of (float32 [batch, size, size, 3] in [0, 1], int32 [batch] class indices), decoded as they are read."""

    def read(path, label):
        pixels = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.image.resize(pixels, [image_size, image_size]) / 255.0, label

    data = tf.data.Dataset.from_tensor_slices(photos)
    if shuffle_seed is not None:
        data = data.shuffle(len(photos[0]), seed=shuffle_seed)
    return data.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE)


def feature_extraction_model(module_path: str, classes: int, image_size: int) -> tf_keras.Sequential:
    """Images to logits: a new head on the frozen module."""
    return tf_keras.Sequential(
        [
            tf_keras.layers.Input([image_size, image_size, 3]),
            hub.KerasLayer(module_path, trainable=False),
            tf_keras.layers.Dropout(DROPOUT),
            tf_keras.layers.Dense(classes),
        ]
    )


def fine_tuning_model(
    trained: tf_keras.Sequential, unfreeze: str | None, default: str | None = None
) -> tf_keras.Sequential:
    """The same module and head as in `trained`; of the module, what the pipeline would fine-tune learns too.

    `hub.KerasLayer` can only let everything learn, and moves batch norm's averages then: so the pipeline's layer.

    Args:
      trained: from `feature_extraction_model`.
      unfreeze: regular expression over variable names, matched from their start.
      default: the same, the backbone's own; where both are None, the last fifth of the kernels learns.

    Raises:
      BadInput: nothing matches.
    """
    frozen, *head = trained.layers
    module = frozen.resolved_object
    learning = freezing.learning_variables(
        [v.name for v in module.trainable_variables],
        [v.name for v in module.variables],
        "top",
        pattern=unfreeze,
        default_pattern=default,
    )
    return tf_keras.Sequential([tf_keras.layers.Input(trained.input_shape[1:]), FeatureVector(module, learning), *head])


class _Clock(tf_keras.callbacks.Callback):
    """Seconds of each epoch, its validation included, and of the validation alone."""

    def __init__(self):
        super().__init__()
        self.epoch_seconds: list[float] = []
        self.validation_seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_began = time.perf_counter()

    def on_test_begin(self, logs=None):
        self._validation_began = time.perf_counter()

    def on_test_end(self, logs=None):
        self.validation_seconds.append(time.perf_counter() - self._validation_began)

    def on_epoch_end(self, epoch, logs=None):
        self.epoch_seconds.append(time.perf_counter() - self._epoch_began)


def train(
    model: tf_keras.Model, train_data: tf.data.Dataset, validation_data: tf.data.Dataset, epochs: int, rate: float
) -> dict[str, list[float]]:
    """Trains `model` in place, with validation after each epoch.

    Returns:
      `epoch_seconds` (with validation), `validation_seconds`, `validation_loss` and `validation_accuracy`, one value
      an epoch.
    """
    model.compile(
        optimizer=tf_keras.optimizers.Adam(rate),
        loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    clock = _Clock()
    fitted = model.fit(train_data, validation_data=validation_data, epochs=epochs, verbose=0, callbacks=[clock])
    return {
        "epoch_seconds": clock.epoch_seconds,
        "validation_seconds": clock.validation_seconds,
        "validation_loss": fitted.history.get("val_loss", []),
        "validation_accuracy": fitted.history.get("val_accuracy", []),
    }


def run(
    folder: Path,
    backbone: str,
    *,
    epochs: int,
    fine_tuning_epochs: int,
    unfreeze: str | None = None,
    test: Path | None = None,
    save: Path | None = None,
    image_size: int = 160,
    seed: int = 42,
) -> dict[str, Any]:
    """The whole script, from folders of photos to a saved model.

    Args:
      folder: photos to train and validate on.
      backbone: its name, or the folder of a SavedModel in TF-Hub's format.
      epochs, fine_tuning_epochs: of the two phases; all are run.
      unfreeze: as in `fine_tuning_model`; by default what the pipeline fine-tunes of this backbone.
      test: photos to evaluate the fine-tuned model on.
      save: where the fine-tuned model goes; by default a folder that is deleted again, so that saving counts.
      image_size: side in pixels.
      seed: of the split, the shuffling, the head and the dropout.

    Returns:
      What `main` prints, without `import_seconds` and `total_seconds`.
    """
    tf_keras.utils.set_random_seed(seed)
    photos, labels = list_photos(folder)
    train_photos, validation_photos = split(photos, seed)
    train_data = batches(train_photos, image_size, shuffle_seed=seed)
    validation_data = batches(validation_photos, image_size)
    model = feature_extraction_model(str(feature_vector.resolve(backbone)), len(labels), image_size)
    feature_extraction = train(model, train_data, validation_data, epochs, LEARNING_RATE)
    known = registry.BACKBONES.get(backbone)
    model = fine_tuning_model(model, unfreeze, known.unfreeze if known else None)
    fine_tuning = train(model, train_data, validation_data, fine_tuning_epochs, FINE_TUNING_LEARNING_RATE)
    return {
        "classes": labels,
        "photos": {"train": len(train_photos[0]), "validation": len(validation_photos[0])},
        "feature_extraction": feature_extraction,
        "fine_tuning": fine_tuning,
        "test": None if test is None else _evaluate(model, test, labels, image_size),
        "save_seconds": _save(model, save),
        "trainable_parameters": sum(int(tf.size(variable)) for variable in model.trainable_variables),
    }


def _evaluate(model: tf_keras.Model, folder: Path, labels: list[str], image_size: int) -> dict[str, float]:
    began = time.perf_counter()
    photos, _ = list_photos(folder, labels)
    _, accuracy = model.evaluate(batches(photos, image_size), verbose=0)
    return {"photos": len(photos[0]), "accuracy": accuracy, "seconds": time.perf_counter() - began}


def _save(model: tf_keras.Model, folder: Path | None) -> float:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        tf.saved_model.save(model, str(folder or temporary))
    return time.perf_counter() - began


def main(command_line: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--unfreeze", help="regular expression; by default what the pipeline fine-tunes")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--fine-tuning-epochs", type=int, default=10)
    parser.add_argument("--test", type=Path, metavar="DIR")
    parser.add_argument("--save", type=Path, metavar="DIR")
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--seed", type=int, default=42)
    settings = vars(parser.parse_args(command_line))
    imported = time.perf_counter()
    result = run(**settings)
    result |= {"import_seconds": imported - _STARTED, "total_seconds": time.perf_counter() - _STARTED}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
