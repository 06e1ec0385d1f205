"""Metrics of one model: by hand, at the ends of the range, and their intervals."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from components.evaluator import metrics as metrics_module
from components.evaluator.metrics import (
    area_under_curve,
    evaluate,
    evaluate_slices,
    expected_calibration_error,
    is_in_top,
    log_loss,
    share_interval,
)
from components.evaluator.stored_predictions import FINE_TUNED, StoredPredictions
from schemas import features as f

METRICS = ("accuracy", "loss", "calibration_error")
LABELS = ("a", "b", "c", "d", "e")


def predictions(
    seed: int, examples: int, concentration: float = 0.5, classes: int = 3
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Perfectly calibrated predictions: float [examples, classes], the classes drawn from them, and their labels."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, concentration), examples)
    drawn = np.minimum((np.cumsum(probabilities, axis=1) < rng.random((examples, 1))).sum(axis=1), classes - 1)
    return probabilities, drawn, list(LABELS[:classes])


def answering(pairs: list[tuple[int, int]], classes: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Predictions with these (true class, first answer), each 0.7 sure."""
    true, answers = np.array(pairs).T
    probabilities = np.where(np.arange(classes) == answers[:, None], 0.7, 0.3 / (classes - 1))
    return probabilities, true, list(LABELS[:classes])


def intervals(metrics: dict) -> dict[str, dict[str, float]]:
    """Every defined interval of the result, by its path."""
    found = {name: metric for name, metric in metrics.items() if isinstance(metric, dict) and "low" in metric}
    for label, of_class in metrics["per_class"].items():
        found |= {f"{label} {name}": of_class[name] for name in ("precision", "recall", "f1") if of_class[name]}
    return found


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


@pytest.mark.parametrize(
    ("row", "true", "is_in"),
    [
        ([0.1, 0.4, 0.2, 0.3], 3, True),
        ([0.1, 0.4, 0.2, 0.3], 2, True),
        ([0.1, 0.4, 0.2, 0.3], 0, False),
        ([0.25, 0.25, 0.25, 0.25], 3, True),  # none is more probable
    ],
)
def test_the_first_three_by_hand(row, true, is_in):
    assert is_in_top(np.array([row]), np.array([true])).tolist() == [is_in]


def auc_by_pairs(scores, positive) -> float:
    """The definition: of all pairs, how many stand in the right order."""
    wins = [(p > n) + (p == n) / 2 for p in scores[positive] for n in scores[~positive]]
    return float(np.mean(wins)) if wins else math.nan


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.25, 0.7]), st.booleans(), st.integers(0, 3)), min_size=1),
)
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(drawn):
    """Ties included, and with examples that are in the set not at all or several times."""
    scores, positive, times = (np.array(column) for column in zip(*drawn, strict=True))
    weights = np.stack([np.ones(len(drawn)), times])
    expected = [auc_by_pairs(scores, positive), auc_by_pairs(np.repeat(scores, times), np.repeat(positive, times))]
    np.testing.assert_allclose(area_under_curve(scores, positive, weights), expected, rtol=1e-12)


def test_values_by_hand():
    probabilities = np.array([[0.8, 0.2], [0.3, 0.7], [0.1, 0.9], [0.6, 0.4]])
    metrics = evaluate(probabilities, np.array([0, 1, 0, 0]), ["cat", "dog"], 0.95, 200, 0)
    assert set(metrics) == {*METRICS, "auc", "per_class", "confusion_matrix"}
    assert metrics["accuracy"]["value"] == 0.75
    assert metrics["loss"]["value"] == pytest.approx(-math.log(0.8 * 0.7 * 0.1 * 0.6) / 4)
    assert metrics["calibration_error"]["value"] == pytest.approx((0.2 + 0.3 + 0.9 + 0.4) / 4)
    assert metrics["auc"]["value"] == pytest.approx(2 / 3)  # the dog's 0.7 above 0.2 and 0.4, below 0.9
    assert metrics["confusion_matrix"] == [[2, 1], [0, 1]]
    cat, dog = metrics["per_class"]["cat"], metrics["per_class"]["dog"]
    assert (cat["examples"], dog["examples"]) == (3, 1)
    assert [cat[name]["value"] for name in ("precision", "recall", "f1")] == pytest.approx([1, 2 / 3, 4 / 5])
    assert [dog[name]["value"] for name in ("precision", "recall", "f1")] == pytest.approx([1 / 2, 1, 2 / 3])


def test_more_than_three_classes_have_the_first_three_and_no_area():
    probabilities = np.array([[0.1, 0.4, 0.2, 0.3]] * 4)
    metrics = evaluate(probabilities, np.array([0, 1, 2, 3]), LABELS[:4], 0.95, 200, 0)
    assert set(metrics) == {*METRICS, "top_3_accuracy", "per_class", "confusion_matrix"}
    assert metrics["top_3_accuracy"]["value"] == 0.75
    assert metrics["accuracy"]["value"] == 0.25


def test_three_classes_have_neither():
    assert set(evaluate(*predictions(0, 9), 0.95, 200, 0)) == {*METRICS, "per_class", "confusion_matrix"}


def test_what_is_undefined_is_said_to_be():
    """`a` is right once, `b` is never answered, `c` is answered without having an example, `d` is not seen at all."""
    metrics = evaluate(*answering([(0, 0), (1, 2)], 4), 0.95, 200, 0)
    values = {
        label: [metric[name] and metric[name]["value"] for name in ("precision", "recall", "f1")]
        for label, metric in metrics["per_class"].items()
    }
    assert values == {"a": [1, 1, 1], "b": [None, 0, 0], "c": [0, None, 0], "d": [None, None, None]}
    assert [metric["examples"] for metric in metrics["per_class"].values()] == [1, 1, 0, 0]
    one_class = evaluate(*answering([(0, 0), (0, 1)], 2), 0.95, 200, 0)
    assert one_class["auc"] is None
    for result in (metrics, one_class):
        json.dumps(result, allow_nan=False)


def test_draws_without_a_class_do_not_count():
    """One example in ten is of `b`, so a third of the draws have none. It is right, whenever it is there."""
    f1 = evaluate(*answering([(0, 0)] * 9 + [(1, 1)], 2), 0.95, 200, 0)["per_class"]["b"]["f1"]
    assert f1 == {"value": 1, "low": 1, "high": 1}


def test_a_share_by_hand():
    # z = 1.95996; 11 of 11 is at least n / (n + z²) = 11 / 14.8415, 0 of 11 at most z² / (n + z²).
    assert share_interval(11, 11, 0.95) == pytest.approx({"value": 1, "low": 0.7412, "high": 1}, abs=5e-5)
    assert share_interval(0, 11, 0.95) == pytest.approx({"value": 0, "low": 0, "high": 0.2588}, abs=5e-5)
    assert share_interval(1, 1, 0.95) == pytest.approx({"value": 1, "low": 0.2065, "high": 1}, abs=5e-5)
    assert share_interval(0, 0, 0.95) is None


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.51, 0.999))
def test_the_interval_of_a_share_is_wilsons(counts, confidence):
    count, total = counts
    found = share_interval(count, total, confidence)
    assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
    expected = stats.binomtest(count, total).proportion_ci(confidence, method="wilson")
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=1e-9)
    other = share_interval(total - count, total, confidence)
    assert (1 - other["high"], 1 - other["low"]) == pytest.approx((found["low"], found["high"]), abs=1e-9)
    assert (found["low"] > 0, found["high"] < 1) == (count > 0, count < total)


def test_every_share_of_examples_has_its_interval():
    """Six of eight right; `a` is answered five times, four times rightly, and has five examples."""
    pairs = [(0, 0)] * 4 + [(0, 1), (1, 0), (1, 1), (2, 2)]
    metrics = evaluate(*answering(pairs, 4), 0.9, 200, 0, abstain_below=0.6)
    assert metrics["accuracy"] == share_interval(6, 8, 0.9)
    assert metrics["abstention"]["accuracy_of_answered"] == share_interval(6, 8, 0.9)
    assert metrics["top_3_accuracy"]["high"] == 1
    a, d = metrics["per_class"]["a"], metrics["per_class"]["d"]
    assert (a["precision"], a["recall"]) == (share_interval(4, 5, 0.9), share_interval(4, 5, 0.9))
    assert (d["precision"], d["recall"]) == (None, None)


def test_the_first_of_two_equal_probabilities_is_the_answer():
    metrics = evaluate(np.full((10, 2), 0.5), np.repeat([0, 1], 5), LABELS[:2], 0.95, 200, 0)
    assert metrics["accuracy"]["value"] == 0.5
    assert metrics["confusion_matrix"] == [[5, 0], [5, 0]]


def test_abstention_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.55, 0.45]])
    data = (probabilities, np.array([0, 1, 0, 0]), LABELS[:2], 0.95, 400, 0)
    assert "abstention" not in evaluate(*data)
    metrics = evaluate(*data, abstain_below=0.6)  # 0.6 itself is an answer
    answered = metrics["abstention"].pop("accuracy_of_answered")
    assert metrics["abstention"] == {"below": 0.6, "abstained": 0.25}
    assert answered == share_interval(2, 3, 0.95)
    assert metrics["accuracy"] == evaluate(*data)["accuracy"]  # abstained from or not
    assert evaluate(*data, abstain_below=0.95)["abstention"] == {
        "below": 0.95,
        "abstained": 1.0,
        "accuracy_of_answered": None,
    }


def test_intervals_of_certain_models():
    certain = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    right = evaluate(certain, np.array([0, 1, 0, 1]), LABELS[:2], 0.95, 200, 0)
    wrong = evaluate(certain, np.array([1, 0, 1, 0]), LABELS[:2], 0.95, 200, 0)
    assert (right["accuracy"], wrong["accuracy"]) == (share_interval(4, 4, 0.95), share_interval(0, 4, 0.95))
    for metric, best, worst in (
        ("loss", 0, 7 * math.log(10)),
        ("calibration_error", 0, 1),
        ("auc", 1, 0),
    ):
        assert right[metric] == pytest.approx({"value": best, "low": best, "high": best})
        assert wrong[metric] == pytest.approx({"value": worst, "low": worst, "high": worst})


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    examples=st.integers(1, 400),
    concentration=st.sampled_from([0.1, 0.5, 1.0]),
    classes=st.integers(2, 5),
)
def test_each_interval_contains_its_value(seed, examples, concentration, classes):
    probabilities, true, labels = predictions(seed, examples, concentration, classes)
    metrics = evaluate(probabilities, true, labels, 0.95, 200, seed, abstain_below=0.6)
    json.dumps(metrics, allow_nan=False)
    for name, metric in intervals(metrics).items():
        slack = 1e-12 * metric["value"]  # sums in another order
        assert 0 <= metric["low"] <= metric["value"] + slack, name
        assert metric["value"] - slack <= metric["high"], name
        assert metric["high"] <= 1 or name == "loss", name


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_what_follows_from_the_confusion_matrix(pairs):
    metrics = evaluate(*answering(pairs, 4), 0.95, 200, 0)
    matrix = np.array(metrics["confusion_matrix"])
    assert [[pairs.count((true, answer)) for answer in range(4)] for true in range(4)] == matrix.tolist()
    assert metrics["accuracy"]["value"] == pytest.approx(np.trace(matrix) / len(pairs))
    for i, metric in enumerate(metrics["per_class"].values()):
        assert metric["examples"] == matrix[i].sum()
        for name, total in (("precision", matrix[:, i].sum()), ("recall", matrix[i].sum())):
            assert (metric[name] is None) == (total == 0)
            if total:
                assert metric[name]["value"] == pytest.approx(matrix[i, i] / total)
        if metric["precision"] and metric["recall"] and matrix[i, i]:
            precision, recall = metric["precision"]["value"], metric["recall"]["value"]
            assert metric["f1"]["value"] == pytest.approx(2 * precision * recall / (precision + recall))


def test_the_interval_of_a_well_calibrated_model_contains_its_calibration_error():
    # Plain percentiles lie above the value here: a resampled set looks worse calibrated than the set itself.
    for seed in range(6):
        error = evaluate(*predictions(seed, 2000), 0.95, 200, seed)["calibration_error"]
        assert error["low"] <= error["value"] <= error["high"]


def test_intervals_are_as_wide_as_theory_says():
    rng = np.random.default_rng(0)
    classes = (rng.random(900) < 0.1).astype(int)  # always answering 0 is right for about 90 %
    probabilities = np.tile([0.9, 0.1], (900, 1))
    accuracy = evaluate(probabilities, classes, LABELS[:2], 0.95, 2000, 0)["accuracy"]
    p = accuracy["value"]
    half = 1.96 * math.sqrt(p * (1 - p) / 900)
    assert (accuracy["low"], accuracy["high"]) == pytest.approx((p - half, p + half), abs=0.004)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """250 sets of 300 examples, of a model whose true metrics are measured on very many examples."""
    many = evaluate(*predictions(0, 200_000, classes=2), 0.95, 2, 0)
    truth = {name: interval["value"] for name, interval in intervals(many).items() if name != "calibration_error"}
    assert set(truth) == {"accuracy", "loss", "auc", *(f"{c} {m}" for c in "ab" for m in ("precision", "recall", "f1"))}
    covered = dict.fromkeys(truth, 0)
    for seed in range(250):
        found = intervals(evaluate(*predictions(seed + 1, 300, classes=2), 0.9, 200, seed))
        for name, value in truth.items():
            covered[name] += found[name]["low"] <= value <= found[name]["high"]
    for name, times in covered.items():  # 90 %, and three standard errors of it
        assert 0.84 <= times / 250 <= 0.96, name


def test_a_surer_interval_is_wider():
    data = predictions(0, 300, classes=2)
    narrow, wide = (intervals(evaluate(*data, confidence, 500, 0)) for confidence in (0.8, 0.99))
    for name in narrow:
        assert wide[name]["value"] == narrow[name]["value"]
        assert wide[name]["low"] < narrow[name]["low"] < narrow[name]["high"] < wide[name]["high"], name


def test_the_same_seed_gives_the_same_numbers():
    data = predictions(0, 200, classes=4)
    first, again, other = (evaluate(*data, 0.95, 200, seed) for seed in (1, 1, 2))
    assert first == again
    assert first["loss"]["value"] == other["loss"]["value"]
    assert first["loss"]["low"] != other["loss"]["low"]


@pytest.mark.parametrize("numbers", [350, 10])  # seven sets, and four at last; one at a time, for none would be too few
def test_the_numbers_do_not_depend_on_how_many_sets_are_in_memory(monkeypatch, numbers):
    data = predictions(0, 50, classes=2)
    whole = evaluate(*data, 0.95, 200, 1)
    monkeypatch.setattr(metrics_module, "_NUMBERS_AT_A_TIME", numbers)
    parts = evaluate(*data, 0.95, 200, 1)
    assert parts["accuracy"] == whole["accuracy"]
    assert parts["loss"] == pytest.approx(whole["loss"])
    assert parts["auc"] == pytest.approx(whole["auc"])


@pytest.mark.parametrize(
    ("shape", "classes", "labels"), [((0, 2), 0, 2), ((3, 2), 4, 2), ((3, 2), 3, 3)], ids=["none", "rows", "labels"]
)
def test_what_does_not_fit_together_is_refused(shape, classes, labels):
    with pytest.raises(ValueError, match=rf"got \({shape[0]}, 2\) for {classes} examples and {labels} labels"):
        evaluate(np.full(shape, 0.5), np.zeros(classes, int), LABELS[:labels], 0.95, 200, 0)


def stored(correct: list[bool], **slices: list[str]) -> StoredPredictions:
    """Predictions of a model that is right about these examples; features not given are unknown."""
    right = np.array(correct)
    return StoredPredictions(
        keys=[str(i) for i in range(len(correct))],
        file_names=[f"{i}.jpg" for i in range(len(correct))],
        classes=np.zeros(len(correct), np.int64),
        probabilities={FINE_TUNED: np.stack([right, ~right], axis=1).astype(np.float32)},
        slices={feature: slices.get(feature, [""] * len(correct)) for feature in f.SLICES},
    )


def test_slices_by_hand():
    predictions_of_six = stored(
        [True, False, True, False, True, True],
        image_format=["JPEG", "JPEG", "PNG", "", "PNG", "PNG"],
        dataset=["cats_vs_dogs"] * 6,
    )
    slices = evaluate_slices(predictions_of_six, FINE_TUNED, 3, 0.95)
    assert list(slices) == [f.DATASET, f.IMAGE_FORMAT]  # of the others nothing is known
    assert slices[f.IMAGE_FORMAT] == {
        "JPEG": {"examples": 2, "accuracy": share_interval(1, 2, 0.95), "enough": False},
        "PNG": {"examples": 3, "accuracy": share_interval(3, 3, 0.95), "enough": True},
    }
    [whole] = slices[f.DATASET].values()
    assert (whole["examples"], whole["accuracy"]["value"], whole["enough"]) == (6, pytest.approx(4 / 6), True)
    json.dumps(slices, allow_nan=False)


def test_the_interval_of_a_slice_is_that_of_its_examples_alone():
    rng = np.random.default_rng(1)
    correct = rng.random(500) < 0.8
    label = np.where(np.arange(500) < 400, "a", "b")
    slices = evaluate_slices(stored(correct.tolist(), label=label.tolist()), FINE_TUNED, 1, 0.95)[f.LABEL]
    for value, rows in (("a", slice(400)), ("b", slice(400, 500))):
        right = correct[rows]
        alone = evaluate(np.stack([right, ~right], 1) * 1.0, np.zeros(len(right), int), LABELS[:2], 0.95, 4000, 1)
        assert slices[value]["accuracy"] == pytest.approx(alone["accuracy"], abs=0.011)
    assert slices == evaluate_slices(stored(correct.tolist(), label=label.tolist()), FINE_TUNED, 1, 0.95)[f.LABEL]
