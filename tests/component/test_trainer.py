"""Both trainers, run for real on drawn photos and a backbone of two convolutions."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf

from components.backbone import cut
from components.backbone.layer import FeatureVector
from components.ensemble.component import export_ensemble
from components.evaluator import predictions
from components.legacy_keras import tf_keras
from components.records import matching_files, read_examples
from components.trainer import calibration, feature_extraction, fine_tuning, loop, warm_start
from components.trainer.model import Classifier, build_head, make_loss
from components.trainer.settings import PhaseSettings
from components.trainer.training_data import StoredRows, TrainingData
from components.transform.graph import load_transform
from schemas import features as f
from schemas.errors import BadInput
from tests import trainers
from tests.trainers import BATCH_SIZE, LEARNING, PHASE_ONE, TRAIN_PHOTOS, changed_variables, second_phase

LABELS = ["cat", "dog"]
STEPS_PER_EPOCH = math.ceil(TRAIN_PHOTOS / BATCH_SIZE)
HEAD_VARIABLES = {"head/kernel:0", "head/bias:0"}
PHASE_TWO = second_phase(PHASE_ONE)

KINDS = ("photos", "vectors")


class Trained(NamedTuple):
    """One run of a run_fn: what it wrote, and what it gave to the training loop."""

    folder: str  # of the exported model
    history: dict
    variables: dict[str, np.ndarray]
    model: tf_keras.Model
    train_data: TrainingData
    eval_data: TrainingData


@pytest.fixture(scope="module")
def data(tmp_path_factory, drawn_photos, make_example, write_records, transform_graph, tiny_backbone):
    """Folder with photos/ and vectors/ of the splits train and eval, as FeatureVectorGen leaves them."""
    folder = tmp_path_factory.mktemp("examples")
    transform, module = load_transform(transform_graph), tf.saved_model.load(tiny_backbone)
    parts = cut.cut(module, [LEARNING], 16)
    examples = [make_example(photo) for photo in drawn_photos]
    with_vectors = []
    for example in examples:
        with_vector = tf.train.Example.FromString(example.SerializeToString())
        feature = with_vector.features.feature
        activations = parts.bottom(transform(tf.constant([feature.pop(f.IMAGE).bytes_list.value[0]])))
        feature[f.FEATURE_VECTOR].float_list.value.extend(parts.top(activations).numpy()[0])
        precision = tf.float16 if len(with_vectors) < TRAIN_PHOTOS else tf.float32
        feature[f.ACTIVATIONS].bytes_list.value.append(tf.cast(activations, precision).numpy()[0].tobytes())
        feature[f.BOUNDARY].bytes_list.value.append(parts.boundary.encode())
        feature[f.VIEW].int64_list.value.append(0)
        with_vectors.append(with_vector)
    for kind, rows in zip(KINDS, (examples, with_vectors), strict=True):
        write_records(folder / kind / "Split-train", rows[:TRAIN_PHOTOS])
        write_records(folder / kind / "Split-eval", rows[TRAIN_PHOTOS:])
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory, curated_schema, transform_graph, tiny_backbone):
    """Runs one of the two run_fns as TFX Trainer does; the training loop is listened to, not replaced."""

    def run_phase(module, settings, base_model=None, hyperparameters=None) -> Trained:
        folder = tmp_path_factory.mktemp("trained")
        seen = {}
        train = loop.train

        def listening(model, train_data, eval_data, *arguments, **keywords):
            seen.update(model=model, train_data=train_data, eval_data=eval_data)
            return train(model, train_data, eval_data, *arguments, **keywords)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "train", listening)
            written = trainers.run_phase(
                module,
                settings.replaced(backbone=tiny_backbone),
                data,
                folder,
                curated_schema,
                transform_graph,
                base_model=base_model,
                hyperparameters=hyperparameters,
            )
        return Trained(*written, **seen)

    return run_phase


@pytest.fixture(scope="module")
def base(run):
    """Phase one."""
    return run(feature_extraction, PHASE_ONE)


@pytest.fixture(scope="module")
def fine_tuned(run, base):
    """Phase two."""
    return run(fine_tuning, PHASE_TWO, base.folder)


def from_production(settings: PhaseSettings, folder: str, **more) -> PhaseSettings:
    """The same, but for what is started from; `more` of the warm start."""
    return settings.replaced(warm_start=settings.warm_start.replaced(source="production", folder=folder, **more))


def photos_of(drawn_photos, split):
    chosen = drawn_photos[:TRAIN_PHOTOS] if split == "train" else drawn_photos[TRAIN_PHOTOS:]
    return tf.constant([photo.photo_bytes for photo in chosen]), [LABELS.index(photo.label) for photo in chosen]


def served_answers(folder, drawn_photos):
    """Probabilities of the exported model for the eval photos, and their classes."""
    photos, classes = photos_of(drawn_photos, "eval")
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    return signature(image_bytes=photos)["probabilities"].numpy(), np.array(classes)


def answers(folder, drawn_photos):
    """The same as they were before calibration."""
    probabilities, classes = served_answers(folder, drawn_photos)
    plain = probabilities.astype(np.float64) ** tf.saved_model.load(folder).temperature.numpy()
    return plain / plain.sum(axis=1, keepdims=True), classes


def without_times(history):
    assert len(history["epoch_seconds"]) == len(history["epochs"])
    return {key: value for key, value in history.items() if key != "epoch_seconds"}


def cross_entropy(probabilities, classes):
    return float(-np.log(probabilities[np.arange(len(classes)), classes]).mean())


# One loss, on logits


def test_the_loss_takes_logits():
    assert make_loss().get_config()["from_logits"] is True
    logits, classes = np.array([[2.0, -1.0], [0.5, 3.0]], np.float32), np.array([0, 0])
    by_hand = -logits[[0, 1], classes] + np.log(np.exp(logits).sum(axis=1))
    assert float(make_loss()(classes, logits)) == pytest.approx(by_hand.mean(), rel=1e-6)


def test_both_phases_train_logits_with_the_one_loss(base, fine_tuned, drawn_photos):
    for phase in (base, fine_tuned):
        assert isinstance(phase.model.loss, tf_keras.losses.SparseCategoricalCrossentropy)
        assert phase.model.loss.get_config()["from_logits"] is True
        logits = np.concatenate([phase.model(inputs).numpy() for inputs, _, _ in phase.eval_data.in_order(4)])
        assert np.abs(logits.sum(axis=1) - 1).max() > 0.1, "these look like probabilities"

        probabilities, _ = answers(phase.folder, drawn_photos)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
        # Sorted, for phase one has its examples in the order of their content hashes.
        np.testing.assert_allclose(np.sort(probabilities[:, 0]), np.sort(softmax[:, 0]), atol=1e-3)  # float16


@pytest.mark.parametrize(("phase", "function"), [("base", "vectors"), ("fine_tuned", "activations")])
def test_the_exported_model_answers_from_stored_values_as_from_photos(request, phase, function, data):
    trained = request.getfixturevalue(phase)
    model = tf.saved_model.load(trained.folder)
    assert {name for name in dir(model) if name.startswith("probabilities_of_")} == {
        "probabilities_of_images",
        f"probabilities_of_{function}",
    }
    photos, stored = (list(read_examples(matching_files([str(data / kind / "Split-eval" / "*")]))) for kind in KINDS)
    expected = predictions._of_photos(model, [example.SerializeToString() for example in photos])
    found = predictions._of_stored(model, [example.SerializeToString() for example in stored])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.ptp(expected[:, 0]) > 0.05, "the photos get alike answers"


def test_values_of_another_boundary_or_width_are_no_answer(base, fine_tuned, data):
    [example, *_] = read_examples(matching_files([str(data / "vectors" / "Split-eval" / "*")]))
    for trained, name in ((base, f.FEATURE_VECTOR), (fine_tuned, f.BOUNDARY), (fine_tuned, f.ACTIVATIONS)):
        model = tf.saved_model.load(trained.folder)
        other = tf.train.Example.FromString(example.SerializeToString())
        feature = other.features.feature[name]
        if name == f.FEATURE_VECTOR:
            feature.float_list.value.append(1)
        else:
            feature.bytes_list.value[:] = [feature.bytes_list.value[0] + b"more"]
        with pytest.raises(LookupError):
            predictions._of_stored(model, [other.SerializeToString()])


# Calibration


@pytest.mark.parametrize("phase", ["base", "fine_tuned"])
def test_both_phases_store_the_temperature_that_suits_the_eval_split(request, phase, drawn_photos):
    trained = request.getfixturevalue(phase)
    batches = list(trained.eval_data.in_order(4))
    logits = np.concatenate([trained.model(inputs).numpy() for inputs, _, _ in batches])
    classes = np.concatenate([batch.numpy() for _, batch, _ in batches])
    expected = calibration.fit_temperature(logits, classes)
    assert abs(expected - 1) > 0.05, "a temperature of 1 says little"

    found = trained.history["calibration"]
    assert found.keys() == {"temperature", "eval_loss_before", "eval_loss_after"}
    assert found["temperature"] == pytest.approx(expected, rel=1e-3)
    assert tf.saved_model.load(trained.folder).temperature.numpy() == np.float32(found["temperature"])
    losses = [trained.history["before"]["eval_loss"], *(epoch["eval_loss"] for epoch in trained.history["epochs"])]
    assert found["eval_loss_before"] == pytest.approx(min(losses), abs=1e-5)
    # Activations are kept in float16.
    served = cross_entropy(*served_answers(trained.folder, drawn_photos))
    assert found["eval_loss_after"] == pytest.approx(served, abs=1e-3)
    assert found["eval_loss_after"] < found["eval_loss_before"] - 1e-3


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("phase", ["base", "fine_tuned"])
def test_calibration_can_be_left_out_and_the_threshold_of_abstention_is_kept(request, run, base, phase, drawn_photos):
    calibrated = request.getfixturevalue(phase)
    module, settings, *rest = (
        (feature_extraction, PHASE_ONE) if phase == "base" else (fine_tuning, PHASE_TWO, base.folder)
    )
    trained = run(module, settings.replaced(calibrate=False, abstain_below=0.6), *rest)
    assert trained.history["calibration"] == {"temperature": 1.0}
    loaded = tf.saved_model.load(trained.folder)
    assert float(loaded.temperature) == 1
    assert float(loaded.abstain_below) == np.float32(0.6)
    assert changed_variables(trained.variables, calibrated.variables) == set()
    np.testing.assert_allclose(
        served_answers(trained.folder, drawn_photos)[0], answers(calibrated.folder, drawn_photos)[0], atol=1e-6
    )


def test_an_eval_photo_with_no_finite_answer_is_named():
    inputs = tf_keras.Input([1])
    model = Classifier(inputs, tf_keras.layers.Dense(2)(inputs))
    rows = np.array([[1.0], [np.inf], [1.0], [np.nan], [1.0]], np.float32)
    names = np.array([f"cat.{i}.jpg".encode() for i in range(5)], object)
    eval_data = StoredRows(rows, np.array([4, 3, 2, 1, 0]), np.zeros(5, np.int64), names)
    message = (
        "the model's logits for 2 of 5 eval photos are not finite, so no temperature can be fitted "
        "(cat.1.jpg, cat.3.jpg): remove these photos, lower the learning rate, or set training.calibrate=false"
    )
    with pytest.raises(BadInput) as refused:
        calibration.calibrate(model, eval_data, PHASE_ONE)
    assert str(refused.value) == message


# What learns and what does not


@pytest.fixture
def partly_frozen(tiny_backbone):
    """A model whose top convolution learns, after some steps on noise; its variables before and after."""
    tf_keras.utils.set_random_seed(2)
    backbone = FeatureVector(tiny_backbone, [LEARNING])
    images = tf_keras.Input([16, 16, 3])
    head = build_head(8, 2, hidden_units=0, dropout=0.0, seed=2)
    model = tf_keras.Model(images, head(backbone(images)))
    model.compile(optimizer=tf_keras.optimizers.Adam(0.01), loss=make_loss())
    variables = backbone.resolved_object.variables
    before = {v.name: v.numpy() for v in variables}
    rng = np.random.default_rng(2)
    # Far from what the moving averages say, so that a moving average that can move does.
    noise = rng.uniform(5, 9, [12, 16, 16, 3]).astype(np.float32)
    model.fit(noise, rng.integers(0, 2, 12), batch_size=4, epochs=2, verbose=0)
    return model, backbone, before, {v.name: v.numpy() for v in variables}


def test_fine_tuning_moves_the_unfrozen_kernel_alone_and_no_moving_average(partly_frozen):
    _, _, before, after = partly_frozen
    assert len([name for name in before if "/moving_" in name]) == 4
    assert changed_variables(before, after) == {"top_conv/kernel:0"}


def test_batch_norm_infers_whatever_it_is_told(partly_frozen):
    model, backbone, _, before = partly_frozen
    images = tf.random.stateless_uniform([4, 16, 16, 3], (1, 2), 5, 9)
    np.testing.assert_array_equal(backbone(images, training=True), backbone(images, training=False))
    model(images, training=True)
    after = {v.name: v.numpy() for v in backbone.resolved_object.variables}
    assert changed_variables(before, after) == set()


def test_the_layer_counts_each_variable_once(partly_frozen):
    model, backbone, _, after = partly_frozen
    learning = [v.name for v in backbone.trainable_weights]
    frozen = [v.name for v in backbone.non_trainable_weights]
    assert learning == ["top_conv/kernel:0"]
    assert sorted(learning + frozen) == sorted(after)
    assert {v.name for v in model.trainable_variables} == {"top_conv/kernel:0", *HEAD_VARIABLES}


def test_a_frozen_layer_learns_nothing(tiny_backbone):
    layer = FeatureVector(tiny_backbone)
    layer(tf.zeros([1, 16, 16, 3]))
    assert layer.trainable_weights == []
    assert len(layer.non_trainable_weights) == 10


# The warm start


def test_fine_tuning_begins_where_its_base_model_ended(base, fine_tuned, drawn_photos):
    at_the_start = fine_tuned.history["before"]["eval_loss"]
    # Activations are kept in float16.
    assert at_the_start == pytest.approx(cross_entropy(*answers(base.folder, drawn_photos)), abs=1e-3)
    best = base.history["epochs"][base.history["best_epoch"] - 1]
    assert at_the_start == pytest.approx(best["eval_loss"], abs=1e-3)
    assert fine_tuned.history["before"]["eval_accuracy"] == pytest.approx(best["eval_accuracy"])
    assert abs(at_the_start - math.log(2)) > 0.01, "an untrained head would start here"
    warm = fine_tuned.history["warm_start"]
    assert len(warm["matched"]) == 12
    assert (warm["skipped"], warm["missing"], warm["unused"]) == ([], [], [])
    assert warm["source"] == "this run's feature-extraction model"
    assert re.fullmatch(r"same answers as the source on 9 photos, within \S+", warm["step_zero"])


def test_a_warm_start_that_changes_the_score_is_an_error(run, base, monkeypatch):
    """As if copying had gone wrong without a word."""
    copy = warm_start.copy_by_name

    def careless(source, variables, *arguments):
        matches = copy(source, variables, *arguments)
        next(v for v in variables if v.name == "head/bias:0").assign([1.0, -1.0])
        return matches

    monkeypatch.setattr(warm_start, "copy_by_name", careless)
    with pytest.raises(warm_start.WarmStartFailed, match="the probabilities of 9 photos differ by up to 0"):
        run(fine_tuning, PHASE_TWO, base.folder)


@pytest.mark.slow
@pytest.mark.release
def test_fine_tuning_can_start_from_the_model_in_production(run, base, fine_tuned, drawn_photos):
    again = run(fine_tuning, from_production(PHASE_TWO, fine_tuned.folder, epochs=0), base.folder)
    assert again.history["epochs"] == []
    assert abs(fine_tuned.history["calibration"]["temperature"] - 1) > 0.05, "the two would answer alike without one"
    assert again.history["warm_start"]["step_zero"].startswith("same answers as the source on 9 photos, within ")
    assert changed_variables(again.variables, fine_tuned.variables) == set()
    assert again.history["warm_start"]["source"] == f"the model in production ({fine_tuned.folder})"
    # What it changed lies above the boundary, so the cached activations are still its own.
    assert "cached activations at" in again.history["trained_on"]
    loss = cross_entropy(*answers(fine_tuned.folder, drawn_photos))
    assert again.history["before"]["eval_loss"] == pytest.approx(loss, abs=1e-3)


@pytest.mark.slow
@pytest.mark.release
def test_feature_extraction_can_start_from_the_head_in_production(run, base, drawn_photos):
    settings = PHASE_ONE.replaced(epochs=9)
    again = run(feature_extraction, from_production(settings, base.folder, epochs=0))
    assert again.history["epochs"] == []
    assert changed_variables(again.variables, base.variables) == set()
    assert again.history["warm_start"]["source"] == f"the model in production ({base.folder})"
    assert again.history["warm_start"]["matched"] == ["head/bias:0", "head/kernel:0"]
    assert again.history["warm_start"]["step_zero"].startswith("same answers as the source on 9 photos, within ")
    best = base.history["epochs"][base.history["best_epoch"] - 1]
    assert again.history["before"]["eval_loss"] == pytest.approx(best["eval_loss"], abs=1e-5)
    few = run(feature_extraction, from_production(settings, base.folder, epochs=2))
    assert len(few.history["epochs"]) == 2


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("why", ["none", "fine-tuned", "another head", "chosen variables"])
def test_feature_extraction_begins_anew_where_the_head_in_production_does_not_fit(run, base, fine_tuned, why):
    folder = {"none": "", "fine-tuned": fine_tuned.folder}.get(why, base.folder)
    variables = "top_conv/" if why == "chosen variables" else ".*"
    settings = PHASE_ONE.replaced(epochs=1, hidden_units=4 if why == "another head" else 0)
    anew = run(feature_extraction, from_production(settings, folder, epochs=0, variables=variables))
    assert anew.history["warm_start"] is None
    assert len(anew.history["epochs"]) == 1
    assert anew.history["before"]["eval_loss"] == pytest.approx(math.log(2))


@pytest.mark.slow
@pytest.mark.release
def test_fine_tuning_can_start_from_an_ensemble_in_production(run, base, fine_tuned, tmp_path):
    """From its second model, with that one's temperature."""
    export_ensemble(base.folder, fine_tuned.folder, str(tmp_path / "both"))
    settings = from_production(PHASE_TWO.replaced(epochs=0), str(tmp_path / "both"))
    started = run(fine_tuning, settings, base.folder)
    assert started.history["warm_start"]["source"] == f"the model in production ({tmp_path / 'both'})"
    assert started.history["warm_start"]["step_zero"].startswith("same answers as the source on 9 photos, within ")
    assert changed_variables(started.variables, fine_tuned.variables) == set()


@pytest.mark.slow
@pytest.mark.release
def test_fine_tuning_can_start_from_a_model_exported_before_there_were_temperatures(run, base, older_model):
    settings = from_production(PHASE_TWO.replaced(epochs=0), older_model)
    started = run(fine_tuning, settings, base.folder)
    assert started.history["warm_start"]["source"] == f"the model in production ({older_model})"
    assert started.history["warm_start"]["step_zero"].startswith("same answers as the source on 9 photos, within ")
    assert changed_variables(started.variables, warm_start.read_source(older_model).values) == set()


@pytest.mark.slow
@pytest.mark.release
def test_a_source_that_does_not_fit_is_named_and_the_runs_own_model_takes_its_place(run, base, tmp_path):
    class Other(tf.Module):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable(1.0, name="weight")

    tf.saved_model.save(Other(), str(tmp_path / "other"))
    for folder, reason in (
        ("", "because there is no model in production yet"),
        (str(tmp_path / "other"), "it has no signature transform_features"),
        (str(tmp_path / "absent"), "cannot be loaded for a warm start"),
    ):
        started = run(fine_tuning, from_production(PHASE_TWO.replaced(epochs=0), folder, epochs=2), base.folder)
        assert started.history["warm_start"]["source"].startswith("this run's feature-extraction model")
        assert reason in started.history["warm_start"]["source"]
        assert started.history["epochs"] == []
        assert changed_variables(base.variables, started.variables) == set()


@pytest.mark.slow
@pytest.mark.release
def test_a_source_changed_below_the_boundary_is_trained_whole(run, base):
    """Its cached activations would be those of another model."""
    everything = run(fine_tuning, PHASE_TWO.replaced(strategy="all"), base.folder)
    assert "stem_conv/kernel:0" in changed_variables(base.variables, everything.variables)
    exported = tf.saved_model.load(everything.folder)
    assert not hasattr(exported, "probabilities_of_vectors")
    assert not hasattr(exported, "probabilities_of_activations")
    settings = from_production(PHASE_TWO.replaced(epochs=1), everything.folder)
    trained = run(fine_tuning, settings, base.folder)
    assert "changed variables below" in trained.history["trained_on"]
    best = everything.history["epochs"][everything.history["best_epoch"] - 1]
    assert trained.history["before"]["eval_loss"] == pytest.approx(best["eval_loss"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.release
def test_only_what_the_expression_names_comes_from_another_source(run, base, fine_tuned):
    settings = from_production(PHASE_TWO.replaced(epochs=0), fine_tuned.folder, variables="top_conv/")
    mixed = run(fine_tuning, settings, base.folder)
    assert changed_variables(mixed.variables, base.variables) == {LEARNING}
    np.testing.assert_array_equal(mixed.variables[LEARNING], fine_tuned.variables[LEARNING])
    assert mixed.history["warm_start"]["matched"] == [LEARNING]
    assert "head/bias:0" in mixed.history["warm_start"]["skipped"]
    assert mixed.history["warm_start"]["step_zero"].startswith("not compared")


# What learns, and on what


def test_fine_tuning_changes_exactly_the_unfrozen_variables(base, fine_tuned):
    assert fine_tuned.history["best_epoch"] > 0
    assert changed_variables(base.variables, fine_tuned.variables) == {LEARNING, *HEAD_VARIABLES}


def test_feature_extraction_leaves_the_backbone_as_it_was(base, tiny_backbone):
    published = {v.name: v.numpy() for v in tf.saved_model.load(tiny_backbone).variables}
    exported = {name: value for name, value in base.variables.items() if name not in HEAD_VARIABLES}
    assert changed_variables(published, exported) == set()


@pytest.mark.slow
@pytest.mark.release
def test_training_from_activations_is_training_the_whole_model(run, base):
    """In one batch an epoch, for the two have different orders."""
    settings = PHASE_TWO.replaced(batch_size=64, dropout=0.0, learning_rate=0.05)
    whole = run(fine_tuning, settings.replaced(from_activations=False), base.folder)
    cached = run(fine_tuning, settings, base.folder)
    assert "from_activations is off" in whole.history["trained_on"]
    assert cached.history["trained_on"].startswith("cached activations at ")
    curves = [[epoch["eval_loss"] for epoch in phase.history["epochs"]] for phase in (whole, cached)]
    np.testing.assert_allclose(curves[0], curves[1], atol=2e-3)  # float16
    assert abs(curves[0][-1] - whole.history["before"]["eval_loss"]) > 0.05, "too little happened to compare"
    np.testing.assert_allclose(whole.variables[LEARNING], cached.variables[LEARNING], atol=2e-2)


@pytest.mark.parametrize(
    ("strategy", "learns", "trained_on"),
    [
        ("feature_extraction", set(), "cached feature vectors: the whole backbone stays frozen"),
        pytest.param(
            "all",
            {"stem_conv/kernel:0", "stem_bn/gamma:0", "stem_bn/beta:0", LEARNING},
            "photos through the whole backbone: ",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_strategies(run, base, strategy, learns, trained_on):
    trained = run(fine_tuning, PHASE_TWO.replaced(strategy=strategy), base.folder)
    assert trained.history["strategy"] == strategy
    assert trained.history["trained_on"].startswith(trained_on)
    changed = changed_variables(base.variables, trained.variables)
    assert learns <= changed <= learns | {"top_bn/gamma:0", "top_bn/beta:0", *HEAD_VARIABLES}
    assert not [name for name in changed if "moving_" in name]


@pytest.mark.slow
@pytest.mark.release
def test_the_loss_after_calibration_chooses_the_epoch_where_that_is_set(run, base):
    trained = run(fine_tuning, PHASE_TWO.replaced(calibrated_choice=True), base.folder)
    losses = [epoch["calibrated_eval_loss"] for epoch in trained.history["epochs"]]
    best = trained.history["best_epoch"]
    assert best == 0 or losses[best - 1] == min(losses)
    for epoch in trained.history["epochs"]:
        assert epoch["calibrated_eval_loss"] <= epoch["eval_loss"] + 1e-3


@pytest.mark.slow
@pytest.mark.release
def test_auto_says_what_it_chose_and_why(run, base):
    trained = run(fine_tuning, PHASE_TWO.replaced(strategy="auto", epochs=1), base.folder)
    assert trained.history["strategy"] in ("feature_extraction", "top")  # 15 photos are little
    assert "8 training photos per class are little data" in trained.history["strategy_reason"]


@pytest.mark.slow
@pytest.mark.release
def test_online_augmentation_runs_the_whole_backbone_in_both_phases(run, drawn_photos):
    online = {"augmentation_mode": "online", "epochs": 2}
    first = run(feature_extraction, PHASE_ONE.replaced(**online))
    second = run(fine_tuning, PHASE_TWO.replaced(**online), first.folder)
    assert first.history["trained_on"] == "photos, augmented anew in every epoch, through the frozen backbone"
    assert second.history["trained_on"] == "photos through the whole backbone: they are augmented anew in every epoch"
    assert changed_variables(first.variables, second.variables) <= {LEARNING, *HEAD_VARIABLES}
    # The eval split is not changed.
    loss = cross_entropy(*answers(first.folder, drawn_photos))
    losses = [first.history["before"]["eval_loss"], *(e["eval_loss"] for e in first.history["epochs"])]
    assert min(losses) == pytest.approx(loss, abs=1e-5)
    # Phase one is calibrated on the cached vectors of the same photos.
    for phase in (first, second):
        assert phase.history["calibration"]["eval_loss_after"] == pytest.approx(
            cross_entropy(*served_answers(phase.folder, drawn_photos)), abs=1e-5
        )


@pytest.mark.slow
@pytest.mark.release
def test_a_hidden_layer_is_warm_started_too(run):
    first = run(feature_extraction, PHASE_ONE.replaced(hidden_units=4))
    second = run(fine_tuning, PHASE_TWO.replaced(hidden_units=4, epochs=0), first.folder)
    assert changed_variables(first.variables, second.variables) == set()
    assert first.variables["head_hidden/kernel:0"].shape == (8, 4)


@pytest.mark.slow
@pytest.mark.release
def test_the_options_of_the_loss_and_the_optimizer_reach_the_training(run, base):
    options = {
        "label_smoothing": 0.1,
        "class_weights": "balanced",
        "optimizer": "rmsprop",
        "schedule": "cosine",
        "warmup_fraction": 0.25,
        "gradient_clip_norm": 1.0,
        "stages": 2,
        "block_rate": 0.5,
    }
    trained = run(fine_tuning, PHASE_TWO.replaced(**options, patience=9), base.folder)
    assert trained.model.loss.get_config()["label_smoothing"] == 0.1
    assert isinstance(trained.model.optimizer, tf_keras.optimizers.RMSprop)
    assert trained.model.optimizer.global_clipnorm == 1.0
    rates = [epoch["learning_rate"] for epoch in trained.history["epochs"]]
    assert rates[-1] < 0.001 < 0.005 < max(rates)
    # What is told of the eval split is the plain cross-entropy.
    assert trained.history["before"]["eval_loss"] == pytest.approx(
        base.history["epochs"][base.history["best_epoch"] - 1]["eval_loss"], abs=1e-3
    )


@pytest.mark.slow
@pytest.mark.release
def test_tuned_values_take_the_place_of_the_configured_ones(run):
    found = {"space": [], "values": {"learning_rate": 0.02, "dropout": 0.5, "hidden_units": 4}}
    first = run(feature_extraction, PHASE_ONE, hyperparameters=found)
    assert first.history["learning_rate"] == 0.02
    assert "head_hidden/kernel:0" in first.variables
    second = run(fine_tuning, PHASE_TWO.replaced(epochs=1), first.folder, hyperparameters=found)
    assert second.history["learning_rate"] == pytest.approx(0.002), "a tenth, as configured"


@pytest.mark.slow
@pytest.mark.release
def test_no_epochs_of_fine_tuning_give_a_model_that_answers_as_its_base(run, base, drawn_photos):
    unchanged = run(fine_tuning, PHASE_TWO.replaced(epochs=0), base.folder)
    assert changed_variables(base.variables, unchanged.variables) == set()
    np.testing.assert_allclose(
        answers(unchanged.folder, drawn_photos)[0], answers(base.folder, drawn_photos)[0], atol=1e-6
    )
    assert (unchanged.history["epochs"], unchanged.history["best_epoch"]) == ([], 0)
    assert unchanged.history["calibration"]["temperature"] == pytest.approx(base.history["calibration"]["temperature"])
    graphs = [Path(trained.folder, "saved_model.pb") for trained in (base, unchanged)]
    assert graphs[0].samefile(graphs[1]), "the same model is not exported again"


@pytest.mark.slow
@pytest.mark.release
def test_fine_tuning_that_only_harms_is_undone(run, base):
    """At this learning rate every epoch is worse than none."""
    harmed = run(fine_tuning, PHASE_TWO.replaced(learning_rate=10.0, patience=1), base.folder)
    assert harmed.history["best_epoch"] == 0
    [epoch] = harmed.history["epochs"]  # patience 1: it ends after the first
    assert epoch["eval_loss"] > harmed.history["before"]["eval_loss"]
    assert harmed.model.optimizer.iterations == STEPS_PER_EPOCH
    assert changed_variables(base.variables, harmed.variables) == set()


TWO_DEVICES = """
import contextlib, json, sys

import components
import tensorflow as tf

[cpu] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tfx.components.trainer.fn_args_utils import FnArgs
from components.trainer import devices, feature_extraction, fine_tuning, run

@contextlib.contextmanager
def two_devices(mixed_precision, one_device):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    yield devices.Devices(strategy, False, "2 devices")

run.training_devices = two_devices
module = {"one": feature_extraction, "two": fine_tuning}[sys.argv[1]]
module.run_fn(FnArgs(**json.loads(sys.argv[2])))
"""


@pytest.mark.slow
@pytest.mark.release
def test_both_phases_train_on_several_devices(data, tmp_path, curated_schema, transform_graph, tiny_backbone):
    """Two logical ones of the same processor, in a process of its own."""
    arguments = {
        "train_files": [str(data / kind / "Split-train" / "*") for kind in ("vectors", "photos")],
        "eval_files": [str(data / kind / "Split-eval" / "*") for kind in ("vectors", "photos")],
        "schema_path": curated_schema,
        "transform_graph_path": transform_graph,
    }
    variables, histories = [], []
    for phase, settings in (("one", PHASE_ONE), ("two", PHASE_TWO.replaced(stages=2, block_rate=0.5))):
        folder = tmp_path / phase
        arguments |= {
            "serving_model_dir": str(folder / "Format-Serving"),
            "model_run_dir": str(folder / "model_run"),
            "base_model": str(tmp_path / "one" / "Format-Serving"),
            "custom_config": settings.replaced(
                backbone=tiny_backbone, resume_folder=str(folder / "resume")
            ).model_dump(),
        }
        command = [sys.executable, "-c", TWO_DEVICES, phase, json.dumps(arguments)]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        histories.append(json.loads((folder / "model_run" / "training.json").read_text()))
        variables.append(warm_start.read_source(str(folder / "Format-Serving")).values)
    assert [history["devices"] for history in histories] == ["2 devices"] * 2
    assert histories[0]["best_epoch"] > 0
    assert (
        histories[1]["trained_on"] == "photos through the whole backbone: a backbone cannot be cut on several devices"
    )
    assert changed_variables(*variables) <= {LEARNING, *HEAD_VARIABLES}
    best = histories[0]["epochs"][histories[0]["best_epoch"] - 1]["eval_loss"]
    assert histories[1]["before"]["eval_loss"] == pytest.approx(best, abs=1e-3)
    for history in histories:
        losses = [history["before"]["eval_loss"], *(epoch["eval_loss"] for epoch in history["epochs"])]
        assert history["calibration"]["eval_loss_before"] == pytest.approx(min(losses), abs=1e-5)
        assert history["calibration"]["eval_loss_after"] < min(losses)


# The training run


def test_the_record_of_training_is_complete(base, fine_tuned, drawn_photos):
    for phase, settings, learning in (
        (base, PHASE_ONE, HEAD_VARIABLES),
        (fine_tuned, PHASE_TWO, {LEARNING, *HEAD_VARIABLES}),
    ):
        history = phase.history
        curves = {"train_loss", "train_accuracy", "eval_loss", "eval_accuracy", "learning_rate"}
        assert history["before"].keys() == {"eval_loss", "eval_accuracy"}
        assert len(history["epochs"]) == len(history["smoothed"]) == settings.epochs
        for epoch in [*history["epochs"], *history["smoothed"]]:
            assert epoch.keys() == curves
            assert all(math.isfinite(value) for value in epoch.values())
        assert history["learning_rate"] == settings.learning_rate
        assert set(history["trainable_variables"]) == learning
        losses = [history["before"]["eval_loss"], *(epoch["eval_loss"] for epoch in history["epochs"])]
        assert history["best_epoch"] == int(np.argmin(losses))
        # The eval loss counts every example once, and the exported model is that of the best epoch.
        assert min(losses) == pytest.approx(cross_entropy(*answers(phase.folder, drawn_photos)), abs=1e-3)
        assert list((Path(phase.folder).parent / "model_run").rglob("events.out.tfevents.*")), "for TensorBoard"


def test_smoothed_curves_are_moving_averages_without_bias(base):
    losses = [epoch["train_loss"] for epoch in base.history["epochs"]]
    smoothed = [epoch["train_loss"] for epoch in base.history["smoothed"]]
    assert smoothed[0] == pytest.approx(losses[0])
    assert smoothed[1] == pytest.approx((0.6 * 0.4 * losses[0] + 0.4 * losses[1]) / (1 - 0.6**2))


def test_the_classes_lie_beside_the_model_in_the_order_of_its_outputs(fine_tuned):
    assert (Path(fine_tuned.folder) / "assets.extra" / "labels.txt").read_text() == "cat\ndog\n"


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["base", "fine_tuned"])
@pytest.mark.release
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(request, run, base, phase):
    first = request.getfixturevalue(phase)
    arguments = (feature_extraction, PHASE_ONE) if phase == "base" else (fine_tuning, PHASE_TWO, base.folder)
    again = run(*arguments)
    assert changed_variables(first.variables, again.variables) == set()
    assert without_times(again.history) == without_times(first.history)
    if phase == "base":
        other = run(feature_extraction, PHASE_ONE.replaced(seed=6))
        assert changed_variables(first.variables, other.variables) == HEAD_VARIABLES


class Killed(BaseException):
    """What no code of ours catches."""


@pytest.mark.parametrize("phase", ["base", pytest.param("fine_tuned", marks=pytest.mark.slow)])
@pytest.mark.release
def test_a_killed_training_goes_on_and_ends_as_if_nothing_had_happened(
    request, run, base, phase, tmp_path, monkeypatch
):
    expected = request.getfixturevalue(phase)
    module, settings, *rest = (
        (feature_extraction, PHASE_ONE) if phase == "base" else (fine_tuning, PHASE_TWO, base.folder)
    )
    settings = settings.replaced(resume_folder=str(tmp_path / "resume"))
    report, epochs_run = loop.progress.report, []

    def killing(what, done, total=0):
        if what == "epochs":
            epochs_run.append(done)
            if done == 2:
                raise Killed
        report(what, done, total)

    with monkeypatch.context() as patch:
        patch.setattr(loop.progress, "report", killing)
        with pytest.raises(Killed):
            run(module, settings, *rest)
    assert epochs_run == [1, 2]
    [kept] = (tmp_path / "resume").rglob("*.npz")

    resumed = run(module, settings, *rest)
    assert resumed.history["resumed_from"] == 2
    assert resumed.history["epochs"] == expected.history["epochs"]
    assert changed_variables(resumed.variables, expected.variables) == set()
    assert not kept.exists(), "once the model is there, nothing is left to go on from"


@pytest.mark.parametrize("damage", [lambda state: state[:-100], lambda state: b"", lambda state: bytes(len(state))])
def test_a_state_that_was_damaged_is_dropped_and_the_training_begins_anew(tmp_path, damage):
    """A file that may be thrown away must not fail every run that is to come."""
    train_data, eval_data = FewNumbers(np.array([1] * 8)), FewNumbers(np.array([1] * 6 + [0] * 2))
    file = tmp_path / "state.npz"

    def train(epochs):
        inputs = tf_keras.Input([1])
        model = Classifier(inputs, tf_keras.layers.Dense(2, kernel_initializer="zeros")(inputs))
        settings = PHASE_ONE.replaced(epochs=epochs, learning_rate=0.1, batch_size=8)
        return loop.train(model, train_data, eval_data, settings, str(tmp_path / "logs"), resume_file=str(file))

    whole = train(2)
    file.write_bytes(damage(file.read_bytes()))
    again = train(2)
    assert again["resumed_from"] == 0
    assert again["epochs"] == whole["epochs"]
    assert train(2)["resumed_from"] == 2, "what was written anew is whole"


def test_another_training_does_not_go_on_from_what_was_interrupted(tmp_path):
    first = loop.resume_file(str(tmp_path), "fine_tuning", {"learning_rate": 0.1})
    Path(first).write_bytes(b"state")
    assert loop.resume_file(str(tmp_path), "fine_tuning", {"learning_rate": 0.1}) == first
    other = loop.resume_file(str(tmp_path), "fine_tuning", {"learning_rate": 0.2})
    assert other != first
    assert not Path(first).exists()
    assert not Path(other).exists()
    assert loop.resume_file("", "fine_tuning", {}) is None


def test_a_loss_that_is_not_finite_stops_with_the_photos_names(run, base, drawn_photos, tmp_path):
    """As a damaged photo's vector would, in the middle of the split."""
    settings = PHASE_ONE.replaced(dropout=0.0)
    train = loop.train

    def poisoned(model, train_data, *arguments, **keywords):
        values = np.array(train_data.values)
        values[train_data.rows[6]] = np.inf
        train_data = dataclasses.replace(train_data, values=values)
        guilty.append(train_data.names[6].decode())
        return train(model, train_data, *arguments, **keywords)

    guilty: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train", poisoned)
        with pytest.raises(loop.TrainingDiverged) as error:
            run(feature_extraction, settings)
    message = str(error.value)
    named = re.search(r"on the photos (.*?): lower", message)[1].split(", ")
    assert guilty[0] in named
    assert len(named) <= BATCH_SIZE
    assert set(named) <= {photo.name for photo in drawn_photos}
    assert message.startswith("the loss is not finite in epoch 1 at a learning rate of 0.1")


@dataclasses.dataclass(frozen=True)
class FewNumbers:
    """Training data of one number an example."""

    classes: np.ndarray

    def __len__(self):
        return len(self.classes)

    def steps(self, batch_size):
        return math.ceil(len(self.classes) / batch_size)

    def epochs(self, batch_size, seed, first, last):
        return self.in_order(batch_size).repeat(last - first)

    def in_order(self, batch_size):
        rows = len(self.classes)
        return tf.data.Dataset.from_tensor_slices(([[1.0]] * rows, self.classes, ["x"] * rows)).batch(batch_size)


@pytest.mark.parametrize(("patience", "epochs"), [(3, 50), (1, 50), (3, 5)])
def test_the_best_epoch_is_restored(tmp_path, patience, epochs):
    """Training pushes one weight ever further; the eval split is best answered on the way."""
    inputs = tf_keras.Input([1])
    model = Classifier(inputs, tf_keras.layers.Dense(2, kernel_initializer="zeros")(inputs))
    train_data, eval_data = FewNumbers(np.array([1] * 8)), FewNumbers(np.array([1] * 6 + [0] * 2))
    settings = PHASE_ONE.replaced(epochs=epochs, learning_rate=0.1, patience=patience, batch_size=8)
    history = loop.train(model, train_data, eval_data, settings, str(tmp_path))
    losses = [epoch["eval_loss"] for epoch in history["epochs"]]
    best = history["best_epoch"]
    assert losses[best - 1] == min(losses) < history["before"]["eval_loss"]
    assert 0 < best < len(losses) == min(best + patience, epochs)
    assert model.evaluate(eval_data.in_order(3), verbose=0)[0] == pytest.approx(min(losses), abs=1e-6)


def test_a_scaled_loss_trains_as_a_plain_one_and_can_be_taken_up_again(tmp_path):
    """As on a GPU in mixed precision; in float32 the scale changes nothing."""
    train_data, eval_data = FewNumbers(np.array([1] * 8)), FewNumbers(np.array([1] * 6 + [0] * 2))
    losses = {}
    for name, scale_loss, epochs in (("plain", False, [4]), ("scaled", True, [4]), ("interrupted", True, [2, 4])):
        for count in epochs:
            inputs = tf_keras.Input([1])
            model = Classifier(inputs, tf_keras.layers.Dense(2, kernel_initializer="zeros")(inputs))
            settings = PHASE_ONE.replaced(epochs=count, learning_rate=0.1, batch_size=8)
            history = loop.train(
                model,
                train_data,
                eval_data,
                settings,
                str(tmp_path / "logs"),
                resume_file=str(tmp_path / name),
                scale_loss=scale_loss,
            )
        losses[name] = [epoch["eval_loss"] for epoch in history["epochs"]]
    assert isinstance(model.optimizer, tf_keras.mixed_precision.LossScaleOptimizer)
    assert history["resumed_from"] == 2
    np.testing.assert_allclose(losses["scaled"], losses["plain"], rtol=1e-5)
    assert losses["interrupted"] == losses["scaled"]


# Sizes come from the data


@pytest.mark.parametrize("phase", ["base", "fine_tuned"])
def test_the_optimizer_takes_one_step_a_batch_the_last_smaller_one_too(request, phase, drawn_photos):
    trained = request.getfixturevalue(phase)
    assert trained.model.optimizer.iterations == STEPS_PER_EPOCH * len(trained.history["epochs"])
    assert len(trained.train_data.classes) == TRAIN_PHOTOS
    assert len(trained.eval_data.classes) == len(drawn_photos) - TRAIN_PHOTOS
