"""A small convolutional network trained from scratch: what the photos alone teach, without a backbone.

The "mini Xception-like model" of F. Chollet's Deep Learning with Python (second edition, section 9.3.5), which is the
network of https://keras.io/examples/vision/image_classification_from_scratch/ with widths of 32 to 512 instead of 256
to 1024: blocks of two batch-normalised separable convolutions with a residual connection around them.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tensorflow as tf

from components.legacy_keras import tf_keras
from components.transform import image_ops

IMAGE_SIZE = 160  # pixels
WIDTHS = (32, 64, 128, 256, 512)
ENTRY_WIDTH = 32
DROPOUT = 0.5
LEARNING_RATE = 1e-3
BATCH_SIZE = 32
# Keras' 0.99 forgets the first values after hundreds of steps; a few hundred photos make ten steps an epoch.
BATCH_NORM_MOMENTUM = 0.9

Photos = tuple[list[bytes], list[int]]  # files as they are, and their class indices


def build(size: int, classes: int) -> tf_keras.Model:
    """The network: float32 [batch, size, size, 3] in [0, 1] -> logits, float32 [batch, classes]."""
    layers = tf_keras.layers
    images = tf_keras.Input([size, size, 3])
    # Not separable: the channels of a photo are much alike.
    x = layers.Conv2D(ENTRY_WIDTH, 5, use_bias=False)(images)
    for width in WIDTHS:
        shortcut = layers.Conv2D(width, 1, strides=2, padding="same", use_bias=False)(x)
        for _ in range(2):
            x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(x)
            x = layers.ReLU()(x)
            x = layers.SeparableConv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        x = layers.Add()([x, shortcut])
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(DROPOUT)(x)
    return tf_keras.Model(images, layers.Dense(classes)(x), name="mini_xception")


class _BestEpoch(tf_keras.callbacks.Callback):
    """Keeps the network of the epoch with the least validation loss, its batch norm's averages included."""

    def __init__(self, network: tf_keras.Model):
        super().__init__()
        self.epoch, self._loss, self._network = 0, float("inf"), network

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_loss"] < self._loss:
            self.epoch, self._loss = epoch + 1, logs["val_loss"]
            self._weights = self._network.get_weights()

    def on_train_end(self, logs=None):
        if self.epoch:
            self._network.set_weights(self._weights)


def train(
    network: tf_keras.Model, train_data: tf.data.Dataset, eval_data: tf.data.Dataset, epochs: int, seed: int
) -> int:
    """Trains `network` from scratch on flipped and rotated photos; the eval split chooses the epoch.

    Args:
      network: from `build`; it is trained in place and left at its best epoch.
      train_data: batches of (images as `network` takes them, class indices), shuffled.
      eval_data: the same, in order.
      epochs: all are run.
      seed: of the augmentation.

    Returns:
      The best epoch, counted from 1.
    """
    augmented = tf_keras.Sequential(
        [
            tf_keras.layers.Input(network.input_shape[1:]),
            tf_keras.layers.RandomFlip("horizontal", seed=seed),
            tf_keras.layers.RandomRotation(0.1, seed=seed),
            network,
        ]
    )
    augmented.compile(
        optimizer=tf_keras.optimizers.Adam(LEARNING_RATE),
        loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    best = _BestEpoch(network)
    augmented.fit(train_data, validation_data=eval_data, epochs=epochs, verbose=0, callbacks=[best])
    return best.epoch


def batches(photos: Photos, size: int, shuffle_seed: int | None = None) -> tf.data.Dataset:
    """Batches of (float32 [batch, size, size, 3] in [0, 1], int32 [batch] class indices), decoded as they are read."""
    data = tf.data.Dataset.from_tensor_slices(photos)
    if shuffle_seed is not None:
        data = data.shuffle(len(photos[0]), seed=shuffle_seed)
    data = data.map(
        lambda photo, label: (image_ops.photo_to_unit_range(photo, size, "bilinear", False), label),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return data.batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE)


def run(
    train_photos: Photos,
    eval_photos: Photos,
    test_photos: Photos,
    labels: list[str],
    epochs: int,
    seed: int,
    image_size: int = IMAGE_SIZE,
) -> dict[str, Any]:
    """Trains the network and answers the test photos.

    Returns:
      `probabilities`: float32 [test photos, classes]; `seconds` of training and answering; `trainable_variables`:
      their names; `parameters`: how many numbers these hold; `best_epoch`.
    """
    began = time.perf_counter()
    tf_keras.utils.set_random_seed(seed)
    network = build(image_size, len(labels))
    train_data = batches(train_photos, image_size, shuffle_seed=seed)
    best_epoch = train(network, train_data, batches(eval_photos, image_size), epochs, seed)
    logits = network.predict(batches(test_photos, image_size), verbose=0)
    return {
        "probabilities": tf.nn.softmax(logits).numpy(),
        "seconds": time.perf_counter() - began,
        "trainable_variables": [v.name for v in network.trainable_variables],
        "parameters": sum(int(np.prod(v.shape)) for v in network.trainable_variables),
        "best_epoch": best_epoch,
    }
