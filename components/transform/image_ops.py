"""From the bytes of a photo to upright pixels in [0, 1], in TensorFlow ops alone.

The same functions run eagerly, in tf.data, in the Transform graph and in the served signature: no Python
state, no `py_function`. They expect photos that `photo.inspect_photo` accepts; on others `decode_image` may
fail with `InvalidArgumentError`, while `exif_orientation` never fails.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from components.example_gen.photo_rules import WHITE

# Exif lies in front; one segment of a JPEG has at most 64 KiB, and others may come before it.
_EXIF_PREFIX_BYTES = 128 * 1024
_ORIENTATION_TAG = 0x0112


def exif_orientation(photo_bytes: tf.Tensor) -> tf.Tensor:
    """How a JPEG's stored pixels have to be turned, as its Exif header says.

    Args:
      photo_bytes: string scalar, any bytes.

    Returns:
      int32 scalar in 1..8; 1 (upright as stored) for other formats, without Exif, and for a broken header.
      Exif 2.32, section 4.6.4; TIFF 6.0, section 2.
    """
    prefix = tf.strings.substr(photo_bytes, 0, _EXIF_PREFIX_BYTES)
    parts = tf.strings.split(prefix, sep=b"Exif\0\0", maxsplit=1)
    parts = tf.concat([parts, ["", ""]], axis=0)  # a missing part is an empty string
    before, tiff = parts[0], parts[1]
    start = tf.strings.length(before) - 4
    header = tf.strings.substr(before, tf.maximum(start, 0), 4)  # FF E1, then the segment's length
    in_app1 = (
        (tf.strings.substr(prefix, 0, 3) == b"\xff\xd8\xff")
        & (start >= 2)
        & (tf.strings.substr(header, 0, 2) == b"\xff\xe1")
    )
    return tf.cond(in_app1, lambda: _tiff_orientation(header, tiff), lambda: tf.constant(1))


def _tiff_orientation(header: tf.Tensor, tiff: tf.Tensor) -> tf.Tensor:
    """Tag 0x0112 of the first directory; `header` is the 4 bytes before `Exif`."""
    segment_length = tf.io.decode_raw(tf.strings.substr(header, 2, 2), tf.uint16, little_endian=False)[0]
    tiff_length = tf.maximum(tf.cast(segment_length, tf.int32) - 8, 0)
    data = tf.cast(tf.io.decode_raw(tf.strings.substr(tiff, 0, tiff_length), tf.uint8), tf.int64)
    length = tf.size(data, tf.int64)
    data = tf.concat([data, tf.zeros([8], tf.int64)], axis=0)
    little = tf.reduce_all(data[:4] == [0x49, 0x49, 0x2A, 0])
    big = tf.reduce_all(data[:4] == [0x4D, 0x4D, 0, 0x2A])

    def number(positions: tf.Tensor, size: int) -> tf.Tensor:
        """Unsigned integers of `size` bytes at `positions`, whose shape the result has."""
        steps = tf.range(size, dtype=tf.int64)
        digits = tf.gather(data, tf.minimum(positions[..., tf.newaxis] + steps, length))  # beyond the end: 0
        shifts = tf.where(little, steps, size - 1 - steps) * 8
        return tf.reduce_sum(tf.bitwise.left_shift(digits, shifts), axis=-1)

    directory = number(tf.constant(4, tf.int64), 4)
    entries = tf.minimum(number(directory, 2), length // 12)
    positions = directory + 2 + 12 * tf.range(entries)
    is_long = number(positions + 2, 2) == 4  # else the 16 bits that Exif asks for
    values = tf.where(is_long, number(positions + 8, 4), number(positions + 8, 2))
    values = tf.boolean_mask(values, number(positions, 2) == _ORIENTATION_TAG)
    orientation = tf.concat([[1], values], axis=0)[-1]
    valid = (little | big) & (orientation >= 1) & (orientation <= 8)
    return tf.cast(tf.where(valid, orientation, 1), tf.int32)


def decode_image(photo_bytes: tf.Tensor, background: tf.Tensor | Sequence[int] = WHITE) -> tf.Tensor:
    """The pixels as they are stored, without orientation.

    Args:
      photo_bytes: string scalar: JPEG, PNG, GIF (of an animation the first picture), or BMP (24 or 32 bits,
        or 8 bits grey; viewers do not look at the fourth byte either).
      background: what transparent parts of a PNG are seen on: red, green and blue, 0 to 255.

    Returns:
      uint8 [height, width, 3], range [0, 255].
    """

    def decode_bmp() -> tf.Tensor:
        pixels = tf.io.decode_bmp(photo_bytes)  # as many channels as the file has
        is_grey = tf.shape(pixels)[2] == 1
        return tf.gather(pixels, tf.where(is_grey, [0, 0, 0], [0, 1, 2]), axis=2)

    def decode_gif() -> tf.Tensor:
        # decode_jpeg refuses animations.
        pixels = tf.io.decode_image(photo_bytes, channels=3, expand_animations=False)
        return tf.ensure_shape(pixels, [None, None, 3])

    def decode_opaque() -> tf.Tensor:
        # Despite its name this op reads PNG too. The fixed DCT makes training and serving agree.
        return tf.io.decode_jpeg(photo_bytes, channels=3, dct_method="INTEGER_ACCURATE")

    def decode_transparent() -> tf.Tensor:
        pixels = tf.io.decode_png(photo_bytes, channels=4)
        opaque = tf.reduce_min(pixels[..., 3]) == 255
        return tf.cond(opaque, lambda: pixels[..., :3], lambda: _on_background(pixels, background))

    def decode_png() -> tf.Tensor:
        return tf.cond(_may_be_transparent(photo_bytes), decode_transparent, decode_opaque)

    def decode_no_bmp() -> tf.Tensor:
        return tf.cond(tf.strings.substr(photo_bytes, 0, 4) == b"GIF8", decode_gif, decode_no_gif)

    def decode_no_gif() -> tf.Tensor:
        return tf.cond(tf.strings.substr(photo_bytes, 0, 4) == b"\x89PNG", decode_png, decode_opaque)

    pixels = tf.cond(tf.strings.substr(photo_bytes, 0, 2) == b"BM", decode_bmp, decode_no_bmp)
    pixels.set_shape([None, None, 3])
    return pixels


def _may_be_transparent(png: tf.Tensor) -> tf.Tensor:
    """Whether a PNG has alpha, or a chunk that makes one of its colours transparent; bool scalar.

    Of others decode_png makes up the alpha, and of those with less than 8 bits wrongly: 1, 3 or 15 for opaque
    (TensorFlow 2.16). PNG specification, sections 11.2.2 and 11.3.2.1.
    """
    color_type = tf.strings.substr(png, 25, 1)
    before_pixels = tf.strings.split(png, sep=b"IDAT", maxsplit=1)[0]
    has_chunk = tf.size(tf.strings.split(before_pixels, sep=b"tRNS", maxsplit=1)) > 1
    return (color_type == b"\x04") | (color_type == b"\x06") | has_chunk


def _on_background(pixels: tf.Tensor, background: tf.Tensor | Sequence[int]) -> tf.Tensor:
    """Colours composited by their alpha, rounded as Pillow rounds when it pastes with a mask.

    Args:
      pixels: uint8 [height, width, 4].
      background: red, green and blue, 0 to 255.

    Returns:
      uint8 [height, width, 3].
    """
    alpha = tf.cast(pixels[..., 3:], tf.uint16)
    colours = tf.cast(pixels[..., :3], tf.uint16) * alpha + tf.cast(background, tf.uint16) * (255 - alpha) + 128
    return tf.cast(tf.bitwise.right_shift(colours + tf.bitwise.right_shift(colours, 8), 8), tf.uint8)


def photo_to_unit_range(
    photo_bytes: tf.Tensor, size: int, method: str, antialias: bool, background: Sequence[int] = WHITE
) -> tf.Tensor:
    """One photo as an upright square picture; the aspect ratio is not kept.

    Args:
      photo_bytes: string scalar, see `decode_image`.
      size: side of the result in pixels.
      method: `bilinear`, `bicubic` or `area`.
      antialias: see `tf.image.resize`; without effect on `area`.
      background: see `decode_image`.

    Returns:
      float32 [size, size, 3], range [0, 1].
    """
    pixels = tf.image.resize(decode_image(photo_bytes, background), [size, size], method=method, antialias=antialias)
    # Times 1 / 255: graphs turn a division into that, so only this is the same to the last bit everywhere.
    square = tf.clip_by_value(pixels * (1 / 255), 0.0, 1.0)  # bicubic overshoots
    # A square can be turned after the resize as well as before it, and is smaller.
    square = upright(square, exif_orientation(photo_bytes))
    return tf.ensure_shape(square, [size, size, 3])


def upright(square: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """A picture turned from its stored to its upright position.

    Args:
      square: any type [size, size, channels].
      orientation: int32 scalar in 1..8, as in Exif.

    Returns:
      like `square`.
    """

    def turned() -> tf.Tensor:
        picture = tf.cond(orientation >= 5, lambda: tf.transpose(square, [1, 0, 2]), lambda: square)
        left_right = tf.reduce_any(orientation == [2, 3, 6, 7])
        up_down = tf.reduce_any(orientation == [3, 4, 7, 8])
        picture = tf.cond(left_right, lambda: picture[:, ::-1], lambda: picture)
        return tf.cond(up_down, lambda: picture[::-1], lambda: picture)

    return tf.cond(orientation == 1, lambda: square, turned)


def photos_to_unit_range(
    photos_bytes: tf.Tensor, size: int, method: str, antialias: bool, background: Sequence[int] = WHITE
) -> tf.Tensor:
    """A batch of photos as upright square pictures.

    Args:
      photos_bytes: string [batch], see `decode_image`; the batch may be empty.
      size, method, antialias, background: see `photo_to_unit_range`.

    Returns:
      float32 [batch, size, size, 3], range [0, 1].
    """
    return tf.map_fn(
        lambda photo_bytes: photo_to_unit_range(photo_bytes, size, method, antialias, background),
        photos_bytes,
        fn_output_signature=tf.TensorSpec([size, size, 3], tf.float32),
        parallel_iterations=16,
    )
