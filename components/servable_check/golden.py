"""The photos that a model is asked about before it is served."""

from __future__ import annotations

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from components.example_gen.photo_rules import WHITE, Colour
from components.transform import image_ops

PNG, GREY, TINY, HUGE, CORRUPT = "png", "grey", "tiny", "huge", "corrupt"
_TINY = (16, 16)  # pixels
_HUGE = (4000, 3000)


def choose_original(photos: list[bytes]) -> int:
    """Index of the photo that others are made of: the first JPEG, or the first photo where there is none."""
    return next((i for i, photo in enumerate(photos) if photo.startswith(b"\xff\xd8\xff")), 0)


def make_kinds(photo: bytes, background: Colour = WHITE) -> dict[str, bytes]:
    """Kinds of photos that a data set may lack, made of one photo that the Transform graph decodes.

    Args:
      photo: JPEG, PNG, GIF or BMP.
      background: what the model sees transparent parts on.

    Returns:
      `png`: the very pixels that the Transform graph decodes, upright, so that a model has to answer as for the
      photo itself; `grey`: a JPEG with one channel; `tiny`: a JPEG of 16 x 16 pixels; `huge`: one of
      4,000 x 3,000; `corrupt`: the first half of a JPEG's bytes, which no model may answer.
    """
    # By the graph's own decoder: another one, and tf.io.decode_image's default method, give other pixels.
    stored = image_ops.decode_image(tf.constant(photo), background)
    pixels = image_ops.upright(stored, image_ops.exif_orientation(photo))
    picture = Image.fromarray(np.asarray(pixels))
    jpeg = _encoded(picture, "JPEG")
    return {
        PNG: _encoded(picture, "PNG"),
        GREY: _encoded(picture.convert("L"), "JPEG"),
        TINY: _encoded(picture.resize(_TINY), "JPEG"),
        HUGE: _encoded(picture.resize(_HUGE), "JPEG"),
        CORRUPT: jpeg[: len(jpeg) // 2],
    }


def _encoded(picture: Image.Image, image_format: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, image_format)
    return buffer.getvalue()
