"""Prepares a file for the Transform graph: as it is, or as a PNG of the same pixels if TensorFlow cannot read it."""

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
    """A photo that is ready for the graph."""

    photo_bytes: bytes
    """JPEG, PNG, GIF or BMP."""
    facts: photo.PhotoFacts
    """Properties of the photo; the format is that of the original file."""
    converted: bool
    """Whether `photo_bytes` is a PNG made from the file instead of the file itself."""


def read_file(file: IO[bytes], size: int, rules: PhotoRules) -> bytes:
    """The bytes of a file that may be a photo. Of any other file only the first bytes are read.

    Args:
      file: open, at its beginning.
      rules: with `convert` off, files that TensorFlow cannot read are rejected.

    Raises:
      PhotoRejected: the file has no supported format, or is too large.
      OSError, OpError: the file cannot be read.
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
            f"is {size / 1e6:,.0f} MB, more than the limit of {rules.max_file_megabytes} MB; save a smaller copy, or "
            "raise data.max_file_megabytes.",
        )
    return start + file.read()


def read_path(path: Path, rules: PhotoRules) -> bytes:
    """`read_file` for a local file; raises the same errors."""
    with path.open("rb") as file:
        return read_file(file, os.fstat(file.fileno()).st_size, rules)


def read_photo(file_bytes: bytes, rules: PhotoRules) -> ReadPhoto:
    """Checks a photo of any supported format and prepares it for the graph.

    WebP, TIFF, AVIF and HEIC are converted. So are GIFs, PNGs and BMPs that TensorFlow decodes differently from a
    viewer, such as transparent ones or those with a palette.

    Args:
      rules: with `convert` off, files that TensorFlow cannot read are rejected.

    Raises:
      PhotoRejected: with the reason. No bytes raise any other error.
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
    """The first picture in a file, upright, with its alpha channel; 16-bit grey stays 16-bit."""
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
    """The picture, with only its header read."""
    if file_format != "HEIC":
        return Image.open(io.BytesIO(file_bytes), formats=[file_format])
    try:
        from pi_heif import HeifImageFile
    except ImportError:
        raise photo.PhotoRejected(
            "unsupported_format",
            "is in HEIC format, which needs the package pi-heif, and that is not installed; install it, or save the "
            "photo again as a plain JPEG.",
        ) from None
    return HeifImageFile(io.BytesIO(file_bytes))


def _in_a_mode_of_png(image: Image.Image, file_format: str) -> Image.Image:
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in ("I", "F"):
        raise photo.PhotoRejected(
            "unsupported_format",
            f"is a {file_format} with 32 bits per pixel, so its white level is unknown; save it again with 8 bits.",
        )
    if isinstance(image, TiffImageFile) and image.mode == "I;16" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        # Pillow inverts 1 to 8 bits, but not 16 (`findings/tiff_white_is_zero_16_bits.sh`).
        return Image.fromarray(65535 - np.asarray(image))
    return image.copy() if image.mode in ("1", "L", "I;16", "I;16B") else image.convert("RGB")
