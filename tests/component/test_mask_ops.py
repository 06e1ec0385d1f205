"""Masks at the model's size, and moved as their photos are."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf

from components.transform.augmentation import Augmentation, augment, seeds_for
from components.transform.mask_ops import augment_masks, masks_to_ids

SIZE = 32


def png(ids: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(ids.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_mask_is_resized_without_new_ids_and_keeps_ignored_pixels():
    ids = np.random.default_rng(1).choice([0, 1, 2, 254, 255], [50, 70])
    found = masks_to_ids(tf.constant([png(ids), png(ids[:, ::-1])]), SIZE).numpy()
    assert (found.shape, found.dtype) == ((2, SIZE, SIZE), np.uint8)
    assert set(np.unique(found)) == {0, 1, 2, 254, 255}
    # The pixel whose centre is nearest.
    rows = np.floor((np.arange(SIZE) + 0.5) * 50 / SIZE).astype(int)
    columns = np.floor((np.arange(SIZE) + 0.5) * 70 / SIZE).astype(int)
    np.testing.assert_array_equal(found[0], ids[np.ix_(rows, columns)])


def test_a_mask_of_the_models_size_stays_as_it_is():
    ids = np.random.default_rng(2).integers(0, 9, [SIZE, SIZE])
    np.testing.assert_array_equal(masks_to_ids(tf.constant([png(ids)]), SIZE)[0], ids)


def test_no_masks_are_none():
    assert masks_to_ids(tf.constant([], tf.string), SIZE).shape == (0, SIZE, SIZE)


@pytest.mark.parametrize(
    "settings",
    [
        Augmentation(flip=True),
        Augmentation(rotation_degrees=30.0),
        Augmentation(zoom=0.3),
        Augmentation(scale_jitter=0.4),
        Augmentation(flip=True, rotation_degrees=10.0, zoom=0.1, scale_jitter=0.2, colour=0.3),
    ],
    ids=["flip", "rotation", "zoom", "crop", "all"],
)
def test_a_mask_moves_as_its_photo(settings):
    """The photos are pictures of the masks themselves: of one colour where a mask has one class."""
    y, x = np.mgrid[:SIZE, :SIZE]
    centres = np.random.default_rng(3).uniform(8, 24, [12, 2])
    ids = np.stack([np.hypot(y - a, x - b) < 7 for a, b in centres]).astype(np.uint8)
    images = tf.repeat(tf.cast(ids, tf.float32)[..., tf.newaxis], 3, axis=-1)
    seeds = seeds_for(tf.constant([f"{i:064x}" for i in range(12)]), 1, 7)
    without_colour = Augmentation(**{**vars(settings), "colour": 0.0})
    pictures = augment(images, seeds, without_colour).numpy()[..., 0]
    moved = augment_masks(tf.constant(ids), seeds, settings).numpy()
    of_one_class = (pictures == 0) | (pictures == 1)
    assert of_one_class.mean() > 0.7
    np.testing.assert_array_equal(moved[of_one_class], pictures[of_one_class])
    assert (moved != ids).any(axis=(1, 2)).sum() >= 4


def test_colours_change_no_mask():
    ids = tf.zeros([2, 8, 8], tf.uint8)
    assert augment_masks(ids, tf.zeros([2, 2], tf.int64), Augmentation(colour=0.5)) is ids
