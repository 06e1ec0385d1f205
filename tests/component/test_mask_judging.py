"""Masks judged: what is stored is read back, TFX's Evaluator blesses and refuses, and so do selector and gate."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
import tensorflow_model_analysis as tfma
from google.protobuf import json_format
from tfx.components.evaluator.executor import Executor
from tfx.types import artifact_utils, standard_artifacts

from components.artifacts import IngestReport, Verdict
from components.evaluator import confusions
from components.evaluator.eval_config import make_eval_config
from components.evaluator.stored_answers import read_answers
from components.evaluator.stored_masks import IGNORED_CLASSES, read_mask_ids
from components.evaluator.stored_predictions import FEATURE_EXTRACTION, FINE_TUNED, PRODUCTION
from components.model_selector.component import ModelSelector
from components.release_gate.component import ReleaseGate
from components.release_gate.decision import COMPARABLE, NONE, OTHER_SIGNATURE
from components.task.judging import IntervalSettings
from components.verdict import bless, write_verdict
from pipeline.config import ReleaseConfig
from schemas import features as f
from schemas import schema_files
from schemas.json_records import from_json
from schemas.summary import ModelSummary
from schemas.verdicts import ProductionStanding
from tests.in_process import IN_PROCESS
from tests.masks import CLASSES, damaged, drawn_mask, mask_prediction
from tests.verdicts import selection_of, verdict_in

PHOTOS = 24
PET, BACKGROUND, BORDER = range(3)
# Of the pixels of a class, which share is answered as which other class.
GOOD = {PET: (BACKGROUND, 0.08), BACKGROUND: (PET, 0.03), BORDER: (BACKGROUND, 0.3)}
BETTER = {PET: (BACKGROUND, 0.03), BACKGROUND: (PET, 0.01), BORDER: (BACKGROUND, 0.2)}
# A better pet and background, and most of the border lost.
WITHOUT_BORDER = {PET: (BACKGROUND, 0.0), BACKGROUND: (PET, 0.0), BORDER: (BACKGROUND, 0.45)}
SAME = {**GOOD, BORDER: (BACKGROUND, 0.3001)}
SETTINGS = IntervalSettings(0.95, 200, 1)


def rows_of(models, photos=PHOTOS, ignored=()):
    """Stored answers; `models` says of each what it gets wrong, each with errors of its own."""
    rows = []
    for row in range(photos):
        true = drawn_mask(row)
        if row in ignored:
            true = np.full_like(true, f.IGNORE)
        answers = {
            model: damaged(drawn_mask(row), wrong, row, seed) for seed, (model, wrong) in enumerate(models.items())
        }
        rows.append(mask_prediction(row, true, answers, species="cat" if row % 3 else "dog", image_format="JPEG"))
    return rows


@pytest.fixture
def written(tmp_path, write_records):
    """A function that writes stored answers by split; gives the artifact."""

    def write(name="predictions", **by_split):
        artifact = standard_artifacts.Examples()
        artifact.uri = str(tmp_path / name)
        artifact.split_names = artifact_utils.encode_split_names(list(by_split))
        for split, rows in by_split.items():
            write_records(tmp_path / name / f"Split-{split}", rows)
        return artifact

    return write


@pytest.fixture
def schema(tmp_path):
    artifact = standard_artifacts.Schema()
    artifact.uri = str(tmp_path / "schema")
    (tmp_path / "schema").mkdir()
    curated = Path(schema_files.curated_schema_file("oxford_iiit_pet_masks")).read_text(encoding="utf-8")
    (tmp_path / "schema" / schema_files.SCHEMA_FILE).write_text(curated, encoding="utf-8")
    return artifact


def test_what_is_stored_is_read_back_each_photo_once(written):
    rows = rows_of({FEATURE_EXTRACTION: GOOD, FINE_TUNED: BETTER}, 6, ignored={4})
    copy = tf.train.Example.FromString(rows[2].SerializeToString())
    copy.features.feature[f.FILE_NAME].bytes_list.value[:] = [b"1 copy.jpg"]
    artifact = written(test=[*reversed(rows), copy])
    stored = read_answers(artifact, "test")
    assert stored.file_names == ["0.jpg", "1.jpg", "1 copy.jpg", "3.jpg", "5.jpg"]  # all of the fifth is ignored
    assert stored.models == (FEATURE_EXTRACTION, FINE_TUNED)
    assert stored.measure.name == "mean IoU of three classes"
    for row in rows:
        row.features.feature[IGNORED_CLASSES].bytes_list.value.extend([b"rug", "Köter".encode()])
    assert read_answers(written(test=rows), "test").measure.name == "mean IoU of three classes without rug, Köter"
    assert {value: rows.tolist() for value, rows in stored.rows_by_value("species").items()} == {
        "cat": [1, 2, 4],
        "dog": [0, 3],
    }
    expected = confusions.count(drawn_mask(3), damaged(drawn_mask(3), GOOD, 3, 0), 3)
    assert stored.confusions[FEATURE_EXTRACTION][3].tolist() == expected.tolist()
    keys = [stored.keys[0], stored.keys[3]]
    masks = read_mask_ids(artifact, "test", [FINE_TUNED], keys)
    assert set(masks) == set(keys)
    np.testing.assert_array_equal(masks[keys[1]][FINE_TUNED], damaged(drawn_mask(3), BETTER, 3, 1))


def test_every_metric_of_a_model_has_its_interval(written):
    stored = read_answers(written(test=rows_of({FEATURE_EXTRACTION: GOOD, FINE_TUNED: BETTER})), "test")
    found = from_json(ModelSummary, stored.evaluate(FINE_TUNED, CLASSES, SETTINGS))
    summed = confusions.scaled(stored.confusions[FINE_TUNED]).sum(axis=0)
    assert found.score == found.mean_iou
    assert found.mean_iou.value == pytest.approx(float(confusions.mean_iou(summed)))
    assert list(found.per_class) == list(CLASSES)
    for index, each in enumerate(found.per_class.values()):
        assert each.examples == PHOTOS
        assert each.iou.value == pytest.approx(confusions.iou(summed)[index])
        assert each.iou.low < each.iou.value < each.iou.high
        assert each.f1.value == pytest.approx(2 * each.iou.value / (1 + each.iou.value))
    assert found.accuracy.value == pytest.approx(np.trace(summed) / PHOTOS)
    assert found.photo_mean_iou.value != found.mean_iou.value
    assert found.loss.low < found.loss.value < found.loss.high
    assert found.calibration_error.value == pytest.approx(0.01)
    assert np.sum(found.confusion_matrix) == PHOTOS * drawn_mask(0).size
    slices = stored.describe_slice(FINE_TUNED, stored.rows_by_value("species")["dog"], 0.95)
    assert slices["mean_iou"]["low"] < slices["mean_iou"]["value"] < slices["mean_iou"]["high"]


@pytest.fixture
def evaluate(written, tmp_path):
    """Runs TFX's Evaluator on stored answers; gives its verdict and the folder of its metrics."""

    def run(models, minimum=0.5, gain=0.0, photos=PHOTOS):
        made = {
            name: kind()
            for name, kind in (
                ("model", standard_artifacts.Model),
                ("baseline_model", standard_artifacts.Model),
                ("evaluation", standard_artifacts.ModelEvaluation),
                ("blessing", standard_artifacts.ModelBlessing),
            )
        }
        for name, artifact in made.items():
            artifact.uri = str(tmp_path / name)
        config = make_eval_config(minimum, gain, ["species"], "code", f.SEGMENTATION)
        executor = Executor(
            Executor.Context(beam_pipeline_args=IN_PROCESS, tmp_dir=str(tmp_path / "temp"), unique_id="1")
        )
        executor.Do(
            {
                "examples": [written(eval=rows_of(models, photos), test=rows_of(models, 1))],
                "model": [made["model"]],
                "baseline_model": [made["baseline_model"]],
            },
            {name: [made[name]] for name in ("evaluation", "blessing")},
            {
                "eval_config": json_format.MessageToJson(config, preserving_proto_field_name=True),
                "example_splits": json.dumps(["eval"]),
            },
        )
        return SimpleNamespace(
            blessed=bool(made["blessing"].get_int_custom_property("blessed")), folder=made["evaluation"].uri
        )

    return run


def test_evaluator_blesses_a_gain_in_mean_iou_and_its_metrics_are_ours(evaluate, written):
    models = {FEATURE_EXTRACTION: GOOD, FINE_TUNED: BETTER}
    done = evaluate(models)
    assert done.blessed
    stored = read_answers(written("again", eval=rows_of(models)), "eval")
    found = {}
    for slice_key, sub_keys in tfma.load_eval_result(done.folder, model_name=FINE_TUNED).slicing_metrics:
        found[slice_key] = sub_keys[""]
    overall = found[()]
    scores = stored.scores(FINE_TUNED)

    def value(metrics, name, sub_key=""):
        return metrics[sub_key][name]["doubleValue"]

    assert value(overall, "mean_iou") == pytest.approx(stored.measure.value(scores), abs=1e-12)
    assert value(overall, "photo_mean_iou") == pytest.approx(float(confusions.mean_iou(scores).mean()), abs=1e-12)
    assert value(overall, "pixel_accuracy") == pytest.approx(float(confusions.pixel_accuracy(scores).mean()))
    for index in range(3):
        assert value(overall, "iou", f"classId:{index}") == pytest.approx(confusions.iou(scores.sum(axis=0))[index])
    dogs = stored.rows_by_value("species")["dog"]
    assert value(found[(("species", "dog"),)], "mean_iou") == pytest.approx(stored.measure.value(scores[dogs]))


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize(
    ("models", "minimum", "gain"),
    [
        ({FEATURE_EXTRACTION: GOOD, FINE_TUNED: BETTER}, 0.99, 0.0),
        ({FEATURE_EXTRACTION: GOOD, FINE_TUNED: BETTER}, 0.5, 0.5),
        ({FEATURE_EXTRACTION: BETTER, FINE_TUNED: GOOD}, 0.5, 0.0),
    ],
    ids=["below the floor", "less than the gain asked for", "worse"],
)
def test_evaluator_refuses(evaluate, models, minimum, gain):
    assert not evaluate(models, minimum, gain).blessed


@pytest.fixture
def select(written, schema, tmp_path):
    """Runs ModelSelector on the eval split, of which the test split is the opposite; gives the verdict."""

    def run(feature_extraction, fine_tuned, blessed=True, **parameters):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        blessing = standard_artifacts.ModelBlessing()
        blessing.uri = str(folder / "blessing")
        bless(blessing, blessed)
        models = {}
        for name in (FEATURE_EXTRACTION, FINE_TUNED):
            models[name] = standard_artifacts.Model()
            models[name].uri = str(folder / name)
            (folder / name).mkdir(parents=True)
            (folder / name / "name").write_text(name)
        chosen, verdict = standard_artifacts.Model(), Verdict()
        chosen.uri, verdict.uri = str(folder / "chosen"), str(folder / "verdict")
        predictions = written(
            f"of {folder.name}",
            eval=rows_of({FEATURE_EXTRACTION: feature_extraction, FINE_TUNED: fine_tuned}),
            test=rows_of({FEATURE_EXTRACTION: fine_tuned, FINE_TUNED: feature_extraction}),
        )
        ModelSelector.EXECUTOR_SPEC.executor_class().Do(
            {
                "predictions": [predictions],
                "blessing": [blessing],
                "schema": [schema],
                **{name: [model] for name, model in models.items()},
            },
            {"model": [chosen], "verdict": [verdict]},
            {
                "minimum_gain": 0.0,
                "fine_tuning_epochs": 5,
                "confidence": 0.95,
                "bootstrap_samples": 200,
                "seed": 1,
                "code": "",
                **parameters,
            },
        )
        found = verdict_in(verdict.uri)
        assert Path(chosen.uri, "name").read_text() == found["winner"]
        return found

    return run


def test_the_fine_tuned_model_wins_by_a_proven_gain_in_mean_iou(select):
    found = select(GOOD, BETTER)
    assert (found["winner"], found["decided_by"]) == (FINE_TUNED, "mean_iou")
    assert found["low"] > 0
    assert "feature extraction: mean IoU" in found["text"]
    assert "points on 24 photos (95% interval" in found["text"]
    assert found["text"].endswith("; fine-tuned wins")
    assert [each["label"] for each in found["classes"]] == list(CLASSES)
    assert not any(each["lost"] for each in found["classes"])
    assert select(GOOD, BETTER, blessed=False)["winner"] == FEATURE_EXTRACTION


def test_without_a_proven_gain_the_cheaper_model_wins_even_with_a_lower_loss(select):
    found = select(GOOD, SAME)
    assert found["winner"] == FEATURE_EXTRACTION
    assert found["low"] <= 0 <= found["high"]
    assert "no proven gain, so the cheaper feature extraction wins" in found["text"]
    assert "log loss" in found["text"]
    lower = select(GOOD, BETTER, minimum_gain=0.9)
    assert lower["winner"] == FEATURE_EXTRACTION


def test_a_gain_at_the_cost_of_a_guarded_class_does_not_win(select):
    found = select(GOOD, WITHOUT_BORDER)
    assert found["low"] > 0
    assert found["winner"] == FEATURE_EXTRACTION
    assert "it loses more than release.tolerated_loss (0) of 'border': IoU -" in found["text"]
    assert "a gain at the cost of a class, so the cheaper feature extraction wins" in found["text"]
    assert select(GOOD, WITHOUT_BORDER, guarded_classes=["pet"])["winner"] == FINE_TUNED
    assert select(GOOD, WITHOUT_BORDER, minimum_slice_examples=PHOTOS + 1)["winner"] == FINE_TUNED


def test_a_guarded_class_that_there_is_none_of_is_named(select):
    with pytest.raises(Exception, match=r"release.guarded_classes has 'bordr', .*; did you mean 'border'\?"):
        select(GOOD, BETTER, guarded_classes=["pet", "bordr"])


@pytest.fixture
def gate(written, schema, write_records, tmp_path):
    """Runs ReleaseGate on the test split; gives the verdict and the manifest."""

    def run(winner_wrong, production_wrong=None, state=None, photos=PHOTOS, **release):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))

        def artifact(kind, name):
            made = kind()
            made.uri = str(folder / name)
            Path(made.uri).mkdir(parents=True)
            return made

        other = GOOD if winner_wrong is not GOOD else BETTER
        predictions = written(
            f"of {folder.name}", test=rows_of({FEATURE_EXTRACTION: other, FINE_TUNED: winner_wrong}, photos)
        )
        answers = artifact(standard_artifacts.Examples, "production")
        state = state or (NONE if production_wrong is None else COMPARABLE)
        if state == COMPARABLE:
            rows = rows_of({"unused": GOOD, "unused too": GOOD, PRODUCTION: production_wrong}, photos)
            answers = written(f"production of {folder.name}", test=rows)
        standing, selection = artifact(Verdict, "standing"), artifact(Verdict, "selection")
        version = None if state == NONE else 7
        write_verdict(
            standing.uri,
            from_json(
                ProductionStanding,
                {"state": state, "text": f"production is {state}", "version": version, "labels": list(CLASSES)},
            ),
        )
        write_verdict(selection.uri, selection_of(FINE_TUNED))
        ingest_report = artifact(IngestReport, "ingest_report")
        (folder / "ingest_report" / "report.json").write_text(json.dumps({"data_fingerprint": "abc"}))
        vectors = artifact(standard_artifacts.Examples, "vectors")
        vectors.split_names = artifact_utils.encode_split_names(["train", "test"])
        for split in ("train", "test"):
            write_records(folder / "vectors" / f"Split-{split}", [])
        made = {
            "model": artifact(standard_artifacts.Model, "model"),
            "blessing": artifact(standard_artifacts.ModelBlessing, "blessing"),
            "verdict": artifact(Verdict, "verdict"),
        }
        ReleaseGate.EXECUTOR_SPEC.executor_class().Do(
            {
                "predictions": [predictions],
                "selection": [selection],
                "model": [made["model"]],
                "production_predictions": [answers],
                "production_standing": [standing],
                "ingest_report": [ingest_report],
                "schema": [schema],
                "vectors": [vectors],
            },
            {name: [made[name]] for name in ("blessing", "verdict")},
            {
                **ReleaseConfig(**release).model_dump(),
                "minimum_slice_examples": 20,
                "confidence": 0.95,
                "bootstrap_samples": 200,
                "seed": 1,
                "force_push": "",
                "code": "",
            },
        )
        found = verdict_in(made["verdict"].uri)
        found["manifest"] = json.loads((folder / "blessing" / "release.json").read_text())
        return found

    return run


def test_a_first_model_above_the_floor_is_released(gate):
    found = gate(BETTER)
    assert found["released"]
    assert found["text"].startswith("fine-tuned: mean IoU ")
    assert "on 24 test photos, at least release.minimum_mean_iou (30.0%)" in found["text"]
    assert found["mean_iou"] == found["manifest"]["metrics"]["mean_iou"]["value"] > 0.6
    assert list(found["manifest"]["metrics"]) == ["mean_iou", "accuracy", "loss", "calibration_error"]
    assert found["constant"]["label"] == "background"
    assert found["constant"]["accuracy"] < 0.4


def test_below_the_floor_it_is_refused(gate):
    found = gate(BETTER, minimum_mean_iou=0.95)
    assert not found["released"]
    assert "below release.minimum_mean_iou (95.0%)" in found["text"]


def test_a_model_that_answers_one_class_is_refused(gate):
    found = gate({PET: (BACKGROUND, 1.0), BORDER: (BACKGROUND, 1.0)}, minimum_mean_iou=0.1)
    assert not found["released"]
    assert "no better than answering 'background'" in found["text"]


def test_too_few_test_photos_are_refused(gate):
    found = gate(BETTER, photos=5)
    assert found["refusals"] == [
        "5 test photos, expected at least 10 (release.minimum_test_photos); add photos, or give the test split a "
        "larger share (data.splits.test)"
    ]


def test_no_loss_against_production_on_the_same_photos_is_released(gate):
    found = gate(BETTER, GOOD)
    assert found["released"]
    assert "version 7 in production: mean IoU" in found["text"]
    assert found["production"]["low"] > 0
    assert [each["label"] for each in found["production"]["classes"]] == list(CLASSES)


def test_a_loss_against_production_is_refused(gate):
    found = gate(GOOD, BETTER)
    assert not found["released"]
    assert "more than release.tolerated_loss (0.01)" in found["refusals"][0]


def test_a_class_lost_against_production_is_refused_although_the_mean_gains(gate):
    found = gate(WITHOUT_BORDER, GOOD)
    assert found["production"]["difference"] > 0
    assert not found["released"]
    [refusal] = found["refusals"]
    assert refusal.startswith("on the guarded class 'border': IoU -")
    assert gate(WITHOUT_BORDER, GOOD, guarded_classes=["pet", "background"])["released"]


def test_a_model_of_the_other_task_in_production_cannot_be_compared(gate):
    found = gate(BETTER, state=OTHER_SIGNATURE)
    assert not found["released"]
    assert "set release.incomparable=floors" in found["text"]
    assert gate(BETTER, state=OTHER_SIGNATURE, incomparable="floors")["released"]


def test_one_photo_shows_nothing_and_every_number_can_be_written(written):
    stored = read_answers(written(test=rows_of({FEATURE_EXTRACTION: GOOD, FINE_TUNED: BETTER}, 1)), "test")
    found = stored.evaluate(FINE_TUNED, CLASSES, SETTINGS)
    assert (found["mean_iou"]["low"], found["mean_iou"]["high"]) == (0, 1)
    loss = stored.compare_losses(FINE_TUNED, FEATURE_EXTRACTION, 0.95)
    assert loss.low < -10
    assert loss.high > 10
    json.dumps([found, vars(loss)], allow_nan=False)
