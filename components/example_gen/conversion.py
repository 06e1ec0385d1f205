"""A file as the Transform graph reads it: as it is, or as a PNG of the same pixels where TensorFlow cannot read it."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from components.example_gen import photo
from components.example_gen.photo_rules import PhotoRules

_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF's PhotometricInterpretation


@dataclass(frozen=True)
class ReadPhoto:
    """photo_bytes: JPEG, PNG, GIF or BMP, for the graph. facts: of the photo; the format is that of the file.
    converted: whether `photo_bytes` is not the file itself but a PNG made of it.
    """

    photo_bytes: bytes
    facts: photo.PhotoFacts
    converted: bool


def read_file(file: IO[bytes], size: int, rules: PhotoRules) -> bytes:
    """The bytes of a file that may be a photo; of any other no more than its first ones are read.

    Args:
      file: at its beginning.
      size: its bytes.
      rules: with `convert` off, what TensorFlow cannot read is rejected.

    Raises:
      PhotoRejected: it begins like nothing that is read, or is larger than any photo.
      OSError, OpError: it cannot be read.
    """
    start = file.read(photo.SNIFFED_BYTES)
    try:
        photo.sniff(start)
    except photo.PhotoRejected as rejected:
        if not (rules.convert and rejected.convertible):
            raise
    if size > rules.max_file_megabytes * 1e6:
        raise photo.PhotoRejected(
            "too_large",
            f"has {size / 1e6:,.0f} MB, and at most {rules.max_file_megabytes} MB are read; save it smaller, or raise "
            "data.max_file_megabytes.",
        )
    return start + file.read()


def read_path(path: Path, rules: PhotoRules) -> bytes:
    """`read_file` of a file of this machine; raises as that does."""
    with path.open("rb") as file:
        return read_file(file, os.fstat(file.fileno()).st_size, rules)


def read_photo(file_bytes: bytes, rules: PhotoRules) -> ReadPhoto:
    """A photo for the graph, whatever format its file has.

    WebP, TIFF, AVIF and HEIC are converted, and so are GIFs, PNGs and BMPs that viewers show otherwise than TensorFlow
    decodes them: transparent or with a palette, say.

    Args:
      file_bytes: any bytes.
      rules: with `convert` off, what TensorFlow cannot read is rejected.

    Raises:
      PhotoRejected: with the reason; no other error, whatever the bytes.
    """
    try:
        return ReadPhoto(file_bytes, _inspect(file_bytes, rules), False)
    except photo.PhotoRejected as rejected:
        if not (rules.convert and rejected.convertible):
            raise
        file_format = rejected.convertible
    png = _to_png(file_bytes, file_format, rules)
    return ReadPhoto(png, replace(_inspect(png, rules), image_format=file_format), True)


def _inspect(photo_bytes: bytes, rules: PhotoRules) -> photo.PhotoFacts:
    return photo.inspect_photo(
        photo_bytes, min_side=rules.min_side, max_pixels=rules.max_pixels, background=rules.colour
    )


def _to_png(file_bytes: bytes, file_format: str, rules: PhotoRules) -> bytes:
    """The first picture in a file, upright, with its alpha, and with 16 bits where it is grey and has them."""
    try:
        with _open(file_bytes, file_format) as image:
            photo.check_size(image.size, rules.min_side, rules.max_pixels)
            # A TIFF may be small and its only tile huge.
            photo.check_size(getattr(image, "_tile_size", image.size), rules.min_side, rules.max_pixels)
            image.load()
            orientation = photo.orientation_of(image)  # what a container says of it itself is done by now
            picture = photo.upright(_in_a_mode_of_png(image, file_format), orientation)
        picture.info.clear()  # profiles, comments and Exif, whose orientation would turn it again
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
    except photo.PhotoRejected:
        raise
    except Exception as error:  # Pillow raises a dozen kinds
        raise photo.broken(file_bytes, file_format, str(error)) from error
    return buffer.getvalue()


def _open(file_bytes: bytes, file_format: str) -> Image.Image:
    """The picture, of which nothing but the header is read."""
    if file_format != "HEIC":
        return Image.open(io.BytesIO(file_bytes), formats=[file_format])
    try:
        from pi_heif import HeifImageFile
    except ImportError:
        raise photo.PhotoRejected(
            "unsupported_format",
            "is a HEIC image, which is read with the package pi-heif, and that is not installed; install it, or save "
            "the photo again as a plain JPEG.",
        ) from None
    return HeifImageFile(io.BytesIO(file_bytes))


def _in_a_mode_of_png(image: Image.Image, file_format: str) -> Image.Image:
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in ("I", "F"):
        raise photo.PhotoRejected(
            "unsupported_format",
            f"is a {file_format} with 32 bits a pixel, of which nobody knows what is white; save it again with 8.",
        )
    if isinstance(image, TiffImageFile) and image.mode == "I;16" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        # Pillow inverts 1 to 8 bits, but not 16 (`findings/tiff_white_is_zero_16_bits.sh`).
        return Image.fromarray(65535 - np.asarray(image))
    return image.copy() if image.mode in ("1", "L", "I;16", "I;16B") else image.convert("RGB")
