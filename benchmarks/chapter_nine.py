"""Segmentation from scratch, as a plain script: `python -m benchmarks.chapter_nine DIR`.

The network of F. Chollet's Deep Learning with Python (second edition, section 9.2): strided convolutions of 64, 128 and
256 channels and their transposes, photos of 200 x 200 pixels, RMSprop, batches of 64, no augmentation, 50 epochs, and
the epoch with the least loss on the validation split. DIR is Oxford-IIIT Pets in the official layout; the official test
photos are the test split, and every ninth other photo with a trimap is the validation split.

It prints JSON: `train_photos`, `test_photos`, `epoch_seconds`, `mean_iou` (three classes, over all test photos, each
with the same weight) and `iou` by class.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from components.legacy_keras import tf_keras

IMAGE_SIZE = 200  # pixels
BATCH_SIZE = 64
CLASSES = ("pet", "background", "border")
_EVERY = 9  # photo that is not in the test list is for validation, as in the configuration's 8 : 1

Split = tuple[np.ndarray, np.ndarray]  # float32 [photos, size, size, 3] in [0, 1]; uint8 [photos, size, size]


def build(size: int = IMAGE_SIZE, classes: int = len(CLASSES)) -> tf_keras.Model:
    """The network: float32 [batch, size, size, 3] in [0, 1] -> probabilities, float32 [batch, size, size, classes]."""
    layers = tf_keras.layers
    images = x = tf_keras.Input([size, size, 3])
    for width in (64, 128, 256):
        x = layers.Conv2D(width, 3, strides=2, padding="same", activation="relu")(x)
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
    for width in (256, 128, 64):
        x = layers.Conv2DTranspose(width, 3, padding="same", activation="relu")(x)
        x = layers.Conv2DTranspose(width, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(classes, 3, padding="same", activation="softmax")(x)
    return tf_keras.Model(images, x, name="chapter_nine")


def read_lists(folder: Path) -> dict[str, list[str]]:
    """Split -> names of the photos with a trimap."""

    def names(file: str) -> list[str]:
        lines = (folder / "annotations" / file).read_text().splitlines()
        listed = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
        return [name for name in listed if (folder / "annotations" / "trimaps" / f"{name}.png").is_file()]

    trainval = names("trainval.txt")
    return {
        "train": [name for i, name in enumerate(trainval) if i % _EVERY],
        "eval": trainval[::_EVERY],
        "test": names("test.txt"),
    }


def read_split(folder: Path, names: list[str], size: int = IMAGE_SIZE) -> Split:
    """Photos and masks of one size."""

    def photo(name: str) -> np.ndarray:
        content = (folder / "images" / f"{name}.jpg").read_bytes()
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB").resize((size, size), Image.BILINEAR))

    def mask(name: str) -> np.ndarray:
        return np.asarray(Image.open(folder / "annotations" / "trimaps" / f"{name}.png").resize((size, size), 0)) - 1

    photos = np.stack([photo(name) for name in names]).astype(np.float32) / 255
    return photos, np.stack([mask(name) for name in names])


def intersection_over_union(truth: np.ndarray, answers: np.ndarray) -> list[float]:
    """Of each class, over all pixels; both uint8 [photos, size, size]."""
    count = len(CLASSES)
    confusion = np.bincount((truth.astype(int) * count + answers).ravel(), minlength=count**2).reshape(count, count)
    right = np.diag(confusion)
    return (right / (confusion.sum(0) + confusion.sum(1) - right)).tolist()


class _Times(tf_keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self._began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=50)
    arguments = parser.parse_args()
    tf_keras.utils.set_random_seed(1)
    lists = read_lists(arguments.folder)
    data = {split: read_split(arguments.folder, names) for split, names in lists.items()}
    network = build()
    network.compile(optimizer="rmsprop", loss="sparse_categorical_crossentropy")
    times = _Times()
    losses = network.fit(
        *data["train"],
        batch_size=BATCH_SIZE,
        epochs=arguments.epochs,
        validation_data=data["eval"],
        verbose=0,
        callbacks=[times, best := _BestWeights()],
    ).history["val_loss"]
    network.set_weights(best.weights)
    photos, truth = data["test"]
    answers = network.predict(photos, batch_size=BATCH_SIZE, verbose=0).argmax(-1)
    iou = intersection_over_union(truth, answers)
    found = {
        "train_photos": len(lists["train"]),
        "test_photos": len(lists["test"]),
        "epoch_seconds": times.seconds,
        "best_epoch": int(np.argmin(losses)) + 1,
        "mean_iou": float(np.mean(iou)),
        "iou": dict(zip(CLASSES, iou, strict=True)),
    }
    print(json.dumps(found, indent=2))


class _BestWeights(tf_keras.callbacks.Callback):
    """The weights with the least loss on the validation split."""

    def __init__(self) -> None:
        super().__init__()
        self._loss = float("inf")

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_loss"] < self._loss:
            self._loss, self.weights = logs["val_loss"], self.model.get_weights()


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    main()
