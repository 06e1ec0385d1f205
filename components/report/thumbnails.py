"""Small pictures for a page: JPEG of at most 160 pixels a side, as data URIs."""

from __future__ import annotations

import io
import os
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from PIL import Image, ImageFile
from tfx.dsl.io import fileio
from tfx.types import Artifact

from components.example_gen.photo import orientation_of, to_rgb, upright
from components.example_gen.photo_rules import WHITE, Colour, PhotoRules
from components.explanation.pictures import jpeg_uri
from components.records import read_examples, split_files, text
from schemas import features as f

SIDE = 160  # pixels, of the longer side
# Tried in turn until a picture has few enough bytes; noise takes ten times what a photo takes.
_QUALITIES = (70, 50, 30)
_ENOUGH_BYTES = 12_000
# What was rejected may be anything: no more is read of it, and no decoder of a rare format is asked.
_MOST_BYTES = 64 * 2**20
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")


def open_small(photo_bytes: bytes, max_pixels: int | None, background: Colour, side: int = SIDE) -> Image.Image:
    """A photo, upright, in RGB, and at least `side` pixels wide and high unless it is smaller.

    A JPEG is decoded at a fraction of its size if that is enough, which is much faster.

    Args:
      max_pixels: the largest photo to decode; None for no limit.

    Raises:
      ValueError: the photo has more pixels than `max_pixels`.
      Exception: whatever Pillow raises for bytes that are not a photo.
    """
    with Image.open(io.BytesIO(photo_bytes), formats=_FORMATS) as opened:
        if max_pixels is not None and opened.width * opened.height > max_pixels:
            raise ValueError(f"{opened.width} x {opened.height} pixels")
        orientation = orientation_of(opened)
        opened.draft("RGB", (side, side))
        opened.load()
        return upright(to_rgb(opened, background), orientation)


def thumbnail(photo_bytes: bytes, max_pixels: int | None = None, background: Colour = WHITE) -> str | None:
    """A data URI of a small JPEG; None if the photo cannot be decoded or has more than `max_pixels` pixels."""
    try:
        image = small_photo(photo_bytes, max_pixels, background)
    except Exception:  # Pillow raises a dozen kinds
        return None
    return small_jpeg(image)


def small_photo(photo_bytes: bytes, max_pixels: int | None = None, background: Colour = WHITE) -> Image.Image:
    """A photo, upright, in RGB, at most `SIDE` pixels wide and high; the errors are those of `open_small`."""
    image = open_small(photo_bytes, max_pixels, background)
    image.thumbnail((SIDE, SIDE))
    return image


def small_jpeg(image: Image.Image) -> str:
    """A data URI of a small picture."""
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= _ENOUGH_BYTES:
            break
    return jpeg_uri(buffer.getvalue())


def thumbnail_of_rejected(path: str, rules: PhotoRules) -> str | None:
    """A data URI of a rejected file as far as it can be decoded; None if it cannot.

    Args:
      path: path of the file, which may contain anything and may be gone.
      rules: rules of the run; photos larger than they allow are not decoded.
    """
    try:
        if "://" not in path and not os.path.isfile(path):  # a pipe would be waited for
            return None
        with fileio.open(path, "rb") as file:
            photo_bytes = file.read(_MOST_BYTES + 1)
    except Exception:  # each file system has its own
        return None
    if len(photo_bytes) > _MOST_BYTES:
        return None
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # the upper half of a photo is better than nothing
    try:
        return thumbnail(photo_bytes, rules.max_pixels, rules.colour)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


class Album:
    """Collects the photos to show; their thumbnails are made at the end, in one pass with one photo in memory."""

    def __init__(self, background: Colour = WHITE) -> None:
        self.background = background
        self._shown: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
        self._kept: dict[int, bytes | None] = {}  # by the identity of what is shown
        self._drawn: dict[int, Callable[[tf.train.Example], None]] = {}

    def photo(self, content_hash: str, name: str, label: str, split: str) -> dict[str, Any]:
        """The findings' entry for a photo; its `thumbnail` is None until `fill`."""
        shown = {"name": name or content_hash, "label": label, "split": split, "thumbnail": None}
        self._shown[split][content_hash].append(shown)
        return shown

    def keep(self, shown: dict[str, Any]) -> None:
        """Asks `fill` to keep the photo's bytes for `kept`; meant for a few photos."""
        self._kept[id(shown)] = None

    def kept(self, shown: dict[str, Any]) -> bytes | None:
        """The bytes of a photo passed to `keep`; None if it was not found."""
        return self._kept.get(id(shown))

    def draw(self, shown: dict[str, Any], make: Callable[[tf.train.Example], None]) -> None:
        """Asks `fill` to call `make` with the photo's example."""
        self._drawn[id(shown)] = make

    def fill(self, photos: Artifact) -> None:
        """Makes the thumbnails."""
        for split, wanted in self._shown.items():
            missing = dict(wanted)
            for example in read_examples(split_files(photos, split)):
                if shown := missing.pop(text(example, f.CONTENT_HASH), None):
                    photo_bytes = example.features.feature[f.IMAGE].bytes_list.value[0]
                    picture = thumbnail(photo_bytes, background=self.background)
                    for each in shown:
                        each["thumbnail"] = picture
                        if id(each) in self._kept:
                            self._kept[id(each)] = photo_bytes
                        if id(each) in self._drawn:
                            self._drawn[id(each)](example)
                if not missing:
                    break
