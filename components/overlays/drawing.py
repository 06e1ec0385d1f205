"""Masks drawn: over a photo, as a PNG of ids, and where they are wrong."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from components.overlays.palette import WRONG, is_background, palette
from schemas.features import IGNORE

_TINT = 0.5


def overlay(photo: Image.Image, ids: np.ndarray, labels: Sequence[str]) -> Image.Image:
    """A photo tinted by the classes of its mask, with a white line of one pixel between two classes.

    Args:
      photo: upright, in RGB.
      ids: uint8 [any, any], of the whole photo, whatever the shape of either; `IGNORE` is drawn in grey.
      labels: the classes in the order of their ids.
    """
    shown = _fitted(ids, photo.size)
    pixels = np.asarray(photo, np.float32)
    tinted = (1 - _TINT) * pixels + _TINT * palette(labels)[shown]
    tinted[shown == IGNORE] = pixels[shown == IGNORE].mean(axis=-1, keepdims=True)
    for class_id, label in enumerate(labels):
        if is_background(label):
            tinted[shown == class_id] = pixels[shown == class_id]
    tinted[_contour(shown)] = 255
    return Image.fromarray(np.rint(tinted).astype(np.uint8))


def mistakes(photo: Image.Image, true: np.ndarray, answered: np.ndarray) -> Image.Image:
    """A photo in grey, with the pixels that are answered wrongly in vermillion; pixels not counted are right.

    Args:
      photo: upright, in RGB.
      true, answered: ids, uint8 [any, any] each, of the whole photo.
    """
    truth, answer = _fitted(true, photo.size), _fitted(answered, photo.size)
    grey = np.repeat(np.asarray(photo.convert("L"), np.float32)[..., np.newaxis] * 0.6 + 80, 3, axis=-1)
    wrong = (truth != answer) & (truth != IGNORE)
    grey[wrong] = 0.2 * grey[wrong] + 0.8 * np.asarray(WRONG, np.float32)
    return Image.fromarray(np.rint(grey).astype(np.uint8))


def palette_png(ids: np.ndarray, labels: Sequence[str], transparent: bool = False) -> bytes:
    """A PNG of ids with a palette: viewers show colours, and what reads indices reads the ids.

    Args:
      ids: uint8 [height, width].
      labels: the classes in the order of their ids.
      transparent: to be laid over the photo: tints let it through, the background all of it.
    """
    image = Image.fromarray(ids, "P")
    image.putpalette(palette(labels).tobytes())
    buffer = io.BytesIO()
    alpha = [round(255 * _TINT)] * 256
    for class_id, label in enumerate(labels):
        if is_background(label):
            alpha[class_id] = 0
    image.save(buffer, "PNG", **({"transparency": bytes(alpha)} if transparent else {}))
    return buffer.getvalue()


def _fitted(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Ids at the size of a photo, width and height: the nearest pixel of each."""
    if ids.shape == size[::-1]:
        return ids
    return np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))


def _contour(ids: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour is of another class, bool [height, width]."""
    found = np.zeros(ids.shape, bool)
    found[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    found[:-1] |= ids[:-1] != ids[1:]
    return found
