"""The optimizer: its schedule, clipping, learning rates by block and gradual unfreezing, to the exact value."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf

from components.legacy_keras import tf_keras
from components.trainer.optimization import (
    AdamByVariable,
    OpenStages,
    RMSpropByVariable,
    class_weights,
    layer_multipliers,
    learning_rate_schedule,
    make_optimizer,
    unfreeze_stages,
)
from components.trainer.settings import OptimizerSettings

REPOSITORY = Path(__file__).parents[2]
SETTINGS = OptimizerSettings(
    optimizer="adam", learning_rate=0.1, schedule="constant", warmup_fraction=0.0, gradient_clip_norm=None
)
PLAIN = {"adam": tf_keras.optimizers.Adam, "rmsprop": tf_keras.optimizers.RMSprop}
BOTH = pytest.mark.parametrize("name", ["adam", "rmsprop"])
START = np.array([1.0, -2.0], np.float32)
GRADIENTS = np.array([[0.3, -4.0], [0.2, 5.0], [-0.7, 1.0], [0.1, 0.1]], np.float32)


def optimizer(multipliers=None, stages=None, **settings):
    return make_optimizer(SETTINGS.replaced(**settings), 10, 10, multipliers, stages)


def variables(*names):
    return [tf.Variable(START, name=name) for name in names]


def step(optimizer, learning, gradient):
    optimizer.apply_gradients([(tf.convert_to_tensor(gradient, tf.float32), variable) for variable in learning])


def by_hand(name, gradients, rate=0.1, scale=1.0):
    """Values after each step, float64: Kingma & Ba 2015 (as Keras has it, algorithm of section 2); Hinton's RMSprop."""
    value, m, v, values = START.astype(np.float64), 0.0, 0.0, []
    for i, gradient in enumerate(gradients.astype(np.float64), start=1):
        if name == "adam":
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            update = rate * math.sqrt(1 - 0.999**i) / (1 - 0.9**i) * m / (np.sqrt(v) + 1e-7)
        else:
            v = 0.9 * v + 0.1 * gradient**2
            update = rate * gradient / np.sqrt(v + 1e-7)
        value = value - scale * update
        values.append(value)
    return values


# Keras' own class, or ours


@BOTH
def test_without_multipliers_and_stages_it_is_keras_own_class(name):
    for nothing in (None, {}):
        assert type(optimizer(nothing, nothing, optimizer=name)) is PLAIN[name]
    [learning] = variables("a")
    plain = optimizer(optimizer=name)
    for gradient, expected in zip(GRADIENTS, by_hand(name, GRADIENTS), strict=True):
        step(plain, [learning], gradient)
        np.testing.assert_allclose(learning, expected, rtol=1e-5)


# A share of every update


@BOTH
def test_a_multiplier_scales_the_update(name):
    """Scaled gradients would change next to nothing: both algorithms divide by the gradient's size."""
    learning = variables("full", "half", "tenth")
    ours = optimizer({"half:0": 0.5, "tenth:0": 0.1}, optimizer=name)
    assert type(ours) is {"adam": AdamByVariable, "rmsprop": RMSpropByVariable}[name]
    for i, gradient in enumerate(GRADIENTS):
        step(ours, learning, gradient)
        for variable, scale in zip(learning, (1.0, 0.5, 0.1), strict=True):
            np.testing.assert_allclose(variable, by_hand(name, GRADIENTS, scale=scale)[i], rtol=1e-5)


def test_scaling_gradients_would_do_nothing():
    """Why the update is scaled: Adam's first step is the learning rate, whatever the gradient's size."""
    moved = []
    for scale in (1.0, 0.1):
        [learning] = variables("a")
        step(optimizer(), [learning], GRADIENTS[0] * scale)
        moved.append(learning.numpy() - START)
    np.testing.assert_allclose(moved[0], [-0.1, 0.1], rtol=1e-4)
    np.testing.assert_allclose(moved[1], moved[0], rtol=1e-4)


@BOTH
def test_a_variable_at_the_full_rate_is_as_with_keras_to_the_bit(name):
    rng = np.random.default_rng(4)
    start = rng.normal(size=50) * 10.0 ** rng.uniform(-4, 0, 50)  # many of them smaller than their update
    alone, full, other = (tf.Variable(start, name=name, dtype=tf.float32) for name in ("a", "a", "b"))
    plain, ours = optimizer(optimizer=name), optimizer({"a:0": 1.0, "b:0": 0.3}, optimizer=name)
    for gradient in rng.normal(size=[4, 50]):
        step(plain, [alone], gradient)
        step(ours, [full, other], gradient)
        np.testing.assert_array_equal(full, alone)


@pytest.mark.parametrize("wrong", [{"multipliers": {"c:0": 0.5}}, {"stages": {"c:0": 1}}])
def test_a_name_that_no_variable_has_is_refused(wrong):
    with pytest.raises(ValueError, match="c:0 has a multiplier or a stage, but is not one of the 2 variables"):
        step(optimizer(**wrong), variables("a", "b"), GRADIENTS[0])


# Stages


@BOTH
def test_a_closed_variable_does_not_move_until_its_stage_opens(name):
    """It starts at a value that arithmetic changes even by adding 0: the negative zero."""
    open_one, closed = tf.Variable(START, name="open"), tf.Variable([-2.0, -0.0], name="closed")
    ours = optimizer({"closed:0": 0.5}, {"closed:0": 2}, optimizer=name)

    @tf.function
    def traced_step(gradient):
        step(ours, [open_one, closed], gradient)

    for stage in (None, 1):
        if stage:
            ours.open_stage(stage)
        traced_step(tf.constant(GRADIENTS[0]))
        assert closed.numpy().tobytes() == np.array([-2.0, -0.0], np.float32).tobytes()
    np.testing.assert_allclose(open_one, by_hand(name, GRADIENTS[[0, 0]])[-1], rtol=1e-5)

    ours.open_stage(2)
    traced_step(tf.constant(GRADIENTS[1]))
    last, before = by_hand(name, GRADIENTS[[0, 0, 1]], scale=0.5)[:-3:-1]
    # The moments were gathered from the start.
    np.testing.assert_allclose(closed, np.array([-2.0, 0.0]) + last - before, rtol=1e-4)


def test_an_infinite_gradient_of_a_closed_variable_stays_without_effect():
    [closed] = variables("closed")
    ours = optimizer(stages={"closed:0": 1})
    step(ours, [closed], [np.inf, np.nan])
    np.testing.assert_array_equal(closed, START)


class Record(tf_keras.callbacks.Callback):
    """Which variables moved in each epoch."""

    def __init__(self):
        super().__init__()
        self.moved = []

    def on_epoch_begin(self, epoch, logs=None):
        self._before = [v.numpy() for v in self.model.trainable_variables]

    def on_epoch_end(self, epoch, logs=None):
        pairs = zip(self.model.trainable_variables, self._before, strict=True)
        self.moved.append({v.name for v, before in pairs if not np.array_equal(v, before)})


def small_model():
    layers = [tf_keras.layers.Dense(3, name=name, use_bias=False) for name in ("block1a", "block2a", "head")]
    tf_keras.utils.set_random_seed(1)
    return tf_keras.Sequential([tf_keras.layers.Input([3]), *layers])


def photos_and_classes():
    rng = np.random.default_rng(1)
    return rng.normal(size=[8, 3]).astype(np.float32), rng.integers(0, 3, 8)


def compiled(model, ours):
    model.compile(ours, tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize("mixed_precision", [False, True])
def test_fit_unfreezes_from_the_top_at_the_right_epochs(mixed_precision):
    model, record = small_model(), Record()
    stages = unfreeze_stages(["block1a/kernel:0", "block2a/kernel:0"], 3)
    ours = optimizer(stages=stages)
    if mixed_precision:
        ours = tf_keras.mixed_precision.LossScaleOptimizer(ours)
    compiled(model, ours).fit(
        *photos_and_classes(), batch_size=4, epochs=7, verbose=0, callbacks=[OpenStages(3, 7), record]
    )
    head, second, first = {"head/kernel:0"}, {"block2a/kernel:0"}, {"block1a/kernel:0"}
    # floor(7 / 3) = 2, floor(14 / 3) = 4
    assert record.moved == [head] * 2 + [head | second] * 2 + [head | second | first] * 3


def test_training_that_resumes_late_has_its_stages_open():
    model, record = small_model(), Record()
    ours = optimizer(stages=unfreeze_stages(["block1a/kernel:0", "block2a/kernel:0"], 3))
    compiled(model, ours).fit(
        *photos_and_classes(), initial_epoch=5, epochs=6, verbose=0, callbacks=[OpenStages(3, 6), record]
    )
    assert record.moved == [{"head/kernel:0", "block2a/kernel:0", "block1a/kernel:0"}]


@pytest.mark.parametrize(
    ("stages", "epochs", "opened"),
    [(1, 3, [0, 0, 0]), (2, 4, [0, 0, 1, 1]), (3, 3, [0, 1, 2]), (3, 2, [1, 2]), (4, 1, [3]), (2, 5, [0, 0, 1, 1, 1])],
)
def test_the_stage_of_each_epoch(stages, epochs, opened):
    callback, model = OpenStages(stages, epochs), small_model()
    compiled(model, optimizer({"head/kernel:0": 0.5}))
    callback.set_model(model)
    seen = []
    for epoch in range(epochs):
        callback.on_epoch_begin(epoch)
        seen.append(int(model.optimizer._stage))
    assert seen == opened


# Which variables: by block


NAMES = [
    "block6d_dwconv/kernel:0", "block6d_project_conv/kernel:0", "block7a_dwconv/kernel:0", "block7a_conv/kernel:0",
    "top_conv/kernel:0",
]  # fmt: skip


def test_lower_blocks_learn_more_slowly():
    assert list(layer_multipliers(NAMES, 0.5).items()) == list(zip(NAMES, [0.25, 0.25, 0.5, 0.5, 1.0], strict=True))
    assert set(layer_multipliers(NAMES, 1).values()) == {1}
    assert layer_multipliers([], 0.5) == {}
    for decay in (0, -1, 1.1):
        with pytest.raises(ValueError, match=r"decay \(=.*\) must be above 0 and at most 1"):
            layer_multipliers(NAMES, decay)


@pytest.mark.parametrize(
    ("stages", "expected"), [(1, [0, 0, 0, 0, 0]), (2, [1, 1, 1, 1, 1]), (3, [2, 2, 1, 1, 1]), (4, [3, 3, 2, 2, 1])]
)
def test_top_blocks_join_first(stages, expected):
    assert unfreeze_stages(NAMES, stages) == dict(zip(NAMES, expected, strict=True))


def test_more_stages_than_blocks():
    """The top block is the first to join, and no stage lies beyond the last."""
    by_block = unfreeze_stages(NAMES, 7)
    assert by_block == dict(zip(NAMES, [5, 5, 3, 3, 1], strict=True))
    with pytest.raises(ValueError, match=r"stages \(=0\) must be at least 1"):
        unfreeze_stages(NAMES, 0)


# The schedule


def rates(schedule, warmup_fraction, steps, at):
    made = learning_rate_schedule(0.1, schedule, warmup_fraction, steps)
    return [float(made(step)) for step in at]


def test_a_constant_rate_is_a_number():
    assert learning_rate_schedule(0.1, "constant", 0.0, 100) == 0.1
    # Of 10 steps a twentieth is none.
    assert learning_rate_schedule(0.1, "constant", 0.05, 10) == 0.1


def test_warm_up_then_constant():
    assert rates("constant", 0.2, 100, [0, 5, 10, 20, 21, 60, 99, 100, 500]) == pytest.approx(
        [0, 0.025, 0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    )


def test_cosine_from_the_peak_to_0():
    assert rates("cosine", 0.0, 100, [0, 25, 50, 75, 100, 200]) == pytest.approx(
        [0.1, 0.1 * (1 + math.sqrt(0.5)) / 2, 0.05, 0.1 * (1 - math.sqrt(0.5)) / 2, 0, 0], abs=1e-8
    )


def test_warm_up_then_cosine():
    assert rates("cosine", 0.2, 100, [0, 10, 19, 20, 60, 100]) == pytest.approx(
        [0, 0.05, 0.095, 0.1, 0.05, 0], abs=1e-8
    )


def test_odd_numbers_of_steps():
    for steps in (0, 1, 2, 3):
        for schedule in ("constant", "cosine"):
            made = make_optimizer(SETTINGS.replaced(schedule=schedule, warmup_fraction=0.9), steps, 1)
            assert math.isfinite(made.learning_rate)
            [learning] = variables("a")
            for _ in range(steps):
                step(made, [learning], GRADIENTS[0])
            assert np.isfinite(learning.numpy()).all()
            assert steps == 0 or not np.array_equal(learning, START)


def test_the_optimizer_follows_the_schedule_over_all_epochs():
    """10 steps in each of 10 epochs: the end of the warm-up is step 20, the middle of the cosine step 60."""
    made = optimizer({"a:0": 0.5}, schedule="cosine", warmup_fraction=0.2)
    learning, seen = variables("a"), []
    for _ in range(101):
        step(made, learning, GRADIENTS[0])
        seen.append(float(made.learning_rate))
    assert [seen[i] for i in (0, 10, 20, 60, 100)] == pytest.approx([0, 0.05, 0.1, 0.05, 0], abs=1e-8)


def test_the_configuration_can_be_made_again():
    made = optimizer({"a:0": 0.5}, {"a:0": 1}, schedule="cosine", warmup_fraction=0.2, gradient_clip_norm=2.0)
    again = AdamByVariable.from_config(made.get_config())
    assert again.get_config() == made.get_config()
    config = again.get_config()
    assert (config["multipliers"], config["stages"], config["global_clipnorm"]) == ({"a:0": 0.5}, {"a:0": 1}, 2.0)
    assert config["learning_rate"]["config"]["warmup_target"] == 0.1


# Clipping


@pytest.mark.parametrize("multipliers", [None, {"b:0": 0.5}])
def test_the_norm_of_all_gradients_together_is_bounded(multipliers):
    """Adam's first moment after one step is a tenth of the gradient it was given."""

    def norm_given(clip, gradient):
        learning = variables("a", "b")
        made = optimizer(multipliers, gradient_clip_norm=clip)
        step(made, learning, gradient)
        return 10 * math.sqrt(sum(float(tf.reduce_sum(moment**2)) for moment in made._momentums))

    whole = math.sqrt(2 * (3**2 + 4**2))
    assert norm_given(None, [3.0, 4.0]) == pytest.approx(whole)
    assert norm_given(1.0, [3.0, 4.0]) == pytest.approx(1.0)
    assert norm_given(2 * whole, [3.0, 4.0]) == pytest.approx(whole)


# Checkpoints


@BOTH
def test_training_goes_on_from_a_checkpoint_to_the_bit(name, tmp_path):
    """The checkpoint is of the middle, with one stage open; the stage is not opened again after restoring."""

    def fresh():
        learning = variables("head", "top", "low")
        schedule = {"schedule": "cosine", "warmup_fraction": 0.1}
        multipliers, stages = {"top:0": 0.5, "low:0": 0.25}, {"top:0": 1, "low:0": 2}
        made = optimizer(multipliers, stages, optimizer=name, **schedule)
        return learning, made, tf.train.Checkpoint(optimizer=made, learning=learning)

    learning, made, checkpoint = fresh()
    made.open_stage(1)
    for gradient in GRADIENTS:
        step(made, learning, gradient)
    path = checkpoint.save(str(tmp_path / "checkpoint"))
    assert not np.array_equal(learning[1], START)
    restored, again, its_checkpoint = fresh()
    again.build(restored)
    its_checkpoint.restore(path).assert_consumed()
    for gradient in GRADIENTS[::-1]:
        for optimizer_, variables_ in ((made, learning), (again, restored)):
            step(optimizer_, variables_, gradient)
        for expected, found in zip(learning, restored, strict=True):
            np.testing.assert_array_equal(expected, found)
    np.testing.assert_array_equal(restored[2], START)
    assert not np.array_equal(restored[1], START)
    assert len(again.variables) == len(made.variables) > 0
    for expected, found in zip(made.variables, again.variables, strict=True):
        np.testing.assert_array_equal(expected, found)


# Several devices


ON_TWO_DEVICES = """
import components
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from components.legacy_keras import tf_keras
from components.trainer.optimization import OpenStages, make_optimizer
from components.trainer.settings import OptimizerSettings
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
settings = OptimizerSettings(
    optimizer="adam", learning_rate=0.1, schedule="constant", warmup_fraction=0.0, gradient_clip_norm=None
)
with strategy.scope():
    dense = tf_keras.layers.Dense
    layers = [dense(1, use_bias=False, name=n, kernel_initializer="ones") for n in ("full", "half", "late")]
    inputs = tf_keras.Input([1])
    model = tf_keras.Model(inputs, tf_keras.layers.Add()([layer(inputs) for layer in layers]))
    stages = {"late/kernel:0": 1}
    model.compile(make_optimizer(settings, 1, 2, {"half/kernel:0": 0.5}, stages), loss="mse")
for epoch in range(2):
    data = tf.data.Dataset.from_tensors(([[1.0], [1.0]], [[0.0], [0.0]]))
    model.fit(data, initial_epoch=epoch, epochs=epoch + 1, verbose=0, callbacks=[OpenStages(2, 2)])
    for variable in model.trainable_variables:
        copies = strategy.experimental_local_results(variable)
        print(*[copy.name for copy in copies], *[float(copy) - 1 for copy in copies])
"""


@pytest.mark.slow
@pytest.mark.release
def test_multipliers_and_stages_hold_on_several_devices():
    done = subprocess.run(
        [sys.executable, "-c", ON_TWO_DEVICES], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True
    )
    lines = [line.split() for line in done.stdout.splitlines() if "kernel" in line]
    assert [line[:2] for line in lines[:3]] == [
        [f"{name}/kernel:0", f"{name}/kernel/replica_1:0"] for name in ("full", "half", "late")
    ]
    moved = np.array([line[2:] for line in lines], np.float32)
    np.testing.assert_array_equal(moved[:, 0], moved[:, 1])
    # Adam's first two steps are nearly the learning rate each, for the gradient hardly changes.
    np.testing.assert_allclose(moved[:3, 0], [-0.1, -0.05, 0], rtol=1e-4)
    np.testing.assert_allclose(moved[3:, 0], [-0.2, -0.1, -0.1], rtol=0.02)


# Class weights


def test_rare_classes_weigh_more_and_the_mean_is_1():
    classes = np.array([0] * 6 + [1] * 3 + [2])
    weights = class_weights(classes, 3)
    assert weights == pytest.approx({0: 10 / 18, 1: 10 / 9, 2: 10 / 3})
    assert np.mean([weights[c] for c in classes]) == pytest.approx(1)
    assert list(weights) == [0, 1, 2]
    assert {type(weight) for weight in weights.values()} == {float}


def test_a_class_without_examples_leaves_the_others_as_they_are():
    classes = np.array([0] * 6 + [2] * 2)
    weights = class_weights(classes, 4)
    assert weights == pytest.approx({0: 8 / 12, 1: 1, 2: 2, 3: 1})
    assert np.mean([weights[c] for c in classes]) == pytest.approx(1)


def test_classes_beyond_the_count_are_refused():
    with pytest.raises(ValueError, match="class 3 is not among 2 classes"):
        class_weights(np.array([0, 3]), 2)
