"""The model in production answers the test photos, or has a state that says why the two cannot be compared."""

import shutil

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from components.artifacts import Verdict
from components.evaluator.stored_predictions import PRODUCTION, read_predictions
from components.release_gate import examination
from components.release_gate.production import ProductionPredictions
from components.serving_folder.files import model_identity
from schemas import schema_files
from schemas.json_records import to_json
from schemas.labels import LABELS_FILE
from tests.in_process import IN_PROCESS
from tests.verdicts import verdict_in

LABELS = ["cat", "dog"]


def examine(*given) -> dict:
    """What is found, as it is written."""
    return to_json(examination.examine(*given))


@pytest.fixture(scope="module")
def example(drawn_photos, make_example):
    return tf.constant(make_example(drawn_photos[0]).SerializeToString())


@pytest.fixture
def copy(exported_model, tmp_path):
    """A copy of the exported model, as version 3 in production."""
    return shutil.copytree(exported_model, tmp_path / "serving" / "3")


@pytest.fixture
def run(tmp_path, exported_model, drawn_photos, make_example, write_records, curated_schema):
    """Runs the component on six test photos; gives the standing and the predictions."""

    def run(production_model, identity="another"):
        photos = tmp_path / "photos"
        write_records(photos / "Split-test", [make_example(photo) for photo in drawn_photos[:6]])
        write_records(photos / "Split-eval", [make_example(photo) for photo in drawn_photos[6:8]])
        (tmp_path / "schema").mkdir()
        shutil.copy(curated_schema, tmp_path / "schema" / schema_files.SCHEMA_FILE)
        shutil.copytree(exported_model, tmp_path / "model" / "Format-Serving")
        artifacts = {}
        for name, kind in (
            ("photos", standard_artifacts.Examples),
            ("schema", standard_artifacts.Schema),
            ("model", standard_artifacts.Model),
            ("predictions", standard_artifacts.Examples),
            ("standing", Verdict),
        ):
            artifacts[name] = kind()
            artifacts[name].uri = str(tmp_path / name)
        artifacts["photos"].split_names = artifact_utils.encode_split_names(["train", "eval", "test"])
        executor = ProductionPredictions.EXECUTOR_SPEC.executor_class
        context = executor.Context(beam_pipeline_args=IN_PROCESS, tmp_dir=str(tmp_path / "temp"), unique_id="1")
        executor(context).Do(
            {"examples": [artifacts["photos"]], "schema": [artifacts["schema"]], "model": [artifacts["model"]]},
            {"predictions": [artifacts["predictions"]], "standing": [artifacts["standing"]]},
            {
                "production_model": str(production_model),
                "production_identity": identity,
                "code": "",
                "asked_twice": 0,
                "tolerance": 0.0,
            },
        )
        return verdict_in(artifacts["standing"].uri), artifacts["predictions"]

    return run


def test_a_first_run_has_nothing_to_compare_with(run):
    standing, _ = run("")
    assert standing == {"state": "none", "version": None, "text": "no model is in production yet"}


def test_the_winner_itself_is_known_by_its_content_and_not_run(run, copy, exported_model):
    (copy / "saved_model.pb").unlink()  # it would be unreadable
    standing, _ = run(copy, model_identity(exported_model))
    assert standing == {"state": "same", "version": 3, "text": "the winner is the model in production"}


def test_another_model_answers_the_test_photos(run, copy, drawn_photos):
    standing, predictions = run(copy)
    assert standing == {
        "state": "comparable",
        "version": 3,
        "labels": LABELS,
        "text": "it knows the same classes",
    }
    stored = read_predictions(predictions, "test")
    photos = {photo.name: photo for photo in drawn_photos}
    assert set(stored.file_names) == {photo.name for photo in drawn_photos[:6]}
    answer = tf.saved_model.load(str(copy)).signatures["serving_default"]
    bytes_in_order = tf.constant([photos[name].photo_bytes for name in stored.file_names])
    expected = answer(image_bytes=bytes_in_order)["probabilities"].numpy()
    np.testing.assert_allclose(stored.probabilities[PRODUCTION], expected, atol=1e-6)


def test_a_damaged_model_is_unreadable(run, copy):
    (copy / "saved_model.pb").write_bytes((copy / "saved_model.pb").read_bytes()[:1000])
    standing, _ = run(copy)
    assert (standing["state"], standing["version"]) == ("unreadable", 3)
    assert standing["text"].startswith(f"the model in production cannot be compared: {copy} cannot be loaded (")
    assert "\n" not in standing["text"]


def test_a_folder_that_is_gone_is_unreadable(example, tmp_path):
    assert examine(str(tmp_path / "9"), LABELS, example)["state"] == "unreadable"


def somebody_elses(folder, answer, name="serve_examples", labels=LABELS):
    """A SavedModel with one signature that gives what `answer` says."""
    model = tf.Module()
    signature = tf.function(answer, input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    tf.saved_model.save(model, str(folder), signatures={name: signature.get_concrete_function()})
    (folder / "assets.extra").mkdir(exist_ok=True)
    (folder / LABELS_FILE).write_text("".join(f"{label}\n" for label in labels))
    return str(folder)


def probabilities(classes):
    return lambda examples: {"probabilities": tf.ones([tf.shape(examples)[0], classes]) / classes}


@pytest.mark.parametrize(
    ("answer", "name", "why"),
    [
        (probabilities(2), "serving_default", "it has no signature serve_examples"),
        (lambda examples: {"scores": tf.ones([1, 2])}, "serve_examples", "fails on a photo (KeyError"),
        (probabilities(3), "serve_examples", "returns probabilities of shape [1, 3], not of its 2 classes"),
        (
            lambda examples: {"probabilities": tf.io.decode_jpeg(examples[0])},
            "serve_examples",
            "fails on a photo (InvalidArgumentError",
        ),
        (
            lambda examples: {"probabilities": tf.fill([tf.shape(examples)[0], 2], np.float32(np.nan))},
            "serve_examples",
            "returns probabilities",
        ),
    ],
)
def test_another_signature_is_named(answer, name, why, example, tmp_path):
    found = examine(somebody_elses(tmp_path / "other", answer, name), LABELS, example)
    assert found["state"] == "other_signature"
    assert why in found["text"]


@pytest.mark.parametrize(
    ("labels", "state", "text"),
    [
        (["dog", "cat"], "comparable", "it knows the same classes"),
        (["bird", "cat", "dog"], "comparable", "it knows 3 classes, of which 2 are among the winner's 2"),
        (["bird", "cat"], "other_labels", "it shares 1 of its 2 classes with the winner, expected at least two"),
        (["Cat", "Dog"], "other_labels", "it shares 0 of its 2 classes with the winner"),
    ],
)
def test_labels_are_compared_by_name(labels, state, text, example, tmp_path):
    folder = somebody_elses(tmp_path / "other", probabilities(len(labels)), labels=labels)
    found = examine(folder, LABELS, example)
    assert found["state"] == state
    assert text in found["text"]
    assert found.get("labels") == (labels if state == "comparable" else None)


def test_without_a_list_of_labels_nothing_can_be_compared(example, copy):
    (copy / LABELS_FILE).unlink()
    found = examine(str(copy), LABELS, example)
    assert found["state"] == "other_labels"
    assert f"it has no {LABELS_FILE}" in found["text"]
