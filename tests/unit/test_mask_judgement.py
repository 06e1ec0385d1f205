"""Each fault of a segmentation model is named with the first photo that shows it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from components.servable_check.mask_judgement import OfMasks

KINDS = ("golden_0", "tiny")


def photo(width: int, height: int) -> bytes:
    turned = Image.Exif()
    turned[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "JPEG", exif=turned)
    return buffer.getvalue()


@pytest.fixture
def photos() -> dict[str, bytes]:
    return {kind: photo(40, 30) for kind in KINDS}


@pytest.fixture
def right() -> dict[str, np.ndarray]:
    return {
        "labels": np.array(["pet", "background", "border"]),
        "mask_sizes": np.array([[40, 30], [40, 30]]),  # upright
        "mask_highest_ids": np.array([2, 1]),
        "mask_share_errors": np.zeros(2),
        "mask_differences": np.zeros(2),
        "ids": np.ones([2, 8, 8], np.uint8),
        "probability_sums": np.array([1.0, 1.0]),
        "probability_differences": np.zeros(2),
        "image_shape": np.array([2, 8, 8, 3]),
        "image_range": np.array([0.0, 1.0]),
        "feature_vector": np.zeros([2, 5]),
        "corrupt_error": np.array("InvalidArgumentError"),
        "after_corrupt": np.array([0.2, 0.3, 0.5]),
        "serving_default_class_shares": np.array([[0.2, 0.3, 0.5]] * 2),
    }


def test_a_model_without_fault_has_none(right, photos):
    assert OfMasks().faults(right, photos) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {"mask_sizes": np.array([[40, 30], [30, 40]])},
            "a mask of another size than the upright photo, first for the photo 'tiny'",
        ),
        ({"mask_highest_ids": np.array([3, 1])}, "an id that is none of its 3 classes, first for the photo 'golden_0'"),
        ({"mask_share_errors": np.array([0.0, np.nan])}, "class_shares that are not those of the mask"),
        ({"mask_differences": np.array([0.0, 0.1])}, "another mask than serve_examples, first for the photo 'tiny'"),
        ({"probability_sums": np.array([0.4, 1.0])}, "probabilities gives sums from 0.4 to 1 for a pixel, not 1"),
        ({"probability_differences": np.array([0.0, 0.3])}, "the signatures disagree about a probability by 3.0e-01"),
        ({"image_range": np.array([0.0, 2.0])}, "transform_features gives values from 0 to 2"),
        ({"corrupt_error": np.array("")}, "a JPEG that is cut in half got an answer and no error"),
        ({"after_corrupt": np.array([0.3, 0.2, 0.5])}, "after a photo that could not be decoded"),
    ],
    ids=lambda change: next(iter(change)) if isinstance(change, dict) else "",
)
def test_each_fault_is_named(right, photos, change, fault):
    [found] = OfMasks().faults({**right, **change}, photos)
    assert fault in found


def test_the_difference_is_the_largest_share_of_a_photos_pixels(right):
    expected = np.ones([1, 8, 8], np.uint8)
    assert OfMasks().difference(right, expected) == 0
    expected[0, 0, :4] = 2
    assert OfMasks().difference(right, expected) == 4 / 64
    assert OfMasks().difference(right, np.ones([1, 4, 4], np.uint8)) == np.inf
