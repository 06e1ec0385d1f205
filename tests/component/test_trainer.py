"""Both trainers, run for real on drawn photos and a backbone of two convolutions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from components.backbone import registry
from components.backbone.layer import FeatureVector
from components.legacy_keras import tf_keras
from components.records import read_examples
from components.trainer import feature_extraction, fine_tuning, loop, warm_start
from components.trainer.model import build_head, make_loss
from components.transform.graph import load_transform
from schemas import features as f
from schemas.errors import BadInput

LABELS = ["cat", "dog"]
TRAIN_PHOTOS, BATCH_SIZE = 15, 4  # the last batch is of three
STEPS_PER_EPOCH = math.ceil(TRAIN_PHOTOS / BATCH_SIZE)
UNFROZEN = "top_conv/"
HEAD_VARIABLES = {"head/kernel:0", "head/bias:0"}
PHASE_ONE = {"epochs": 6, "learning_rate": 0.1, "patience": 6}
PHASE_TWO = {"epochs": 3, "learning_rate": 0.01, "patience": 3, "unfreeze": UNFROZEN}


class Trained(NamedTuple):
    """One run of a run_fn: what it wrote, and what it gave to the training loop."""

    folder: str  # of the exported model
    history: dict
    variables: dict[str, np.ndarray]
    model: tf_keras.Model
    train_data: tf.data.Dataset
    eval_data: tf.data.Dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory, drawn_photos, make_example, write_records, transform_graph, tiny_backbone):
    """Folder with photos/ and vectors/ of the splits train and eval, and the examples with photos."""
    folder = tmp_path_factory.mktemp("examples")
    transform, backbone = load_transform(transform_graph), FeatureVector(tiny_backbone)
    examples = [make_example(photo) for photo in drawn_photos]
    with_vectors = []
    for example in examples:
        with_vector = tf.train.Example.FromString(example.SerializeToString())
        photo = with_vector.features.feature.pop(f.IMAGE).bytes_list.value[0]
        vector = backbone(transform(tf.constant([photo]))).numpy()[0]
        with_vector.features.feature[f.FEATURE_VECTOR].float_list.value.extend(vector)
        with_vectors.append(with_vector)
    for kind, rows in (("photos", examples), ("vectors", with_vectors)):
        write_records(folder / kind / "Split-train", rows[:TRAIN_PHOTOS])
        write_records(folder / kind / "Split-eval", rows[TRAIN_PHOTOS:])
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory, curated_schema, transform_graph, tiny_backbone):
    """Runs one of the two run_fns as TFX Trainer does; the training loop is listened to, not replaced."""

    def run_phase(module, examples, settings, base_model=None) -> Trained:
        folder = tmp_path_factory.mktemp("trained")
        seen = {}
        train = loop.train

        def listening(model, train_data, eval_data, *arguments):
            seen.update(model=model, train_data=train_data, eval_data=eval_data)
            return train(model, train_data, eval_data, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "train", listening)
            module.run_fn(
                FnArgs(
                    train_files=[str(data / examples / "Split-train" / "*")],
                    eval_files=[str(data / examples / "Split-eval" / "*")],
                    schema_path=curated_schema,
                    transform_graph_path=transform_graph,
                    serving_model_dir=str(folder / "Format-Serving"),
                    model_run_dir=str(folder / "model_run"),
                    base_model=base_model,
                    custom_config={
                        "backbone": tiny_backbone,
                        "seed": 5,
                        "batch_size": BATCH_SIZE,
                        "dropout": 0.2,
                        **settings,
                    },
                )
            )
        history = json.loads((folder / "model_run" / "training.json").read_text())
        exported = str(folder / "Format-Serving")
        return Trained(exported, history, warm_start.read_variables(exported), **seen)

    return run_phase


@pytest.fixture(scope="module")
def base(run):
    """Phase one."""
    return run(feature_extraction, "vectors", PHASE_ONE)


@pytest.fixture(scope="module")
def fine_tuned(run, base):
    """Phase two."""
    return run(fine_tuning, "photos", PHASE_TWO, base.folder)


def photos_of(drawn_photos, split):
    chosen = drawn_photos[:TRAIN_PHOTOS] if split == "train" else drawn_photos[TRAIN_PHOTOS:]
    return tf.constant([photo.photo_bytes for photo in chosen]), [LABELS.index(photo.label) for photo in chosen]


def answers(folder, drawn_photos):
    """Probabilities of the exported model for the eval photos, and their classes."""
    photos, classes = photos_of(drawn_photos, "eval")
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    return signature(image_bytes=photos)["probabilities"].numpy(), np.array(classes)


def cross_entropy(probabilities, classes):
    return float(-np.log(probabilities[np.arange(len(classes)), classes]).mean())


def changed_variables(before, after):
    assert before.keys() == after.keys()
    return {name for name in before if not np.array_equal(before[name], after[name])}


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
        logits = np.concatenate([phase.model(inputs).numpy() for inputs, _ in phase.eval_data])
        assert np.abs(logits.sum(axis=1) - 1).max() > 0.1, "these look like probabilities"

        probabilities, _ = answers(phase.folder, drawn_photos)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
        # Sorted, for phase one has its examples in the order of their content hashes.
        np.testing.assert_allclose(np.sort(probabilities[:, 0]), np.sort(softmax[:, 0]), atol=1e-5)


# What learns and what does not


@pytest.fixture
def partly_frozen(tiny_backbone):
    """A model whose top convolution learns, after some steps on noise; its variables before and after."""
    tf_keras.utils.set_random_seed(2)
    backbone = FeatureVector(tiny_backbone, unfreeze=UNFROZEN)
    images = tf_keras.Input([16, 16, 3])
    head = build_head(8, 2, dropout=0.0, seed=2)
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


def test_a_pattern_that_matches_nothing_is_the_users_error(tiny_backbone):
    """It is matched from the start of a name, so `conv` alone matches nothing here."""
    with pytest.raises(BadInput) as error:
        FeatureVector(tiny_backbone, unfreeze="conv")
    assert str(error.value) == (
        "training.fine_tuning.unfreeze (='conv') matches none of the backbone's 6 trainable variables; the last ones "
        "are stem_conv/kernel:0, stem_bn/gamma:0, stem_bn/beta:0, top_conv/kernel:0, top_bn/gamma:0, top_bn/beta:0"
    )


def test_moving_averages_cannot_be_unfrozen(tiny_backbone):
    with pytest.raises(BadInput, match="matches none of the backbone's 6 trainable variables"):
        FeatureVector(tiny_backbone, unfreeze=".*/moving_")


def test_what_learns_by_default(tiny_backbone):
    """The configuration, then the built-in backbone, then the last fifth of an unknown one's kernels: 1 of 2."""
    known = {"unfreeze": None, "backbone": "efficientnet_lite0"}
    unknown = {"unfreeze": None, "backbone": tiny_backbone}
    assert fine_tuning.unfreeze_pattern({**unknown, "unfreeze": "stem_"}, tiny_backbone) == "stem_"
    assert fine_tuning.unfreeze_pattern(known, "") == registry.BACKBONES["efficientnet_lite0"].unfreeze
    pattern = fine_tuning.unfreeze_pattern(unknown, tiny_backbone)
    assert [v.name for v in FeatureVector(tiny_backbone, pattern).trainable_weights] == ["top_conv/kernel:0"]


# The warm start


def some_variables():
    return [tf.Variable([1.0, 2.0], name="a"), tf.Variable([[3.0]], name="b"), tf.Variable(4.0, name="c")]


def test_copying_goes_by_name_whatever_the_order():
    source = {
        "left_over:0": np.zeros(9),
        "c:0": np.array(-4.0),
        "b:0": np.array([[-3.0]]),
        "a:0": np.array([-1.0, -2.0]),
    }
    for variables in (some_variables(), some_variables()[::-1]):
        copied = warm_start.copy_by_name(source, variables)
        for variable in variables:
            np.testing.assert_array_equal(variable, source[variable.name])
        assert copied == warm_start.WarmStart(matched=["a:0", "b:0", "c:0"], unused=["left_over:0"])


def test_a_source_that_does_not_fit_is_refused_and_nothing_is_assigned():
    variables = some_variables()
    source = {"a:0": np.array([-1.0, -2.0]), "b:0": np.array([-3.0])}  # b in another shape, c missing
    with pytest.raises(ValueError, match="does not fit") as error:
        warm_start.copy_by_name(source, variables)
    assert str(error.value) == (
        "the model to warm-start from does not fit: of 3 variables, 2 differ (b:0 is (1,), not (1, 1); c:0 is missing)"
    )
    for variable, untouched in zip(variables, some_variables(), strict=True):
        np.testing.assert_array_equal(variable, untouched)


def test_names_that_stand_for_two_variables_are_refused():
    """One of the two would silently get the other's values."""
    variables = [*some_variables(), tf.Variable([7.0, 8.0], name="a")]
    source = {"a:0": np.array([-1.0, -2.0]), "b:0": np.array([[-3.0]]), "c:0": np.array(-4.0)}
    with pytest.raises(ValueError, match=r"of 4 variables, 1 names stand for more than one \(a:0\)"):
        warm_start.copy_by_name(source, variables)
    np.testing.assert_array_equal(variables[0], [1.0, 2.0])


def test_fine_tuning_begins_where_its_base_model_ended(base, fine_tuned, drawn_photos):
    at_the_start = fine_tuned.history["before"]["eval_loss"]
    assert at_the_start == pytest.approx(cross_entropy(*answers(base.folder, drawn_photos)), abs=1e-5)
    best = base.history["epochs"][base.history["best_epoch"] - 1]
    assert at_the_start == pytest.approx(best["eval_loss"], abs=1e-5)
    assert fine_tuned.history["before"]["eval_accuracy"] == pytest.approx(best["eval_accuracy"])
    assert abs(at_the_start - math.log(2)) > 0.01, "an untrained head would start here"
    assert fine_tuned.history["warm_start"] == {"matched": 12, "unused": []}


def test_fine_tuning_changes_exactly_the_unfrozen_variables(base, fine_tuned):
    assert fine_tuned.history["best_epoch"] > 0
    assert changed_variables(base.variables, fine_tuned.variables) == {"top_conv/kernel:0", *HEAD_VARIABLES}


def test_feature_extraction_leaves_the_backbone_as_it_was(base, tiny_backbone):
    published = {v.name: v.numpy() for v in tf.saved_model.load(tiny_backbone).variables}
    exported = {name: value for name, value in base.variables.items() if name not in HEAD_VARIABLES}
    assert changed_variables(published, exported) == set()


def test_no_epochs_of_fine_tuning_give_a_model_that_answers_as_its_base(run, base, drawn_photos):
    unchanged = run(fine_tuning, "photos", {**PHASE_TWO, "epochs": 0}, base.folder)
    assert changed_variables(base.variables, unchanged.variables) == set()
    np.testing.assert_array_equal(answers(unchanged.folder, drawn_photos)[0], answers(base.folder, drawn_photos)[0])
    assert (unchanged.history["epochs"], unchanged.history["best_epoch"]) == ([], 0)


def test_fine_tuning_that_only_harms_is_undone(run, base):
    """At this learning rate every epoch is worse than none."""
    harmed = run(fine_tuning, "photos", {**PHASE_TWO, "learning_rate": 10.0, "patience": 1}, base.folder)
    assert harmed.history["best_epoch"] == 0
    [epoch] = harmed.history["epochs"]  # patience 1: it ends after the first
    assert epoch["eval_loss"] > harmed.history["before"]["eval_loss"]
    assert harmed.model.optimizer.iterations == STEPS_PER_EPOCH
    assert changed_variables(base.variables, harmed.variables) == set()


# The training run


def test_the_record_of_training_is_complete(base, fine_tuned, drawn_photos):
    for phase, settings, learning in (
        (base, PHASE_ONE, HEAD_VARIABLES),
        (fine_tuned, PHASE_TWO, {"top_conv/kernel:0", *HEAD_VARIABLES}),
    ):
        history, keys = phase.history, {"before", "epochs", "best_epoch", "learning_rate", "trainable_variables"}
        assert history.keys() == (keys if phase is base else keys | {"warm_start"})
        assert history["before"].keys() == {"eval_loss", "eval_accuracy"}
        assert len(history["epochs"]) == settings["epochs"]
        for epoch in history["epochs"]:
            assert epoch.keys() == {"train_loss", "train_accuracy", "eval_loss", "eval_accuracy"}
            assert all(math.isfinite(value) for value in epoch.values())
        assert history["learning_rate"] == settings["learning_rate"]
        assert set(history["trainable_variables"]) == learning
        losses = [history["before"]["eval_loss"], *(epoch["eval_loss"] for epoch in history["epochs"])]
        assert history["best_epoch"] == int(np.argmin(losses))
        # The eval loss counts every example once, and the exported model is that of the best epoch.
        assert min(losses) == pytest.approx(cross_entropy(*answers(phase.folder, drawn_photos)), abs=1e-5)


def test_the_classes_lie_beside_the_model_in_the_order_of_its_outputs(fine_tuned):
    assert (Path(fine_tuned.folder) / "assets.extra" / "labels.txt").read_text() == "cat\ndog\n"


@pytest.mark.parametrize("phase", ["base", "fine_tuned"])
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(request, run, base, phase):
    first = request.getfixturevalue(phase)
    arguments = (
        (feature_extraction, "vectors", PHASE_ONE)
        if phase == "base"
        else (fine_tuning, "photos", PHASE_TWO, base.folder)
    )
    again = run(*arguments)
    assert changed_variables(first.variables, again.variables) == set()
    assert again.history == first.history
    if phase == "base":
        module, examples, settings = arguments
        other = run(module, examples, {**settings, "seed": 6})
        assert changed_variables(first.variables, other.variables) == HEAD_VARIABLES


@pytest.mark.parametrize(("patience", "epochs"), [(3, 50), (1, 50), (3, 5)])
def test_the_best_epoch_is_restored(tmp_path, patience, epochs):
    """Training pushes one weight ever further; the eval split is best answered on the way."""
    model = tf_keras.Sequential([tf_keras.layers.Input([1]), tf_keras.layers.Dense(2, kernel_initializer="zeros")])
    train_data = tf.data.Dataset.from_tensor_slices(([[1.0]] * 8, [1] * 8)).batch(8)
    eval_data = tf.data.Dataset.from_tensor_slices(([[1.0]] * 8, [1] * 6 + [0] * 2)).batch(3)
    settings = {"epochs": epochs, "learning_rate": 0.1, "patience": patience}
    history = loop.train(model, train_data, eval_data, settings, str(tmp_path))
    losses = [epoch["eval_loss"] for epoch in history["epochs"]]
    best = history["best_epoch"]
    assert losses[best - 1] == min(losses) < history["before"]["eval_loss"]
    assert 0 < best < len(losses) == min(best + patience, epochs)
    assert model.evaluate(eval_data, verbose=0)[0] == pytest.approx(min(losses), abs=1e-6)


# Sizes come from the data


@pytest.mark.parametrize("phase", ["base", "fine_tuned"])
def test_every_example_is_used_once_an_epoch(request, phase, data, drawn_photos, transform_graph):
    trained = request.getfixturevalue(phase)
    if phase == "base":
        train_vectors, train_classes = feature_extraction.read_vectors(
            [str(file) for file in (data / "vectors" / "Split-train").iterdir()], LABELS
        )
    else:
        photos, train_classes = photos_of(drawn_photos, "train")
        train_vectors = load_transform(transform_graph)(photos).numpy()
    rows = np.concatenate([np.reshape(train_vectors, [TRAIN_PHOTOS, -1]), np.reshape(train_classes, [-1, 1])], axis=1)
    assert len(np.unique(rows, axis=0)) == TRAIN_PHOTOS

    epochs = []
    for _ in range(2):
        batches = [(x.numpy(), y.numpy()) for x, y in trained.train_data]
        assert sorted(len(y) for _, y in batches) == [3, 4, 4, 4]
        epochs.append(
            np.concatenate([np.concatenate([x.reshape([len(x), -1]), y[:, np.newaxis]], axis=1) for x, y in batches])
        )
        np.testing.assert_allclose(np.unique(epochs[-1], axis=0), np.unique(rows, axis=0), atol=1e-6)
    assert not np.array_equal(epochs[0], epochs[1]), "each epoch is shuffled anew"
    # And the optimizer took as many steps as there are batches.
    assert trained.model.optimizer.iterations == STEPS_PER_EPOCH * len(trained.history["epochs"])
    assert sum(len(y) for _, y in trained.eval_data) == len(drawn_photos) - TRAIN_PHOTOS


def test_vectors_come_in_the_order_of_their_content_whatever_the_files(data, tmp_path, write_records):
    [file] = (data / "vectors" / "Split-train").iterdir()
    rows = list(read_examples([str(file)]))
    files = [write_records(tmp_path / "first", rows[9:]), write_records(tmp_path / "second", rows[:9][::-1])]
    for found, expected in zip(
        feature_extraction.read_vectors(files, LABELS),
        feature_extraction.read_vectors([str(file)], LABELS),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)
    vectors, classes = feature_extraction.read_vectors(files, LABELS)
    assert (vectors.dtype, vectors.shape) == (np.float32, (TRAIN_PHOTOS, 8))
    assert (classes.dtype, sorted(set(classes))) == (np.int64, [0, 1])


def test_unshuffled_photos_come_in_the_order_of_the_files(data, drawn_photos, transform_graph):
    files = [str(file) for file in (data / "photos" / "Split-train").iterdir()]
    batches = list(fine_tuning.photo_batches(files, load_transform(transform_graph), LABELS, BATCH_SIZE))
    _, classes = photos_of(drawn_photos, "train")
    assert np.concatenate([y for _, y in batches]).tolist() == classes
    for images, _ in batches:
        assert images.dtype == tf.float32
        assert images.shape[1:] == (16, 16, 3)
        assert 0 <= float(tf.reduce_min(images)) < float(tf.reduce_max(images)) <= 1
