"""The ensemble answers with the mean of both models, as one SavedModel that needs neither of them."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from components.backbone.layer import FeatureVector
from components.ensemble.component import Ensemble, export_ensemble
from components.evaluator.predictions import Predictions
from components.evaluator.stored_predictions import ENSEMBLE, FEATURE_EXTRACTION, FINE_TUNED, read_predictions
from components.example_gen.photo_rules import INPUT_FILE
from components.legacy_keras import tf_keras
from components.report.summary import describe_models
from components.servable_check.component import check
from components.trainer import serving_model, warm_start
from components.transform.graph import load_transform
from deploy.display import _models_table
from tests.in_process import IN_PROCESS

LABELS = ("cat", "dog")
ABSTAIN_BELOW, SECOND_TEMPERATURE = 0.75, 1.5
SIGNATURES = {"serving_default", "serve_examples", "transform_features", "feature_vector"}

pytestmark = pytest.mark.slow  # tracing many graphs takes its time


@pytest.fixture(scope="module")
def photos(drawn_photos, odd_photos):
    return [*(photo.photo_bytes for photo in drawn_photos), *odd_photos.values()]


@pytest.fixture(scope="module")
def first_model(calibrated_model):
    return calibrated_model


@pytest.fixture(scope="module")
def second_model(tmp_path_factory, photos, tiny_backbone, transform_graph) -> str:
    """Folder of a second model, as fine-tuned ones are: another head on a backbone that learnt, too."""
    transform, backbone = load_transform(transform_graph), FeatureVector(tiny_backbone)
    for variable in backbone.resolved_object.variables:
        if "top_conv" in variable.name:
            variable.assign(variable * 1.5)
    vectors = backbone(transform(tf.constant(photos))).numpy()
    scores = vectors @ np.random.default_rng(35).normal(size=vectors.shape[1])
    direction = np.linalg.lstsq(vectors - vectors.mean(axis=0), scores - scores.mean(), rcond=None)[0] / scores.std()
    kernel = np.stack([-direction, direction], axis=1)
    head = tf_keras.Sequential([tf_keras.layers.Input([vectors.shape[1]]), tf_keras.layers.Dense(2, name="head")])
    head.set_weights([kernel, -vectors.mean(axis=0) @ kernel])
    folder = tmp_path_factory.mktemp("second_model")
    serving_model.export(str(folder), transform, backbone, head, list(LABELS), SECOND_TEMPERATURE, ABSTAIN_BELOW)
    return str(folder)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory, first_model, second_model) -> str:
    """Folder of the ensemble, made of copies that are gone."""
    folder = tmp_path_factory.mktemp("ensemble")
    for name, source in (("first", first_model), ("second", second_model)):
        shutil.copytree(source, folder / "sources" / name)
    export_ensemble(*(str(folder / "sources" / name) for name in ("first", "second")), str(folder / "both"))
    shutil.rmtree(folder / "sources")
    return str(folder / "both")


def ask(folder, photos, signature="serving_default"):
    """The model's answers to photos, as numpy arrays."""
    model = tf.saved_model.load(folder)
    if signature in ("serving_default", "feature_vector"):
        answers = model.signatures[signature](image_bytes=tf.constant(photos))
    else:
        examples = [tf.train.Example() for _ in photos]
        for example, photo in zip(examples, photos, strict=True):
            example.features.feature["image"].bytes_list.value.append(photo)
        answers = model.signatures[signature](examples=tf.constant([e.SerializeToString() for e in examples]))
    return {name: value.numpy() for name, value in answers.items()}


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("signature", ["serving_default", "serve_examples"])
def test_it_answers_with_the_mean(first_model, second_model, ensemble, photos, signature):
    first, second, both = (ask(folder, photos, signature) for folder in (first_model, second_model, ensemble))
    mean = (first["probabilities"].astype(np.float64) + second["probabilities"]) / 2
    np.testing.assert_allclose(both["probabilities"], mean, rtol=0, atol=1e-6)
    np.testing.assert_allclose(both["probability"], mean.max(axis=1), rtol=0, atol=1e-6)
    assert both["label"].tolist() == [LABELS[i].encode() for i in mean.argmax(axis=1)]
    # Where the two disagree, the surer one has its way; each is so somewhere.
    assert np.any((both["label"] != first["label"]) & (both["label"] == second["label"]))
    assert np.any((both["label"] == first["label"]) & (both["label"] != second["label"]))


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("signature", ["serving_default", "serve_examples"])
def test_it_abstains_by_its_own_probability(first_model, second_model, ensemble, photos, signature):
    first, second, both = (ask(folder, photos, signature) for folder in (first_model, second_model, ensemble))
    np.testing.assert_array_equal(both["abstains"], both["probability"] < ABSTAIN_BELOW)
    assert 0 < both["abstains"].sum() < len(photos)
    for one in (first, second):
        assert np.any(both["abstains"] != one["abstains"])


@pytest.mark.slow
@pytest.mark.release
def test_images_are_answered_with_the_mean_too(first_model, ensemble, photos, transform_graph):
    both = tf.saved_model.load(ensemble)
    images = load_transform(transform_graph)(tf.constant(photos))
    expected = ask(ensemble, photos)["probabilities"]
    np.testing.assert_allclose(both.probabilities_of_images(images), expected, rtol=0, atol=1e-6)
    specs = [
        model.probabilities_of_images.concrete_functions[0].structured_input_signature
        for model in (both, tf.saved_model.load(first_model))
    ]
    assert specs[0] == specs[1]


def test_its_signatures_are_those_of_one_model(first_model, ensemble):
    one, both = tf.saved_model.load(first_model), tf.saved_model.load(ensemble)
    assert set(both.signatures) == set(one.signatures) == SIGNATURES
    for name in SIGNATURES:
        assert both.signatures[name].structured_input_signature == one.signatures[name].structured_input_signature
        assert both.signatures[name].structured_outputs == one.signatures[name].structured_outputs


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("signature", ["transform_features", "feature_vector"])
def test_preprocessing_and_vectors_are_the_first_models(first_model, second_model, ensemble, photos, signature):
    [first], [second], [both] = (
        ask(folder, photos, signature).values() for folder in (first_model, second_model, ensemble)
    )
    np.testing.assert_array_equal(both, first)
    assert (signature == "feature_vector") == bool(np.any(np.abs(second - first) > 0.01))


@pytest.mark.slow
@pytest.mark.release
def test_the_next_model_starts_from_the_second(second_model, ensemble):
    second, both = (
        {variable.name: variable.numpy() for variable in tf.saved_model.load(folder).model_variables}
        for folder in (second_model, ensemble)
    )
    assert "head/kernel:0" in both
    assert both.keys() == second.keys()
    for name, value in both.items():
        np.testing.assert_array_equal(value, second[name])


@pytest.mark.slow
@pytest.mark.release
def test_a_model_that_starts_from_it_answers_as_the_second(second_model, ensemble, photos):
    """Before it is calibrated, that is, so at the second one's temperature."""
    source = warm_start.read_source(ensemble)
    assert source.temperature == SECOND_TEMPERATURE
    vectors = ask(second_model, photos, "feature_vector")["feature_vector"]
    logits = vectors @ source.values["head/kernel:0"] + source.values["head/bias:0"]
    assert warm_start.check_step_zero(source, list(LABELS), tf.constant(photos), logits).largest < 5e-6
    calibrated_already = np.log(ask(second_model, photos)["probabilities"])
    of_the_mean = np.log(ask(ensemble, photos)["probabilities"]) * SECOND_TEMPERATURE
    for wrong in (calibrated_already, of_the_mean):
        with pytest.raises(warm_start.WarmStartFailed):
            warm_start.check_step_zero(source, list(LABELS), tf.constant(photos), wrong)


@pytest.mark.slow
@pytest.mark.release
def test_a_fresh_process_serves_it(first_model, second_model, ensemble, photos):
    """Without the two models' folders, and as ServableCheck will ask: against the mean of what was stored."""
    first, second = (ask(folder, photos)["probabilities"] for folder in (first_model, second_model))
    findings = check(ensemble, photos, np.mean([first, second], axis=0), tolerance=1e-5)
    assert findings["servable"], findings["text"]
    assert Path(ensemble, "assets.extra", "labels.txt").read_bytes() == b"cat\ndog\n"
    assert Path(ensemble, INPUT_FILE).read_bytes() == Path(first_model, INPUT_FILE).read_bytes()
    assert not check(ensemble, photos, first, tolerance=1e-5)["servable"]


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        ("dog\ncat\n", "line 1 of assets.extra/labels.txt is 'cat' in {0} and 'dog' in {1}"),
        ("cat\n", "line 2 of assets.extra/labels.txt is 'dog' in {0} and '' in {1}"),
        ("cat\ndog\nfox\n", "line 3 of assets.extra/labels.txt is '' in {0} and 'fox' in {1}"),
    ],
)
def test_models_of_other_labels_are_refused(first_model, tmp_path, labels, line):
    other = str(tmp_path / "other")
    shutil.copytree(first_model, other)
    Path(other, "assets.extra", "labels.txt").write_text(labels)
    with pytest.raises(ValueError, match="only if their labels are the same in the same order") as refused:
        export_ensemble(first_model, other, str(tmp_path / "both"))
    assert str(refused.value).endswith(line.format(first_model, other))
    assert not (tmp_path / "both").exists()


def model_artifact(folder, saved_model=None):
    model = standard_artifacts.Model()
    model.uri = str(folder)
    if saved_model:
        shutil.copytree(saved_model, folder / "Format-Serving")
    return model


@pytest.mark.slow
@pytest.mark.release
def test_the_component_takes_features_from_the_cheaper_model(first_model, second_model, photos, tmp_path):
    made = model_artifact(tmp_path / "both")
    Ensemble.EXECUTOR_SPEC.executor_class().Do(
        {
            "feature_extraction": [model_artifact(tmp_path / "first", first_model)],
            "fine_tuned": [model_artifact(tmp_path / "second", second_model)],
        },
        {"model": [made]},
        {"code": ""},
    )
    both = ask(str(tmp_path / "both" / "Format-Serving"), photos[:2], "feature_vector")
    first = ask(first_model, photos[:2], "feature_vector")
    np.testing.assert_array_equal(both["feature_vector"], first["feature_vector"])


@pytest.fixture(scope="module")
def predict(tmp_path_factory, first_model, second_model, drawn_photos, make_example, write_records, curated_schema):
    """Runs the Predictions component; gives its output."""

    def run(with_ensemble):
        folder = tmp_path_factory.mktemp("predictions")
        examples, predictions = standard_artifacts.Examples(), standard_artifacts.Examples()
        for artifact, name in ((examples, "photos"), (predictions, "answers")):
            artifact.uri = str(folder / name)
        examples.split_names = artifact_utils.encode_split_names(["train", "eval", "test"])
        for split, drawn in (("eval", drawn_photos[:9]), ("test", drawn_photos[9:])):
            write_records(folder / "photos" / f"Split-{split}", [make_example(photo) for photo in drawn])
        schema = standard_artifacts.Schema()
        schema.uri = str(folder / "schema")
        (folder / "schema").mkdir()
        shutil.copy(curated_schema, folder / "schema" / "schema.pbtxt")
        inputs = {
            "examples": [examples],
            "schema": [schema],
            "feature_extraction": [model_artifact(folder / "first", first_model)],
            "fine_tuned": [model_artifact(folder / "second", second_model)],
        }
        if with_ensemble:
            inputs["ensemble"] = [model_artifact(folder / "is not looked into")]
        executor = Predictions.EXECUTOR_SPEC.executor_class
        context = executor.Context(beam_pipeline_args=IN_PROCESS, tmp_dir=str(folder / "temp"), unique_id="1")
        executor(context).Do(inputs, {"predictions": [predictions]}, {"code": ""})
        return predictions

    return run


@pytest.fixture(scope="module")
def three_models(predict):
    return predict(with_ensemble=True)


@pytest.mark.slow
@pytest.mark.release
def test_what_is_stored_is_what_the_ensemble_answers(three_models, ensemble, drawn_photos):
    photo_of = {photo.name: photo.photo_bytes for photo in drawn_photos}
    for split, count in (("eval", 9), ("test", 15)):
        stored = read_predictions(three_models, split)
        assert list(stored.probabilities) == [FEATURE_EXTRACTION, FINE_TUNED, ENSEMBLE]
        assert len(stored.file_names) == count
        answers = ask(ensemble, [photo_of[name] for name in stored.file_names])["probabilities"]
        assert stored.probabilities[ENSEMBLE].dtype == np.float32
        np.testing.assert_allclose(stored.probabilities[ENSEMBLE], answers, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.release
def test_without_an_ensemble_nothing_of_it_is_stored(predict):
    stored = read_predictions(predict(with_ensemble=False), "test")
    assert list(stored.probabilities) == [FEATURE_EXTRACTION, FINE_TUNED]


def test_the_report_tells_of_it(three_models):
    models = describe_models(three_models, list(LABELS), 0.95, 200, 0, 5, ABSTAIN_BELOW)
    stored = read_predictions(three_models, "test")
    assert list(models) == [FEATURE_EXTRACTION, FINE_TUNED, ENSEMBLE]
    for name, model in models.items():
        assert model.examples == 15
        assert model.accuracy.value == pytest.approx(stored.scores(name).mean())
        chosen = stored.probabilities[name][np.arange(15), stored.classes]
        assert model.loss.value == pytest.approx(-np.log(chosen).mean())
    table = _models_table(models, ENSEMBLE, None)
    assert "15 test photos" in table.title
    assert list(table.columns[0].cells) == ["feature extraction", "fine-tuned", "ensemble"]
    assert list(table.columns[-1].cells) == ["", "", "wins"]
