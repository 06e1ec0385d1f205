"""ModelSelector: a dearer model wins only by a proven gain, and two comparisons are as careful as one."""

import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import numpy as np
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from components.artifacts import Verdict
from components.evaluator.stored_predictions import (
    ENSEMBLE,
    FEATURE_EXTRACTION,
    FINE_TUNED,
    LABEL_INDEX,
    probabilities_key,
)
from components.model_selector.component import ModelSelector
from components.model_selector.paired_comparison import compare
from components.verdict import bless
from schemas import features as f
from tests.verdicts import verdict_in

EXAMPLES = 100
# Model -> row -> probability of its answer, where it is not 0.75.
SURE: dict[str, dict[int, float]] = {}
SAMPLES = 20_000
KEYS = {
    "winner", "text", "blessed_by_evaluator", "split", "photos_to_show",
    "examples", "better", "worse", "difference", "low", "high", "p_value", "identical", "loss", "decided_by",
}  # fmt: skip


def prediction(row, answers):
    """A stored prediction of a photo of class 1; `answers` says for each model whether it is right."""
    example = tf.train.Example()
    for name in (f.CONTENT_HASH, f.FILE_NAME):
        example.features.feature[name].bytes_list.value.append(f"{row:064d}".encode())
    example.features.feature[LABEL_INDEX].int64_list.value.append(1)
    for model, is_right in answers.items():
        sure = SURE.get(model, {}).get(row, 0.75)
        values = [1 - sure, sure] if is_right else [sure, 1 - sure]
        example.features.feature[probabilities_key(model)].float_list.value.extend(values)
    return example


@pytest.fixture
def select(tmp_path, write_records):
    """Runs the component; each model is right about the rows in its range. Gives the verdict and the model's name."""

    def run(feature_extraction, fine_tuned, ensemble=None, blessed=True, minimum_gain=0.0, confidence=0.95, epochs=1):
        right = {FEATURE_EXTRACTION: feature_extraction, FINE_TUNED: fine_tuned}
        if ensemble is not None:
            right[ENSEMBLE] = ensemble
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        predictions = standard_artifacts.Examples()
        predictions.uri = str(folder / "predictions")
        predictions.split_names = artifact_utils.encode_split_names(["eval", "test"])
        # The test split would turn every verdict round: it must not be looked at.
        for split, turned in (("eval", False), ("test", True)):
            rows = [
                prediction(row, {model: (row in rows) != turned for model, rows in right.items()})
                for row in range(EXAMPLES)
            ]
            write_records(folder / "predictions" / f"Split-{split}", rows)
        blessing = standard_artifacts.ModelBlessing()
        blessing.uri = str(folder / "blessing")
        bless(blessing, blessed)
        inputs = {"predictions": [predictions], "blessing": [blessing]}
        for name in right:
            model = standard_artifacts.Model()
            model.uri = str(folder / name)
            (folder / name).mkdir()
            (folder / name / "name").write_text(name)
            inputs[name] = [model]
        chosen, verdict = standard_artifacts.Model(), Verdict()
        chosen.uri, verdict.uri = str(folder / "chosen"), str(folder / "verdict")
        ModelSelector.EXECUTOR_SPEC.executor_class().Do(
            inputs,
            {"model": [chosen], "verdict": [verdict]},
            {
                "minimum_gain": minimum_gain,
                "fine_tuning_epochs": epochs,
                "confidence": confidence,
                "bootstrap_samples": SAMPLES,
                "seed": 3,
                "code": "",
            },
        )
        findings = verdict_in(verdict.uri)
        assert (folder / "chosen" / "name").read_text() == findings["winner"]
        assert ". " not in findings["text"], "one sentence"
        return findings

    return run


def test_without_an_ensemble_a_gain_makes_fine_tuned_win(select):
    findings = select(range(50), range(60))
    assert set(findings) == KEYS
    assert findings["winner"] == FINE_TUNED
    assert (findings["better"], findings["worse"], findings["split"]) == (10, 0, "eval")
    assert findings["text"].startswith("fine-tuned against feature extraction: +10.0 points on 100 photos (95% ")
    assert findings["text"].endswith("; 10 better, 0 worse; p = 0.002); fine-tuned wins")


@pytest.mark.parametrize(
    ("fine_tuned", "blessed", "minimum_gain"),
    [
        (range(50), True, 0.0),  # a tie
        (range(40), True, 0.0),
        (range(60), False, 0.0),
        (range(60), True, 0.11),
        (range(53), True, 0.0),  # 0.97 ** 100 = 0.048: of the draws, more than 2.5 % have no gain
    ],
)
def test_without_an_ensemble_and_without_a_proven_gain_the_cheaper_wins(select, fine_tuned, blessed, minimum_gain):
    findings = select(range(50), fine_tuned, blessed=blessed, minimum_gain=minimum_gain)
    assert set(findings) == KEYS
    assert findings["winner"] == FEATURE_EXTRACTION
    assert "no proven gain" in findings["text"]


def test_a_gain_that_is_not_shown_says_how_many_photos_would_show_it(select):
    """Three of 100 better and none worse: the mean of 0.03 is shown by (1.96 + 0.84)^2 (0.03 - 0.0009) / 0.0009."""
    findings = select(range(50), range(53))
    assert findings["photos_to_show"] == 254
    assert findings["text"].endswith("wins (about 254 eval photos would show a gain of this size)")
    for fine_tuned, minimum_gain in ((range(50), 0.0), (range(40), 0.0), (range(53), 0.04), (range(60), 0.0)):
        other = select(range(50), fine_tuned, minimum_gain=minimum_gain)
        assert other["photos_to_show"] is None
        assert "would show" not in other["text"]


@pytest.mark.parametrize(
    ("fine_tuned", "ensemble", "against", "winner"),
    [
        (range(50), range(50), FEATURE_EXTRACTION, FEATURE_EXTRACTION),  # ties all over
        (range(40), range(45), FEATURE_EXTRACTION, FEATURE_EXTRACTION),
        (range(10, 60), range(5, 55), FEATURE_EXTRACTION, FEATURE_EXTRACTION),  # other answers, as many right
        (range(60), range(60), FINE_TUNED, FINE_TUNED),  # a tie with the one that reigns
        (range(60), range(20, 80), FINE_TUNED, FINE_TUNED),  # so too, on other photos
        (range(60), range(55), FINE_TUNED, FINE_TUNED),  # no gain on it, if one on feature extraction
        (range(60), range(70), FINE_TUNED, ENSEMBLE),
        (range(50), range(60), FEATURE_EXTRACTION, ENSEMBLE),
        (range(40), range(60), FEATURE_EXTRACTION, ENSEMBLE),
    ],
)
def test_each_of_the_three_wins_by_a_proven_gain_on_the_one_that_reigns(select, fine_tuned, ensemble, against, winner):
    findings = select(range(50), fine_tuned, ensemble)
    assert (findings["winner"], findings["ensemble"]["against"]) == (winner, against)


def test_the_numbers_and_the_sentence_of_two_comparisons(select):
    findings = select(range(50), range(60), range(70))
    assert set(findings) == KEYS | {"ensemble"}
    assert findings["blessed_by_evaluator"] is True
    assert (findings["better"], findings["worse"]) == (10, 0)
    assert (findings["ensemble"]["better"], findings["ensemble"]["worse"]) == (10, 0)
    first, second, end = findings["text"].split("); ")
    assert first.startswith("fine-tuned against feature extraction: +10.0 points on 100 photos (97.5% interval ")
    assert second.startswith("the ensemble against fine-tuned: +10.0 points on 100 photos (97.5% interval ")
    assert "; 10 better, 0 worse; " in second
    assert end == "ensemble wins"


@pytest.mark.parametrize(
    ("fine_tuned", "ensemble", "end"),
    [
        (range(50), range(50), "no proven gain, so the cheaper feature extraction wins"),
        (range(60), range(60), "fine-tuned wins"),
    ],
)
def test_the_sentence_names_a_cheaper_winner_too(select, fine_tuned, ensemble, end):
    text = select(range(50), fine_tuned, ensemble)["text"]
    assert text.split("; ")[-1] == end
    against = "fine-tuned" if len(fine_tuned) == 60 else "feature extraction"
    assert f"; the ensemble against {against}: +0.0 points on 100 photos" in text


def test_the_ensemble_needs_no_blessing_and_fine_tuned_does(select):
    """Evaluator compares the other two."""
    findings = select(range(50), range(60), range(60), blessed=False)
    assert (findings["winner"], findings["ensemble"]["against"]) == (ENSEMBLE, FEATURE_EXTRACTION)
    assert findings["blessed_by_evaluator"] is False


@pytest.mark.parametrize(("minimum_gain", "winner"), [(0.1, ENSEMBLE), (0.11, FINE_TUNED)])
def test_the_minimum_gain_holds_for_the_ensemble(select, minimum_gain, winner):
    assert select(range(40), range(60), range(70), minimum_gain=minimum_gain)["winner"] == winner


def test_both_intervals_are_raised(select):
    right = {FEATURE_EXTRACTION: range(50), FINE_TUNED: range(5, 60), ENSEMBLE: range(70)}
    findings = select(*right.values(), confidence=0.9)
    answers = {name: np.array([row in rows for row in range(EXAMPLES)]) for name, rows in right.items()}
    for found, candidate in ((findings, FINE_TUNED), (findings["ensemble"], ENSEMBLE)):
        expected = compare(answers[candidate], answers[FEATURE_EXTRACTION], 0.95, SAMPLES, 3)
        assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=1e-9)


# Of the draws, 0.97, 0.96 and 0.95 to the power of 100 have no gain: 4.8 %, 1.7 % and 0.6 %. Below the interval lie
# 2.5 % of them alone, and 1.25 % as one of two.
@pytest.mark.parametrize(("gain", "proven"), [(3, False), (4, True), (5, True)])
def test_a_gain_that_is_proven_alone(select, gain, proven):
    assert select(range(50), range(50 + gain))["winner"] == (FINE_TUNED if proven else FEATURE_EXTRACTION)


@pytest.mark.parametrize(("gain", "proven"), [(4, False), (5, True)])
def test_fine_tuned_must_prove_more_as_one_of_two(select, gain, proven):
    findings = select(range(50), range(50 + gain), range(50))
    assert findings["winner"] == (FINE_TUNED if proven else FEATURE_EXTRACTION)


@pytest.mark.parametrize(("gain", "proven"), [(4, False), (5, True)])
def test_the_ensemble_must_prove_more_as_one_of_two(select, gain, proven):
    findings = select(range(50), range(50), range(50 + gain))
    assert findings["winner"] == (ENSEMBLE if proven else FEATURE_EXTRACTION)


# ---- the log loss


@pytest.fixture
def surer(monkeypatch):
    """Makes fine-tuned more sure, about every answer that is right in rows 0 to 49; a little more so in odd ones."""
    monkeypatch.setitem(SURE, FINE_TUNED, {row: 0.85 + 0.04 * (row % 2) for row in range(50)})


def test_a_better_calibrated_model_wins_where_accuracy_cannot_tell(select, surer):
    """Evaluator's blessing is for a gain in accuracy, so there is none."""
    findings = select(range(50), range(50), blessed=False)
    assert (findings["winner"], findings["decided_by"], findings["identical"]) == (FINE_TUNED, "loss", False)
    assert findings["loss"]["high"] < 0
    assert findings["loss"]["difference"] == pytest.approx(-(np.log(0.85 / 0.75) + np.log(0.89 / 0.75)) / 4)
    assert "log loss -0.074" in findings["text"]
    assert findings["text"].endswith(
        ", so fine-tuned is better calibrated where accuracy cannot tell them apart; fine-tuned wins"
    )


@pytest.mark.parametrize(
    ("fine_tuned", "minimum_gain"),
    [
        (range(10, 50), 0.0),  # it is shown to be wrong more often
        (range(50), 0.01),  # a gain in accuracy is asked for
    ],
)
def test_a_better_calibrated_model_does_not_win_otherwise(select, surer, fine_tuned, minimum_gain):
    findings = select(range(50), fine_tuned, minimum_gain=minimum_gain)
    assert (findings["winner"], findings["decided_by"]) == (FEATURE_EXTRACTION, None)


def test_a_better_loss_has_to_be_shown_at_the_level_of_all_epochs(select, monkeypatch):
    monkeypatch.setitem(SURE, FINE_TUNED, dict.fromkeys(range(5), 0.85))
    assert select(range(50), range(50))["winner"] == FINE_TUNED
    findings = select(range(50), range(50), epochs=20)
    assert findings["winner"] == FEATURE_EXTRACTION
    assert findings["loss"]["confidence"] == pytest.approx(0.9975)
    assert "; log loss -0.006 (99.75% interval -0.0" in findings["text"]


def test_the_ensemble_does_not_win_by_its_loss(select, monkeypatch):
    monkeypatch.setitem(SURE, ENSEMBLE, dict.fromkeys(range(50), 0.95))
    assert select(range(50), range(50), range(50))["winner"] == FEATURE_EXTRACTION


@pytest.mark.parametrize(("epochs", "why"), [(5, "no epoch was better than the start"), (0, "it had no epochs")])
def test_identical_models_are_called_identical(select, epochs, why):
    findings = select(range(50), range(50), epochs=epochs)
    assert (findings["identical"], findings["decided_by"]) == (True, None)
    assert f"; p = 1); fine-tuning changed nothing: {why}; no proven gain" in findings["text"]
    assert "log loss" not in findings["text"]


def test_a_gain_in_accuracy_needs_no_word_on_the_loss(select):
    findings = select(range(50), range(60))
    assert (findings["decided_by"], findings["identical"]) == ("accuracy", False)
    assert "log loss" not in findings["text"]
