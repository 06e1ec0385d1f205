"""Two classifiers on the same examples: the numbers by hand, and how often the rule is wrong."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.model_selector.paired_comparison import (
    are_identical,
    compare,
    compare_losses,
    describe,
    describe_loss,
    is_better_calibrated,
    loss_confidence,
)
from schemas.verdicts import Comparison, LossComparison


def answers(better: int, worse: int, both: int = 0, neither: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Candidate's and baseline's answers with these counts, bool [examples] each."""
    counts = [better, worse, both, neither]
    return np.repeat([True, False, True, False], counts), np.repeat([False, True, True, False], counts)


def compare_counts(*counts: int, samples: int = 400, seed: int = 0):
    return compare(*answers(*counts), confidence=0.95, samples=samples, seed=seed)


@pytest.mark.parametrize(
    ("better", "worse", "p_value"),
    [
        (1, 0, 1.0),  # 2 / 2
        (5, 0, 0.0625),  # 2 / 2**5
        (6, 0, 0.03125),
        (5, 1, 0.21875),  # 2 (1 + 6) / 2**6
        (8, 2, 0.109375),  # 2 (1 + 10 + 45) / 2**10
        (10, 2, 158 / 4096),  # 2 (1 + 12 + 66) / 2**12
        (3, 3, 1.0),
    ],
)
def test_mcnemar_by_hand(better, worse, p_value):
    comparison = compare_counts(better, worse, 20, 4)
    assert comparison.p_value == pytest.approx(p_value, rel=1e-12)
    assert (comparison.examples, comparison.better, comparison.worse) == (better + worse + 24, better, worse)
    assert comparison.difference == pytest.approx((better - worse) / (better + worse + 24))


def test_examples_both_answer_alike_do_not_change_the_p_value():
    assert compare_counts(8, 2, 0, 0).p_value == compare_counts(8, 2, 900, 90).p_value


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(0, 40)] * 4).filter(any), st.integers(0, 99))
def test_the_interval_contains_the_difference_and_a_swap_mirrors_it(counts, seed):
    candidate, baseline = answers(*counts)
    there = compare(candidate, baseline, 0.95, 400, seed)
    back = compare(baseline, candidate, 0.95, 400, seed)
    assert -1 <= there.low <= there.difference <= there.high <= 1
    assert (back.better, back.worse, back.difference) == (there.worse, there.better, -there.difference)
    assert back.p_value == pytest.approx(there.p_value)
    # The same draws give it another way round, but for chance.
    width = max(there.high - there.low, 1 / there.examples)
    assert back.low == pytest.approx(-there.high, abs=0.5 * width)
    assert back.high == pytest.approx(-there.low, abs=0.5 * width)


def test_the_interval_is_the_one_of_resampled_examples():
    candidate, baseline = answers(60, 30, 100, 10)
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 200, (4000, 200))
    resampled = candidate[rows].mean(axis=1) - baseline[rows].mean(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    comparison = compare(candidate, baseline, 0.95, 4000, 2)
    assert (comparison.low, comparison.high) == pytest.approx((low, high), abs=0.011)


def test_a_surer_interval_is_wider():
    candidate, baseline = answers(30, 20, 50)
    narrow, wide = (compare(candidate, baseline, confidence, 4000, 0) for confidence in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("right", [0, 1])
def test_identical_answers_prove_nothing(right):
    same = np.full(50, bool(right))
    comparison = compare(same, same, 0.95, 400, 0)
    assert (comparison.difference, comparison.low, comparison.high, comparison.p_value) == (0, 0, 0, 1)


def test_the_same_seed_draws_the_same_interval():
    first, again, other = (compare_counts(30, 20, 150, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


@pytest.mark.parametrize(("candidate", "baseline"), [(3, 4), (0, 0)])
def test_answers_to_other_examples_are_refused(candidate, baseline):
    with pytest.raises(ValueError, match=rf"answers to the same examples, got \({candidate},\) and \({baseline},\)"):
        compare(np.zeros(candidate, bool), np.zeros(baseline, bool), 0.95, 400, 0)


def test_in_words():
    comparison = compare_counts(50, 20, 900, 30, samples=2000)
    text = describe(comparison, 0.95)
    assert text.startswith("+3.0 points on 1,000 photos (95% interval 1.")
    assert text.endswith("; 50 better, 20 worse; p = 0.00044)")


def share_of_proven_gains(examples: int, better: float, worse: float, sets: int) -> float:
    """How often the interval lies above zero, over simulated sets; `better`, `worse`: probabilities."""
    rng = np.random.default_rng(20240229)
    proven = 0
    for seed in range(sets):
        kind = rng.random(examples)
        candidate_only, baseline_only = kind < better, kind >= 1 - worse
        both = ~candidate_only & ~baseline_only
        proven += compare(candidate_only | both, baseline_only | both, 0.95, 300, seed).low > 0
    return proven / sets


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("discordant", [0.004, 0.02, 0.1, 0.3])
def test_of_two_equally_good_models_the_cheaper_one_is_kept(discordant):
    assert share_of_proven_gains(480, discordant / 2, discordant / 2, sets=2000) <= 0.05


def test_a_true_gain_of_three_points_is_found_on_a_thousand_photos():
    assert share_of_proven_gains(1000, 0.05, 0.02, sets=400) >= 0.8


# ---- the log loss


def sure(*of_the_right_class: float) -> np.ndarray:
    """Probabilities of two classes for examples of class 1, float64 [examples, 2]."""
    right = np.array(of_the_right_class)
    return np.stack([1 - right, right], axis=1)


def losses(candidate: np.ndarray, baseline: np.ndarray, confidence: float = 0.95) -> LossComparison:
    return compare_losses(candidate, baseline, np.ones(len(candidate), int), confidence)


def test_the_losses_by_hand():
    """Differences ln(5/8), ln(5/7) and ln(5/6); the imaginary photo has the mean of ln(5/2), ln(5/3), ln(5/4)."""
    found = losses(sure(0.8, 0.7, 0.6), sure(0.5, 0.5, 0.5))
    real = [math.log(5 / 8), math.log(5 / 7), math.log(5 / 6)]
    counted = [*real, (math.log(5 / 2) + math.log(5 / 3) + math.log(5 / 4)) / 3]
    mean = sum(counted) / 4
    error = math.sqrt(sum((value - mean) ** 2 for value in counted) / 3 / 4)
    assert found.difference == pytest.approx(sum(real) / 3)
    # The two-sided 5 % quantile of Student's t with 3 degrees of freedom is 3.18245.
    assert (found.low, found.high) == pytest.approx((mean - 3.18245 * error, mean + 3.18245 * error), rel=1e-5)
    assert found.confidence == 0.95


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30), st.floats(0.51, 0.999))
def test_the_interval_of_the_losses_contains_the_difference_and_a_swap_mirrors_it(pairs, confidence):
    ours, its = (sure(*column) for column in zip(*pairs, strict=True))
    there, back = losses(ours, its, confidence), losses(its, ours, confidence)
    assert there.low <= there.difference <= there.high
    assert np.isfinite([there.low, there.high]).all()
    assert (back.difference, back.low, back.high) == pytest.approx(
        (-there.difference, -there.high, -there.low), abs=1e-9
    )


def test_one_photo_shows_nothing():
    found = losses(sure(0.99), sure(0.5))
    assert found.low < found.difference < 0 < found.high


@pytest.mark.parametrize("photos", [1, 50])
def test_identical_probabilities_have_no_difference(photos):
    same = sure(*[0.7] * photos)
    found = losses(same, same)
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert are_identical(same, same + 5e-6)
    assert not are_identical(same, same + 5e-5)
    assert not is_better_calibrated(Comparison(photos, 0, 0, 0.0, 0.0, 0.0, 1.0), found)


def test_a_model_that_is_only_surer_is_not_shown_to_be_better_by_a_set_without_mistakes():
    """As much better on each photo as it would lose on one mistake in about thirty."""
    surer, plain = sure(*[0.99] * 20), sure(*[0.9] * 20)
    found = losses(surer, plain)
    assert found.difference == pytest.approx(math.log(0.9 / 0.99))
    assert found.high > 0
    assert losses(sure(*[0.99] * 2000), sure(*[0.9] * 2000)).high < 0


@pytest.mark.parametrize(
    ("accuracy", "loss", "better"),
    [
        ((0.0, 0.0), (-0.03, -0.01), True),
        ((-0.02, 0.01), (-0.03, -0.01), True),
        ((-0.02, -0.01), (-0.03, -0.01), False),  # it is less often right
        ((0.01, 0.02), (-0.03, -0.01), False),  # the accuracy tells already
        ((0.0, 0.0), (-0.03, 0.0), False),
        ((0.0, 0.0), (0.01, 0.03), False),
    ],
)
def test_the_loss_decides_where_accuracy_does_not(accuracy, loss, better):
    comparison = Comparison(100, 0, 0, sum(accuracy) / 2, *accuracy, 1.0)
    of_losses = LossComparison(difference=sum(loss) / 2, low=loss[0], high=loss[1], confidence=0.95)
    assert is_better_calibrated(comparison, of_losses) is better


def test_the_level_is_raised_for_the_epochs_it_was_chosen_from():
    assert [loss_confidence(0.95, epochs) for epochs in (0, 1, 5)] == pytest.approx([0.95, 0.95, 0.99])


def test_the_losses_in_words():
    loss = LossComparison(difference=-0.0214, low=-0.034, high=-0.008, confidence=loss_confidence(0.95, 5))
    assert describe_loss(loss) == "log loss -0.021 (99% interval -0.034 to -0.008)"


@pytest.mark.parametrize(("candidate", "baseline"), [(3, 4), (0, 0)])
def test_losses_of_other_examples_are_refused(candidate, baseline):
    with pytest.raises(ValueError, match=rf"the same examples, got \({candidate}, 2\) and \({baseline}, 2\)"):
        losses(np.full((candidate, 2), 0.5), np.full((baseline, 2), 0.5))
