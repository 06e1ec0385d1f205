"""The temperature: what it recovers, what it does to fresh answers, and what splits without a best one give."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evaluator.metrics import expected_calibration_error
from components.trainer.calibrated_loss import CalibratedLogLoss
from components.trainer.calibration import GREATEST_TEMPERATURE, LEAST_TEMPERATURE, fit_temperature, log_loss


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def drawn(seed: int, examples: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [examples, 5] of which `temperature` is the right one, and the classes drawn from them."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 1.5, [examples, 5])
    cumulative = softmax(honest).cumsum(axis=1)
    classes = (rng.random([examples, 1]) > cumulative[:, :-1]).sum(axis=1)
    return (honest * temperature).astype(np.float32), classes


def calibration_error(logits, classes, temperature):
    probabilities = softmax(logits / temperature)
    return expected_calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == classes)


def test_log_loss_by_hand():
    logits, classes = np.array([[2.0, 0.0], [0.0, 4.0]], np.float32), np.array([0, 0])
    by_hand = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 2
    assert log_loss(logits, classes, 2.0) == pytest.approx(by_hand)


@pytest.mark.parametrize("temperature", [0.08, 0.3, 1.0, 2.5, 15.0])
def test_the_temperature_of_drawn_data_is_recovered(temperature):
    assert fit_temperature(*drawn(1, 20_000, temperature)) == pytest.approx(temperature, rel=0.03)


def test_the_same_data_give_the_same_temperature():
    assert fit_temperature(*drawn(2, 300, 2.0)) == fit_temperature(*drawn(2, 300, 2.0))


@pytest.mark.parametrize("temperature", [0.3, 3.0])
def test_fresh_answers_are_calibrated_by_a_temperature_fitted_on_others(temperature):
    fitted = fit_temperature(*drawn(3, 1000, temperature))
    fresh = drawn(4, 20_000, temperature)
    before, after = calibration_error(*fresh, 1.0), calibration_error(*fresh, fitted)
    assert before > 0.1
    assert after < before / 4


@given(
    seed=st.integers(0, 10_000),
    examples=st.integers(1, 40),
    temperature=st.sampled_from([0.01, 0.3, 1.0, 4.0, 100.0]),
)
@settings(max_examples=40, deadline=None)
def test_the_eval_split_is_never_less_likely_than_before(seed, examples, temperature):
    logits, classes = drawn(seed, examples, temperature)
    fitted = fit_temperature(logits, classes)
    assert LEAST_TEMPERATURE <= fitted <= GREATEST_TEMPERATURE
    assert log_loss(logits, classes, fitted) <= log_loss(logits, classes, 1.0) + 1e-6


# The prior


@pytest.mark.parametrize("temperature", [0.2, 5.0])
def test_on_many_examples_the_prior_does_not_matter(temperature):
    logits, classes = drawn(5, 5000, temperature)
    temperatures = temperature * np.exp(np.linspace(-0.2, 0.2, 401))
    most_likely = temperatures[np.argmin([log_loss(logits, classes, t) for t in temperatures])]
    assert fit_temperature(logits, classes) == pytest.approx(most_likely, rel=0.003)


@pytest.mark.parametrize(
    ("logits", "classes", "low", "high"),
    [
        ([[1.0, 0.0]], [0], 0.5, 0.95),  # one photo, right: a little surer
        ([[1.0, 0.0]], [1], 1.05, 3.0),  # one photo, wrong: a little less sure
        ([[3.0, 0.0]] * 9, [0] * 9, 0.4, 0.95),  # all are right
        ([[3.0, 0.0]] * 1000, [0] * 1000, 0.2, 0.7),
        ([[50.0, 0.0]] * 1000, [0] * 1000, 0.99, 1.01),  # as sure as can be already
        ([[0.0, 0.0]] * 9, [0, 1, 0] * 3, 0.99, 1.01),  # nothing learnt, nothing to say
        ([[1e4, 0.0]], [1], 19.0, GREATEST_TEMPERATURE),  # hopelessly sure, and wrong
        ([[3e38, -3e38]], [0], 0.99, 1.01),
        # A small shrinkage of the loss near 1, and a greater one at the end of the range.
        ([[6e-4, 0.0]] * 1000, [0] * 1000, LEAST_TEMPERATURE, 0.06),
        ([[2.0]], [0], 0.99, 1.01),  # a single class
    ],
)
def test_a_split_without_a_best_temperature_gives_a_sane_one(logits, classes, low, high):
    assert low <= fit_temperature(np.array(logits, np.float32), np.array(classes)) <= high


@pytest.mark.parametrize(
    ("logits", "found"),
    [(np.zeros([0, 2]), "none"), ([[1.0, np.nan], [np.inf, 0.0]], "2 that are not finite")],
)
def test_what_cannot_be_fitted_is_refused(logits, found):
    logits = np.array(logits, np.float32)
    with pytest.raises(ValueError, match=f"needs finite logits of at least one example; found {found}$"):
        fit_temperature(logits, np.zeros(len(logits), int))


@pytest.mark.parametrize(("examples", "temperature"), [(400, 0.3), (400, 1.0), (400, 3.0), (5, 20.0)])
def test_the_metric_is_the_loss_at_the_fitted_temperature_whatever_the_batches(examples, temperature):
    logits, classes = drawn(5, examples, temperature)
    expected = log_loss(logits, classes, fit_temperature(logits, classes))
    metric = CalibratedLogLoss()
    for batch in (examples, 32):
        metric.reset_state()
        for start in range(0, examples, batch):
            metric.update_state(classes[start : start + batch], logits[start : start + batch])
        assert float(metric.result()) == pytest.approx(expected, rel=0.01)


def test_the_metric_does_not_hold_it_against_a_model_that_it_is_too_sure():
    logits, classes = drawn(6, 400, 1.0)
    results = []
    for factor in (1, 4):
        metric = CalibratedLogLoss()
        metric.update_state(classes, factor * logits)
        results.append(float(metric.result()))
    assert results[1] == pytest.approx(results[0], rel=0.01)
    assert log_loss(4 * logits, classes, 1.0) > 1.5 * log_loss(logits, classes, 1.0)
