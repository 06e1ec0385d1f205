"""Mean IoU: what it is by hand, and how often its intervals are wrong."""

import numpy as np
import pytest
from scipy import stats

from components.evaluator import confusions
from components.evaluator.mean_iou import MeanIoU, class_interval, mean_interval
from components.model_selector.paired_comparison import Guard, compare_guarded, describe, describe_lost

# Two photos of two classes. First: 4 pixels of class 0, of which 3 are right, 6 of class 1, of which 4 are right.
TWO = np.array([[[3, 1], [2, 4]], [[0, 0], [5, 15]]])


def test_a_confusion_counts_pixels_and_passes_over_the_ignored_ones():
    true = np.array([[0, 0, 1, 255], [1, 1, 2, 255]], np.uint8)
    answered = np.array([[0, 1, 1, 0], [1, 2, 2, 2]], np.uint8)
    found = confusions.count(true, answered, 3)
    assert found.tolist() == [[1, 1, 0], [0, 2, 1], [0, 0, 1]]
    assert found.dtype == np.int64
    assert confusions.count(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8), 3).sum() == 0


def test_shares_by_hand():
    found = confusions.class_shares(TWO[0])
    assert found["iou"].tolist() == [3 / 6, 4 / 7]
    assert found["precision"].tolist() == [3 / 5, 4 / 5]
    assert found["recall"].tolist() == [3 / 4, 4 / 6]
    assert found["f1"].tolist() == [6 / 9, 8 / 11]
    assert confusions.mean_iou(TWO[0]) == pytest.approx((3 / 6 + 4 / 7) / 2)
    assert confusions.pixel_accuracy(TWO).tolist() == [0.7, 0.75]


def test_a_class_that_is_not_in_the_truth_has_no_iou_and_is_not_in_the_mean():
    """Class 0 is answered for 5 of 20 pixels: that costs class 1 its quarter, and nothing else."""
    assert np.isnan(confusions.iou(TWO[1])[0])
    assert confusions.mean_iou(TWO[1]) == 0.75


def test_every_photo_weighs_the_same_however_large_it_is():
    scores = confusions.scaled(np.array([[[8, 2], [0, 10]], [[1, 9], [0, 10]]]) * np.array([1, 1000])[:, None, None])
    assert scores.sum(axis=(1, 2)).tolist() == [1, 1]
    assert MeanIoU(2).value(scores) == pytest.approx((9 / 20 + 20 / 31) / 2)


def test_other_conventions_of_the_same_answers():
    three = np.array([[50, 4, 6], [5, 100, 5], [8, 7, 15]])
    binary = confusions.merged(three, [0, 1, 0])  # border as pet
    assert binary.tolist() == [[79, 11], [10, 100]]
    ignored = confusions.merged(three, [0, 1, None])
    assert ignored.tolist() == [[50, 4, 6], [5, 100, 5], [0, 0, 0]]
    assert confusions.mean_iou(ignored) == pytest.approx((50 / 65 + 100 / 114) / 2)


def test_a_sum_without_a_photo_is_exactly_nothing_where_only_it_had_something():
    scores = np.random.default_rng(1).random((5, 3, 3))
    scores[:4, 2] = 0
    without = confusions.without_each(scores)
    assert without[4, 2].tolist() == [0, 0, 0]
    np.testing.assert_allclose(without[2], scores[[0, 1, 3, 4]].sum(axis=0))


def photos(seed: int, number: int, classes: int = 3, of_each: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two equally good models: as hard as real photos, some of them much harder with one of the models."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((number, classes))
    weights = 1 / np.arange(1, classes + 1)
    for row in truth:
        chosen = rng.choice(classes, of_each, replace=False, p=weights / weights.sum())
        row[chosen] = rng.dirichlet(np.full(of_each, 3.0))
    hardness = np.clip(rng.gamma(2, 0.06, number), 0.01, 0.8)

    def answered() -> np.ndarray:
        found = np.zeros((number, classes, classes))
        wrong = np.clip(hardness + 0.03 * rng.standard_t(2.5, number), 0.01, 0.9)
        for photo, shares in enumerate(truth):
            there = np.flatnonzero(shares)
            for true in there:
                share = np.clip(wrong[photo] * np.exp(0.3 * rng.normal()), 0, 0.95)
                found[photo, true, true] += shares[true] * (1 - share)
                others = there[there != true]
                found[photo, true, others] += shares[true] * share / len(others)
        return found

    return answered(), answered()


def test_the_interval_is_the_jackknifes():
    """Against the definition: pseudo-values, one photo left out at a time."""
    candidate, baseline = photos(1, 30)
    measure = MeanIoU(3)
    found = measure.compare(candidate, baseline, 0.95)
    difference = measure.value(candidate) - measure.value(baseline)
    rest = [np.arange(30) != i for i in range(30)]
    alone = np.array([measure.value(candidate[rows]) - measure.value(baseline[rows]) for rows in rest])
    pseudo = 30 * difference - 29 * alone
    half = stats.t.ppf(0.975, 29) * np.std(pseudo, ddof=1) / np.sqrt(30)
    assert found.difference == pytest.approx(difference, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((difference - half, difference + half), abs=1e-9)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(difference) / (half / stats.t.ppf(0.975, 29)), 29))
    of_photos = confusions.mean_iou(candidate) - confusions.mean_iou(baseline)
    assert (found.better, found.worse) == (np.sum(of_photos > 0), np.sum(of_photos < 0))


@pytest.mark.parametrize(("classes", "of_each", "number"), [(3, 3, 20), (20, 3, 40)])
def test_a_gain_is_found_where_there_is_none_in_one_case_of_forty(classes, of_each, number):
    """Two models exchanged photo by photo: neither is better. Wanted 2.5 %; 400 simulations are within 1.6 points."""
    pool = photos(2, 1000, classes, of_each)
    rng = np.random.default_rng(3)
    gains, runs = 0, 400
    for _ in range(runs):
        rows, swapped = rng.integers(0, 1000, number), rng.random(number) < 0.5
        both = [np.where(swapped[:, None, None], pool[i][rows], pool[1 - i][rows]) for i in (0, 1)]
        gains += MeanIoU(classes).compare(*both, 0.95).low > 0
    assert gains / runs < 0.041


def test_a_gain_that_is_there_is_found():
    candidate, _ = photos(4, 60)
    better = candidate.copy()
    for i in range(3):  # a fifth of the mistakes mended
        mended = 0.2 * (candidate[:, i].sum(axis=1) - candidate[:, i, i])
        better[:, i] *= 0.8
        better[:, i, i] = candidate[:, i, i] + mended
    found = MeanIoU(3).compare(better, candidate, 0.95)
    assert found.low > 0
    assert found.p_value < 1e-4
    assert MeanIoU(3).compare(candidate, better, 0.95).high < 0
    assert found.better == 60
    assert describe(found, 0.95, MeanIoU(3).prefix).startswith(
        f"mean IoU of three classes {100 * found.difference:+.1f} points on 60 photos (95% interval "
    )


def test_one_photo_shows_nothing_and_two_alike_are_a_tie():
    candidate, baseline = photos(5, 1)
    found = MeanIoU(3).compare(candidate, baseline, 0.95)
    assert (found.low, found.high, found.p_value) == (-1, 1, 1)
    tie = MeanIoU(3).compare(candidate.repeat(5, 0), candidate.repeat(5, 0), 0.95)
    assert (tie.difference, tie.low, tie.high, tie.p_value, tie.better, tie.worse) == (0, 0, 0, 1, 0, 0)
    with pytest.raises(ValueError, match=r"expected confusions of the same photos, got \(0, 3, 3\)"):
        MeanIoU(3).compare(candidate[:0], baseline[:0], 0.95)


def test_a_class_of_one_photo_shows_no_gain():
    """All of class 2 is in one photo, and the candidate has it right: of other photos nothing is known."""
    baseline = np.tile(np.array([[0.4, 0.1, 0], [0.1, 0.4, 0], [0, 0, 0.0]]), (20, 1, 1))
    baseline[0] = [[0.4, 0, 0], [0, 0.4, 0], [0.2, 0, 0]]
    candidate = baseline.copy()
    candidate[0, 2] = [0, 0, 0.2]
    found = MeanIoU(3).compare(candidate, baseline, 0.95)
    assert found.difference > 0.3
    assert found.low < 0
    assert (class_interval(candidate, "iou", 2, 0.95).low, class_interval(candidate, "iou", 2, 0.95).high) == (0, 1)


def test_intervals_of_a_model_hold_its_value_and_stay_within_0_and_1():
    scores, _ = photos(6, 40)
    whole = MeanIoU(3).interval(scores, 0.95)
    assert 0 <= whole.low < whole.value < whole.high <= 1
    wider = MeanIoU(3).interval(scores, 0.99)
    assert wider.low < whole.low
    for share in ("iou", "precision", "recall", "f1"):
        found = class_interval(scores, share, 1, 0.95)
        assert 0 <= found.low < found.value < found.high <= 1
    right = np.tile(np.diag([0.5, 0.5, 0]), (4, 1, 1))
    assert class_interval(right, "iou", 2, 0.95) is None
    assert class_interval(right, "iou", 0, 0.95).low == 1
    assert MeanIoU(3).interval(scores[:0], 0.95) is None
    assert mean_interval(np.array([0.2, 0.4]), 0.95, 1.0).low == 0
    for one in (MeanIoU(3).interval(scores[:1], 0.95), mean_interval(np.array([0.2]), 0.95, 1.0)):
        assert (one.low, one.high) == (0, 1)


def test_a_guarded_class_is_lost_although_the_mean_gains():
    """Fine-tuning mends the large classes and gives up half of the border."""
    baseline = np.tile(np.array([[0.25, 0.05, 0.02], [0.05, 0.46, 0.03], [0.02, 0.02, 0.10]]), (40, 1, 1))
    noise = np.random.default_rng(7).uniform(0.98, 1.02, (40, 3, 3))
    candidate = np.tile(np.array([[0.31, 0.01, 0.0], [0.01, 0.53, 0.0], [0.045, 0.045, 0.05]]), (40, 1, 1))
    candidate, baseline = candidate * noise, baseline * noise
    measure = MeanIoU(3)
    assert measure.compare(candidate, baseline, 0.95).low > 0
    names = ["pet", "background", "border"]
    found, level = compare_guarded(measure, candidate, baseline, names, Guard(), 0.95)
    assert level == pytest.approx(1 - 0.05 / 3)
    assert [each.label for each in found if each.lost] == ["border"]
    [said] = describe_lost(found, level)
    assert said.startswith("'border': IoU -")
    assert "98.33% interval" in said
    for guard in (Guard(("pet", "background")), Guard(tolerated_loss=0.5), Guard(minimum_examples=41)):
        assert not any(each.lost for each in compare_guarded(measure, candidate, baseline, names, guard, 0.95)[0])


def test_how_many_photos_would_show_a_gain():
    """By the normal approximation: (1.96 + 0.84)^2 standard deviations over the gain; four times for half of it."""
    candidate, baseline = photos(8, 100)
    measure = MeanIoU(3)
    found = measure.compare(candidate, baseline, 0.95)
    deviation = (found.high - found.low) / 2 / stats.t.ppf(0.975, 99) * 10
    gained = found.__class__(**{**vars(found), "difference": 0.001})
    assert measure.photos_to_show(gained, 0.95) == int(np.ceil((2.8015852 * deviation / 0.001) ** 2))
    assert measure.photos_to_show(found.__class__(**{**vars(found), "difference": -0.1}), 0.95) is None
