"""The colour of each class of the pixels, the same on every page and in every file.

The colours are those of Okabe & Ito 2008, "Color Universal Design", which people tell apart whatever colours they see.
There are seven; the next seven classes have them darker, and so on, so with many classes the names beside the colours
have to tell them apart. A class called `background` is not tinted, so that the photo is seen there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.features import IGNORE

_COLOURS = (
    ("orange", (230, 159, 0)),
    ("sky blue", (86, 180, 233)),
    ("bluish green", (0, 158, 115)),
    ("yellow", (240, 228, 66)),
    ("blue", (0, 114, 178)),
    ("vermillion", (213, 94, 0)),
    ("reddish purple", (204, 121, 167)),
)
_SHADES = (("", 1.0), ("dark ", 0.6), ("very dark ", 0.35))
WRONG = (213, 94, 0)
_BACKGROUND = "background"


def colour(class_id: int) -> tuple[int, int, int]:
    """Red, green and blue of a class, 0 to 255."""
    shade = _SHADES[class_id // len(_COLOURS) % len(_SHADES)][1]
    red, green, blue = (round(shade * value) for value in _COLOURS[class_id % len(_COLOURS)][1])
    return red, green, blue


def colour_name(class_id: int, labels: Sequence[str]) -> str:
    """The colour of a class in words, for a legend."""
    if is_background(labels[class_id]):
        return "not tinted"
    return _SHADES[class_id // len(_COLOURS) % len(_SHADES)][0] + _COLOURS[class_id % len(_COLOURS)][0]


def hex_colour(class_id: int, labels: Sequence[str]) -> str | None:
    """The colour of a class such as `#e69f00`; None: it is not tinted."""
    return None if is_background(labels[class_id]) else "#" + "".join(f"{part:02x}" for part in colour(class_id))


def is_background(label: str) -> bool:
    """Whether a class is what the others stand in front of."""
    return label.casefold() == _BACKGROUND


def palette(labels: Sequence[str]) -> np.ndarray:
    """A colour for each value of a mask, uint8 [256, 3]: black for the background, white for pixels not counted."""
    found = np.zeros((256, 3), np.uint8)
    for class_id, label in enumerate(labels):
        if not is_background(label):
            found[class_id] = colour(class_id)
    found[IGNORE] = 255
    return found
