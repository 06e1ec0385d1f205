"""What the selector promises, by simulation: equally good models are rarely switched, a real gain is mostly found."""

import subprocess
import sys

import pytest

from benchmarks.selector_simulation import BETTER, EQUALLY_GOOD, GAIN, share_of_switches, shares_with_losses

SETS = 2000


@pytest.mark.slow
@pytest.mark.parametrize(("photos", "share"), [(50, 0.1), (50, 0.2), (200, 0.1), (1000, 0.1)])
def test_equally_good_models_are_switched_in_no_more_than_5_percent_of_the_sets(photos, share):
    assert 0 < share_of_switches(photos, share / 2, share / 2, SETS, seed=1) <= 0.05


@pytest.mark.slow
def test_a_gain_of_3_points_on_1000_photos_is_found_in_80_percent_of_the_sets():
    assert 0.8 <= share_of_switches(1000, *GAIN, SETS, seed=1) < 1
    assert GAIN[0] - GAIN[1] == pytest.approx(0.03)


@pytest.mark.slow
@pytest.mark.parametrize("photos", [50, 200])
@pytest.mark.parametrize("models", EQUALLY_GOOD)
def test_equally_good_models_are_switched_by_their_loss_in_no_more_than_2_5_percent_of_the_sets(models, photos):
    """800 sets: three standard errors above it are 4.2 %."""
    _, by_loss = shares_with_losses(photos, EQUALLY_GOOD[models], 800, seed=1)
    assert by_loss <= 0.042


@pytest.mark.slow
@pytest.mark.parametrize("models", ["calibrated, was too unsure", "calibrated, was too sure"])
def test_a_better_calibrated_model_with_the_same_answers_is_found_by_its_loss(models):
    (few, of_few), (many, of_many) = (shares_with_losses(photos, BETTER[models], 100, seed=1) for photos in (50, 1000))
    assert (few, many) == (of_few, of_many), "accuracy cannot tell"
    assert of_many > 0.8
    assert of_many > of_few


@pytest.mark.parametrize("photos", [50, 1000])
def test_a_rule_that_compares_two_point_estimates_breaks_the_promise(photos):
    def is_higher(comparison):
        return comparison.difference > 0

    assert share_of_switches(photos, 0.05, 0.05, 200, seed=1, rule=is_higher) > 0.3


def test_the_sets_are_drawn_as_they_are_said_to_be():
    # Sets of one photo; the standard errors are 0.005 and 0.007.
    assert share_of_switches(1, 0.1, 0.3, 4000, 1, lambda c: c.better == 1) == pytest.approx(0.1, abs=0.03)
    assert share_of_switches(1, 0.1, 0.3, 4000, 1, lambda c: c.worse == 1) == pytest.approx(0.3, abs=0.03)
    assert share_of_switches(30, 0.1, 0.3, 50, 1, lambda c: c.examples == 30) == 1


def test_the_table():
    command = [sys.executable, "-m", "benchmarks.selector_simulation"]
    done = subprocess.run([*command, "--sets", "20"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "switches in 20 drawn sets, with their standard error"
    assert [line.count(" %") for line in lines if "±" in line] == [4, 4, 4, 4, 3]  # three sizes, and the share
    of_losses = lines[-len(EQUALLY_GOOD) - len(BETTER) :]
    assert [line.count(") %") for line in of_losses] == [3] * (len(EQUALLY_GOOD) + len(BETTER))
