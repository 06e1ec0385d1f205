"""Each model answers each photo once; what is stored has what metrics are sliced by, and no photo learnt from."""

import shutil

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from components import loaded_models
from components.evaluator import predictions as module
from components.evaluator.predictions import Predictions
from components.evaluator.stored_predictions import (
    FEATURE_EXTRACTION,
    FINE_TUNED,
    LABEL_INDEX,
    probabilities_key,
    read_predictions,
)
from components.records import read_examples, split_files
from schemas import features as f
from schemas import schema_files
from tests.in_process import IN_PROCESS


def artifact(kind, folder, splits=None):
    made = kind()
    made.uri = str(folder)
    if splits is not None:
        made.split_names = artifact_utils.encode_split_names(splits)
    return made


@pytest.fixture
def predict(tmp_path, exported_model, write_records, curated_schema):
    """Runs the component on examples by split; gives its output."""

    def run(by_split, learnt_from=None, model=exported_model, stored=None, **parameters):
        for split, examples in by_split.items():
            write_records(tmp_path / "photos" / f"Split-{split}", examples)
        (tmp_path / "schema").mkdir()
        shutil.copy(curated_schema, tmp_path / "schema" / schema_files.SCHEMA_FILE)
        shutil.copytree(model, tmp_path / "model" / "Format-Serving")
        inputs = {
            "examples": [artifact(standard_artifacts.Examples, tmp_path / "photos", list(by_split))],
            "schema": [artifact(standard_artifacts.Schema, tmp_path / "schema")],
            **{
                name: [artifact(standard_artifacts.Model, tmp_path / "model")]
                for name in (FEATURE_EXTRACTION, FINE_TUNED)
            },
        }
        if learnt_from is not None:
            for split, examples in learnt_from.items():
                write_records(tmp_path / "vectors" / f"Split-{split}", examples)
            inputs["learnt_from"] = [
                artifact(standard_artifacts.Examples, tmp_path / "vectors", ["train", "eval", "test"])
            ]
        if stored is not None:
            for split, examples in stored.items():
                write_records(tmp_path / "stored" / f"Split-{split}", examples)
            inputs["vectors"] = [artifact(standard_artifacts.Examples, tmp_path / "stored", list(stored))]
        predictions = artifact(standard_artifacts.Examples, tmp_path / "predictions")
        executor = Predictions.EXECUTOR_SPEC.executor_class
        context = executor.Context(beam_pipeline_args=IN_PROCESS, tmp_dir=str(tmp_path / "temp"), unique_id="1")
        executor(context).Do(inputs, {"predictions": [predictions]}, {"code": "", **parameters})
        return predictions

    return run


def test_what_metrics_are_sliced_by_is_stored_and_what_is_unknown_is_left_out(
    predict, drawn_photos, make_example, tmp_path
):
    examples = [make_example(photo) for photo in drawn_photos[:6]]
    for example, (width, height) in zip(examples, [(300, 200), (300, 256), (512, 9000), (2000, 1024)], strict=False):
        for name, value in ((f.WIDTH, width), (f.HEIGHT, height)):
            example.features.feature[name].int64_list.value[:] = [value]
    examples[5].features.feature[f.BREED].bytes_list.value[:] = [b"Pug"]
    predictions = predict({"train": examples[:1], "eval": examples[:1], "test": examples})
    assert artifact_utils.decode_split_names(predictions.split_names) == ["eval", "test"]
    features = [example.features.feature for example in read_examples(split_files(predictions, "test"))]
    assert not any(f.IMAGE in feature for feature in features)
    assert sum(f.BREED in feature for feature in features) == 1
    stored = read_predictions(predictions, "test")
    sizes = dict(zip(stored.file_names, stored.slices[f.IMAGE_SIZE], strict=True))
    assert [sizes[photo.name] for photo in drawn_photos[:6]] == [
        "below 256 px",
        "256-511 px",
        "512-1023 px",
        "1024 px and more",
        "below 256 px",
        "below 256 px",
    ]
    assert {value: list(rows) for value, rows in stored.rows_by_value(f.BREED).items()} == {
        "Pug": [stored.file_names.index(drawn_photos[5].name)]
    }
    cats, dogs = (stored.rows_by_value(f.LABEL)[label] for label in ("cat", "dog"))
    assert sorted([*cats, *dogs]) == list(range(6))
    assert set(stored.classes[cats]) == {0}
    assert not [folder for folder in loaded_models._loaded if folder.startswith(str(tmp_path))]


def test_further_photos_are_all_test_photos_and_those_learnt_from_are_left_out(predict, drawn_photos, make_example):
    examples = [make_example(photo) for photo in drawn_photos[:8]]
    learnt_from = {"train": examples[0:2], "eval": examples[2:3], "test": examples[3:4]}
    predictions = predict({"test": examples}, learnt_from)
    stored = read_predictions(predictions, "test")
    assert set(stored.file_names) == {photo.name for photo in drawn_photos[3:8]}


@pytest.mark.slow
@pytest.mark.release
def test_a_label_that_the_models_do_not_know_is_named(predict, drawn_photos, make_example):
    example = make_example(drawn_photos[0])
    example.features.feature[f.LABEL].bytes_list.value[:] = [b"dragon"]
    with pytest.raises(Exception, match=r"cat\.0\.jpg of cats_vs_dogs is a 'dragon', which the models do not know"):
        predict({"test": [make_example(drawn_photos[1]), example]})


def test_each_model_answers_each_photo_once(predict, drawn_photos, make_example, monkeypatch):
    """40 photos are two batches of at most 32 for each of the two models."""
    asked = []
    load = tf.saved_model.load

    def counting(path):
        loaded = load(path)
        answer = loaded.signatures["serve_examples"]

        class Model:
            signatures = {  # noqa: RUF012
                "serve_examples": lambda examples: asked.append(len(examples)) or answer(examples=examples)
            }
            keep = loaded

        return Model()

    monkeypatch.setattr(tf.saved_model, "load", counting)
    examples = []
    for i in range(40):
        example = make_example(drawn_photos[i % 24])
        example.features.feature[f.CONTENT_HASH].bytes_list.value[:] = [f"{i:064d}".encode()]
        examples.append(example)
    predict({"eval": examples[:10], "test": examples[10:]})
    # Both are loaded from one folder here, so once.
    assert sum(asked) == 2 * 40
    assert len(asked) == 2 * 2


@pytest.fixture
def stored(export_model, drawn_photos, make_example):
    """A model, examples with photos by split, and the same as FeatureVectorGen stores them."""
    model = export_model(cached="vectors")
    photos = {"eval": drawn_photos[:10], "test": drawn_photos[10:20]}
    vectors_of = tf.saved_model.load(model).signatures["feature_vector"]
    with_vectors = {}
    for split, its_photos in photos.items():
        with_vectors[split] = [make_example(photo) for photo in its_photos]
        for example, photo in zip(with_vectors[split], its_photos, strict=True):
            feature = example.features.feature
            del feature[f.IMAGE]
            [vector] = vectors_of(image_bytes=tf.constant([photo.photo_bytes]))["feature_vector"].numpy()
            feature[f.FEATURE_VECTOR].float_list.value.extend(vector)
            feature[f.BRIGHTNESS].float_list.value.append(0.5)
            feature[f.VIEW].int64_list.value.append(0)
    return model, {split: [make_example(photo) for photo in its] for split, its in photos.items()}, with_vectors


def asking(monkeypatch):
    """Counts the photos that models are asked about by what they are served with."""
    asked = []
    of_photos = module._of_photos
    monkeypatch.setattr(module, "_of_photos", lambda model, records: asked.extend(records) or of_photos(model, records))
    return asked


def test_the_models_answer_from_what_is_stored_of_the_photos(predict, stored, monkeypatch):
    model, photos, with_vectors = stored
    asked = asking(monkeypatch)
    predictions = predict(photos, model=model, stored=with_vectors, asked_twice=4, tolerance=1e-5)
    assert predictions.get_string_custom_property(module.ANSWERED_FROM_PROPERTY) == module.STORED
    assert len(asked) == 2 * 4
    for split, examples in photos.items():
        found = read_predictions(predictions, split)
        expected = dict(
            zip(
                [example.features.feature[f.FILE_NAME].bytes_list.value[0].decode() for example in examples],
                module._of_photos(tf.saved_model.load(model), [example.SerializeToString() for example in examples]),
                strict=True,
            )
        )
        for name in (FEATURE_EXTRACTION, FINE_TUNED):
            for file_name, probabilities in zip(found.file_names, found.probabilities[name], strict=True):
                np.testing.assert_allclose(probabilities, expected[file_name], atol=1e-6)
        assert len(found.file_names) == 10
        # Stored is what would be, had the photos been asked about.
        names = set(examples[0].features.feature) - {f.IMAGE}
        for example in read_examples(split_files(predictions, split)):
            assert set(example.features.feature) - names <= {
                f.IMAGE_SIZE,
                LABEL_INDEX,
                *map(probabilities_key, (FEATURE_EXTRACTION, FINE_TUNED)),
            }


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize(
    "fault", ["another backbone's vectors", "another photo's vector", "no vector", "no test split"]
)
def test_where_the_answers_are_not_alike_the_photos_are_asked_about(predict, stored, fault):
    model, photos, with_vectors = stored
    if fault == "another backbone's vectors":
        for example in with_vectors["test"]:
            values = example.features.feature[f.FEATURE_VECTOR].float_list.value
            values[:] = [value + 0.1 * i for i, value in enumerate(values)]
    elif fault == "another photo's vector":
        hashes = [example.features.feature[f.CONTENT_HASH].bytes_list.value for example in with_vectors["test"]]
        [hashes[0][0], hashes[-1][0]] = [hashes[-1][0], hashes[0][0]]
    elif fault == "no vector":
        del with_vectors["eval"][3]
    else:
        with_vectors["test"] = []
    predictions = predict(photos, model=model, stored=with_vectors, asked_twice=10, tolerance=1e-5)
    assert predictions.get_string_custom_property(module.ANSWERED_FROM_PROPERTY) == module.PHOTOS
    assert len(read_predictions(predictions, "test").keys) == 10


@pytest.mark.slow
@pytest.mark.release
def test_a_model_that_knows_photos_only_is_asked_about_them(predict, stored, exported_model):
    _, photos, with_vectors = stored
    predictions = predict(photos, stored=with_vectors, asked_twice=4, tolerance=1e-5)
    assert predictions.get_string_custom_property(module.ANSWERED_FROM_PROPERTY) == module.PHOTOS
