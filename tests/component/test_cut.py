"""A module cut at the freeze boundary equals the whole, forward and in gradients, or is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
import tensorflow_hub as hub

from components.backbone import cut as cut_module
from components.backbone import feature_vector, registry
from components.backbone.cut import CannotCut, cut
from components.backbone.saved_feature_vector import save_feature_vector
from components.legacy_keras import tf_keras

layers = tf_keras.layers
SIZE = 16  # pixels


def photos(count: int, size: int = SIZE) -> tf.Tensor:
    return tf.constant(np.random.default_rng(count).random([count, size, size, 3], np.float32))


def saved(model: tf_keras.Model, folder) -> str:
    """`model` as a SavedModel with random weights; scales and variances around 1, everything else around 0."""
    rng = np.random.default_rng(5)
    for variable in model.variables:
        positive = "gamma" in variable.name or "variance" in variable.name
        fan_in = np.prod(variable.shape[:-1]) or 1
        spread = rng.uniform(0.5, 1.5, variable.shape) if positive else rng.normal(0, fan_in**-0.5, variable.shape)
        variable.assign(spread)
    save_feature_vector(model, folder)
    return str(folder)


def convolution(x, channels, name, **options):
    x = layers.Conv2D(channels, 3, padding="same", use_bias=False, name=f"{name}_conv", **options)(x)
    return layers.BatchNormalization(name=f"{name}_bn")(x)


def residual_network() -> tf_keras.Model:
    """Two residual blocks with swish, whose gradient TensorFlow defines by hand, and padding by a layer."""
    images = tf_keras.Input([None, None, 3])
    x = layers.Rescaling(2, offset=-1)(images)
    x = layers.Activation("swish", name="stem_activation")(convolution(x, 8, "stem", strides=2))
    for block in ("block1", "block2"):
        inner = layers.Activation("swish")(convolution(x, 8, block))
        x = layers.Add(name=f"{block}_add")([x, inner])
    x = layers.ZeroPadding2D(1, name="top_padding")(x)
    x = layers.Conv2D(12, 3, 2, name="top_conv")(x)
    x = layers.Activation("swish")(layers.BatchNormalization(name="top_bn")(x))
    return tf_keras.Model(images, layers.GlobalAveragePooling2D()(x))


def inception_network() -> tf_keras.Model:
    """A stem, two branches side by side and a top."""
    images = tf_keras.Input([None, None, 3])
    stem = layers.ReLU(name="stem_activation")(convolution(images, 6, "stem", strides=2))
    left = layers.ReLU()(convolution(stem, 4, "left"))
    right = layers.ReLU()(convolution(layers.AveragePooling2D(3, 1, "same")(stem), 5, "right"))
    x = layers.Concatenate(name="mixed")([left, right])
    x = layers.ReLU()(convolution(x, 10, "top"))
    return tf_keras.Model(images, layers.GlobalAveragePooling2D()(x))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """No check was made before the test."""
    monkeypatch.setattr(cut_module, "cache_folder", lambda: tmp_path / "cache")


@pytest.fixture(scope="module")
def residual(tmp_path_factory) -> str:
    return saved(residual_network(), tmp_path_factory.mktemp("residual"))


@pytest.fixture(scope="module")
def inception(tmp_path_factory) -> str:
    return saved(inception_network(), tmp_path_factory.mktemp("inception"))


@pytest.fixture
def tiny(tiny_backbone):
    return hub.load(tiny_backbone)


def variable_named(module, name: str) -> tf.Variable:
    (found,) = (variable for variable in module.variables if variable.name == name)
    return found


def gradients(vectors_of, images, variables):
    with tf.GradientTape() as tape:
        tape.watch(variables)
        loss = tf.reduce_sum(tf.sin(3 * vectors_of(images)))
    return tape.gradient(loss, variables)


def assert_equals_whole(parts, module, learning, size=SIZE):
    """For batches other than those it was checked with when it was cut."""
    images = photos(5, size)
    np.testing.assert_allclose(parts.top(parts.bottom(images)), module(images, training=False), rtol=1e-5, atol=1e-5)
    assert parts.bottom(images[:1]).shape == (1, *parts.shape)
    variables = [variable_named(module, name) for name in learning]
    through_whole = gradients(lambda batch: module(batch, training=False), images, variables)
    for got, expected in zip(gradients(parts.top, parts.bottom(images), variables), through_whole, strict=True):
        assert np.any(expected)
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


# Where the cut is


@pytest.mark.parametrize(
    ("learning", "boundary", "shape"),
    [
        (["top_conv/kernel:0"], "stem_activation/Relu:0", (8, 8, 8)),
        (["top_conv/kernel:0", "top_bn/gamma:0"], "stem_activation/Relu:0", (8, 8, 8)),
        (["top_bn/beta:0"], "top_conv/Conv2D:0", (8, 8, 8)),
        (["stem_bn/gamma:0", "top_conv/kernel:0"], "stem_conv/Conv2D:0", (8, 8, 8)),
    ],
)
def test_the_boundary_lies_right_below_what_learns(tiny, learning, boundary, shape):
    parts = cut(tiny, learning, SIZE)
    assert parts.boundary.endswith(f"/{boundary}")
    assert parts.shape == shape
    assert_equals_whole(parts, tiny, learning)


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize(
    ("learning", "boundary", "shape"),
    [
        # Before the padding, which makes it 10 x 10.
        (["top_conv/kernel:0", "top_conv/bias:0"], "block2_add/add:0", (8, 8, 8)),
        # The shortcut passes by what learns in a block, so the boundary lies below the block.
        (["block2_conv/kernel:0"], "block1_add/add:0", (8, 8, 8)),
        (["block1_bn/gamma:0", "top_bn/beta:0"], "stem_activation/IdentityN:0", (8, 8, 8)),
    ],
)
def test_a_residual_network_with_custom_gradients_is_cut_between_blocks(residual, learning, boundary, shape):
    module = hub.load(residual)
    parts = cut(module, learning, SIZE)
    assert parts.boundary.endswith(f"/{boundary}")
    assert parts.shape == shape
    assert_equals_whole(parts, module, learning)


@pytest.mark.parametrize(
    ("learning", "boundary", "shape"),
    [
        (["top_conv/kernel:0"], "mixed/concat:0", (8, 8, 9)),
        (["left_conv/kernel:0"], "stem_activation/Relu:0", (8, 8, 6)),
    ],
)
def test_branches_are_not_cut_in_two(inception, learning, boundary, shape):
    module = hub.load(inception)
    parts = cut(module, learning, SIZE)
    assert parts.boundary.endswith(f"/{boundary}")
    assert parts.shape == shape
    assert_equals_whole(parts, module, learning)


def test_every_load_gives_the_same_boundary(tiny_backbone):
    boundaries = {cut(hub.load(tiny_backbone), ["top_conv/kernel:0"], SIZE).boundary for _ in range(2)}
    assert len(boundaries) == 1


# What training through the cut does


def test_training_the_top_changes_the_module_and_not_its_bottom(tiny):
    parts = cut(tiny, ["top_conv/kernel:0"], SIZE)
    kernel = variable_named(tiny, "top_conv/kernel:0")
    assert [variable.name for variable in parts.top_variables] == [
        "top_conv/kernel:0",
        "top_bn/gamma:0",
        "top_bn/beta:0",
        "top_bn/moving_mean:0",
        "top_bn/moving_variance:0",
    ]
    assert any(variable is kernel for variable in parts.top_variables)
    before = {variable.name: variable.numpy() for variable in tiny.variables}
    images = photos(4)
    vectors, activations = tiny(images, training=False), parts.bottom(images)
    head = layers.Dense(2)
    head.build([None, 8])
    optimizer = tf_keras.optimizers.Adam(0.1)

    @tf.function
    def step(batch):
        variables = [kernel, *head.trainable_variables]
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(head(parts.top(batch))[:, 0])
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    losses = [float(step(activations)) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    changed = [variable.name for variable in tiny.variables if np.any(variable.numpy() != before[variable.name])]
    assert changed == ["top_conv/kernel:0"]
    np.testing.assert_array_equal(parts.bottom(images), activations)
    trained = tiny(images, training=False)
    assert np.abs(trained - vectors).max() > 0.1
    np.testing.assert_allclose(parts.top(activations), trained, rtol=1e-5, atol=1e-6)


def test_gradients_reach_the_activations(tiny):
    parts = cut(tiny, ["top_conv/kernel:0"], SIZE)
    images = photos(3)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        split = tf.reduce_sum(tf.sin(parts.top(parts.bottom(images))))
        whole = tf.reduce_sum(tf.sin(tiny(images, training=False)))
    expected = tape.gradient(whole, images)
    assert np.any(expected)
    np.testing.assert_allclose(tape.gradient(split, images), expected, rtol=1e-4, atol=1e-6)


# What is refused


class Module(tf.Module):
    """`bottom` and `top` kernels around whatever a test puts between and behind them."""

    def __init__(self, between=lambda x: x, behind=lambda x: x):
        super().__init__()
        rng = np.random.default_rng(2)
        self.bottom = tf.Variable(rng.normal(size=[3, 6]).astype(np.float32), name="bottom")
        self.top = tf.Variable(rng.normal(size=[6, 4]).astype(np.float32), name="top")
        self.between, self.behind = between, behind

    def __call__(self, images, training=False):
        return self.behind(self.between(tf.reduce_mean(images, [1, 2]) @ self.bottom) @ self.top)


def test_what_the_module_captured_is_kept():
    captured = tf.constant([[1.0, -2.0, 3.0, -4.0, 5.0, -6.0]])
    module = Module(between=lambda x: x + captured)
    parts = cut(module, ["top:0"], SIZE)
    assert parts.shape == (6,)
    assert [variable.name for variable in parts.top_variables] == ["top:0"]
    assert_equals_whole(parts, module, ["top:0"])
    module.bottom.assign(module.bottom * 2)
    assert_equals_whole(parts, module, ["top:0"])


def test_a_colocation_with_what_the_other_part_holds_is_dropped():
    module = Module()

    @tf.function
    def colocated(images, training):
        colours = tf.reduce_mean(images, [1, 2])
        boundary = colours @ module.bottom
        with tf.compat.v1.colocate_with(colours):
            return boundary @ module.top

    assert cut(colocated, ["top:0"], SIZE).shape == (6,)


@pytest.mark.parametrize(
    ("learning", "reason"),
    [
        ([], "no variable learns"),
        (["stem_conv/kernel:0"], "no frozen variable is below everything that learns"),
        (["stem_conv/kernel:0", "top_conv/kernel:0"], "no frozen variable is below everything that learns"),
        (["top_conv/kernel:0", "tip_conv/kernel:0"], "tip_conv/kernel:0 does not affect the vectors"),
    ],
)
def test_a_cut_without_two_sides_is_refused(tiny, learning, reason):
    with pytest.raises(CannotCut, match=f"^{reason}$"):
        cut(tiny, learning, SIZE)


def test_two_branches_from_the_images_on_are_refused():
    module = Module()
    side = tf.Variable(tf.ones([3, 4]), name="side")

    def two_branches(images, training):
        return module(images) + tf.reduce_max(images, [1, 2]) @ side

    with pytest.raises(CannotCut, match=r"^no single tensor connects the frozen part to the part that learns$"):
        cut(two_branches, ["top:0"], SIZE)


def counted(x):
    counted.calls.assign_add(1)
    return x


counted.calls = tf.Variable(0)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (lambda x: tf.nn.dropout(x, 0.5), "operation RandomUniform .* is random, stateful"),
        (lambda x: x + tf.random.stateless_normal([6], [1, 2]), "operation StatelessRandom.* is random, stateful"),
        (counted, "operation AssignAddVariableOp .* is random, stateful"),
        (lambda x: tf.while_loop(lambda y: tf.reduce_sum(y) < 9, lambda y: y + 1, [x])[0], "StatelessWhile .* control"),
        (lambda x: x - tf.reduce_mean(x, 0), "a photo's activations at .* depend on the other photos of its batch"),
    ],
)
def test_a_bottom_that_is_no_formula_of_each_photo_is_refused(behaviour, reason):
    with pytest.raises(CannotCut, match=reason):
        cut(Module(between=behaviour), ["top:0"], SIZE)


def test_activations_that_are_not_one_row_a_photo_are_refused():
    module = Module()
    narrow = tf.Variable(tf.ones([2, 5]), name="narrow")

    def two_rows_a_photo(images, training):
        return tf.reshape(tf.reshape(module(images), [-1, 2]) @ narrow, [-1, 10])

    with pytest.raises(CannotCut, match=r"has shape \(6, 2\) for 3 photos$"):
        cut(two_rows_a_photo, ["narrow:0"], SIZE)


def test_vectors_and_activations_of_another_kind_are_refused():
    with pytest.raises(CannotCut, match=r"^the module returns .*float16.*, expected float32 vectors"):
        cut(Module(behind=lambda x: tf.cast(x, tf.float16)), ["top:0"], SIZE)
    module = Module()
    half = tf.Variable(tf.ones([4, 5], tf.float16), name="half")

    def half_precision_top(images, training):
        return tf.cast(tf.cast(module(images), tf.float16) @ half, tf.float32)

    with pytest.raises(CannotCut, match=r"is float16 \(None, 4\), expected float32"):
        cut(half_precision_top, ["half:0"], SIZE)


def test_a_module_that_tensorflow_cannot_trace_is_refused():
    with pytest.raises(CannotCut, match=r"^TensorFlow failed \(ValueError: Dimensions must be equal"):
        cut(Module(between=lambda x: x[:, :3]), ["top:0"], SIZE)


def test_a_gradient_that_is_not_the_formulas_is_refused():
    @tf.custom_gradient
    def reversed_gradient(x):
        return x * 2, lambda upstream: -upstream

    with pytest.raises(CannotCut, match=r"^cut at .*, the gradient of top:0 is different$"):
        cut(Module(behind=reversed_gradient), ["top:0"], SIZE)


def test_the_same_cut_is_checked_once_and_one_that_was_refused_again(inception, monkeypatch, tmp_path):
    checked = []
    check = cut_module._check
    monkeypatch.setattr(cut_module, "_check", lambda *given: checked.append(given[0].boundary) or check(*given))
    learning = [v.name for v in hub.load(inception).trainable_variables if v.name.startswith("top_conv")]
    boundaries = {cut(hub.load(inception), learning, SIZE).boundary for _ in range(2)}
    assert [boundaries] == [{boundary} for boundary in checked]
    assert len(list((tmp_path / "cache" / "checked-cuts").iterdir())) == 1
    for _ in range(2):
        with pytest.raises(CannotCut, match="no gradient reaches"):
            cut(Module(behind=tf.stop_gradient), ["top:0"], SIZE)
    assert len(checked) == 3


def test_a_gradient_that_differs_on_one_draw_of_images_only_is_rounding():
    """As on the bend of a ReLU, which the two graphs may find on either side of a value."""
    backwards: list[float] = []  # what the gradient was asked for on, once for each draw

    @tf.custom_gradient
    def bent(x):
        def gradient(upstream):
            def of(value):
                backwards.append(float(value))
                return np.float32(-1 if value == backwards[0] else 1)

            return upstream * 2 * tf.ensure_shape(tf.numpy_function(of, [tf.reduce_sum(x)], tf.float32), [])

        return x * 2, gradient

    parts = cut(Module(behind=bent), ["top:0"], SIZE)
    assert [variable.name for variable in parts.top_variables] == ["top:0"]
    assert len(backwards) == 2
    assert backwards[0] != backwards[1]


def test_a_graph_that_was_cut_before_is_checked_again_where_it_has_gradients_of_its_own():
    """The two graphs are the same but for their gradients."""
    rights, wrongs = (
        tf.custom_gradient(lambda x, sign=sign: (x * 2, lambda upstream: sign * 2 * upstream)) for sign in (1, -1)
    )
    cut(Module(behind=rights), ["top:0"], SIZE)
    with pytest.raises(CannotCut, match=r"the gradient of top:0 is different$"):
        cut(Module(behind=wrongs), ["top:0"], SIZE)


def test_a_variable_that_no_gradient_reaches_is_refused():
    with pytest.raises(CannotCut, match=r"^no gradient reaches top:0$"):
        cut(Module(behind=tf.stop_gradient), ["top:0"], SIZE)


@pytest.mark.parametrize("operation", ["Softplus", "Log"])  # Log gives values that are no numbers.
def test_parts_that_give_other_vectors_are_refused(tiny, monkeypatch, operation):
    flatten = cut_module.flatten

    def flatten_wrongly(module, image_size):
        flat = flatten(module, image_size)
        (activation,) = (node for name, node in flat.nodes.items() if name.endswith("top_activation/Relu"))
        activation.op = operation
        return flat

    monkeypatch.setattr(cut_module, "flatten", flatten_wrongly)
    with pytest.raises(CannotCut, match="the module returns different vectors"):
        cut(tiny, ["top_conv/kernel:0"], SIZE)


# Real architectures


@pytest.mark.slow
def test_the_built_in_backbone_is_cut_where_its_registry_entry_says():
    module = hub.load(str(feature_vector.resolve("efficientnet_lite0")))
    unfreeze = registry.BACKBONES["efficientnet_lite0"].unfreeze
    learning = [variable.name for variable in module.trainable_variables if re.match(unfreeze, variable.name)]
    parts = cut(module, learning, 160)
    assert parts.boundary.endswith("/block6d_add/add:0")
    assert parts.shape == (5, 5, 192)
    assert_equals_whole(parts, module, learning, size=160)


@pytest.mark.slow
@pytest.mark.release
def test_mobilenet_v2_is_cut(tmp_path):
    model = tf_keras.applications.MobileNetV2([96, 96, 3], include_top=False, weights=None, pooling="avg")
    module = hub.load(saved(model, tmp_path))
    learning = [v.name for v in module.trainable_variables if re.match(r"(block_(14|15|16)_|Conv_1)", v.name)]
    assert len(learning) == 30
    parts = cut(module, learning, 96)
    assert parts.boundary.endswith("/block_13_project_BN/FusedBatchNormV3:0")
    assert parts.shape == (3, 3, 160)
    assert_equals_whole(parts, module, learning, size=96)
