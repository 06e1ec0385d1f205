"""Masks beside photos: from the PNG of an example to ids at the model's size, and moved as a photo is moved.

A mask gives the id of each pixel's class, and `features.IGNORE` where a pixel is not counted. Masks never enter the
Transform graph: serving must not ask for them.
"""

from __future__ import annotations

import tensorflow as tf

from components.transform.augmentation import Augmentation, draw, transforms

# Numbers that the logits of one strip of a mask may have: what is in memory at once does not grow with the photo.
_STRIP_VALUES = 2**21


@tf.function(reduce_retracing=True)
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


def ids_at_size(logits: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """The likeliest class of each pixel of a photo: logits resized bilinearly, then the largest one.

    The result is made in strips of rows, so that the resized logits of a large photo are never in memory together.

    Args:
      logits: float32 [size, size, classes], at most 255 classes.
      height, width: of the photo, pixels.

    Returns:
      uint8 [height, width].
    """
    size, classes = logits.shape[0], logits.shape[-1]
    rows = tf.clip_by_value(_STRIP_VALUES // (width * classes), 1, height)

    def strip(first: tf.Tensor) -> tf.Tensor:
        # Pixels are counted from their centres, as in tf.image.resize.
        places = (tf.cast(first + tf.range(rows), tf.float32) + 0.5) * (size / tf.cast(height, tf.float32)) - 0.5
        lower = tf.floor(places)
        share = (places - lower)[:, tf.newaxis, tf.newaxis]
        above, below = (
            tf.gather(logits, tf.clip_by_value(tf.cast(lower, tf.int32) + step, 0, size - 1)) for step in (0, 1)
        )
        wide = tf.image.resize(above + (below - above) * share, [rows, width], "bilinear")
        return tf.cast(tf.argmax(wide, axis=-1, output_type=tf.int32), tf.uint8)

    strips = tf.map_fn(
        strip,
        tf.range(0, height, rows),
        fn_output_signature=tf.TensorSpec([None, None], tf.uint8),
        parallel_iterations=1,
    )
    return tf.reshape(strips, [-1, width])[:height]
