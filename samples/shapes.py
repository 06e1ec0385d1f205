"""Shapes, colours and textures to draw with."""

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops

from samples.breeds import (
    Colour,
)

Corners = list[tuple[float, float]]
Random = np.random.Generator
DRAWING_SIDE = 384  # pixels of the longer side while drawing; the photo is resized afterwards
CIRCLE = np.linspace(0, 2 * math.pi, 28, endpoint=False)


def blob(x: float, y: float, half_width: float, half_height: float, degrees: float = 0) -> np.ndarray:
    """Outline of an ellipse: float64 [28, 2]."""
    across, down = half_width * np.cos(CIRCLE), half_height * np.sin(CIRCLE)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.stack([x + cos * across - sin * down, y + sin * across + cos * down], axis=1)


def rounded(corners: Corners) -> np.ndarray:
    """Closed Catmull-Rom curve through `corners`: float64 [6 * corners, 2]."""
    before, here, after, beyond = (np.roll(corners, shift, axis=0)[:, None, :] for shift in (1, 0, -1, -2))
    t = np.linspace(0, 1, 6, endpoint=False)[None, :, None]
    bend = 2 * before - 5 * here + 4 * after - beyond + t * (3 * (here - after) + beyond - before)
    return (here + 0.5 * t * (after - before + t * bend)).reshape(-1, 2)


def both_sides(right_half: Corners) -> np.ndarray:
    """Closed curve through the corners of the right half, from top to bottom, and their mirror image."""
    return rounded(right_half + [(-x, y) for x, y in reversed(right_half) if x])


def whole_colour(values: np.ndarray) -> Colour:
    red, green, blue = np.clip(values, 6, 249).astype(int).tolist()
    return red, green, blue


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """`one` with `share` (0 to 1) of `other`."""
    return whole_colour(np.add(one, share * np.subtract(other, one)))


def any_colour(rng: Random, vividness: float = 28) -> Colour:
    grey = rng.uniform(40, 215)
    return whole_colour(grey + rng.normal(0, vividness, 3))


@lru_cache(maxsize=1)
def tiles() -> dict[str, Image.Image]:
    """1024 x 1024 pixels around 128, the same in every process: L, and RGB for the sensor's noise."""
    rng = np.random.default_rng(0)

    def noise(columns: int, rows: int, contrast: float) -> np.ndarray:
        values = Image.fromarray(rng.normal(0, contrast, (rows, columns)).astype(np.float32))
        return np.asarray(values.resize((1024, 1024), Image.Resampling.BICUBIC))

    def tile(values: np.ndarray) -> Image.Image:
        return Image.fromarray(np.clip(values + 128, 0, 255).astype(np.uint8))

    return {
        "fur": tile(noise(512, 130, 30) + noise(180, 50, 18) + noise(24, 24, 14)),
        "grain": tile(noise(400, 400, 26) + noise(100, 100, 12) + noise(8, 8, 16)),
        "wood": tile(noise(20, 480, 22) + noise(8, 60, 20)),
        "sensor": Image.merge("RGB", [tile(noise(1024, 1024, 20) + noise(512, 512, 14)) for _ in range(3)]),
    }


def texture(rng: Random, name: str, size: tuple[int, int]) -> Image.Image:
    left, top = (int(rng.integers(0, 1025 - side)) for side in size)
    return tiles()[name].crop((left, top, left + size[0], top + size[1]))


def textured(image: Image.Image, grain: Image.Image, strength: float) -> Image.Image:
    grain = grain.point([round(128 + (value - 128) * strength) for value in range(256)])
    return ImageChops.soft_light(image, Image.merge("RGB", [grain] * 3))
