"""Checks that the bytes of a file are a photo that TensorFlow decodes to the right pixels.

TensorFlow 2.16 decodes some files incorrectly and reports no error (measured). BMPs with a palette come out as palette
indices. CMYK JPEGs without an Adobe marker and the transparent parts of GIFs come out black. GIFs whose first picture
is smaller than the canvas come out in that picture's size. So Pillow decodes every photo as well, as a viewer shows it,
and the two pictures are compared.
"""

from __future__ import annotations

import functools
import io
import math
import re
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from PIL import Image, PngImagePlugin

from components.example_gen.perceptual_hash import perceptual_hash
from components.example_gen.photo_rules import CONVERTED, SUPPORTED, WHITE, Colour
from components.transform import image_ops

# The size is compared with `max_pixels` before pixels are decoded; Pillow's own limit is lower than some of these.
Image.MAX_IMAGE_PIXELS = None
# The prompt of a picture that a program drew has some megabytes; viewers show it all the same.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

SNIFFED_BYTES = 1024
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_COARSE_SIDE = 16
_COARSE_TOLERANCE = 24  # of 255, in the mean colour of one of 16 x 16 fields
_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
)
_OTHER_IMAGES = (
    (rb"RIFF....WEBP", "WebP"),
    (rb"II[*+]\0|MM\0[*+]", "TIFF"),
    (rb"....ftyp(avi[fs]|m[is]f1....(....){0,16}?avi[fs])", "AVIF"),
    (rb"....ftyp(heic|heix|hevc|heim|heis|mif1|msf1)", "HEIC"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "JPEG XL"),
    (rb"\x00\x00\x01\x00", "Windows icon"),
    (rb"8BPS", "Photoshop"),
    (rb"P[1-6]\s", "Netpbm"),
    (rb"(?i:\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg)", "SVG"),
)
_OTHER_FILES = (
    (rb"(?i:(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body))", "an HTML page"),
    (rb"(\xef\xbb\xbf)?\s*<\?xml", "an XML file"),
    (rb"MATLAB ", "a MATLAB file"),
    (rb"PK\x03\x04", "a ZIP archive"),
    (rb"\x1f\x8b", "a gzip file"),
    (rb"%PDF", "a PDF"),
    (rb"....ftyp", "a video"),
)
_SAVE_AGAIN = "save it again as a plain JPEG."
_EXPECTED = f"supported formats are {', '.join(SUPPORTED)}, and with data.convert also {', '.join(CONVERTED)}."
# Of 255. What differs less cannot be told from nothing.
_LEAST_CONTRAST = 16
# Of 255. A flat ground as bright or as dark as that is one that somebody chose.
_NEARLY_BLACK, _NEARLY_WHITE = 4, 251
# What is flat at the bottom of a JPEG that was cut off: rows, and their share of all.
_LEAST_FLAT_ROWS, _LEAST_FLAT_SHARE = 16, 0.1
# Pixels of a block, without and with chroma at half the size.
_BLOCK, _LARGE_BLOCK = 8, 16
# Shares of the row of blocks in which it was cut off.
_MOST_FLAT_ON_THE_LEFT, _LEAST_FLAT_ON_THE_RIGHT = 0.5, 0.8
# Of 255. A picture in 16 bits that is nowhere as bright was made in 12 or 13 bits, and is nearly black as it is.
_LEAST_BRIGHT = 32
_PICTURE_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND", "GIF": b"\x3b"}


@dataclass(frozen=True)
class PhotoFacts:
    """Properties of a photo, read from its bytes."""

    image_format: str  # one of SUPPORTED
    width: int  # pixels, upright
    height: int  # pixels, upright
    color_mode: str  # as Pillow names it: RGB, L, P, CMYK, ...
    exif_orientation: int  # 1..8
    perceptual_hash: str  # of `perceptual_hash.py`


class PhotoRejected(ValueError):
    """A file is not a photo that a model can learn from.

    Attributes:
      reason: `empty`, `apple_double`, `not_an_image`, `unsupported_format`, `truncated`, `cut_off`,
        `corrupt`, `too_small`, `too_large`, `almost_nothing_to_see` or `decoder_disagrees`.
      detail: the rest of a sentence that begins with the file's name.
      convertible: the format, if converting the file to PNG may help; else empty.
    """

    def __init__(self, reason: str, detail: str, convertible: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.convertible = convertible

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def inspect_photo(photo_bytes: bytes, *, min_side: int, max_pixels: int, background: Colour = WHITE) -> PhotoFacts:
    """Format, upright size, colour mode, orientation and hash of a photo that TensorFlow decodes correctly.

    Args:
      min_side: smallest width and height allowed, in pixels.
      max_pixels: largest width times height allowed.
      background: colour shown through transparent parts.

    Raises:
      PhotoRejected: with the reason. No bytes raise any other error.
    """
    image_format = sniff(photo_bytes)
    try:
        with Image.open(io.BytesIO(photo_bytes), formats=[image_format]) as image:
            check_size(image.size, min_side, max_pixels)
            _check_frames(image, max_pixels)
            color_mode = image.mode
            image.load()
            stored_size = image.size
            orientation = orientation_of(image)
            alpha = _alpha(image)
            picture = to_rgb(image, background)
            by_pillow = _coarse(picture)
    except PhotoRejected:
        raise
    except Exception as error:  # Pillow raises a dozen kinds
        raise broken(photo_bytes, image_format, str(error)) from error
    # A damaged JPEG, too, is one that two decoders see differently.
    convertible = image_format if image_format != "JPEG" else ""
    try:
        pixels, orientation_by_tensorflow = _decode_by_tensorflow(photo_bytes, background)
    except tf.errors.OpError as error:
        if _ends_early(photo_bytes, image_format):
            raise _truncated(image_format) from error
        raise PhotoRejected(
            "unsupported_format",
            f"is a {image_format} ({color_mode}) that Pillow can decode but TensorFlow cannot; {_SAVE_AGAIN}",
            convertible,
        ) from error
    height, width, _ = pixels.shape
    if (width, height) != stored_size:
        raise PhotoRejected(
            "decoder_disagrees",
            f"is {stored_size[0]} x {stored_size[1]} pixels according to Pillow, but {width} x {height} according to "
            f"TensorFlow; {_SAVE_AGAIN}",
            convertible,
        )
    difference = int(np.abs(by_pillow - _coarse(Image.fromarray(pixels))).max())
    if difference > _COARSE_TOLERANCE:
        raise PhotoRejected(
            "decoder_disagrees",
            f"is a {image_format} ({color_mode}) whose colours TensorFlow decodes incorrectly, by up to {difference} "
            f"of 255; {_SAVE_AGAIN}",
            convertible,
        )
    if orientation != orientation_by_tensorflow:
        raise PhotoRejected(
            "decoder_disagrees",
            f"has Exif orientation {orientation} according to Pillow, but {orientation_by_tensorflow} according to "
            f"TensorFlow; {_SAVE_AGAIN}",
            image_format,
        )
    _check_visible(photo_bytes, image_format, picture, alpha, background)
    if image_format == "JPEG":
        _check_whole(picture)
    if orientation >= 5:
        width, height = height, width
    looks = perceptual_hash(upright(picture, orientation))
    return PhotoFacts(image_format, width, height, color_mode, orientation, looks)


def sniff(photo_bytes: bytes) -> str:
    """The true format of a file, one of SUPPORTED, judging by its first `SNIFFED_BYTES` bytes.

    Raises:
      PhotoRejected: the format is not supported.
    """
    if not photo_bytes:
        raise PhotoRejected("empty", "is empty (0 bytes); expected a photo.")
    for signature, image_format in _SIGNATURES:
        if photo_bytes.startswith(signature):
            return image_format
    start = photo_bytes[:SNIFFED_BYTES]
    if start.startswith((b"\x00\x05\x16\x07", b"\x00\x05\x16\x00")):
        raise PhotoRejected("apple_double", "is an AppleDouble sidecar of macOS, not the photo; delete it.")
    for pattern, name in _OTHER_IMAGES:
        if re.match(pattern, start, re.DOTALL):
            convertible = name if name in CONVERTED else ""
            raise PhotoRejected("unsupported_format", f"is in {name} format; {_EXPECTED}", convertible)
    for pattern, name in _OTHER_FILES:
        if re.match(pattern, start, re.DOTALL):
            raise PhotoRejected("not_an_image", f"is {name}, not an image; {_EXPECTED}")
    if b"\0" not in start and not re.search(rb"[\x01-\x08\x0e-\x1a]", start) and _is_text(start):
        raise PhotoRejected("not_an_image", f"is a text file, not an image; {_EXPECTED}")
    raise PhotoRejected(
        "not_an_image", f"is not a known image format: it starts with {start[:8].hex(' ')} (hex); {_EXPECTED}"
    )


def _is_text(start: bytes) -> bool:
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(start) - 4 and len(start) == 1024  # a letter may be cut
    return True


def check_size(size: tuple[int, int], min_side: int, max_pixels: int) -> None:
    """Checks the width and height in a file's header before any pixels are decoded.

    Raises:
      PhotoRejected: the picture is too small or too large.
    """
    width, height = size
    if min(size) < min_side:
        raise PhotoRejected("too_small", f"is {width} x {height} pixels; each side must be at least {min_side}.")
    if width * height > max_pixels:
        raise PhotoRejected("too_large", f"is {width} x {height} pixels; at most {max_pixels:,} in total are allowed.")


def _check_frames(image: Image.Image, max_pixels: int) -> None:
    """Checks the size of an animation: TensorFlow decodes all frames to get the first one."""
    frames = getattr(image, "n_frames", 1) if image.format == "GIF" else 1
    width, height = image.size
    if frames * width * height > max_pixels:
        image.seek(0)
        raise PhotoRejected(
            "too_large",
            f"has {frames:,} frames of {width} x {height} pixels; at most {max_pixels:,} pixels in total are allowed, "
            "unless only the first frame is converted (data.convert).",
            "GIF",
        )


def orientation_of(image: Image.Image) -> int:
    """Orientation, 1..8, from the Exif header alone: Pillow also reads XMP, which no decoder or browser does."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(_ORIENTATION_TAG, 1)
    except Exception:  # a broken header raises a dozen kinds
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture turned as its Exif orientation, 1..8, says."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def to_rgb(image: Image.Image, background: Colour = WHITE) -> Image.Image:
    """The picture in 8-bit RGB as a viewer shows it, with transparent parts on a background."""
    alpha = _alpha(image)
    if image.mode.startswith("I"):  # 16 bits grey, which convert() would clip
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image.info.pop("transparency", None)  # it is in `alpha`, and convert() would warn of it
    picture = image.convert("RGB")
    if alpha is None or alpha.getextrema() == (255, 255):
        return picture
    seen = Image.new("RGB", picture.size, background)
    seen.paste(picture, mask=alpha)
    return seen


def _alpha(image: Image.Image) -> Image.Image | None:
    """The opacity of a picture, in mode L, range [0, 255]; None if the format has no transparency."""
    if not image.has_transparency_data:
        return None
    if image.mode.startswith("I"):  # one of the 65,536 greys is transparent
        return Image.fromarray(np.where(np.asarray(image) == image.info["transparency"], 0, 255).astype(np.uint8))
    return image.convert("RGBA").getchannel("A")


def _check_visible(
    photo_bytes: bytes, image_format: str, picture: Image.Image, alpha: Image.Image | None, background: Colour
) -> None:
    """Rejects pictures that show nothing. A photo of a dark night or of a white wall has some grain, and passes."""

    def reject(detail: str) -> PhotoRejected:
        return PhotoRejected("almost_nothing_to_see", detail)

    if alpha is not None and np.max(alpha.getextrema()) < _LEAST_CONTRAST:
        raise reject("is fully transparent, so there is nothing to see; save the picture with an opaque subject.")
    extrema = np.array(picture.getextrema())
    if image_format == "PNG" and photo_bytes[24] == 16 and 0 < extrema.max() < _LEAST_BRIGHT and alpha is None:
        raise reject(
            f"is nearly black: it has 16 bits per colour but uses only the lowest {(int(extrema.max()) + 1) / 256:.0%} "
            "of the range, as 12-bit data stored in 16 bits does; save it again with the full range."
        )
    # Colours may be what is learnt; one shade between black and white is an empty frame.
    if (extrema[:, 0] == extrema[:, 1]).all() and np.ptp(extrema) < _LEAST_CONTRAST:
        shade = Colour(*(int(value) for value in extrema[:, 0]))
        if alpha is not None:
            raise reject(
                f"shows nothing on the background {background}: every pixel is {shade}; set image.background to a "
                "colour that it stands out from."
            )
        raise reject(f"shows nothing: every pixel is {shade}; delete it, or save the picture again.")


def _check_whole(picture: Image.Image) -> None:
    """Rejects a JPEG that was cut off and closed again, which decoders take for complete.

    Decoders repeat the last colour they read: everything after some point within a row of blocks is one shade. A
    margin, or the background of a product photo, starts at the beginning of a row, and is usually white or black.

    Args:
      picture: as stored, in mode RGB.
    """
    pixels = np.asarray(picture)
    height = len(pixels)
    shade = pixels[-1, -1]
    if shade.max() <= _NEARLY_BLACK or shade.min() >= _NEARLY_WHITE:
        return
    # Nearly every photo ends here, so all of it is compared only afterwards.
    least = math.ceil(max(_LEAST_FLAT_ROWS, _LEAST_FLAT_SHARE * height))
    if height < least or (pixels[-least:] != shade).any():
        return
    is_flat = (pixels == shade).all(axis=(1, 2))
    rows = int(height if is_flat.all() else np.argmin(is_flat[::-1]))
    # Chroma is smoothed into the first row or two of a block.
    above = pixels[max(0, height - rows - _BLOCK) : height - rows]
    flat = (above == shade).all(axis=2)
    right, left = flat[:, -_LARGE_BLOCK:].mean(), flat[:, :_LARGE_BLOCK].mean()
    if len(above) and right > _LEAST_FLAT_ON_THE_RIGHT and left < _MOST_FLAT_ON_THE_LEFT:
        raise PhotoRejected(
            "cut_off",
            f"is a JPEG whose lower {rows / height:.0%} is a single colour, {Colour(*(int(v) for v in shade))}, as in "
            "a file that was cut off; copy it again.",
        )


def _coarse(image: Image.Image) -> np.ndarray:
    """int16 [16, 16, 3], mean colours, range [0, 255]."""
    small = image.resize((_COARSE_SIDE, _COARSE_SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.int16)


def broken(photo_bytes: bytes, image_format: str, said: str) -> PhotoRejected:
    """Why a file that begins like a picture cannot be decoded, judging by the decoder's message."""
    said = said.lower()
    if "max_text" in said:
        most = PngImagePlugin.MAX_TEXT_MEMORY // 2**20
        return PhotoRejected("corrupt", f"is a {image_format} with more than {most} MiB of text in it; {_SAVE_AGAIN}")
    if "unsupported" in said or "not supported" in said:
        return PhotoRejected("unsupported_format", f"is an unusual kind of {image_format}; {_SAVE_AGAIN}")
    if "truncated" in said or "premature" in said or _ends_early(photo_bytes, image_format):
        return _truncated(image_format)
    return PhotoRejected("corrupt", f"is a damaged or unusual {image_format}; {_SAVE_AGAIN}")


def _ends_early(photo_bytes: bytes, image_format: str) -> bool:
    return _PICTURE_ENDS.get(image_format, b"") not in photo_bytes[-1024:]


def _truncated(image_format: str) -> PhotoRejected:
    return PhotoRejected("truncated", f"is a truncated {image_format}; copy it again.")


@functools.cache
def _tensorflow_function() -> tf.types.experimental.GenericFunction:
    """Traced once: eager calls of the many small ops would take longer than the photo itself."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([3], tf.uint8)], autograph=False)
    def decode(photo_bytes: tf.Tensor, background: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return image_ops.decode_image(photo_bytes, background), image_ops.exif_orientation(photo_bytes)

    return decode


def _decode_by_tensorflow(photo_bytes: bytes, background: Colour) -> tuple[np.ndarray, int]:
    """Pixels as stored, uint8 [height, width, 3], and the orientation."""
    pixels, orientation = _tensorflow_function()(tf.constant(photo_bytes), tf.constant(background, tf.uint8))
    return pixels.numpy(), int(orientation)
