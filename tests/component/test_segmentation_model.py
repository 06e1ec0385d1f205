"""The exported segmentation model: masks of the photo's upright size, alone as in a batch, in bounded memory."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
import tensorflow_hub as hub

from components.trainer.segmentation_model import upright_size
from components.transform import mask_ops
from components.transform.mask_ops import ids_at_size
from schemas.labels import read_labels
from tests.conftest import IMAGE_SIZE, MASK_CLASSES


@pytest.fixture(scope="module")
def model(exported_segmenter):
    return tf.saved_model.load(exported_segmenter)


def decoded(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.mode) == ("PNG", "L")
    return np.asarray(image)


def answer(model, photos: list[bytes]) -> dict[str, np.ndarray]:
    return {k: v.numpy() for k, v in model.signatures["serving_default"](image_bytes=tf.constant(photos)).items()}


def test_a_mask_has_the_photos_upright_size_and_the_ids_of_the_classes(model, odd_photos):
    answers = answer(model, list(odd_photos.values()))
    assert set(answers) == {"mask_png_bytes", "class_shares"}
    for (kind, photo), png, shares in zip(
        odd_photos.items(), answers["mask_png_bytes"], answers["class_shares"], strict=True
    ):
        width, height = Image.open(io.BytesIO(photo)).size
        ids = decoded(png)
        assert ids.shape == ((width, height) if kind == "turned_jpeg" else (height, width)), kind
        assert ids.max() < len(MASK_CLASSES)
        np.testing.assert_allclose(shares, np.bincount(ids.ravel(), minlength=3) / ids.size, atol=1e-6)


def test_a_photo_alone_and_in_a_batch_gets_the_same_bytes(model, drawn_photos):
    photos = [photo.photo_bytes for photo in drawn_photos]
    together = answer(model, photos)["mask_png_bytes"]
    assert [answer(model, [photo])["mask_png_bytes"][0] for photo in photos] == list(together)
    assert len(set(together)) > 12, "the photos get alike masks"


def test_the_signatures_agree(model, drawn_photos, tiny_backbone):
    photos = [photo.photo_bytes for photo in drawn_photos]
    examples = []
    for photo in photos:
        example = tf.train.Example()
        example.features.feature["image"].bytes_list.value.append(photo)
        examples.append(example.SerializeToString())
    of_examples = model.signatures["serve_examples"](examples=tf.constant(examples))
    assert list(of_examples["mask_png_bytes"].numpy()) == list(answer(model, photos)["mask_png_bytes"])
    images = model.signatures["transform_features"](examples=tf.constant(examples))["image"]
    probabilities = model.signatures["probabilities"](image_bytes=tf.constant(photos))["probabilities"]
    assert probabilities.shape == (len(photos), IMAGE_SIZE, IMAGE_SIZE, len(MASK_CLASSES))
    np.testing.assert_allclose(model.probabilities_of_images(images), probabilities, atol=1e-6)
    np.testing.assert_allclose(tf.reduce_sum(probabilities, -1), 1, atol=1e-5)
    vectors = model.signatures["feature_vector"](image_bytes=tf.constant(photos))["feature_vector"]
    np.testing.assert_allclose(vectors, hub.load(tiny_backbone)(images), atol=1e-5)


def test_the_temperature_changes_probabilities_and_no_mask(model, export_segmenter, drawn_photos):
    photos = tf.constant([photo.photo_bytes for photo in drawn_photos[:4]])
    cooler = tf.saved_model.load(export_segmenter(temperature=2.0))
    before, after = (each.signatures["probabilities"](image_bytes=photos)["probabilities"] for each in (model, cooler))
    expected = np.sqrt(before) / np.sum(np.sqrt(before), -1, keepdims=True)
    np.testing.assert_allclose(after, expected, atol=1e-5)
    masks = [each.signatures["serving_default"](image_bytes=photos)["mask_png_bytes"] for each in (model, cooler)]
    np.testing.assert_array_equal(*masks)


def test_the_classes_lie_beside_the_model(exported_segmenter):
    assert read_labels(exported_segmenter) == list(MASK_CLASSES)


@pytest.mark.parametrize("size", [(7, 40), (40, 7), (16, 16), (33, 50), (1, 1)])
@pytest.mark.parametrize("strip_values", [1, 500, 2**21])
def test_ids_are_the_argmax_of_the_resized_logits_in_strips_of_any_height(monkeypatch, size, strip_values):
    monkeypatch.setattr(mask_ops, "_STRIP_VALUES", strip_values)
    logits = tf.random.stateless_normal([16, 16, 4], [1, 2])
    resized = tf.image.resize(logits, size)
    top = tf.sort(resized, axis=-1)
    clear = (top[..., -1] - top[..., -2]).numpy() > 1e-5
    found = ids_at_size(logits, tf.constant(size[0]), tf.constant(size[1])).numpy()
    assert found.shape == size
    np.testing.assert_array_equal(found[clear], np.argmax(resized, -1)[clear])
    assert clear.mean() > 0.99


def test_the_size_of_a_photo_is_the_upright_one(odd_photos):
    for kind, photo in odd_photos.items():
        width, height = Image.open(io.BytesIO(photo)).size
        expected = [width, height] if kind == "turned_jpeg" else [height, width]
        assert upright_size(tf.constant(photo)).numpy().tolist() == expected, kind


def test_a_broken_photo_is_refused(model, drawn_photos):
    photo = drawn_photos[0].photo_bytes
    with pytest.raises(tf.errors.InvalidArgumentError):
        answer(model, [photo[: len(photo) // 2]])
