"""Feature maps, channels' images, and the names by which layers are asked for."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf

from components.explanation import layers, pictures
from components.explanation.explained_model import ExplainedModel, load_model
from schemas.errors import BadInput

NAMES = ["stem_conv", "stem_bn", "stem_activation", "top_conv", "top_bn", "top_activation"]


@pytest.fixture(scope="module")
def model(exported_model) -> ExplainedModel:
    return load_model(exported_model)


@pytest.fixture(scope="module")
def image(model, drawn_photos) -> np.ndarray:
    return model.images([drawn_photos[0].photo_bytes])[0]


def named(model: ExplainedModel, name: str) -> layers.Layer:
    return next(layer for layer in model.layers if layer.name == name)


# ---- layers and their maps


def test_the_layers_of_a_module_are_reached_by_the_names_it_was_built_with(model):
    assert [layer.name for layer in model.layers] == NAMES
    assert {(layer.height, layer.width, layer.channels) for layer in model.layers} == {(8, 8, 8)}


def test_feature_maps_are_the_activations(model, image, exported_model):
    values = {v.name: v for v in tf.saved_model.load(exported_model).model_variables}
    convolved = tf.nn.conv2d(image[np.newaxis], values["stem_conv/kernel:0"], 2, "SAME")[0].numpy()
    by_name = dict(zip(NAMES, layers.feature_maps(model, image, model.layers), strict=True))
    np.testing.assert_allclose(by_name["stem_conv"], convolved, atol=1e-5)
    np.testing.assert_allclose(by_name["stem_activation"], np.maximum(by_name["stem_bn"], 0), atol=1e-6)
    # The last of them is what the head's vectors are the mean of.
    served = tf.saved_model.load(exported_model)
    vector = served.backbone(image[np.newaxis], training=False)[0].numpy()
    np.testing.assert_allclose(by_name["top_activation"].mean(axis=(0, 1)), vector, atol=1e-5)


def test_the_channels_that_tell_places_apart_come_first():
    maps = np.zeros([4, 4, 3], np.float32)
    maps[..., 0] = 9.0  # large, and everywhere the same
    maps[0, 0, 2], maps[1, 1, 1] = 5.0, 1.0
    assert layers.strongest_channels(maps, 2) == [2, 1]


def test_without_a_pattern_activations_are_chosen_evenly(model):
    assert [layer.name for layer in layers.choose_layers(model, None)] == ["stem_activation", "top_activation"]


def test_a_pattern_chooses_all_that_it_is_found_in(model):
    assert [layer.name for layer in layers.choose_layers(model, "^top_|stem_bn")] == ["stem_bn", *NAMES[3:]]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("top_activatoin", "no layer matches 'top_activatoin'; the nearest of 6 are top_activation, "),
        ("(", "the layer pattern '[(]' is not a valid regular expression: "),
    ],
)
def test_a_pattern_that_matches_nothing_is_answered_with_the_nearest_names(model, pattern, said):
    with pytest.raises(BadInput, match=said):
        layers.choose_layers(model, pattern)


def test_one_layer_is_asked_for_by_its_whole_name_or_by_a_pattern_of_its_own(model):
    assert layers.choose_layer(model, "top_bn").name == "top_bn"
    assert layers.choose_layer(model, "stem_a").name == "stem_activation"
    with pytest.raises(
        BadInput, match=r"2 layers match 'activation' \(stem_activation, top_activation \.\.\.\); expected one"
    ):
        layers.choose_layer(model, "activation")


def test_layers_that_cannot_be_reached_are_said_to_be(older_model):
    with pytest.raises(BadInput, match="layers cannot be reached: it accepts only encoded photos"):
        layers.choose_layers(load_model(older_model), None)


# ---- images that excite a channel


def test_the_images_excite_their_own_channels(model, image):
    layer, channels = named(model, "top_bn"), [1, 2, 5]
    images = layers.channel_images(model, layer, channels, seed=7)
    assert (images.shape, images.dtype) == ((3, 16, 16, 3), np.float32)
    assert 0 <= images.min() < images.max() <= 1

    def excitement(picture, channel):
        # Wherever the picture lies: the convolution reads every other pixel, and the jitter makes up for that.
        moved = [np.roll(picture, (down, right), (0, 1)) for down in (0, 1) for right in (0, 1)]
        return np.mean([layers.feature_maps(model, one, [layer])[0][..., channel] for one in moved])

    grey = np.full_like(image, 0.5)
    for i, channel in enumerate(channels):
        own, *others = (excitement(picture, channel) for picture in np.roll(images, -i, axis=0))
        assert own > excitement(grey, channel) + 0.5
        assert own > max(others) + 0.2


def test_a_channel_that_a_rectifier_silences_is_excited_in_front_of_it():
    """Behind it no gradient would lead away from grey."""
    kernel = tf.Variable(np.ones([1, 1, 3, 1], np.float32))

    def probabilities(images):
        bright = tf.nn.relu(tf.nn.conv2d(images, kernel, 1, "SAME") - 2.0)  # silent below two thirds
        yes = tf.sigmoid(tf.reduce_mean(bright, axis=[1, 2, 3]))
        return tf.stack([1 - yes, yes], axis=1)

    silent = ExplainedModel(probabilities, 12, ["no", "yes"])
    [picture] = layers.channel_images(silent, silent.layers[-1], [0], seed=1, steps=40)
    assert layers.feature_maps(silent, picture, [silent.layers[-1]])[0].mean() > 0.5


def test_a_seed_draws_the_same_images_and_another_one_others(model):
    layer = named(model, "stem_activation")
    first, again, other = (layers.channel_images(model, layer, [1], seed, steps=8) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.05


# ---- pictures


def coloured(picture: Image.Image) -> np.ndarray:
    """Where a picture is not grey: bool [height, width]."""
    pixels = np.asarray(picture.convert("RGB"), int)
    return pixels.max(axis=-1) - pixels.min(axis=-1) > 24


def test_the_heat_lies_where_it_belongs_in_a_photo_that_is_stored_turned():
    """The model sees the photo upright and squeezed into a square; the picture is upright and in the photo's shape."""
    buffer, turned = io.BytesIO(), Image.Exif()
    turned[0x0112] = 6  # the stored picture's left side is up
    Image.new("RGB", (400, 200), (90, 140, 60)).save(buffer, "JPEG", exif=turned)
    heat = np.zeros([16, 16], np.float32)
    heat[:4, 8:] = 1.0  # the upper quarter of the right half
    picture = Image.open(io.BytesIO(pictures.overlay_jpeg(buffer.getvalue(), heat, max_side=160)))
    assert (picture.format, picture.size) == ("JPEG", (80, 160))
    where = coloured(picture)
    assert where[8:32, 48:].all()
    assert not where[56:].any()
    assert not where[:, :32].any()


def test_a_small_photo_stays_small(drawn_photos):
    photo = drawn_photos[0].photo_bytes
    heat = np.zeros([16, 16], np.float32)
    assert Image.open(io.BytesIO(pictures.overlay_jpeg(photo, heat))).size == Image.open(io.BytesIO(photo)).size


def test_any_caption_can_be_drawn_and_keeps_to_its_column():
    hostile = ["a\nb\tc", "عربى", "x" * 300, "", "\u202edrawkcab\x00", "日本語 <b>&amp;"]
    tile, heat = Image.new("RGB", (30, 20)), np.zeros([4, 4], np.float32)
    rows = [(caption, [(caption, heat), (caption, heat)]) for caption in hostile]
    wide = pictures.heat_picture(tile, rows).width
    assert wide == pictures.heat_picture(tile, [("", [("", heat), ("", heat)])]).width
    assert pictures.feature_map_picture(tile, rows).width < 4 * (pictures.MAP_SIDE + 2 * pictures.GAP)
