"""The exported model: calibrated probabilities, abstention, and the part behind the Transform graph on its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf

from components.example_gen.photo_rules import PhotoRules, read_rules
from components.transform.graph import load_transform

LABELS = np.array([b"cat", b"dog"])
TEMPERATURE, ABSTAIN_BELOW = 0.7, 0.75  # of `calibrated_model`


@pytest.fixture(scope="module")
def photos(drawn_photos):
    return tf.constant([photo.photo_bytes for photo in drawn_photos])


@pytest.fixture(scope="module")
def examples(drawn_photos, make_example):
    return tf.constant([make_example(photo).SerializeToString() for photo in drawn_photos])


@pytest.fixture(scope="module")
def plain(exported_model):
    return tf.saved_model.load(exported_model)


@pytest.fixture(scope="module")
def calibrated(calibrated_model):
    return tf.saved_model.load(calibrated_model)


def ask(model, photos) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.signatures["serving_default"](image_bytes=photos).items()}


def logits_by_hand(model, photos) -> np.ndarray:
    vectors = model.signatures["feature_vector"](image_bytes=photos)["feature_vector"].numpy()
    kernel, bias = (
        next(v.numpy() for v in model.model_variables if v.name == name) for name in ("head/kernel:0", "head/bias:0")
    )
    return (vectors @ kernel + bias).astype(np.float64)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_probabilities_are_the_softmax_of_logits_divided_by_the_temperature(plain, calibrated, photos):
    logits = logits_by_hand(plain, photos)
    np.testing.assert_allclose(ask(plain, photos)["probabilities"], softmax(logits), atol=1e-6)
    np.testing.assert_allclose(ask(calibrated, photos)["probabilities"], softmax(logits / TEMPERATURE), atol=1e-6)
    assert np.abs(softmax(logits) - softmax(logits / TEMPERATURE)).max() > 0.02


def test_a_temperature_changes_how_sure_the_model_is_and_not_what_it_answers(plain, calibrated, photos):
    before, after = ask(plain, photos), ask(calibrated, photos)
    assert set(before["label"]) == set(LABELS)
    np.testing.assert_array_equal(after["label"], before["label"])
    np.testing.assert_array_equal(LABELS[after["probabilities"].argmax(axis=1)], after["label"])
    np.testing.assert_array_equal(after["probability"], after["probabilities"].max(axis=1))
    assert np.all(after["probability"] > before["probability"])


def test_the_temperature_is_kept_and_is_nothing_that_another_model_starts_with(plain, calibrated):
    assert (float(plain.temperature), float(plain.abstain_below)) == (1, 0)
    assert float(calibrated.temperature) == np.float32(TEMPERATURE)
    assert float(calibrated.abstain_below) == np.float32(ABSTAIN_BELOW)
    assert not calibrated.temperature.trainable
    names = [v.name for v in calibrated.model_variables]
    assert len(names) == 12
    assert not [name for name in names if "temperature" in name or "abstain" in name]


def test_it_abstains_below_the_threshold(plain, calibrated, photos):
    answers = ask(calibrated, photos)
    assert answers["abstains"].dtype == bool
    np.testing.assert_array_equal(answers["abstains"], answers["probability"] < ABSTAIN_BELOW)
    assert 0 < answers["abstains"].sum() < len(photos)
    assert not ask(plain, photos)["abstains"].any(), "0: never"


def test_at_the_threshold_it_answers(calibrated_model, photos):
    model = tf.saved_model.load(calibrated_model)
    probability = ask(model, photos)["probability"]
    middle = np.argsort(probability)[len(probability) // 2]
    model.abstain_below.assign(probability[middle])
    assert not ask(model, photos)["abstains"][middle]
    model.abstain_below.assign(np.nextafter(probability[middle], np.float32(1)))
    assert ask(model, photos)["abstains"][middle]


def test_what_it_takes_is_written_beside_it(exported_model, export_model):
    said = json.loads(Path(exported_model, "assets.extra/input.json").read_text())
    assert said["input_formats"] == ["JPEG", "PNG", "GIF", "BMP"]
    assert "converted to upright PNG first" in said["description"]
    assert read_rules(exported_model) == PhotoRules()
    rules = PhotoRules(min_side=4, max_pixels=10**6, convert=False, background="#000000")
    assert read_rules(export_model(rules=rules)) == rules


def test_both_signatures_answer_alike(calibrated, photos, examples):
    answers = ask(calibrated, photos)
    assert set(answers) == {"label", "probability", "probabilities", "abstains"}
    again = calibrated.signatures["serve_examples"](examples=examples)
    assert set(again) == set(answers)
    for name, value in answers.items():
        np.testing.assert_array_equal(again[name], value)


def test_images_are_answered_as_the_photos_they_came_from(calibrated, photos, transform_graph):
    images = load_transform(transform_graph)(photos)
    probabilities = calibrated.probabilities_of_images(images)
    assert (probabilities.shape, probabilities.dtype) == ((len(photos), 2), tf.float32)
    np.testing.assert_allclose(probabilities, ask(calibrated, photos)["probabilities"], atol=1e-6)
    np.testing.assert_allclose(calibrated.probabilities_of_images(images[:1]), probabilities[:1], atol=1e-6)
    [traced] = calibrated.probabilities_of_images.concrete_functions
    assert [(spec.shape.as_list(), spec.dtype) for spec in traced.structured_input_signature[0]] == [
        ([None, 16, 16, 3], tf.float32)
    ]
