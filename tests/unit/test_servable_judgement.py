"""What is said of a model's answers: each fault by itself, and each limit."""

import numpy as np
import pytest

from components.servable_check.judgement import Limits, OfClasses, exceeded_limits

PHOTOS = dict.fromkeys(["golden_0", "golden_1", "png", "tiny"], b"")
TOLERANCE = 1e-5
JUDGING = OfClasses(TOLERANCE)


@pytest.fixture
def answers():
    """Of a model without fault; the second photo is the only one it is unsure about."""
    probabilities = np.array([[0.9, 0.1], [0.45, 0.55], [0.9, 0.1], [0.2, 0.8]], np.float32)
    found = {
        "image_probabilities": probabilities.copy(),
        "image_shape": np.array([4, 16, 16, 3]),
        "image_range": np.array([0.0, 1.0], np.float32),
        "feature_vector": np.ones([4, 8], np.float32),
        "labels": np.array(["cat", "dog"]),
        "abstain_below": np.float32(0.6),
        "corrupt_error": np.array("InvalidArgumentError"),
        "after_corrupt": probabilities[0].copy(),
    }
    for signature in ("serving_default", "serve_examples"):
        found |= {
            f"{signature}_probabilities": probabilities.copy(),
            f"{signature}_probability": probabilities.max(axis=1),
            f"{signature}_label": np.array(["cat", "dog", "cat", "dog"]),
            f"{signature}_abstains": np.array([False, True, False, False]),
        }
    return found


def test_a_model_without_fault(answers):
    assert JUDGING.faults(answers, PHOTOS) == []
    assert JUDGING.disagreement(answers) == 0


def test_an_older_model_without_abstention_and_without_a_function_of_images(answers):
    for name in ("abstain_below", "serving_default_abstains", "serve_examples_abstains", "image_probabilities"):
        del answers[name]
    assert JUDGING.faults(answers, PHOTOS) == []


@pytest.mark.parametrize("signature", ["serving_default", "serve_examples"])
@pytest.mark.parametrize(
    ("output", "value", "fault"),
    [
        ("label", "cat", "gives a label that is not the likeliest one, first for the photo 'tiny'"),
        ("probability", 0.7, "gives a probability that is not the largest one, first for the photo 'tiny'"),
        (
            "abstains",
            True,
            "gives abstentions that do not follow from abstain_below (0.60), first for the photo 'tiny'",
        ),
    ],
)
def test_an_output_that_contradicts_the_probabilities(answers, signature, output, value, fault):
    answers[f"{signature}_{output}"][3] = value
    faults = JUDGING.faults(answers, PHOTOS)
    assert any(text.startswith(f"{signature} {fault}") and text.endswith("the photo 'tiny'") for text in faults)
    assert not [text for text in faults if not text.startswith(signature)]


def test_a_model_that_never_abstains_where_it_should(answers):
    answers["serving_default_abstains"][1] = False
    [fault] = JUDGING.faults(answers, PHOTOS)
    assert fault.startswith("serving_default gives abstentions")
    assert fault.endswith("'golden_1'")


def test_a_probability_on_the_threshold_may_fall_to_either_side(answers):
    answers["abstain_below"] = np.float32(0.55) + np.float32(TOLERANCE / 2)
    answers["serve_examples_abstains"][1] = False
    assert JUDGING.faults(answers, PHOTOS) == []


@pytest.mark.parametrize("signature", ["serving_default", "serve_examples"])
@pytest.mark.parametrize("wrong", [[0.9, 0.2], [np.nan, np.nan], [np.inf, 0.0]])
def test_probabilities_that_are_none(answers, signature, wrong):
    answers[f"{signature}_probabilities"][2] = wrong
    faults = JUDGING.faults(answers, PHOTOS)
    assert f"{signature} gives probabilities that do not add up to 1, first for the photo 'png'" in faults
    assert any(fault.startswith("the signatures disagree") for fault in faults)


def test_more_probabilities_than_labels(answers):
    answers["labels"] = np.array(["cat", "dog", "fox"])
    assert JUDGING.faults(answers, PHOTOS) == [
        f"{signature} gives probabilities of shape (4, 2), not (4, 3)"
        for signature in ("serving_default", "serve_examples")
    ]


@pytest.mark.parametrize("other", ["serve_examples_probabilities", "image_probabilities"])
def test_signatures_that_disagree(answers, other):
    answers[other][3] += np.array([3e-5, -3e-5], np.float32)
    assert JUDGING.disagreement(answers) == pytest.approx(3e-5, rel=0.01)
    faults = JUDGING.faults(answers, PHOTOS)
    assert "the signatures disagree about a probability by 3.0e-05, more than 1e-05" in faults
    assert not any("disagree" in fault for fault in OfClasses(1e-4).faults(answers, PHOTOS))


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        (
            "image_shape",
            [4, 16, 8, 3],
            "transform_features gives images of shape (4, 16, 8, 3), not (4, size, size, 3)",
        ),
        ("image_shape", [3, 16, 16, 3], "transform_features gives images of shape (3, 16, 16, 3), not"),
        ("image_shape", [4, 16, 16], "transform_features gives images of shape (4, 16, 16), not (4, size, size, 3)"),
        ("image_range", [-0.1, 1.0], "transform_features gives values from -0.1 to 1, not within 0 and 1"),
        ("image_range", [0.0, 255.0], "transform_features gives values from 0 to 255, not within 0 and 1"),
        ("image_range", [np.nan, np.nan], "transform_features gives values from nan to nan, not within 0 and 1"),
        ("feature_vector", np.ones([3, 8]), "feature_vector gives shape (3, 8)"),
        ("feature_vector", np.ones([4, 2, 2]), "feature_vector gives shape (4, 2, 2)"),
        ("feature_vector", np.full([4, 8], np.inf), "feature_vector gives shape (4, 8) or values that are no numbers"),
        ("corrupt_error", "", "a JPEG that is cut in half got an answer and no error"),
        ("after_corrupt", [0.8, 0.2], "after a photo that could not be decoded the next one got another answer"),
        ("after_corrupt", [np.nan, 0.1], "after a photo that could not be decoded the next one got another answer"),
    ],
)
def test_each_other_fault(answers, name, value, fault):
    answers[name] = np.array(value)
    [found] = JUDGING.faults(answers, PHOTOS)
    assert found.startswith(fault)


@pytest.mark.parametrize("signature", ["serving_default", "serve_examples"])
def test_the_difference_is_that_of_the_first_photos_in_either_signature(answers, signature):
    expected = answers[f"{signature}_probabilities"][:3].copy()
    answers[f"{signature}_probabilities"][3] = 0.5  # nothing is expected of it
    assert JUDGING.difference(answers, expected) == 0
    answers[f"{signature}_probabilities"][2] = [0.8, 0.2]
    assert JUDGING.difference(answers, expected) == pytest.approx(0.1)
    answers[f"{signature}_probabilities"][0, 0] = np.nan
    assert np.isnan(JUDGING.difference(answers, expected))
    assert JUDGING.difference(answers, np.ones([3, 37])) == np.inf


MEASURED = {
    "load_seconds": 2.5,
    "latency_milliseconds": 17.3,
    "batch_latency_milliseconds": 216.4,
    "megabytes": 42.1,
}


def test_within_the_limits_and_without_any():
    assert exceeded_limits(MEASURED, Limits(2.5, 18, 217, 43)) == []
    assert exceeded_limits(MEASURED, Limits()) == []


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("maximum_load_seconds", "load seconds: 2.5, more than serving.maximum_load_seconds (0.5)"),
        (
            "maximum_latency_milliseconds",
            "latency milliseconds: 17.3, more than serving.maximum_latency_milliseconds (0.5)",
        ),
        (
            "maximum_batch_latency_milliseconds",
            "batch latency milliseconds: 216, more than serving.maximum_batch_latency_milliseconds (0.5)",
        ),
        ("maximum_megabytes", "megabytes: 42.1, more than serving.maximum_megabytes (0.5)"),
    ],
)
def test_a_limit_that_is_exceeded_names_its_key_and_both_values(key, sentence):
    assert exceeded_limits(MEASURED, Limits(**{key: 0.5})) == [sentence]


def test_the_limits_are_keys_of_the_configuration():
    from dataclasses import fields

    from pipeline.config import ServingConfig

    assert {field.name for field in fields(Limits)} <= set(ServingConfig.model_fields)
