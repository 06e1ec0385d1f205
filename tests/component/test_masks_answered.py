"""Predictions and ProductionPredictions of models that give a class for each pixel."""

import shutil

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from components.artifacts import Verdict
from components.evaluator import confusions, mask_answers
from components.evaluator.mask_answers import AskForMasks
from components.evaluator.predictions import Predictions
from components.evaluator.stored_answers import read_answers, read_expected
from components.evaluator.stored_masks import StoredMasks, ids_png, own_confusion_key, png_ids
from components.evaluator.stored_predictions import FEATURE_EXTRACTION, FINE_TUNED, PRODUCTION
from components.records import read_examples, split_files
from components.release_gate.examination import examine
from components.release_gate.production import ProductionPredictions
from components.task.judging import IntervalSettings
from components.transform.mask_ops import masks_to_ids
from schemas import features as f
from schemas import schema_files
from schemas.labels import write_labels
from tests.in_process import IN_PROCESS
from tests.verdicts import verdict_in

LABELS = ["pet", "background", "border"]
SIZE = 16


@pytest.fixture
def with_masks(drawn_photos, drawn_mask, make_example):
    """Six examples with masks; of the first nothing is counted."""
    examples = []
    for i, photo in enumerate(drawn_photos[:6]):
        example = make_example(photo)
        mask = drawn_mask(photo)
        if i == 0:
            shape = tf.io.decode_png(mask).shape
            mask = tf.io.encode_png(tf.fill(shape, np.uint8(f.IGNORE))).numpy()
        example.features.feature[f.MASK].bytes_list.value.append(mask)
        example.features.feature[f.MASK_CLASSES].bytes_list.value.extend(label.encode() for label in LABELS)
        examples.append(example)
    return examples


@pytest.fixture
def run(tmp_path, write_records, with_masks):
    """A function that runs a component on the examples as both splits; gives its outputs by name."""

    def run(component, models, outputs, parameters):
        made = {}

        def artifact(name, kind, splits=None):
            made[name] = kind()
            made[name].uri = str(tmp_path / name)
            if splits:
                made[name].split_names = artifact_utils.encode_split_names(splits)
            return [made[name]]

        for split in ("eval", "test"):
            write_records(tmp_path / "photos" / f"Split-{split}", with_masks)
        (tmp_path / "schema").mkdir()
        schema = schema_files.read_schema(schema_files.curated_schema_file("oxford_iiit_pet_masks"))
        schema_files.mask_classes_feature(schema).annotation.tag.append("rug")
        schema_files.write_schema(schema, str(tmp_path / "schema" / schema_files.SCHEMA_FILE))
        inputs = {
            "examples": artifact("photos", standard_artifacts.Examples, ["eval", "test"]),
            "schema": artifact("schema", standard_artifacts.Schema),
        }
        for name, model in models.items():
            shutil.copytree(model, tmp_path / name / "Format-Serving")
            inputs[name] = artifact(name, standard_artifacts.Model)
        executor = component.EXECUTOR_SPEC.executor_class
        context = executor.Context(beam_pipeline_args=IN_PROCESS, tmp_dir=str(tmp_path / "temp"), unique_id="1")
        executor(context).Do(
            inputs, {name: artifact(name, kind) for name, kind in outputs.items()}, {"code": "", **parameters}
        )
        return made

    return run


def test_confusions_losses_and_masks_of_both_models_are_stored(run, with_masks, export_segmenter, exported_segmenter):
    models = {FEATURE_EXTRACTION: exported_segmenter, FINE_TUNED: export_segmenter(seed=2)}
    predictions = run(Predictions, models, {"predictions": standard_artifacts.Examples}, {})["predictions"]
    for example in read_examples(split_files(predictions, "test")):
        assert not {f.IMAGE, f.MASK} & set(example.features.feature)
        assert f.IMAGE_SIZE in example.features.feature
    stored = read_answers(predictions, "test")
    assert isinstance(stored, StoredMasks)
    assert len(stored.keys) == 5  # of one nothing is counted
    assert stored.measure.name.endswith("without rug")
    photos = {e.features.feature[f.CONTENT_HASH].bytes_list.value[0].decode(): e for e in with_masks}
    for name, model in models.items():
        signatures = tf.saved_model.load(model).signatures
        asked, served = signatures["probabilities"], signatures["serving_default"]
        ids = read_expected(predictions, name, stored.keys)
        assert ids.shape == (5, SIZE, SIZE)
        for i, key in enumerate(stored.keys):
            feature = photos[key].features.feature
            [probabilities] = asked(image_bytes=tf.constant([feature[f.IMAGE].bytes_list.value[0]]))[
                "probabilities"
            ].numpy()
            [true] = masks_to_ids(tf.constant([feature[f.MASK].bytes_list.value[0]]), SIZE).numpy()
            np.testing.assert_array_equal(ids[i], np.argmax(probabilities, axis=-1))
            np.testing.assert_array_equal(stored.confusions[name][i], confusions.count(true, ids[i], 3))
            of_truth = np.take_along_axis(probabilities, true[..., np.newaxis].astype(int), axis=-1)
            assert stored.pixel_losses[name][i] == pytest.approx(-np.log(of_truth).mean(), rel=1e-4)
            gaps = probabilities.max(axis=-1).mean() - np.mean(ids[i] == true)
            assert stored.confidence_gaps[name][i].sum() == pytest.approx(gaps, abs=1e-5)
            # What is served, at the photo's own size.
            [png] = served(image_bytes=tf.constant([feature[f.IMAGE].bytes_list.value[0]]))["mask_png_bytes"].numpy()
            own = confusions.count(png_ids(feature[f.MASK].bytes_list.value[0]), png_ids(png), 3)
            np.testing.assert_allclose(stored.own_confusions[name][i], own, atol=2)  # pixels between two classes
    assert read_answers(predictions, "eval").own_confusions == {}
    evaluated = stored.evaluate(FINE_TUNED, LABELS, IntervalSettings(0.95, 100, 1))
    own_shares = confusions.scaled(stored.own_confusions[FINE_TUNED])
    assert evaluated["own_size_mean_iou"]["value"] == pytest.approx(stored.measure.value(own_shares))
    assert evaluated["own_size_mean_iou"]["value"] != evaluated["mean_iou"]["value"]


def test_a_large_photo_is_judged_at_1024_pixels(with_masks):
    ids = np.zeros((3000, 2000), np.uint8)
    ids[:, 1000:] = 1
    example = tf.train.Example.FromString(with_masks[0].SerializeToString())
    example.features.feature[f.MASK].bytes_list.value[:] = [ids_png(ids)]
    probabilities = np.zeros((1, 8, 8, 3), np.float32)
    probabilities[:, :, :4, 0] = probabilities[:, :, 4:, 1] = 1
    mask_answers.MaskAnswers(3).store([example], {FINE_TUNED: probabilities}, ["test"])
    own = np.array(example.features.feature[own_confusion_key(FINE_TUNED)].int64_list.value).reshape(3, 3)
    assert own.sum() == 1024 * 683
    assert np.trace(own) > 0.99 * own.sum()


def test_production_answers_at_the_new_size_and_in_the_new_order(run, exported_segmenter, tmp_path):
    """Production has the same classes in another order; its answers are stored in that of the winner."""
    turned = shutil.copytree(exported_segmenter, tmp_path / "serving" / "3")
    write_labels(str(turned), ["border", "pet", "background"])
    outputs = {"predictions": standard_artifacts.Examples, "standing": Verdict}
    parameters = {"production_model": str(turned), "production_identity": "x", "mask_size": 2 * SIZE}
    parameters |= {"asked_twice": 0, "tolerance": 0.0}
    made = run(ProductionPredictions, {"model": exported_segmenter}, outputs, parameters)
    standing = verdict_in(made["standing"].uri)
    assert (standing["state"], standing["labels"]) == ("comparable", ["border", "pet", "background"])
    stored = read_answers(made["predictions"], "test")
    assert stored.models == (PRODUCTION,)
    assert stored.confusions[PRODUCTION].sum(axis=(1, 2)).tolist() == [4 * SIZE**2] * 5
    ids = read_expected(made["predictions"], PRODUCTION, stored.keys)
    assert ids.shape == (5, 2 * SIZE, 2 * SIZE)
    [record] = [
        e.SerializeToString()
        for e in read_examples(split_files(made["photos"], "test"))
        if e.features.feature[f.CONTENT_HASH].bytes_list.value[0].decode() == stored.keys[0]
    ]
    own = AskForMasks(2 * SIZE)(tf.saved_model.load(str(turned)), [record])
    np.testing.assert_array_equal(ids[0], np.array([2, 0, 1])[np.argmax(own[0], axis=-1)])


def test_models_of_the_other_task_or_other_classes_cannot_be_compared(
    with_masks, exported_model, exported_segmenter, tmp_path
):
    example = tf.constant(with_masks[1].SerializeToString())
    found = examine(exported_model, LABELS, example, f.SEGMENTATION)
    assert found.state == "other_signature"
    assert found.text.endswith("it gives a class for each photo, and the winner one for each pixel")
    found = examine(exported_segmenter, ["cat", "dog"], example)
    assert found.state == "other_signature"
    assert found.text.endswith("it gives a class for each pixel, and the winner one for each photo")
    found = examine(exported_segmenter, ["pet", "background"], example, f.SEGMENTATION)
    assert found.state == "other_labels"
    assert "its pixels have the classes 'pet', 'background', 'border', and not those of the winner" in found.text
    assert examine(exported_segmenter, LABELS[::-1], example, f.SEGMENTATION).state == "comparable"
