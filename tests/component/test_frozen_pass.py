"""The frozen pass gives the module's own values, with batch normalisation folded where that is possible."""

from __future__ import annotations

import re

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
import tensorflow_hub as hub

from components.backbone import feature_vector, frozen_pass, registry
from components.backbone.cut import cut
from components.legacy_keras import tf_keras

layers = tf_keras.layers
SIZE = 16  # pixels

pytestmark = pytest.mark.slow  # tracing many graphs takes its time


def photos(count: int, size: int = SIZE) -> tf.Tensor:
    return tf.constant(np.random.default_rng(count).random([count, size, size, 3], np.float32))


def network(build) -> tf_keras.Model:
    """`build(images)`, averaged, with random weights; scales and variances around 1, everything else around 0."""
    images = tf_keras.Input([None, None, 3])
    model = tf_keras.Model(images, layers.GlobalAveragePooling2D()(build(images)))
    rng = np.random.default_rng(6)
    for variable in model.variables:
        positive = "gamma" in variable.name or "variance" in variable.name
        variable.assign(rng.uniform(0.3, 2, variable.shape) if positive else rng.normal(0, 0.5, variable.shape))
    return model


def convolution(x, **options):
    return layers.Conv2D(6, 3, padding="same", **options)(x)


def batch_norm(x):
    return layers.BatchNormalization()(x)


def assert_equals_plain(run, module, parts=None, size=SIZE):
    for count in (1, 5):  # Neither is how many it was checked with.
        images = photos(count, size)
        vectors, activations = run.call(images)
        expected = module(images, training=False)
        np.testing.assert_allclose(vectors, expected, atol=1e-4 * np.abs(expected).max())
        if parts is None:
            assert activations is None
        else:
            expected = parts.bottom(images)
            np.testing.assert_allclose(activations, expected, atol=1e-4 * np.abs(expected).max())


def operations(run) -> list[str]:
    return [operation.type for operation in run.call.get_concrete_function().graph.get_operations()]


@pytest.fixture
def tiny(tiny_backbone):
    return hub.load(tiny_backbone)


# Folding


def test_a_saved_module_is_folded(tiny):
    run = frozen_pass.build(tiny, SIZE)
    assert run.folded
    assert re.match(r"^2 batch normalisations folded into convolutions \(largest difference \de-0\d\)$", run.note)
    assert operations(run).count("BiasAdd") == 2
    assert not [name for name in operations(run) if "BatchNorm" in name or name == "ReadVariableOp"]
    assert_equals_plain(run, tiny)


@pytest.mark.parametrize(
    ("learning", "folded"),
    [
        ("top_conv/kernel:0", 2),
        ("top_bn/beta:0", 1),  # The top convolution's own values are asked for.
    ],
)
def test_with_a_cut_the_same_pass_gives_the_activations(tiny, learning, folded):
    parts = cut(tiny, [learning], SIZE)
    run = frozen_pass.build(tiny, SIZE, parts)
    assert run.note.startswith(f"{folded} batch normalisations folded")
    assert operations(run).count("Conv2D") == 2
    assert_equals_plain(run, tiny, parts)


def read_twice(images):
    x = convolution(images)
    return layers.Concatenate()([batch_norm(x), x])


def read_twice_before_its_bias(images):
    x = convolution(images, use_bias=False)
    biased = layers.Lambda(lambda x: tf.nn.bias_add(x, np.arange(6, dtype=np.float32)))(x)
    return layers.Concatenate()([batch_norm(biased), x])


def of_the_batch(images):
    """Normalised with the mean and the variance of the batch, not with constants."""
    normalise = tf.compat.v1.nn.fused_batch_norm
    return layers.Lambda(lambda x: normalise(x, tf.ones([6]), tf.zeros([6]), is_training=True)[0])(convolution(images))


def one_kernel_for_two(images):
    shared = layers.Conv2D(3, 3, padding="same", use_bias=False)
    return batch_norm(shared(batch_norm(shared(images))))


@pytest.mark.parametrize(
    ("build", "folded"),
    [
        (lambda images: batch_norm(convolution(images, use_bias=False)), 1),
        (lambda images: batch_norm(convolution(images, use_bias=True)), 1),
        (lambda images: batch_norm(layers.DepthwiseConv2D(3, 2, "same", depth_multiplier=2)(images)), 1),
        (lambda images: layers.BatchNormalization(scale=False, epsilon=0.2)(convolution(images)), 1),
        (one_kernel_for_two, 2),
        (lambda images: batch_norm(layers.Lambda(tf.identity)(convolution(images))), 1),
        (lambda images: layers.Activation("swish")(batch_norm(convolution(images))), 1),
        (lambda images: batch_norm(batch_norm(convolution(images))), 2),
        (lambda images: convolution(batch_norm(convolution(batch_norm(images)))), 1),
    ],
)
def test_kinds_of_convolutions(build, folded):
    module = network(build)
    run = frozen_pass.build(module, SIZE)
    assert run.note.startswith(f"{folded} batch normalisations folded into convolutions")
    assert_equals_plain(run, module)


@pytest.mark.parametrize(
    "build",
    [
        convolution,
        lambda images: batch_norm(layers.ReLU()(convolution(images))),
        of_the_batch,
        read_twice,
        read_twice_before_its_bias,
    ],
)
def test_what_cannot_be_folded_is_left_as_it_is(build):
    module = network(build)
    run = frozen_pass.build(module, SIZE)
    assert not run.folded
    assert run.note == "batch normalisation is not folded: no batch normalisation follows a convolution"
    assert_equals_plain(run, module)


def test_what_is_trained_later_is_not_seen(tiny):
    run = frozen_pass.build(tiny, SIZE)
    before = run.call(photos(2))[0]
    for variable in tiny.variables:
        variable.assign(variable * 2)
    np.testing.assert_array_equal(run.call(photos(2))[0], before)


# Falling back to the module itself


@pytest.mark.parametrize("with_cut", [False, True])
def test_a_wrong_fold_is_not_used(tiny, monkeypatch, with_cut):
    constant_node = frozen_pass._constant_node

    def twice_the_bias(name, value):
        return constant_node(name, value * (2 if "bias" in name else 1))

    monkeypatch.setattr(frozen_pass, "_constant_node", twice_the_bias)
    parts = cut(tiny, ["top_conv/kernel:0"], SIZE) if with_cut else None
    run = frozen_pass.build(tiny, SIZE, parts)
    assert not run.folded
    assert re.match(r"^batch normalisation is not folded: the folded values differ by up to \de", run.note)
    assert_equals_plain(run, tiny, parts)


def test_values_that_are_no_numbers_are_not_used(monkeypatch):
    module = network(lambda images: batch_norm(convolution(images)))
    constant_node = frozen_pass._constant_node
    monkeypatch.setattr(frozen_pass, "_constant_node", lambda name, value: constant_node(name, value * np.nan))
    run = frozen_pass.build(module, SIZE)
    assert run.note == "batch normalisation is not folded: the folded values differ by up to inf"
    assert_equals_plain(run, module)


def test_a_graph_that_cannot_be_frozen_is_used_as_it_is(tiny, monkeypatch):
    def refuse(function):
        raise ValueError("Input 0 of node x\nand a long tail")

    monkeypatch.setattr(frozen_pass, "convert_variables_to_constants_v2", refuse)
    run = frozen_pass.build(tiny, SIZE)
    assert not run.folded
    assert run.note == "batch normalisation is not folded: ValueError: Input 0 of node x"
    assert_equals_plain(run, tiny)


# Real architectures


@pytest.mark.slow
def test_the_built_in_backbone_is_folded():
    module = hub.load(str(feature_vector.resolve("efficientnet_lite0")))
    unfreeze = registry.BACKBONES["efficientnet_lite0"].unfreeze
    learning = [variable.name for variable in module.trainable_variables if re.match(unfreeze, variable.name)]
    parts = cut(module, learning, 160)
    run = frozen_pass.build(module, 160, parts)
    assert run.note.startswith("49 batch normalisations folded")
    assert run.call(photos(2, 160))[1].shape == (2, 5, 5, 192)
    assert_equals_plain(run, module, parts, size=160)


@pytest.mark.slow
@pytest.mark.release
def test_mobilenet_v2_is_folded():
    module = tf_keras.applications.MobileNetV2([96, 96, 3], include_top=False, weights=None, pooling="avg")
    rng = np.random.default_rng(8)
    for variable in module.variables:
        if "moving_variance" in variable.name or "gamma" in variable.name:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif "moving_mean" in variable.name or "beta" in variable.name:
            variable.assign(rng.normal(0, 0.3, variable.shape))
    run = frozen_pass.build(module, 96)
    assert run.note.startswith("52 batch normalisations folded")
    assert_equals_plain(run, module, size=96)
