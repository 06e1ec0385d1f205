"""Masks as pictures: the same colour for a class everywhere, and ids that stay ids."""

import io

import numpy as np
import pytest
from PIL import Image

from components.overlays.drawing import mistakes, overlay, palette_png
from components.overlays.palette import colour, colour_name, hex_colour, palette

LABELS = ["pet", "background", "border"]
IDS = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 1, 255]], np.uint8)


def test_each_class_has_its_colour_and_the_background_none():
    assert [hex_colour(i, LABELS) for i in range(3)] == ["#e69f00", None, "#009e73"]
    assert [colour_name(i, LABELS) for i in range(3)] == ["orange", "not tinted", "bluish green"]
    many = [f"class {i}" for i in range(21)]
    assert len({colour(i) for i in range(21)}) == 21
    assert len({colour_name(i, many) for i in range(21)}) == 21
    assert palette(LABELS)[[0, 1, 2, 3, 255]].tolist() == [
        [230, 159, 0],
        [0, 0, 0],
        [0, 158, 115],
        [0, 0, 0],
        [255, 255, 255],
    ]


@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette_png_shows_colours_and_holds_ids(transparent):
    image = Image.open(io.BytesIO(palette_png(IDS, LABELS, transparent)))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), IDS)
    assert image.convert("RGBA").getpixel((0, 0)) == (230, 159, 0, 128 if transparent else 255)
    assert image.convert("RGBA").getpixel((2, 0)) == (0, 0, 0, 0 if transparent else 255)


def test_an_overlay_tints_classes_leaves_the_background_and_draws_a_line_between_them():
    photo = Image.new("RGB", (8, 6), (100, 100, 100))
    drawn = np.asarray(overlay(photo, IDS, LABELS))
    assert drawn.shape == (6, 8, 3)
    assert drawn[0, 0].tolist() == [165, 130, 50]
    assert drawn[0, 5].tolist() == [100, 100, 100]
    assert drawn[0, 3].tolist() == [255, 255, 255]  # beside the background
    assert drawn[5, 7].tolist() == [100, 100, 100]  # not counted: grey


def test_mistakes_are_coloured_and_pixels_not_counted_are_none():
    photo = Image.new("RGB", (4, 3), (100, 100, 100))
    answered = np.zeros_like(IDS)
    drawn = np.asarray(mistakes(photo, IDS, answered))
    grey = (drawn == drawn[..., :1]).all(axis=-1)
    np.testing.assert_array_equal(grey, (IDS == 0) | (IDS == 255))
