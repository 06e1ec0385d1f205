"""The perceptual hash of a photo: it stays nearly the same when the photo is saved again, resized or lightened.

64 bits: whether each of the lowest frequencies of the grey picture is above their median. Source: Zauner 2010,
"Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.2.1 (DCT based hash).
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

BITS = 64
_HASHED_SIDE, _FREQUENCIES = 32, 8
# The picture is first made smaller in a cheaper way, to no less than so many times that side.
_REDUCING_GAP = 2.0
# A picture of one colour has no frequencies but noise.
_LEAST_CONTRAST = 8  # of 255, between the darkest and the brightest of 32 x 32 fields


def perceptual_hash(image: Image.Image) -> str:
    """The hash of an upright picture, 16 hexadecimal digits; empty where it is of one colour."""
    side = (_HASHED_SIDE, _HASHED_SIDE)
    small = image.convert("L").resize(side, Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)
    grey = np.asarray(small, np.float32)
    if grey.max() - grey.min() < _LEAST_CONTRAST:
        return ""
    basis = _cosines()
    lowest = (basis @ grey @ basis.T).ravel()
    return np.packbits(lowest > np.median(lowest[1:])).tobytes().hex()  # the first is the mean brightness


def bits(found: str) -> np.ndarray | None:
    """The bits of a hash, bool [64]; None where there is none."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(found), np.uint8)).astype(bool) if found else None


@functools.cache
def _cosines() -> np.ndarray:
    """The lowest frequencies of the discrete cosine transform (DCT-II), float32 [8, 32]."""
    places = (np.arange(_HASHED_SIDE) + 0.5) * np.pi / _HASHED_SIDE
    basis = np.cos(np.arange(_FREQUENCIES)[:, None] * places) * np.sqrt(2 / _HASHED_SIDE)
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)
