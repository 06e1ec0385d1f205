"""A module's graph from the images to the vectors, flat: without function calls, resources and control inputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow.python.framework.convert_to_constants import _run_inline_graph_optimization

# These name nodes and gradient functions that the graph is imported without.
_FOREIGN_ATTRIBUTES = ("_class", "_gradient_op_type")
_CONTROL_FLOW = ("Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond")


class CannotCut(Exception):
    """Why a module cannot be cut, in one sentence."""


@dataclass
class FlatGraph:
    """A module's graph from the images to the vectors, without function calls, resources and control inputs."""

    nodes: dict[str, node_def_pb2.NodeDef] = field(default_factory=dict)  # inputs before their consumers
    reads: dict[str, tf.Variable] = field(default_factory=dict)  # node (a placeholder) -> whose value it stands for
    captured: dict[str, tf.Tensor] = field(default_factory=dict)  # node (a placeholder) -> its value
    custom_gradients: bool = False  # whether an operation has one, which the nodes here do not tell
    images: str = ""  # tensor
    vectors: str = ""  # tensor

    def import_into_graph(self, wanted: Collection[str], inputs: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """The `wanted` tensors, computed from `inputs` (tensor -> its value) in the graph that is being built.

        A wanted tensor that is an input is handed on as it is.
        """
        graph_def = graph_pb2.GraphDef(versions=tf.Graph().graph_def_versions)
        stop = {node_of(tensor) for tensor in inputs}
        computed = [tensor for tensor in wanted if tensor not in inputs]
        order = in_order(self.nodes, computed, stop)
        # TensorFlow refuses inputs that nothing reads.
        read = {tensor for name in order for tensor in data_inputs(self.nodes[name])}
        values = {tensor: value for tensor, value in inputs.items() if tensor in read}
        for name in order:
            if name in self.reads:
                # Read outside the import: the enclosing function then knows, and tapes see, whose value it is.
                values[f"{name}:0"] = self.reads[name].read_value()
            elif name in self.captured:
                values[f"{name}:0"] = tf.identity(self.captured[name])
            else:
                graph_def.node.append(self.nodes[name])
        found = tf.graph_util.import_graph_def(graph_def, input_map=values, return_elements=computed, name="")
        by_name = {**inputs, **dict(zip(computed, found, strict=True))}
        return [by_name[tensor] for tensor in wanted]


def node_of(reference: str) -> str:
    """`name` of `name`, `name:1` and `^name`."""
    return reference.removeprefix("^").split(":")[0]


def data_inputs(node: node_def_pb2.NodeDef) -> list[str]:
    """The tensors that `node` takes, each as `name:0`."""
    return [i if ":" in i else f"{i}:0" for i in node.input if not i.startswith("^")]


def in_order(
    nodes: Mapping[str, node_def_pb2.NodeDef], tensors: Collection[str], stop: Collection[str] = ()
) -> list[str]:
    """Names of the nodes that `tensors` are computed from, inputs before their consumers, without those in `stop`."""
    order, seen = [], set(stop)
    stack = [(node_of(tensor), False) for tensor in tensors]
    while stack:
        name, inputs_done = stack.pop()
        if inputs_done:
            order.append(name)
        elif name not in seen:
            seen.add(name)
            stack.append((name, True))
            stack += [(node_of(tensor), False) for tensor in reversed(data_inputs(nodes[name]))]
    return order


def _require_pure(graph_def: graph_pb2.GraphDef) -> None:
    for node in graph_def.node:
        definition = op_def_registry.get(node.op)
        stateful = definition is None or (definition.is_stateful and node.op != "ReadVariableOp")
        calls = any(attribute.HasField("func") for attribute in node.attr.values())
        if stateful or calls or node.op in _CONTROL_FLOW or node.op.startswith("Stateless"):
            raise CannotCut(f"operation {node.op} ({node.name}) is random, stateful or control flow")


def flatten(module: Any, image_size: int) -> FlatGraph:
    """The graph of a module, or of anything else that gives one row for an image.

    Args:
      module: called with images, float32 [batch, size, size, 3], and `training=False`; gives float32 [batch, width].
      image_size: that size, pixels.

    Raises:
      CannotCut: it gives something else, or an operation in it is random, keeps a state or is control flow.
    """
    images = tf.TensorSpec([None, image_size, image_size, 3], tf.float32, name="images")
    traced = tf.function(partial(module, training=False), autograph=False).get_concrete_function(images)
    vectors = traced.structured_outputs
    if not tf.is_tensor(vectors) or vectors.dtype != tf.float32 or vectors.shape.rank != 2:
        raise CannotCut(f"the module returns {vectors}, expected float32 vectors of shape [batch, width]")
    graph_def = _run_inline_graph_optimization(traced, lower_control_flow=False, aggressive_inlining=True)
    _require_pure(graph_def)

    flat = FlatGraph(images=traced.inputs[0].name, vectors=traced.outputs[0].name)
    variables = {id(variable.handle): variable for variable in traced.graph.variables}
    handles: dict[str, tf.Variable] = {}  # node -> the variable that it hands on
    for outside, inside in traced.graph.captures:
        if id(outside) in variables:
            handles[inside.op.name] = variables[id(outside)]
        elif outside.dtype in (tf.resource, tf.variant):
            raise CannotCut(f"{inside.op.name} is a resource but not a variable")
        else:
            flat.captured[inside.op.name] = outside

    nodes = {node.name: node for node in graph_def.node}
    for name in in_order(nodes, [flat.vectors]):
        node = node_def_pb2.NodeDef()
        node.CopyFrom(nodes[name])
        node.ClearField("experimental_debug_info")  # numbers of functions, which are others each time
        node.input[:] = data_inputs(node)
        flat.custom_gradients |= "_gradient_op_type" in node.attr
        for attribute in _FOREIGN_ATTRIBUTES:
            node.attr.pop(attribute, None)
        handed_over = [handles[node_of(tensor)] for tensor in node.input if node_of(tensor) in handles]
        if name in handles:
            continue
        if handed_over and node.op == "Identity":
            handles[name] = handed_over[0]
        elif handed_over and node.op == "ReadVariableOp":
            flat.reads[name] = handed_over[0]
            flat.nodes[name] = node_def_pb2.NodeDef(name=name, op="Placeholder")
        elif handed_over:
            raise CannotCut(f"operation {node.op} ({name}) takes a variable instead of its value")
        else:
            flat.nodes[name] = node
    return flat
