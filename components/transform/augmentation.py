"""Random changes of training photos. Each photo's are drawn from its own seed, whatever batch it is in.

TensorFlow ops alone and no state, so they are the same eagerly, in a graph and in tf.data. Evaluation and serving
never see them.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import tensorflow as tf

from schemas.errors import BadInput

# What is drawn for each photo, in this order and whatever is active, so that a setting changes nothing but its own.
_DRAWN = ("flip", "angle", "zoom", "side", "left", "top", "brightness", "contrast", "saturation")
_LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in grey, ITU-R BT.601
_GREY_STEPS = 2.0**20  # between black and white


@dataclass(frozen=True)
class Augmentation:
    """How much training photos change. With all at False or 0 they stay as they are."""

    flip: bool = False  # left and right exchanged in every other photo
    rotation_degrees: float = 0.0  # at most this to either side; range [0, 180]
    zoom: float = 0.0  # about the centre, by a factor in [1 - zoom, 1 + zoom]; range [0, 1)
    # A square part is cut out, with a side in [1 - scale_jitter, 1] of the photo's, anywhere in it; range [0, 1).
    scale_jitter: float = 0.0
    colour: float = 0.0  # brightness +- colour, contrast and saturation times 1 +- colour; range [0, 1)

    def __post_init__(self):
        limits = {"rotation_degrees": 180, "zoom": 1, "scale_jitter": 1, "colour": 1}
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= limit or (limit == 1 and value == 1):
                expected = "from 0 to 180" if limit == 180 else "at least 0 and below 1"
                raise BadInput(f"training.augmentation.{name} (={value}) must be {expected}.")

    @property
    def active(self) -> bool:
        return any(dataclasses.astuple(self))

    @property
    def moves_pixels(self) -> bool:
        """Whether masks have to move too."""
        return bool(self.flip or self.rotation_degrees or self.zoom or self.scale_jitter)


def augment(images: tf.Tensor, seeds: tf.Tensor, settings: Augmentation) -> tf.Tensor:
    """Photos randomly flipped, turned, zoomed, cropped and coloured.

    Flips, crops of random scale and place, and colour: Krizhevsky et al. 2012 (AlexNet); Simonyan & Zisserman 2015,
    "Very Deep Convolutional Networks", arXiv:1409.1556, section 3.1 (scale jittering); Szegedy et al. 2015, "Going
    Deeper with Convolutions", arXiv:1409.4842, section 6. What moves pixels is one transform, so that they are
    interpolated once; beyond a photo's edge lies its mirror image.

    Args:
      images: float32 [batch, height, width, 3], range [0, 1].
      seeds: int32 or int64 [batch, 2], see `seeds_for`; the same seed changes a photo in the same way.

    Returns:
      like `images`; the same tensor if nothing is active.
    """
    if not settings.active:
        return images
    drawn = draw(seeds)
    # shape of the photos, known or not when a graph is built
    height, width = (images.shape[axis] or tf.shape(images)[axis] for axis in (1, 2))
    changed = images
    if settings.moves_pixels:
        changed = tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=transforms(drawn, height, width, settings),
            output_shape=[height, width],
            interpolation="BILINEAR",
            fill_mode="REFLECT",
            fill_value=0.0,
        )
    if settings.colour:
        changed = _recolour(changed, drawn, settings.colour)
    return tf.ensure_shape(tf.clip_by_value(changed, 0.0, 1.0), images.shape)


def seeds_for(content_hashes: tf.Tensor, view: int | tf.Tensor, seed: int) -> tf.Tensor:
    """A seed for each photo from its content, so that it does not depend on order, batch or file name.

    Args:
      content_hashes: string [batch], hexadecimal digits.
      view: which changed copy this is, such as the epoch: integer scalar.

    Returns:
      int64 [batch, 2].
    """
    run_and_view = tf.strings.join([str(seed), tf.strings.as_string(view)], separator="/")
    texts = tf.strings.join([content_hashes, run_and_view], separator="/")
    halves = [tf.strings.to_hash_bucket_strong(texts, tf.int64.max, key=[half, 0]) for half in (1, 2)]
    return tf.stack(halves, axis=1)


def draw(seeds: tf.Tensor) -> dict[str, tf.Tensor]:
    """The random numbers of each photo, all of them from its seed: name -> float32 [batch], range [0, 1)."""
    numbers = tf.map_fn(
        # Philox, the same on every device.
        lambda seed: tf.random.stateless_uniform([len(_DRAWN)], seed, alg="philox"),
        seeds,
        fn_output_signature=tf.TensorSpec([len(_DRAWN)], tf.float32),
    )
    return dict(zip(_DRAWN, tf.unstack(numbers, axis=1), strict=True))


def transforms(drawn: dict[str, tf.Tensor], height, width, settings: Augmentation) -> tf.Tensor:
    """Where each pixel comes from, as the rows that `ImageProjectiveTransformV3` takes.

    The photo is cropped, zoomed, turned and flipped, in this order, about its centre: so a pixel of the result is
    flipped back, turned back, zoomed back and put into the crop.

    Args:
      drawn: as from `draw`: flip (below 1/2: flipped), angle (0: clockwise by the most; 1: anticlockwise), zoom
        (0: smallest; 1: largest), side (0: smallest crop; 1: whole photo), left and top (0: the crop touches that
        edge; 1: the opposite one).
      height, width: of the photos in pixels.

    Returns:
      float32 [batch, 8], of which the last two columns are 0: (x, y) of the result comes from
      (a0 x + a1 y + a2, b0 x + b1 y + b2) of the photo.
    """

    def between(name: str, lowest: float, highest: float) -> tf.Tensor:
        return lowest + (highest - lowest) * drawn[name]

    mirror = tf.where(drawn["flip"] < 0.5, -1.0, 1.0) if settings.flip else tf.ones_like(drawn["flip"])
    most = math.radians(settings.rotation_degrees)
    # In float64, for a float32 sine may differ in its last bit by the photo's place in the batch.
    angle = tf.cast(between("angle", -most, most), tf.float64)
    sine, cosine = tf.cast(tf.sin(angle), tf.float32), tf.cast(tf.cos(angle), tf.float32)
    side = between("side", 1 - settings.scale_jitter, 1.0)
    scale = side / between("zoom", 1 - settings.zoom, 1 + settings.zoom)
    width, height = tf.cast(width, tf.float32), tf.cast(height, tf.float32)
    x_centre, y_centre = (width - 1) / 2, (height - 1) / 2  # of pixels counted from 0
    x_shift = (1 - side) * width * (drawn["left"] - 0.5)
    y_shift = (1 - side) * height * (drawn["top"] - 0.5)
    # The y axis points down: seen so, this turns the picture anticlockwise.
    a0, a1 = scale * cosine * mirror, -scale * sine
    b0, b1 = scale * sine * mirror, scale * cosine
    a2 = x_centre + x_shift - a0 * x_centre - a1 * y_centre
    b2 = y_centre + y_shift - b0 * x_centre - b1 * y_centre
    zero = tf.zeros_like(a0)
    return tf.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)


def _recolour(images: tf.Tensor, drawn: dict[str, tf.Tensor], colour: float) -> tf.Tensor:
    """Brightness is added; contrast stretches about the photo's mean grey; saturation about each pixel's grey.

    Images: float32 [batch, height, width, 3], range [0, 1] before and any after.
    """

    def factor(name: str) -> tf.Tensor:
        return tf.reshape(1 + colour * (2 * drawn[name] - 1), [-1, 1, 1, 1])

    # [batch, height, width, 1]; a sum over the short last axis takes three times as long
    grey = tf.add_n([weight * images[..., i : i + 1] for i, weight in enumerate(_LUMA)])
    # Integers, whose sum is the same in whatever order the cores add.
    counts = tf.cast(grey * _GREY_STEPS, tf.int64)
    mean = tf.cast(tf.reduce_mean(counts, axis=[1, 2, 3], keepdims=True), tf.float32) / _GREY_STEPS
    brightness, contrast, saturation = factor("brightness") - 1, factor("contrast"), factor("saturation")
    # One after the other they are linear in the pixel, its grey and the photo's mean.
    of_grey = contrast * (1 - saturation) * grey + ((1 - contrast) * mean + brightness)
    return contrast * saturation * images + of_grey
