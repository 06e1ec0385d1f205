"""The decoder: from an encoder's tensors at several resolutions to a class for every pixel.

A feature pyramid (Lin et al. 2017, "Feature Pyramid Networks for Object Detection", arXiv:1612.03144): from coarse to
fine, what is known so far is resized to the next tensor's resolution and added to a projection of that tensor, and a
separable convolution smooths the sum. The layers have names of their own, by which a warm start finds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from components.legacy_keras import tf_keras
from components.trainer.model import HEAD_NAME

DECODER_NAME = "decoder"


@dataclass(frozen=True)
class TapShape:
    """What the decoder has to know of a tensor that it reads."""

    stride: int
    shape: tuple[int, int, int]  # of one photo: [cells, cells, channels]


class _Resized(tf_keras.layers.Layer):
    """Maps resized bilinearly: [batch, height, width, channels] -> [batch, cells, cells, channels]."""

    def __init__(self, cells: int, **kwargs):
        super().__init__(**kwargs)
        self._cells = cells

    def call(self, inputs):
        if inputs.shape[1:3] == (self._cells, self._cells):
            return inputs
        return tf.image.resize(inputs, [self._cells, self._cells], "bilinear")


def build_decoder(
    taps: Sequence[TapShape], widths: Sequence[int], classes: int, image_size: int, seed: int
) -> tf_keras.Model:
    """Tensors of an encoder to logits: [batch, cells, cells, channels] each -> float32 [batch, size, size, classes].

    The last layer starts from zeros: the first answer is that every class is equally likely.

    Args:
      taps: what it reads, fine to coarse.
      widths: channels at each of them, coarse to fine; of more widths than taps the first ones are left out.
      classes: of pixels.
      image_size: side of the images, pixels.
      seed: of the initial values.
    """
    layers = tf_keras.layers
    inputs = [layers.Input(tap.shape, name=f"stride_{tap.stride}") for tap in taps]
    x = None
    for number, (tap, tensor, width) in enumerate(
        zip(taps[::-1], inputs[::-1], widths[len(widths) - len(taps) :], strict=True)
    ):
        name = f"{DECODER_NAME}/stride_{tap.stride}"

        def initializer(part: int, number=number) -> tf_keras.initializers.Initializer:
            return tf_keras.initializers.HeNormal(seed + 10 * number + part)

        skip = layers.Conv2D(width, 1, name=f"{name}/skip", kernel_initializer=initializer(0))(tensor)
        if x is not None:
            x = layers.Conv2D(width, 1, use_bias=False, name=f"{name}/up", kernel_initializer=initializer(1))(x)
            x = _Resized(tap.shape[0], name=f"{name}/resized")(x)
            skip = layers.Add(name=f"{name}/sum")([skip, x])
        x = layers.ReLU(name=f"{name}/sum_activation")(skip)
        x = layers.SeparableConv2D(
            width,
            3,
            padding="same",
            activation="relu",
            name=f"{name}/smooth",
            depthwise_initializer=initializer(2),
            pointwise_initializer=initializer(3),
        )(x)
    # Logits are float32 in mixed precision too.
    x = layers.Conv2D(classes, 1, name=HEAD_NAME, kernel_initializer="zeros", dtype="float32")(x)
    logits = _Resized(image_size, name="resized_logits", dtype="float32")(x)
    return tf_keras.Model(inputs, logits, name=DECODER_NAME)
