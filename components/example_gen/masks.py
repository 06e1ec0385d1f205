"""Reads the mask of a photo: a class for every pixel, whatever way the file writes it.

TensorFlow decodes the usual masks to something else and reports no error (measured): a palette becomes greys, and ids
in 16 bits become 0. So Pillow decodes them here, once, to a PNG with one channel of 8 bits.

| file                          | ids                                                        |
|-------------------------------|------------------------------------------------------------|
| grey of 1, 2, 4, 8 or 16 bits | the values as written; transparency is passed over         |
| palette                       | the indices; or the colours, if a label map knows them all |
| RGB                           | the colours of the label map; without one, only greys      |
| JPEG, WebP, GIF, AVIF, HEIC   | refused, since saving changes what is in them              |
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from components.example_gen import photo
from components.example_gen.mask_classes import MaskClasses, list_names
from components.example_gen.photo_rules import Colour
from schemas.features import IGNORE
from schemas.words import and_more

_FORMATS = ("PNG", "BMP", "TIFF")
_SAVE_AS_PNG = "save the mask as a PNG."
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
_BITS_PER_SAMPLE = 258
# Of a mask in colours, so that it takes no more memory than its photo.
_PIXELS_AT_ONCE = 2**18
_SHOWN_COLOURS = 5


@dataclass(frozen=True)
class Mask:
    """A mask as later steps read it."""

    png: bytes
    """PNG with one channel of 8 bits: ids of classes, or 255, upright and as large as the photo."""
    content_hash: str
    """SHA-256 of size and ids, 64 hexadecimal digits: the same for the same mask in another file."""
    pixels: dict[int, int]
    """Id of each class in the mask, and 255 if it is there -> number of pixels."""


@dataclass(frozen=True)
class _Pixels:
    """What a mask holds: one of the two."""

    values: np.ndarray | None
    """uint16 or uint8 [height, width], range [0, 65535]."""
    colours: np.ndarray | None
    palette: dict[int, Colour]
    """With a palette: index -> colour."""


def read_mask(mask_bytes: bytes, name: str, classes: MaskClasses, facts: photo.PhotoFacts, max_pixels: int) -> Mask:
    """The mask of a photo, with the ids of its classes.

    Args:
      name: of the mask's file, for messages.
      classes: what its values or colours stand for.
      max_pixels: largest width times height allowed.

    Raises:
      PhotoRejected: the reason is `mask_not_lossless`, `mask_size_differs`, `mask_unknown_value`, `mask_all_ignored`,
        or `mask_unreadable`. The detail is the rest of a sentence that begins with the name of the photo.
    """
    pixels = _decode(mask_bytes, name, max_pixels, facts)
    ids = _ids(pixels, name, classes)
    counts = np.bincount(ids.ravel(), minlength=IGNORE + 1)
    present = {int(number): int(counts[number]) for number in np.flatnonzero(counts)}
    if set(present) == {IGNORE}:
        raise photo.PhotoRejected(
            "mask_all_ignored",
            f"has a mask, {name}, of which every pixel is left out (value 255"
            f"{', or a class of task.ignore' if classes.ignored else ''}), so nothing can be learnt from it; "
            "label a part of the photo, or remove both files.",
        )
    height, width = ids.shape
    digest = hashlib.sha256(b"%dx%d;" % (width, height))
    digest.update(ids.tobytes())
    buffer = io.BytesIO()
    Image.fromarray(ids).save(buffer, "PNG")
    return Mask(buffer.getvalue(), digest.hexdigest(), present)


def values_in(mask_bytes: bytes, name: str, max_pixels: int) -> frozenset[int]:
    """The values that a mask without a list of classes holds.

    Args:
      mask_bytes, name, max_pixels: as for `read_mask`.

    Raises:
      PhotoRejected: as for `read_mask`.
    """
    return frozenset(np.unique(_values(_decode(mask_bytes, name, max_pixels), name)).tolist())


def _decode(mask_bytes: bytes, name: str, max_pixels: int, facts: photo.PhotoFacts | None = None) -> _Pixels:
    _check_format(mask_bytes, name)
    try:
        with Image.open(io.BytesIO(mask_bytes), formats=_FORMATS) as image:
            if facts:
                _check_size(image.size, name, facts)
            _check_pixels(image, name, max_pixels)
            image.load()
            return _pixels(image, mask_bytes, name)
    except photo.PhotoRejected:
        raise
    except Exception as error:  # Pillow raises a dozen kinds
        why = photo.broken(mask_bytes, "PNG", str(error))
        broken = "truncated" if why.reason == "truncated" else "damaged or unusual"
        raise photo.PhotoRejected(
            "mask_unreadable", f"has a mask, {name}, that is {broken}; copy it again, or {_SAVE_AS_PNG}"
        ) from error


def _check_pixels(image: Image.Image, name: str, max_pixels: int) -> None:
    """Before pixels are decoded; a TIFF may be small and its only tile huge."""
    for width, height in (image.size, getattr(image, "_tile_size", image.size)):
        if width * height > max_pixels:
            raise photo.PhotoRejected(
                "mask_unreadable",
                f"has a mask, {name}, of {width} x {height} pixels, more than data.max_pixels ({max_pixels:,}); "
                f"{_SAVE_AS_PNG}",
            )


def _check_format(mask_bytes: bytes, name: str) -> None:
    try:
        file_format = photo.sniff(mask_bytes)
    except photo.PhotoRejected as rejected:
        file_format = rejected.convertible
        if not file_format:
            what = rejected.detail.rpartition("; ")[0]  # what follows is about photos
            raise photo.PhotoRejected("mask_unreadable", f"has a mask, {name}, that {what}; {_SAVE_AS_PNG}") from None
    if file_format not in _FORMATS:
        why = "is lossy" if file_format != "GIF" else "may number the classes anew"
        raise _not_lossless(name, f"{file_format}, which {why}")


def _not_lossless(name: str, what: str) -> photo.PhotoRejected:
    return photo.PhotoRejected(
        "mask_not_lossless", f"has a mask, {name}, in the format {what}; export the mask again as a PNG."
    )


def _check_size(size: tuple[int, int], name: str, facts: photo.PhotoFacts) -> None:
    upright = (facts.width, facts.height)
    if size == upright:
        return
    is_turned = facts.exif_orientation >= 5
    shown = f"has a mask, {name}, of {size[0]} x {size[1]} pixels, but is {upright[0]} x {upright[1]} pixels"
    if size == upright[::-1] and is_turned:
        raise photo.PhotoRejected(
            "mask_size_differs",
            f"{shown} as it is seen: the photo is stored as {size[0]} x {size[1]} and turned by its Exif orientation "
            f"({facts.exif_orientation}), and the mask was drawn on the photo as stored; turn the mask alike, or save "
            "the photo upright without the orientation.",
        )
    sides = ", so one of the two was turned" if size == upright[::-1] else ""
    raise photo.PhotoRejected("mask_size_differs", f"{shown}{sides}; export the mask again at the size of the photo.")


def _pixels(image: Image.Image, mask_bytes: bytes, name: str) -> _Pixels:
    if isinstance(image, TiffImageFile) and image.info.get("compression", "raw") in _LOSSY_TIFF:
        raise _not_lossless(name, f"TIFF, compressed as {image.info['compression']}, which is lossy")
    if image.mode in ("P", "PA"):
        flat = image.getpalette("RGB") or []
        palette = {i // 3: Colour(*flat[i : i + 3]) for i in range(0, len(flat) - 2, 3)}
        indices = np.asarray(image)
        return _Pixels(indices if indices.ndim == 2 else indices[..., 0], None, palette)
    if image.mode in ("RGB", "RGBA", "RGBX"):
        return _Pixels(None, np.asarray(image)[..., :3], {})
    if image.mode == "LA":
        return _Pixels(np.asarray(image)[..., 0], None, {})
    if image.mode in ("1", "L"):
        return _Pixels(np.asarray(image).astype(np.uint8) // _spread(image, mask_bytes), None, {})
    values = np.asarray(image)
    if image.mode[0] != "I" or values.min() < 0:
        raise photo.PhotoRejected(
            "mask_unreadable", f"has a mask, {name}, with pixels of the kind {image.mode}; {_SAVE_AS_PNG}"
        )
    return _Pixels(np.minimum(values, 65535).astype(np.uint16), None, {})


def _spread(image: Image.Image, mask_bytes: bytes) -> int:
    """What Pillow multiplies greys of 2 and 4 bits with, to reach 255."""
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (8,))
        depth = bits[0] if isinstance(bits, tuple) else bits
    else:
        depth = mask_bytes[24] if image.format == "PNG" else 8
    return {2: 85, 4: 17}.get(depth, 1) if image.mode == "L" else 1


def _values(pixels: _Pixels, name: str) -> np.ndarray:
    """uint8 or uint16 [height, width]: values of a mask whose classes have no colours."""
    if pixels.values is not None:
        return pixels.values
    assert pixels.colours is not None
    colours = pixels.colours
    if not ((colours[..., 0] == colours[..., 1]) & (colours[..., 1] == colours[..., 2])).all():
        found = _shown(np.unique(colours.reshape(-1, 3), axis=0))
        raise photo.PhotoRejected(
            "mask_unknown_value",
            f"has a mask, {name}, in colours ({found}), but no label map says what they stand for; add a labelmap.txt "
            "with a line such as 'cat:64,0,0::' for each class, or export the masks as ids.",
        )
    return colours[..., 0]


def _shown(colours: np.ndarray) -> str:
    return and_more([",".join(map(str, colour)) for colour in colours.tolist()], _SHOWN_COLOURS)


def _ids(pixels: _Pixels, name: str, classes: MaskClasses) -> np.ndarray:
    """uint8 [height, width]: ids of classes, or 255."""
    if classes.colours:
        if pixels.colours is not None:
            return _ids_of_colours(pixels.colours, name, classes)
        assert pixels.values is not None
        used = np.unique(pixels.values).tolist()
        by_palette = {index: classes.colours.get(colour) for index, colour in pixels.palette.items() if index in used}
        if by_palette and len(by_palette) == len(used) and None not in by_palette.values():
            table = np.full(256, IGNORE, np.uint8)
            table[list(by_palette)] = list(by_palette.values())
            return table[pixels.values]
    return _ids_of_values(_values(pixels, name), name, classes)


def _ids_of_values(values: np.ndarray, name: str, classes: MaskClasses) -> np.ndarray:
    counts = np.bincount(values.ravel())
    present = set(np.flatnonzero(counts).tolist())
    unknown = sorted(present - set(classes.ids))
    if not unknown:
        table = np.full(IGNORE + 1, IGNORE, np.uint8)
        table[list(classes.ids)] = list(classes.ids.values())
        return table[values]
    value = max(unknown, key=lambda each: counts[each])
    known = set(classes.ids) - {IGNORE}
    # The classic mistake: ids that count from 1.
    from_one = 0 in known and 0 not in present and max(present - {IGNORE}) == len(known)
    hint = "subtract 1 from every value, or " if from_one else ""
    raise photo.PhotoRejected(
        "mask_unknown_value",
        f"has a mask, {name}, with the value {value} in {counts[value] / values.size:.1%} of its pixels; expected "
        f"{list_names(classes)}, or 255 for pixels to leave out; {hint}correct the mask or "
        f"{classes.listed_in or 'the other masks'}.",
    )


def _ids_of_colours(colours: np.ndarray, name: str, classes: MaskClasses) -> np.ndarray:
    listed = sorted((_packed(np.array(colour)).item(), number) for colour, number in classes.colours.items())
    known = np.array([key for key, _ in listed], np.uint32)
    numbers = np.array([number for _, number in listed], np.uint8)
    ids = np.empty(colours.shape[:2], np.uint8)
    unknown: Counter[int] = Counter()
    rows = max(1, _PIXELS_AT_ONCE // colours.shape[1])
    for start in range(0, len(colours), rows):
        packed = _packed(colours[start : start + rows])
        at = np.minimum(np.searchsorted(known, packed), len(known) - 1)
        ids[start : start + rows] = numbers[at]
        others = packed[known[at] != packed]
        if others.size:
            unknown.update(dict(zip(*(each.tolist() for each in np.unique(others, return_counts=True)), strict=True)))
    if not unknown:
        return ids
    [(colour, count)] = unknown.most_common(1)
    raise photo.PhotoRejected(
        "mask_unknown_value",
        f"has a mask, {name}, with the colour {colour >> 16},{colour >> 8 & 255},{colour & 255} in "
        f"{count / ids.size:.1%} of its pixels, which {classes.listed_in} does not list; add the colour there, or save "
        "the mask without smoothed edges.",
    )


def _packed(colours: np.ndarray) -> np.ndarray:
    """uint32: red, green and blue of each pixel in one number."""
    wide = colours.astype(np.uint32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
