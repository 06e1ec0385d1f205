"""Masks beside photos: from the PNG of an example to ids at the model's size, and moved as a photo is moved.

A mask gives the id of each pixel's class, and `features.IGNORE` where a pixel is not counted. Masks never enter the
Transform graph: serving must not ask for them.
"""

from __future__ import annotations

import tensorflow as tf

from components.transform.augmentation import Augmentation, draw, transforms


def masks_to_ids(png: tf.Tensor, size: int) -> tf.Tensor:
    """The masks of a batch of photos at the model's size.

    Nearest neighbour: of ids there is no mean. `tf.image.resize` counts from the centres of pixels in every method, so
    a mask stays aligned with its photo.

    Args:
      png: string [batch]; each is a PNG with one grey channel of 8 bits, of the size of the upright photo.
      size: side of the result, pixels.

    Returns:
      uint8 [batch, size, size].
    """

    def one(mask: tf.Tensor) -> tf.Tensor:
        ids = tf.image.resize(tf.io.decode_png(mask, channels=1), [size, size], "nearest")
        return tf.ensure_shape(ids[..., 0], [size, size])

    return tf.map_fn(one, png, fn_output_signature=tf.TensorSpec([size, size], tf.uint8), parallel_iterations=16)


def augment_masks(ids: tf.Tensor, seeds: tf.Tensor, settings: Augmentation) -> tf.Tensor:
    """Masks moved as `augment` moves the photos with the same seeds; colours change nothing here.

    Args:
      ids: uint8 [batch, height, width].
      seeds: int32 or int64 [batch, 2], see `augmentation.seeds_for`.
      settings: what is changed, and how much.

    Returns:
      like `ids`; the same tensor if nothing moves pixels.
    """
    if not settings.moves_pixels:
        return ids
    height, width = (ids.shape[axis] or tf.shape(ids)[axis] for axis in (1, 2))
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=ids[..., tf.newaxis],
        transforms=transforms(draw(seeds), height, width, settings),
        output_shape=[height, width],
        interpolation="NEAREST",
        fill_mode="REFLECT",
        fill_value=0.0,
    )
    return tf.ensure_shape(moved[..., 0], ids.shape)
