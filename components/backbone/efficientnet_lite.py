"""EfficientNet-Lite in tf_keras, and its conversion from PyTorch weights.

Sources: Tan & Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"
(arXiv:1905.11946); Liu 2020, "Higher accuracy on vision models with EfficientNet-Lite" (TensorFlow blog),
which drops squeeze-and-excite, replaces swish by ReLU6, and scales neither the stem nor the head. Layers are
named after Keras' own EfficientNet, so a regular expression over variable names selects a part of it.

Padding is TensorFlow's SAME, which the weights were trained with: on 162 Oxford-IIIT photos of breeds that
ImageNet knows, cross-entropy at 224 pixels is 0.634 with it and 0.729 with PyTorch's symmetric padding
(paired difference 0.095 +- 0.031), at 160 pixels 0.691 and 0.954. A symmetric copy still looks plausible.
"""

import itertools
import math
from collections.abc import Mapping

import numpy as np

from components.legacy_keras import tf_keras
from schemas.errors import BadInput

layers = tf_keras.layers

# Kernel size, blocks, output channels, expansion, stride of the first block; before scaling.
STAGES = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
BATCH_NORM_EPSILON = 1e-3
FEATURE_LAYER = "avg_pool"
CLASS_LAYER = "predictions"


def _channels(channels: int, width_coefficient: float) -> int:
    """Channels scaled and rounded to a multiple of 8, never down by more than a tenth."""
    scaled = channels * width_coefficient
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def _blocks(width_coefficient: float, depth_coefficient: float):
    """(name, kernel size, output channels, expansion, stride) of every block, in order."""
    for stage, (kernel_size, repeats, channels, expansion, stride) in enumerate(STAGES, start=1):
        if 1 < stage < len(STAGES):
            repeats = math.ceil(repeats * depth_coefficient)
        for i in range(repeats):
            name = f"block{stage}{chr(ord('a') + i)}"
            block_stride = stride if i == 0 else 1
            yield name, kernel_size, _channels(channels, width_coefficient), expansion, block_stride


def build_classifier(width_coefficient: float = 1.0, depth_coefficient: float = 1.0) -> tf_keras.Model:
    """An untrained EfficientNet-Lite with its ImageNet head; the defaults are Lite0.

    Inputs: float32 [batch, height, width, 3], range [0, 1]; any height and width from 32 pixels.
    Outputs: logits, float32 [batch, 1000]. `feature_vector_model` gives what lies below the head.
    """

    def batch_norm(x, name):
        return layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=name)(x)

    def convolution(x, channels, kernel_size, stride, name):
        return layers.Conv2D(channels, kernel_size, stride, padding="same", use_bias=False, name=name)(x)

    inputs = tf_keras.Input([None, None, 3], name="images")
    x = layers.Rescaling(255 / 128, offset=-127 / 128, name="rescaling")(inputs)
    x = batch_norm(convolution(x, STEM_CHANNELS, 3, 2, "stem_conv"), "stem_bn")
    x = layers.ReLU(6.0, name="stem_activation")(x)
    for name, kernel_size, channels, expansion, stride in _blocks(width_coefficient, depth_coefficient):
        shortcut = x  # [batch, h, w, channels of the block before]
        if expansion > 1:
            x = convolution(x, x.shape[-1] * expansion, 1, 1, f"{name}_expand_conv")
            x = batch_norm(x, f"{name}_expand_bn")
            x = layers.ReLU(6.0, name=f"{name}_expand_activation")(x)
        x = layers.DepthwiseConv2D(kernel_size, stride, "same", use_bias=False, name=f"{name}_dwconv")(x)
        x = layers.ReLU(6.0, name=f"{name}_activation")(batch_norm(x, f"{name}_bn"))
        x = batch_norm(convolution(x, channels, 1, 1, f"{name}_project_conv"), f"{name}_project_bn")
        if stride == 1 and shortcut.shape[-1] == channels:
            x = layers.Add(name=f"{name}_add")([x, shortcut])
    x = batch_norm(convolution(x, HEAD_CHANNELS, 1, 1, "top_conv"), "top_bn")  # [batch, h / 32, w / 32, 1280]
    x = layers.ReLU(6.0, name="top_activation")(x)
    x = layers.GlobalAveragePooling2D(name=FEATURE_LAYER)(x)  # [batch, 1280]
    return tf_keras.Model(inputs, layers.Dense(1000, name=CLASS_LAYER)(x), name="efficientnet_lite")


def feature_vector_model(classifier: tf_keras.Model) -> tf_keras.Model:
    """The same layers below the head. Outputs: float32 [batch, 1280], range [0, 6]."""
    return tf_keras.Model(classifier.input, classifier.get_layer(FEATURE_LAYER).output, name="feature_vector")


def _torch_names(model: tf_keras.Model) -> dict[str, str]:
    """Keras variable name -> name in the state_dict of EfficientNet-PyTorch and its Lite variant."""
    parts = {  # Keras' part of a block -> PyTorch's
        "expand_conv": "_expand_conv",
        "expand_bn": "_bn0",
        "dwconv": "_depthwise_conv",
        "bn": "_bn1",
        "project_conv": "_project_conv",
        "project_bn": "_bn2",
    }
    modules = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    modules[CLASS_LAYER] = "_fc"
    blocks = itertools.count()
    for layer in model.layers:
        if layer.name.endswith("_dwconv"):
            block, index = layer.name.removesuffix("_dwconv"), next(blocks)
            modules |= {f"{block}_{ours}": f"_blocks.{index}.{theirs}" for ours, theirs in parts.items()}
    leaves = {
        "kernel:0": "weight",
        "depthwise_kernel:0": "weight",
        "bias:0": "bias",
        "gamma:0": "weight",
        "beta:0": "bias",
        "moving_mean:0": "running_mean",
        "moving_variance:0": "running_var",
    }
    split = (variable.name.split("/") for variable in model.variables)
    return {f"{layer}/{leaf}": f"{modules[layer]}.{leaves[leaf]}" for layer, leaf in split}


def load_torch_weights(model: tf_keras.Model, tensors: Mapping[str, np.ndarray]) -> None:
    """Copies a PyTorch state_dict into `model`: every tensor is used and every variable set, or nothing is.

    Args:
      model: from `build_classifier`.
      tensors: PyTorch name -> array. `num_batches_tracked` counters have no counterpart and are passed over.

    Raises:
      BadInput: a tensor is missing, left over, not finite, or of another shape; the message names it.
    """
    names = _torch_names(model)
    offered = {name for name in tensors if not name.endswith(".num_batches_tracked")}
    if missing := sorted(set(names.values()) - offered):
        raise BadInput(f"The weights lack `{missing[0]}` ({len(missing)} tensors missing): they are of another model.")
    if unused := sorted(offered - set(names.values())):
        raise BadInput(f"The weights hold `{unused[0]}` ({len(unused)} tensors unused): they are of another model.")
    values = []
    for variable in model.variables:
        name = names[variable.name]
        value = tensors[name]
        if value.ndim == 4 and "/depthwise_kernel" in variable.name:
            value = value.transpose(2, 3, 0, 1)  # [channels, 1, h, w] -> [h, w, channels, 1]
        elif value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)  # [out, in, h, w] -> [h, w, in, out]
        elif value.ndim == 2:
            value = value.T
        if value.shape != tuple(variable.shape):
            raise BadInput(f"`{name}` has shape {value.shape} for `{variable.name}` of shape {variable.shape}.")
        if not np.isfinite(value).all():
            raise BadInput(f"`{name}` holds values that are not finite: the weights are damaged.")
        values.append(value)
    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)
