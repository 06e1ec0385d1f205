"""Random changes of training photos: one value eagerly, in a graph and in tf.data, and the geometry by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from components.transform import augmentation  # isort: skip (before TensorFlow: it sets the Keras version)
import tensorflow as tf

from components.transform.augmentation import Augmentation, augment, draw, seeds_for, transforms
from schemas.errors import BadInput

EVERYTHING = Augmentation(flip=True, rotation_degrees=20, zoom=0.2, scale_jitter=0.4, colour=0.3)
GEOMETRY = Augmentation(flip=True, rotation_degrees=20, zoom=0.2, scale_jitter=0.4)
EACH = [
    Augmentation(flip=True), Augmentation(rotation_degrees=30), Augmentation(zoom=0.5), Augmentation(scale_jitter=0.5),
    Augmentation(colour=0.5),
]  # fmt: skip
# Draws that change nothing: no flip, angle 0, zoom 1, whole photo, factors 1.
NEUTRAL = {"flip": 0.75, "angle": 0.5, "zoom": 0.5, "side": 1.0, "left": 0.5, "top": 0.5,
           "brightness": 0.5, "contrast": 0.5, "saturation": 0.5}  # fmt: skip

pytestmark = pytest.mark.slow  # tracing many graphs takes its time


def photos(count=5, height=12, width=12, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, [count, height, width, 3]).astype(np.float32)


def seeds(count=5):
    return tf.constant([[i, 7] for i in range(count)], tf.int64)


@tf.function
def draw_in_a_graph(seeds):
    return draw(seeds)


def numbers_drawn(count):
    """What `augment` draws from `seeds(count)`."""
    return {name: numbers.numpy() for name, numbers in draw_in_a_graph(seeds(count)).items()}


def drawn_by_hand(monkeypatch, **values):
    """Makes `augment` draw these numbers for every photo, and otherwise what changes nothing."""

    def fixed(seeds):
        return {name: tf.fill(tf.shape(seeds)[:1], value) for name, value in {**NEUTRAL, **values}.items()}

    monkeypatch.setattr(augmentation, "draw", fixed)


def eagerly(images, seeds, settings):
    return augment(tf.constant(images), seeds, settings)


def in_a_graph(images, seeds, settings):
    signature = [tf.TensorSpec([None, None, None, 3], tf.float32), tf.TensorSpec([None, 2], seeds.dtype)]
    traced = tf.function(lambda *batch: augment(*batch, settings), input_signature=signature)
    return traced(images, seeds)


def in_tf_data(images, seeds, settings):
    data = tf.data.Dataset.from_tensor_slices((images, seeds)).batch(len(images), drop_remainder=True)
    return next(iter(data.map(lambda *batch: augment(*batch, settings), num_parallel_calls=2)))


EVERYWHERE = pytest.mark.parametrize("run", [eagerly, in_a_graph, in_tf_data])


# One value everywhere


@EVERYWHERE
def test_augment_has_one_value_everywhere(run):
    """A gradient of red from left to right, flipped or not, and with other colours: computed by hand."""
    red = np.linspace(0.3, 0.6, 4, dtype=np.float32)
    images = np.zeros([6, 4, 4, 3], np.float32) + np.stack([red, red * 0 + 0.4, red * 0 + 0.5], axis=-1)
    drawn = numbers_drawn(6)
    assert 0 < np.count_nonzero(drawn["flip"] < 0.5) < 6, "choose other seeds"
    changed = run(images, seeds(6), Augmentation(flip=True, colour=0.2))
    assert changed.dtype == tf.float32
    assert changed.shape[1:] == (4, 4, 3)
    for i in range(6):
        photo = images[i, :, ::-1] if drawn["flip"][i] < 0.5 else images[i]
        brightness, contrast, saturation = (
            0.2 * (2 * drawn[name][i] - 1) for name in ("brightness", "contrast", "saturation")
        )
        photo = photo + brightness
        mean = (photo @ [0.299, 0.587, 0.114]).mean()
        photo = mean + (1 + contrast) * (photo - mean)
        grey = (photo @ [0.299, 0.587, 0.114])[..., np.newaxis]
        photo = grey + (1 + saturation) * (photo - grey)
        np.testing.assert_allclose(changed[i], photo, atol=1e-5)


@pytest.mark.parametrize("settings", [EVERYTHING, *EACH])
def test_it_is_the_same_everywhere(settings):
    images = photos(9)
    expected = eagerly(images, seeds(9), settings)
    assert not np.array_equal(expected, images)
    for run in (in_a_graph, in_tf_data):
        np.testing.assert_allclose(run(images, seeds(9), settings), expected, atol=1e-6)


@EVERYWHERE
def test_without_anything_active_nothing_changes(run):
    nothing = Augmentation()
    assert not nothing.active
    images = photos()
    np.testing.assert_array_equal(run(images, seeds(), nothing), images)
    tensor = tf.constant(images)
    assert augment(tensor, seeds(), nothing) is tensor


def test_every_setting_is_active_alone():
    for settings in EACH:
        assert settings.active
        assert not np.array_equal(augment(photos(9), seeds(9), settings), photos(9))


def test_the_seeds_type_does_not_matter_and_a_batch_may_be_empty():
    images = photos()
    expected = augment(images, seeds(), EVERYTHING)
    np.testing.assert_array_equal(augment(images, tf.cast(seeds(), tf.int32), EVERYTHING), expected)
    empty = augment(tf.zeros([0, 12, 12, 3]), tf.zeros([0, 2], tf.int64), EVERYTHING)
    assert empty.shape == [0, 12, 12, 3]


# Each photo for itself


@pytest.mark.parametrize("settings", [EVERYTHING, *EACH])
def test_a_photo_changes_by_its_own_seed_and_pixels_alone(settings):
    """In a batch, in another order, beside other photos, alone: the same to the last bit."""
    images, own = photos(9, 40, 40), seeds(9)
    together = augment(images, own, settings).numpy()
    order = [4, 8, 0, 3]
    np.testing.assert_array_equal(augment(images[order], tf.gather(own, order), settings), together[order])
    for i in (0, 8):
        np.testing.assert_array_equal(augment(images[i : i + 1], own[i : i + 1], settings)[0], together[i])
    others = np.concatenate([images[:1], 1 - images[1:]])
    np.testing.assert_array_equal(augment(others, own, settings)[0], together[0])


def test_the_geometry_is_the_same_to_the_bit_in_any_batch():
    """Vectorised float32 sines differ from single ones in some of these."""
    count, settings = 300, Augmentation(flip=True, rotation_degrees=180, zoom=0.2, scale_jitter=0.4)
    drawn = draw_in_a_graph(seeds(count))
    together = transforms(drawn, 64, 64, settings).numpy()
    for i in range(count):
        alone = transforms({name: numbers[i : i + 1] for name, numbers in drawn.items()}, 64, 64, settings)
        np.testing.assert_array_equal(alone[0], together[i])


def test_other_seeds_change_a_photo_otherwise():
    images = np.repeat(photos(1), 20, axis=0)
    changed = augment(images, seeds(20), EVERYTHING).numpy()
    assert len(np.unique(changed.reshape([20, -1]), axis=0)) == 20
    assert len(np.unique(list(numbers_drawn(20).values()))) == 20 * 9
    # Either half of the seed counts.
    assert not np.array_equal(augment(images[:1], tf.constant([[0, 8]]), EVERYTHING)[0], changed[0])


def test_an_inactive_setting_changes_nothing_of_the_others():
    """Every number is drawn, whatever is active."""
    images = photos()
    moved = augment(images, seeds(), GEOMETRY)
    recoloured = augment(moved, seeds(), Augmentation(colour=0.3))
    np.testing.assert_allclose(augment(images, seeds(), EVERYTHING), recoloured, atol=1e-5)


def test_the_draws_fill_their_range_evenly():
    drawn = numbers_drawn(2000)
    assert list(drawn) == list(NEUTRAL)
    for numbers in drawn.values():
        counts, _ = np.histogram(numbers, bins=10, range=(0, 1))
        assert counts.sum() == 2000
        assert (np.abs(counts - 200) < 70).all()  # five standard deviations
    correlation = np.corrcoef(np.stack(list(drawn.values())))
    assert np.abs(correlation - np.eye(9)).max() < 0.12


# Seeds


HASHES = ["00ff" * 16, "00fe" * 16, "abcd" * 16]


def test_seeds_depend_on_content_view_and_run_alone():
    def of(hashes, view, seed):
        return seeds_for(tf.constant(hashes), view, seed)

    own = of(HASHES, 1, 42)
    assert (own.dtype, own.shape) == (tf.int64, [3, 2])
    np.testing.assert_array_equal(of(HASHES[::-1], 1, 42), own[::-1])
    np.testing.assert_array_equal(of(HASHES[:1], tf.constant(1, tf.int64), 42), own[:1])
    several = [own, of(HASHES, 2, 42), of(HASHES, 1, 43), of(HASHES, 4, 21), of(HASHES, 14, 2)]
    numbers = np.stack(several).ravel()
    assert len(np.unique(numbers)) == len(numbers)
    assert (numbers >= 0).all()


def test_seeds_are_the_same_everywhere_and_for_ever():
    """The numbers themselves: other ones would change every cached view."""
    expected = seeds_for(tf.constant(HASHES), 1, 42)
    np.testing.assert_array_equal(expected[0], [6440681888896107542, 1632488382217654700])
    np.testing.assert_allclose(draw(expected[:1])["flip"], [0.24700654])
    traced = tf.function(lambda hashes, view: seeds_for(hashes, view, 42))
    np.testing.assert_array_equal(traced(tf.constant(HASHES), tf.constant(1)), expected)
    data = tf.data.Dataset.from_tensors(tf.constant(HASHES)).map(lambda hashes: seeds_for(hashes, 1, 42))
    np.testing.assert_array_equal(next(iter(data)), expected)


# Geometry by hand


def changed_by(monkeypatch, images, settings, **values):
    drawn_by_hand(monkeypatch, **values)
    return augment(tf.constant(images), seeds(len(images)), settings).numpy()


def test_neutral_draws_change_nothing(monkeypatch):
    images = photos()
    np.testing.assert_allclose(changed_by(monkeypatch, images, EVERYTHING), images, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(12, 12), (7, 7), (6, 9)])
def test_a_flip_is_an_exact_mirror_image(monkeypatch, height, width):
    images, flip = photos(5, height, width), Augmentation(flip=True)
    np.testing.assert_array_equal(changed_by(monkeypatch, images, flip, flip=0.49), images[:, :, ::-1])
    np.testing.assert_array_equal(changed_by(monkeypatch, images, flip, flip=0.5), images)


def test_about_every_other_photo_is_flipped():
    images = np.repeat(photos(1), 400, axis=0)
    changed = augment(images, seeds(400), Augmentation(flip=True)).numpy()
    flipped = (changed == images[:, :, ::-1]).all(axis=(1, 2, 3))
    unchanged = (changed == images).all(axis=(1, 2, 3))
    assert (flipped ^ unchanged).all()
    assert 160 < flipped.sum() < 240


@pytest.mark.parametrize("size", [4, 5])
def test_a_quarter_turn(monkeypatch, size):
    images, quarter = photos(2, size, size), Augmentation(rotation_degrees=90)
    anticlockwise = changed_by(monkeypatch, images, quarter, angle=1.0)
    np.testing.assert_allclose(anticlockwise, np.rot90(images, axes=(1, 2)), atol=1e-5)
    clockwise = changed_by(monkeypatch, images, quarter, angle=0.0)
    np.testing.assert_allclose(clockwise, np.rot90(images, -1, axes=(1, 2)), atol=1e-5)


def test_the_angle_is_in_degrees(monkeypatch):
    half_turn = changed_by(monkeypatch, photos(), Augmentation(rotation_degrees=180), angle=1.0)
    np.testing.assert_allclose(half_turn, photos()[:, ::-1, ::-1], atol=1e-4)


def gradient(size=16):
    """Red grows by 1 / (size - 1) a column, green a row: float32 [1, size, size, 3]."""
    y, x = np.mgrid[:size, :size] / (size - 1)
    return np.stack([x, y, x * 0], axis=-1)[np.newaxis].astype(np.float32)


def test_zooming_in_doubles_and_out_halves_about_the_centre(monkeypatch):
    """Half-pixel centres: on a gradient the centre keeps its value and the slope changes by the factor."""
    size, zoom = 16, Augmentation(zoom=0.5)
    columns = np.arange(size) - 7.5
    for drawn, factor in ((1.0, 1.5), (0.0, 0.5), (0.75, 1.25)):
        changed = changed_by(monkeypatch, gradient(size), zoom, zoom=drawn)[0]
        expected = (7.5 + columns / factor) / (size - 1)
        inside = (expected >= 0) & (expected <= 1)
        assert np.count_nonzero(inside) == (16 if factor > 1 else 8)
        np.testing.assert_allclose(changed[8, inside, 0], expected[inside], atol=1e-5)
        np.testing.assert_allclose(changed[inside, 8, 1], expected[inside], atol=1e-5)


def test_beyond_the_edge_lies_the_mirror_image(monkeypatch):
    changed = changed_by(monkeypatch, gradient(16), Augmentation(zoom=0.5), zoom=0.0)[0, 8, :, 0] * 15
    # Column 0 lies 15 columns left of the centre, at -7.5: between the mirror images of 6 and 7.
    np.testing.assert_allclose(changed, np.abs(np.abs(np.arange(-7.5, 24, 2) + 0.5 - 16) - 16) - 0.5, atol=1e-4)


@pytest.mark.parametrize(("left", "top"), [(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.25, 0.5)])
def test_a_crop_is_that_part_of_the_photo_resized(monkeypatch, left, top):
    """Half of the side: the same as cutting out and resizing, but at the edges of the part."""
    images, jitter = photos(1, 16, 16), Augmentation(scale_jitter=0.5)
    changed = changed_by(monkeypatch, images, jitter, side=0.0, left=left, top=top)
    x, y = int(left * 8), int(top * 8)
    resized = tf.image.resize(images[:, y : y + 8, x : x + 8], [16, 16], method="bilinear")
    np.testing.assert_allclose(changed[:, 1:-1, 1:-1], resized[:, 1:-1, 1:-1], atol=1e-5)


def test_a_crop_of_the_whole_photo_is_the_photo(monkeypatch):
    whole = changed_by(monkeypatch, photos(), Augmentation(scale_jitter=0.5), side=1.0, left=0.0, top=1.0)
    np.testing.assert_allclose(whole, photos(), atol=1e-5)


def test_crops_stay_inside_the_photo():
    """At any scale and place: without zoom and turn, no corner of the result lies outside."""
    size = 16
    rows = transforms(draw_in_a_graph(seeds(500)), size, size, Augmentation(scale_jitter=0.9)).numpy()
    for edge in (-0.5, size - 0.5):
        corners = rows[:, [0, 4]] * edge + rows[:, [2, 5]]
        assert corners.min() >= -0.5 - 1e-4
        assert corners.max() <= size - 0.5 + 1e-4
    assert 0.1 <= rows[:, 0].min() < 0.15 < 0.95 < rows[:, 0].max() <= 1


def forward(point, drawn, i, size):
    """Where a point of the photo, (x, y) in pixels from 0, lies after all of GEOMETRY: step by step."""
    centre = np.array([size - 1, size - 1]) / 2
    side = 0.6 + 0.4 * drawn["side"][i]
    corner = np.array([drawn["left"][i], drawn["top"][i]]) * (1 - side) * size  # of the crop, in edges from 0
    position = (point + 0.5 - corner) / side - 0.5 - centre
    position = position * (0.8 + 0.4 * drawn["zoom"][i])
    angle = math.radians(20 * (2 * drawn["angle"][i] - 1))
    x, y = position  # y points down: anticlockwise is towards negative y
    position = np.array([x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)])
    if drawn["flip"][i] < 0.5:
        position[0] = -position[0]
    return position + centre


def test_a_bright_square_is_where_the_steps_bring_it():
    """Twelve random changes of a square in the upper left, which lies inside the photo after most of them."""
    size, found = 64, 0
    images = np.zeros([12, size, size, 3], np.float32)
    images[:, 14:21, 20:27] = 1
    drawn = numbers_drawn(12)
    changed = augment(images, seeds(12), GEOMETRY).numpy()[..., 0]
    y, x = np.mgrid[:size, :size]
    for i in range(12):
        expected = forward(np.array([23.0, 17.0]), drawn, i, size)
        if expected.min() < 12 or expected.max() > size - 13:
            continue
        found += 1
        near = changed[i] * (np.hypot(x - expected[0], y - expected[1]) < 12)
        centroid = np.array([(near * x).sum(), (near * y).sum()]) / near.sum()
        np.testing.assert_allclose(centroid, expected, atol=0.05)
        scale = (0.8 + 0.4 * drawn["zoom"][i]) / (0.6 + 0.4 * drawn["side"][i])
        assert near.sum() == pytest.approx(49 * scale**2, rel=0.02)
    assert found >= 6


# Colour


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_one_colour_change_alone(monkeypatch, name):
    images = 0.3 + 0.4 * photos()
    grey = (images @ np.array([0.299, 0.587, 0.114], np.float32))[..., np.newaxis]
    mean = grey.mean(axis=(1, 2), keepdims=True)
    for drawn, sign in ((0.0, -1), (1.0, 1)):
        changed = changed_by(monkeypatch, images, Augmentation(colour=0.2), **{name: drawn})
        expected = {
            "brightness": images + sign * 0.2,
            "contrast": mean + (1 + sign * 0.2) * (images - mean),
            "saturation": grey + (1 + sign * 0.2) * (images - grey),
        }[name]
        np.testing.assert_allclose(changed, expected, atol=1e-5)


def test_values_stay_in_range():
    images = np.round(photos(40))  # black and white in every channel
    wild = Augmentation(flip=True, rotation_degrees=180, zoom=0.9, scale_jitter=0.9, colour=0.9)
    for settings in (wild, *EACH):
        changed = augment(images, seeds(40), settings).numpy()
        assert (changed.min(), changed.max()) == (0, 1)


# Settings


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("zoom", 1, "at least 0 and below 1"),
        ("zoom", -0.1, "at least 0 and below 1"),
        ("scale_jitter", 1.0, "at least 0 and below 1"),
        ("colour", 2.0, "at least 0 and below 1"),
        ("rotation_degrees", 181, "from 0 to 180"),
        ("rotation_degrees", float("nan"), "from 0 to 180"),
    ],
)
def test_settings_out_of_range(name, value, expected):
    with pytest.raises(BadInput) as error:
        Augmentation(**{name: value})
    assert str(error.value) == f"training.augmentation.{name} (={value}) must be {expected}."
