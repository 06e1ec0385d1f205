"""The backbone's forward pass while nothing in it learns: batch normalisation folded into the convolutions.

`fold_batch_norms` of tensorflow.python.tools.optimize_for_inference_lib does the same and is not used: it takes
seconds (each weight in a Python loop), scales a convolution that others read too, and overlooks `is_training`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from components.backbone.cut import Cut
from components.backbone.flat_graph import data_inputs, in_order, node_of
from components.backbone.pyramid import Pyramid
from schemas.words import first_line

PROBE_IMAGES = 4
LARGEST_DIFFERENCE = 1e-3  # relative to the largest value
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
_BATCH_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")


@dataclass(frozen=True)
class FoldedGraph:
    """A graph without variables, which can be written to a file."""

    graph: graph_pb2.GraphDef
    images: str  # tensor
    outputs: list[str]  # tensors: the vectors, and with a module in two parts the activations
    several: bool  # whether the activations are a tuple

    def function(self, image_size: int) -> Callable:
        """`FrozenPass.call`."""

        @tf.function(input_signature=[_images_spec(image_size)], autograph=False)
        def call(batch):
            vectors, *rest = tf.graph_util.import_graph_def(self.graph, {self.images: batch}, self.outputs, name="")
            return vectors, tuple(rest) if self.several else (*rest, None)[0]

        return call


@dataclass(frozen=True)
class FrozenPass:
    """The vectors of images, and with a module in two parts the activations between them, in one pass."""

    call: Callable[[tf.Tensor], tuple[tf.Tensor, Any]]
    """A `tf.function` of images, float32 [batch, size, size, 3], range [0, 1]. Returns vectors, float32
    [batch, width], and activations: of a cut float32 [batch, *cut.shape]; of a pyramid a tuple of its cached tensors;
    without either None."""
    note: str  # one sentence for people on what was folded, or why nothing was
    graph: FoldedGraph | None = None
    """What `call` runs; None: nothing was folded, and it runs the module."""

    @property
    def folded(self) -> bool:
        return self.graph is not None


class _CannotFold(Exception):
    """Why, in one sentence."""


def _constant(nodes: dict[str, node_def_pb2.NodeDef], tensor: str) -> np.ndarray | None:
    node = nodes[node_of(tensor)]
    return tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else None


def _constant_node(name: str, value: np.ndarray) -> node_def_pb2.NodeDef:
    node = node_def_pb2.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = tf.float32.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.float32))
    return node


def _skip_identities(nodes: dict[str, node_def_pb2.NodeDef]) -> None:
    """Lets every node take its data from where it is made, and drops control inputs."""

    def made_at(tensor: str) -> str:
        while nodes[node_of(tensor)].op == "Identity":
            tensor = data_inputs(nodes[node_of(tensor)])[0]
        return tensor

    for node in nodes.values():
        node.input[:] = [made_at(tensor) for tensor in data_inputs(node)]


def _fold_batch_norms(nodes: dict[str, node_def_pb2.NodeDef]) -> int:
    """Turns every convolution (with or without a bias) and its batch normalisation into a convolution with a bias.

    gamma * (conv(x, kernel) + bias - mean) / deviation + beta
      = conv(x, kernel * scale) + (bias - mean) * scale + beta, with scale = gamma / deviation.

    Returns:
      How many were folded. Left as they are: those in training mode, and those whose convolution is read elsewhere.
    """
    consumers = Counter(tensor for node in nodes.values() for tensor in data_inputs(node))
    folded = 0
    for node in list(nodes.values()):
        if node.op not in _BATCH_NORMS or node.attr["is_training"].b:
            continue
        normalised, *statistics = data_inputs(node)
        convolution = nodes[node_of(normalised)]
        read_once = consumers[normalised] == 1
        bias: np.ndarray | None = np.zeros(1, np.float32)
        if convolution.op == "BiasAdd":
            convolved, bias_tensor = data_inputs(convolution)
            convolution, bias = nodes[node_of(convolved)], _constant(nodes, bias_tensor)
            read_once = read_once and consumers[convolved] == 1
        if convolution.op not in _CONVOLUTIONS or not read_once or any(consumers[f"{node.name}:{i}"] for i in (1, 2)):
            continue
        kernel = _constant(nodes, data_inputs(convolution)[1])  # [height, width, channels in, channels out]
        constants = [kernel, bias, *(_constant(nodes, tensor) for tensor in statistics)]
        known = [constant.astype(np.float64) for constant in constants if constant is not None]
        if len(known) < len(constants) or node.attr["T"].type != tf.float32.as_datatype_enum:
            continue
        kernel, bias, gamma, beta, mean, variance = known
        scale = gamma / np.sqrt(variance + node.attr["epsilon"].f)  # [channels]
        offset = (bias - mean) * scale + beta
        if convolution.op == "DepthwiseConv2dNative":
            scale = scale.reshape(kernel.shape[2:])  # [channels in, multiplier]
        new_kernel = _constant_node(f"{convolution.name}/folded_kernel", kernel * scale)
        new_bias = _constant_node(f"{convolution.name}/folded_bias", offset)
        convolution.input[1] = new_kernel.name
        # Under the normalisation's name, so that its consumers find it.
        new = node_def_pb2.NodeDef(name=node.name, op="BiasAdd", input=[convolution.name, new_bias.name])
        for attribute in ("T", "data_format"):
            new.attr[attribute].CopyFrom(node.attr[attribute])
        nodes |= {made.name: made for made in (new_kernel, new_bias, new)}
        folded += 1
    return folded


def _images_spec(image_size: int) -> tf.TensorSpec:
    return tf.TensorSpec([None, image_size, image_size, 3], tf.float32, name="images")


def _folded(plain: tf.types.experimental.ConcreteFunction) -> tuple[FoldedGraph, int]:
    """`plain` with its variables frozen and batch normalisation folded, and how many were."""
    frozen = convert_variables_to_constants_v2(plain)
    graph_def = frozen.graph.as_graph_def()
    (images,) = (tensor.name for tensor in frozen.inputs)
    outputs = [tensor.name for tensor in frozen.outputs]
    nodes = {node.name: node for node in graph_def.node}
    _skip_identities(nodes)
    nodes = {name: nodes[name] for name in in_order(nodes, outputs)}
    count = _fold_batch_norms(nodes)
    if not count:
        raise _CannotFold("no batch normalisation follows a convolution")
    graph = graph_pb2.GraphDef(versions=graph_def.versions, library=graph_def.library)
    graph.node.extend(nodes[name] for name in in_order(nodes, outputs))
    _, activations = plain.structured_outputs
    return FoldedGraph(graph, images, outputs, isinstance(activations, tuple)), count


def _largest_difference(got: tuple, expected: tuple) -> float:
    """Relative to each output's largest value; infinite where a value is no number."""
    flat = (tf.nest.flatten(tensors) for tensors in (got, expected))
    pairs = [(g, e) for g, e in zip(*flat, strict=True) if e is not None]
    differences = [float(np.max(np.abs(g - e)) / np.max(np.abs(e))) for g, e in pairs]
    return max(difference if np.isfinite(difference) else np.inf for difference in differences)


def build(module: Any, image_size: int, parts: Cut | Pyramid | None = None) -> FrozenPass:
    """The forward pass of `module` as its variables are now, folded where that gives the same values.

    Args:
      module: of `hub.load`; `module(images, training=False)` gives float32 [batch, width].
      image_size: height and width of the images, in pixels.
      parts: `module` in two parts for images of that size; None for no activations.
    """

    @tf.function(input_signature=[_images_spec(image_size)], autograph=False)
    def plain(images):
        if parts is None:
            return module(images, training=False), None
        if isinstance(parts, Pyramid):
            return parts.with_vectors(images)
        activations = parts.bottom(images)
        return parts.top(activations), activations

    try:
        graph, count = _folded(plain.get_concrete_function())
        call = graph.function(image_size)
        probe = tf.random.stateless_uniform([PROBE_IMAGES, image_size, image_size, 3], seed=[4, 5])
        difference = _largest_difference(call(probe), plain(probe))
        if difference > LARGEST_DIFFERENCE:
            raise _CannotFold(f"the folded values differ by up to {difference:.0e}")
    except _CannotFold as reason:
        return FrozenPass(plain, f"batch normalisation is not folded: {reason}")
    except Exception as error:  # TensorFlow answers a graph that it cannot freeze with many kinds of errors.
        return FrozenPass(plain, f"batch normalisation is not folded: {type(error).__name__}: {first_line(error)}")
    note = f"{count} batch normalisations folded into convolutions (largest difference {difference:.0e})"
    return FrozenPass(call, note, graph)
