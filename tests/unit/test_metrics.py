"""Metrics of one model: by hand, at the ends of the range, and their intervals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evaluator.metrics import expected_calibration_error, log_loss, with_intervals

METRICS = ("accuracy", "loss", "calibration_error")


def predictions(seed: int, examples: int, concentration: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Perfectly calibrated predictions: float [examples, 3] and the classes drawn from them, int [examples]."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(3, concentration), examples)
    return probabilities, np.array([rng.choice(3, p=row) for row in probabilities])


def test_log_loss_by_hand():
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]])
    losses = log_loss(probabilities, np.array([0, 0, 0]))
    assert losses == pytest.approx([math.log(2), math.log(4), -math.log(0.9)])
    assert losses.dtype == np.float64


def test_log_loss_of_certainty_is_finite():
    certain = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    losses = log_loss(certain, np.array([0, 1]))
    assert losses[0] == 0
    assert losses[1] == pytest.approx(7 * math.log(10))


def test_calibration_error_by_hand():
    # Bins [9/15, 10/15), [12/15, 13/15) and [13/15, 14/15):
    # |1.25 - 1| + |0.8 - 0| + |2 * 0.9 - 2| = 0.25 + 0.8 + 0.2, over five examples.
    confidence = np.array([0.61, 0.64, 0.8, 0.9, 0.9])
    correct = np.array([True, False, False, True, True])
    assert expected_calibration_error(confidence, correct) == pytest.approx(1.25 / 5)


@pytest.mark.parametrize(
    ("confidence", "correct", "error"),
    [
        ([1.0, 1.0], [1, 1], 0),
        ([1.0, 1.0], [0, 0], 1),
        ([1.0, 1.0], [1, 0], 0.5),
        ([0.0, 0.0], [0, 0], 0),
        ([0.0], [1], 1),
        ([1.0, 0.95], [0, 1], 0.475),  # certainty shares the last bin
    ],
)
def test_calibration_error_at_the_ends(confidence, correct, error):
    assert expected_calibration_error(np.array(confidence), np.array(correct, bool)) == error


def test_errors_in_opposite_directions_cancel_within_a_bin_only():
    # Fifteenths: 9.15 and 9.9 share a bin, 9.9 and 10.05 do not.
    one_bin = expected_calibration_error(np.array([0.61, 0.66]), np.array([True, False]))
    two_bins = expected_calibration_error(np.array([0.66, 0.67]), np.array([True, False]))
    assert one_bin == pytest.approx((1.27 - 1) / 2)
    assert two_bins == pytest.approx((0.34 + 0.67) / 2)


def test_values_by_hand():
    probabilities = np.array([[0.8, 0.2], [0.3, 0.7], [0.1, 0.9], [0.6, 0.4]])
    metrics = with_intervals(probabilities, np.array([0, 1, 0, 0]), 0.95, 200, 0)
    assert tuple(metrics) == METRICS
    assert metrics["accuracy"]["value"] == 0.75
    assert metrics["loss"]["value"] == pytest.approx(-math.log(0.8 * 0.7 * 0.1 * 0.6) / 4)
    assert metrics["calibration_error"]["value"] == pytest.approx((0.2 + 0.3 + 0.9 + 0.4) / 4)


def test_the_first_of_two_equal_probabilities_is_the_answer():
    metrics = with_intervals(np.full((10, 2), 0.5), np.repeat([0, 1], 5), 0.95, 200, 0)
    assert metrics["accuracy"]["value"] == 0.5


def test_intervals_of_certain_models():
    certain = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    right = with_intervals(certain, np.array([0, 1, 0, 1]), 0.95, 200, 0)
    wrong = with_intervals(certain, np.array([1, 0, 1, 0]), 0.95, 200, 0)
    for metric, best, worst in (("accuracy", 1, 0), ("loss", 0, 7 * math.log(10)), ("calibration_error", 0, 1)):
        assert right[metric] == pytest.approx({"value": best, "low": best, "high": best})
        assert wrong[metric] == pytest.approx({"value": worst, "low": worst, "high": worst})


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), examples=st.integers(5, 600), concentration=st.sampled_from([0.1, 0.5, 1.0]))
def test_each_interval_contains_its_value(seed, examples, concentration):
    metrics = with_intervals(*predictions(seed, examples, concentration), 0.95, 200, seed)
    for metric in METRICS:
        assert 0 <= metrics[metric]["low"] <= metrics[metric]["value"] <= metrics[metric]["high"], metric
    assert metrics["accuracy"]["high"] <= 1
    assert metrics["calibration_error"]["high"] <= 1


def test_the_interval_of_a_well_calibrated_model_contains_its_calibration_error():
    # Plain percentiles lie above the value here: a resampled set looks worse calibrated than the set itself.
    for seed in (7, 10, 20, 21, 25, 35):
        error = with_intervals(*predictions(seed, 2000), 0.95, 200, seed)["calibration_error"]
        assert error["low"] <= error["value"] <= error["high"]


def test_intervals_are_as_wide_as_theory_says():
    rng = np.random.default_rng(0)
    classes = (rng.random(900) < 0.1).astype(int)  # always answering 0 is right for about 90 %
    probabilities = np.tile([0.9, 0.1], (900, 1))
    accuracy = with_intervals(probabilities, classes, 0.95, 2000, 0)["accuracy"]
    p = accuracy["value"]
    half = 1.96 * math.sqrt(p * (1 - p) / 900)
    assert (accuracy["low"], accuracy["high"]) == pytest.approx((p - half, p + half), abs=0.004)


def test_a_surer_interval_is_wider():
    data = predictions(0, 300)
    narrow, wide = (with_intervals(*data, confidence, 500, 0) for confidence in (0.8, 0.99))
    for metric in METRICS:
        assert wide[metric]["value"] == narrow[metric]["value"]
        assert wide[metric]["low"] < narrow[metric]["low"] < narrow[metric]["high"] < wide[metric]["high"]


def test_the_same_seed_gives_the_same_numbers():
    data = predictions(0, 200)
    first, again, other = (with_intervals(*data, 0.95, 200, seed) for seed in (1, 1, 2))
    assert first == again
    assert first["loss"]["value"] == other["loss"]["value"]
    assert first["loss"]["low"] != other["loss"]["low"]
