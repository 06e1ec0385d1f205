"""Shows what the layers of a model respond to: feature maps of a photo, and images that excite a channel most."""

from __future__ import annotations

import difflib
import re

import numpy as np
import tensorflow as tf

from components.explanation.explained_model import ExplainedModel, Layer
from schemas.errors import BadInput

EVENLY_SPACED = 5
NEAREST = 5
# Of the gradient ascent.
STEPS = 120
STEP_LENGTH = 0.03  # of the range of a pixel, in each step's root mean square
JITTER = 1 / 16  # of the side: the image moves by up to that much before each step
BLUR_EVERY, BLURS = 4, (1 / 133, 1 / 450)  # of the side: standard deviations in the beginning and in the end


def choose_layers(model: ExplainedModel, pattern: str | None) -> list[Layer]:
    """The layers whose names contain the pattern, from the photo to the answer.

    Args:
      model: a model whose layers can be reached.
      pattern: a regular expression; None chooses a few evenly spaced activations.

    Raises:
      BadInput: the layers cannot be reached, or the pattern is invalid or matches no name.
    """
    if not model.layers:
        raise BadInput(f"the model's layers cannot be reached: {model.unreachable}")
    if pattern is None:
        # After an activation if there is a name for it; what comes out of a convolution alone says less.
        named = [layer for layer in model.layers if re.search(r"activation|relu|swish|gelu", layer.name, re.IGNORECASE)]
        named = named or model.layers
        places = np.linspace(0, len(named) - 1, min(EVENLY_SPACED, len(named)))
        return [named[round(place)] for place in places]
    try:
        found = [layer for layer in model.layers if re.search(pattern, layer.name)]
    except re.error as error:
        raise BadInput(f"the layer pattern {pattern!r} is not a valid regular expression: {error}") from None
    if not found:
        names = [layer.name for layer in model.layers]
        nearest = difflib.get_close_matches(pattern, names, NEAREST, cutoff=0)
        raise BadInput(
            f"no layer matches {pattern!r}; the nearest of {len(names)} are {', '.join(nearest)} "
            "(--list-layers shows all)"
        )
    return found


def choose_layer(model: ExplainedModel, pattern: str) -> Layer:
    """The one layer with this name, or whose name contains the pattern.

    Raises:
      BadInput: as in `choose_layers`, or several names contain the pattern.
    """
    for layer in model.layers:
        if layer.name == pattern:
            return layer
    found = choose_layers(model, pattern)
    if len(found) > 1:
        names = ", ".join(layer.name for layer in found[:NEAREST])
        raise BadInput(f"{len(found)} layers match {pattern!r} ({names} ...); expected one, so give its full name")
    return found[0]


def feature_maps(model: ExplainedModel, image: np.ndarray, layers: list[Layer]) -> list[np.ndarray]:
    """What the layers make of an image: of each, float32 [height, width, channels].

    Args:
      model: see there.
      image: float32 [size, size, 3], range [0, 1].
      layers: some of the model's.
    """
    tensors, size = tuple(layer.tensor for layer in layers), model.image_size

    @tf.function(input_signature=[tf.TensorSpec([None, size, size, 3])], autograph=False)
    def maps(images):
        return model.tensors(tensors, images)

    compiled = model.functions.setdefault(("feature maps", tensors), maps)
    return [found.numpy()[0] for found in compiled(tf.constant(image[np.newaxis]))]


def strongest_channels(maps: np.ndarray, count: int) -> list[int]:
    """Those of float32 [height, width, channels] that tell places apart most, the clearest first."""
    return [int(channel) for channel in np.argsort(-maps.std(axis=(0, 1)), kind="stable")[:count]]


def channel_images(
    model: ExplainedModel, layer: Layer, channels: list[int], seed: int, steps: int = STEPS
) -> np.ndarray:
    """Images that excite channels of a layer, by gradient ascent on the input (Olah et al. 2017,
    doi:10.23915/distill.00007).

    It starts from grey with some noise and climbs the channel's mean, in front of a rectifier where there is one, since
    behind it a channel that is silent in the beginning gives no direction. Before each step the image is moved, and
    every few steps it is blurred, less and less, since without that the gradient finds noise.

    Args:
      model: see there.
      layer: one of the model's.
      channels: numbers of channels.
      seed: of the noise and of the movements.
      steps: of the ascent.

    Returns:
      float32 [channels, size, size, 3], range [0, 1].
    """
    from scipy.ndimage import gaussian_filter

    size, count = model.image_size, len(channels)
    rng = np.random.default_rng(seed)

    @tf.function(
        input_signature=[tf.TensorSpec([None, size, size, 3]), tf.TensorSpec([None], tf.int32)], autograph=False
    )
    def ascent(images, channels):
        [activations] = model.tensors([model.before_rectifier(layer.tensor)], images)
        means = tf.gather(tf.reduce_mean(activations, axis=[1, 2]), channels, batch_dims=1)
        [gradients] = tf.gradients(means, [images])
        # Every image's step is as long, however strongly its channel answers.
        return gradients / (tf.sqrt(tf.reduce_mean(gradients**2, axis=[1, 2, 3], keepdims=True)) + 1e-12)

    compiled = model.functions.setdefault(("ascent", layer.tensor), ascent)
    images = np.clip(0.5 + rng.normal(0, 0.05, [count, size, size, 3]), 0, 1).astype(np.float32)
    furthest = max(1, round(size * JITTER))
    for step in range(steps):
        move = tuple(int(pixels) for pixels in rng.integers(-furthest, furthest + 1, 2))
        moved = np.roll(images, move, axis=(1, 2))
        moved = moved + STEP_LENGTH * compiled(tf.constant(moved), tf.constant(channels, tf.int32)).numpy()
        images = np.roll(moved, (-move[0], -move[1]), axis=(1, 2))
        if step % BLUR_EVERY == BLUR_EVERY - 1:
            share = step / max(1, steps - 1)
            width = size * (BLURS[0] * (1 - share) + BLURS[1] * share)
            images = gaussian_filter(images, sigma=(0, width, width, 0), mode="wrap")
        images = np.clip(images, 0, 1).astype(np.float32)
    return images
