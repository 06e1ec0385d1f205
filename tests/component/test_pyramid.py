"""A module taken apart at several resolutions: which tensors, and that the parts equal the whole, or it is refused."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
import tensorflow_hub as hub

from components.backbone import frozen_pass, pyramid
from components.backbone.flat_graph import CannotCut
from components.backbone.pyramid import build_pyramid, usable_pyramid, with_a_part
from components.backbone.saved_feature_vector import save_feature_vector
from components.legacy_keras import tf_keras
from schemas.errors import BadInput

layers = tf_keras.layers
SIZE = 32  # pixels
STRIDES = (2, 4, 8, 16, 32)


def saved(model: tf_keras.Model, folder) -> str:
    rng = np.random.default_rng(5)
    for variable in model.variables:
        positive = "gamma" in variable.name or "variance" in variable.name
        spread = rng.uniform(0.5, 1.5, variable.shape) if positive else rng.normal(0, 0.4, variable.shape)
        variable.assign(spread)
    save_feature_vector(model, folder)
    return str(folder)


def normalised(x, layer, name, activation=True):
    x = layers.BatchNormalization(name=f"{name}_bn")(layer(x))
    return layers.ReLU(6.0, name=f"{name}_activation")(x) if activation else x


def inverted_residuals() -> tf_keras.Model:
    """Two stages as in MobileNetV2: each starts with an expansion, whose tensor is still of the stride before."""
    images = tf_keras.Input([None, None, 3])
    x = layers.Rescaling(2, offset=-1)(images)
    x = normalised(x, layers.Conv2D(4, 3, 2, padding="same", use_bias=False, name="stem_conv"), "stem")
    for block, strides, width in (("block1", 2, 6), ("block2", 1, 6), ("block3", 2, 8)):
        inner = normalised(x, layers.Conv2D(24, 1, use_bias=False, name=f"{block}_expand_conv"), f"{block}_expand")
        if strides == 2:
            inner = layers.ZeroPadding2D(1, name=f"{block}_pad")(inner)
        depthwise = layers.DepthwiseConv2D(
            3, strides, padding="valid" if strides == 2 else "same", use_bias=False, name=f"{block}_dwconv"
        )
        inner = normalised(inner, depthwise, block)
        project = layers.Conv2D(width, 1, use_bias=False, name=f"{block}_project_conv")
        inner = normalised(inner, project, f"{block}_project", activation=False)
        x = layers.Add(name=f"{block}_add")([x, inner]) if block == "block2" else inner
    x = normalised(x, layers.Conv2D(32, 1, use_bias=False, name="top_conv"), "top")
    vectors = layers.Dense(5, name="unused_by_masks")(layers.GlobalAveragePooling2D()(x))
    return tf_keras.Model(images, vectors)


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    return hub.load(saved(inverted_residuals(), tmp_path_factory.mktemp("inverted_residuals")))


def places(tensors) -> list[str]:
    return ["/".join(tensor.split("/")[-2:-1]) for tensor in tensors]


def test_each_stride_has_its_last_tensor_to_read_and_the_one_before_the_expansion_to_cache(module):
    found = build_pyramid(module, [], SIZE, STRIDES)
    assert found.strides == (2, 4, 8)  # the module has no others
    assert places(tap.wide for tap in found.taps) == [
        "block1_expand_activation",
        "block3_expand_activation",
        "top_activation",
    ]
    assert [tap.shape for tap in found.taps] == [(16, 16, 24), (8, 8, 24), (4, 4, 32)]
    assert places(tap.narrow for tap in found.taps) == ["stem_activation", "block2_add", "block3_project_bn"]
    assert found.shapes == ((16, 16, 4), (8, 8, 6), (4, 4, 8))
    assert found.values == 16 * 16 * 4 + 8 * 8 * 6 + 4 * 4 * 8


def test_the_parts_give_what_the_module_gives(module):
    found = build_pyramid(module, [], SIZE, STRIDES)
    images = tf.constant(np.random.default_rng(1).random([5, SIZE, SIZE, 3], np.float32))
    vectors, cached = found.with_vectors(images)
    np.testing.assert_allclose(vectors, module(images), atol=1e-5)
    for a, b in zip(cached, found.bottom(images), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    run = frozen_pass.build(module, SIZE, found)
    assert run.folded, run.note
    folded_vectors, folded = run.call(images)
    np.testing.assert_allclose(folded_vectors, vectors, atol=1e-3)
    for a, b in zip(folded, cached, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_what_learns_is_never_cached_and_what_it_needs_is(module):
    learning = ["block3_dwconv/depthwise_kernel:0", "block3_project_conv/kernel:0"]
    found = build_pyramid(module, learning, SIZE, STRIDES)
    # The narrow tensor of stride 8 changes, so what it is computed from is cached.
    assert places(found.cached)[:2] == ["stem_activation", "block2_add"]
    assert places(found.cached)[2:] == ["block3_expand_activation"]
    assert set(learning) <= {v.name for v in found.top_variables}
    later = build_pyramid(module, [], SIZE, STRIDES, later_learning=learning)
    assert set(found.cached) <= set(later.cached)
    cached = found.bottom(tf.ones([2, SIZE, SIZE, 3]))
    variables = [v for v in found.top_variables if v.name in learning]
    with tf.GradientTape() as tape:
        total = tf.add_n([tf.reduce_sum(tensor**2) for tensor in found.top(*cached)])
    assert all(np.abs(gradient).max() > 0 for gradient in tape.gradient(total, variables))


def test_a_variable_that_no_tap_depends_on_has_no_part(module):
    names = [v.name for v in module.trainable_variables]
    found = with_a_part(module, names, SIZE, STRIDES)
    assert set(names) - set(found) == {"unused_by_masks/kernel:0", "unused_by_masks/bias:0"}
    assert "top_conv/kernel:0" not in with_a_part(module, names, SIZE, [2, 4])


def test_a_module_without_padding_has_the_nearest_strides(tmp_path):
    model = tf_keras.Sequential([layers.Input([None, None, 3])])
    for number in range(3):
        model.add(layers.Conv2D(4, 3, 2, name=f"conv{number}"))
    model.add(layers.GlobalAveragePooling2D())
    found = build_pyramid(hub.load(saved(model, tmp_path)), [], 45, STRIDES)
    assert [(tap.stride, tap.shape[0]) for tap in found.taps] == [(2, 22), (4, 10), (8, 4)]


def test_a_module_of_one_coarse_resolution_is_refused_with_a_sentence(tmp_path):
    model = tf_keras.Sequential(
        [layers.Input([None, None, 3]), layers.Conv2D(4, 16, 16, name="patches"), layers.GlobalAveragePooling2D()]
    )
    module = hub.load(saved(model, tmp_path))
    with pytest.raises(BadInput) as refused:
        usable_pyramid(module, "vit", SIZE, (4, 8, 16, 32))
    assert str(refused.value) == (
        "Backbone vit cannot be used for segmentation: no tensor that all of the module's paths share has a stride of "
        "8 pixels or less among 4, 8, 16, 32 (found: 16), so masks would be coarse. Use a convolutional backbone such "
        "as efficientnet_lite0, or other training.decoder.strides."
    )


def test_nothing_frozen_below_what_learns_is_refused(module):
    with pytest.raises(CannotCut, match="no single tensor connects"):
        build_pyramid(module, ["stem_conv/kernel:0"], SIZE, STRIDES)


def test_parts_that_differ_are_refused(module, monkeypatch):
    flattened = pyramid._flattened

    def flatten_wrongly(module, image_size):
        flat, shapes = flattened(module, image_size)
        flat = dataclasses.replace(flat, nodes=copy.deepcopy(flat.nodes))
        (activation,) = (node for name, node in flat.nodes.items() if name.endswith("top_activation/Relu6"))
        activation.op = "Softplus"
        return flat, shapes

    monkeypatch.setattr(pyramid, "_flattened", flatten_wrongly)
    with pytest.raises(CannotCut, match="the inlined graph of the module returns different vectors"):
        build_pyramid(module, [], SIZE, STRIDES)
