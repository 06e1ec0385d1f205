"""Cuts a feature-vector module in two at the freeze boundary, without knowing its architecture.

Below the boundary nothing learns, so the activations there can be computed once per photo, and a training step runs
only the part above. The module's graph is inlined until it has no function calls. A tensor that every path from the
images to the vectors passes through is a dominator (https://en.wikipedia.org/wiki/Dominator_(graph_theory)); the
boundary is the last dominator that depends on no learning variable.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow.python.framework.convert_to_constants import _run_inline_graph_optimization

from components.backbone.registry import cache_folder
from schemas.words import first_line

PROBE_IMAGES = 3
_DRAWS = 4
LARGEST_DIFFERENCE = 1e-5  # relative to the largest value, if that is above 1
LARGEST_GRADIENT_DIFFERENCE = 1e-3  # relative to the largest value of the variable's gradient
# These name nodes and gradient functions that the graph is imported without.
_FOREIGN_ATTRIBUTES = ("_class", "_gradient_op_type")
# What comes out of these tells no more than what went in, and may be larger.
_ADDS_NOTHING = ("Identity", "Snapshot", "Pad", "PadV2", "MirrorPad")
_CONTROL_FLOW = ("Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond")

_CHECKED_FOLDER = "checked-cuts"


class CannotCut(Exception):
    """Why a module cannot be cut, in one sentence."""


@dataclass(frozen=True)
class Cut:
    """A module in two parts: `top(bottom(images))` equals `module(images, training=False)`.

    Both parts are `tf.function`s for batches of any size, and read the module's own variables at each call.
    Gradients reach `top_variables` and the activations.
    """

    boundary: str  # the tensor's name in the inlined graph, the same in every process
    shape: tuple[int, ...]  # of one photo's activations
    bottom: Callable[[tf.Tensor], tf.Tensor]  # float32 [batch, size, size, 3], range [0, 1] -> [batch, *shape]
    top: Callable[[tf.Tensor], tf.Tensor]  # float32 [batch, *shape] -> float32 [batch, width]
    top_variables: list[tf.Variable]  # those that `top` reads

    @property
    def place(self) -> str:
        """The boundary's name for people: without the function calls it was inlined from."""
        return self.boundary.replace("StatefulPartitionedCall/", "").removesuffix(":0")


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
        """The `wanted` tensors, computed from `inputs` (tensor -> its value) in the graph that is being built."""
        values = dict(inputs)
        graph_def = graph_pb2.GraphDef(versions=tf.Graph().graph_def_versions)
        for name in in_order(self.nodes, wanted, stop={node_of(tensor) for tensor in inputs}):
            if name in self.reads:
                # Read outside the import: the enclosing function then knows, and tapes see, whose value it is.
                values[f"{name}:0"] = self.reads[name].read_value()
            elif name in self.captured:
                values[f"{name}:0"] = tf.identity(self.captured[name])
            else:
                graph_def.node.append(self.nodes[name])
        return tf.graph_util.import_graph_def(graph_def, input_map=values, return_elements=list(wanted), name="")


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


def _boundary(flat: FlatGraph, learning: Collection[str]) -> str:
    """The last tensor that all paths pass through, with frozen variables and no learning ones upstream."""
    from_images = {node_of(flat.images)}
    for name, node in flat.nodes.items():
        if any(node_of(tensor) in from_images for tensor in data_inputs(node)):
            from_images.add(name)

    def on_the_way(name: str) -> set[str]:
        return {tensor for tensor in data_inputs(flat.nodes[name]) if node_of(tensor) in from_images}

    consumers = Counter(tensor for name in from_images for tensor in on_the_way(name))
    learns: set[str] = set()  # nodes with a learning variable upstream
    frozen: set[str] = set()  # of the others, those with any variable upstream
    waiting: set[str] = set()  # tensors that later nodes consume: where it is one alone, all paths pass through it
    found = None
    for name, node in flat.nodes.items():
        upstream = {node_of(tensor) for tensor in data_inputs(node)}
        variable = flat.reads.get(name)
        if upstream & learns or (variable is not None and variable.name in learning):
            learns.add(name)
        elif upstream & frozen or variable is not None:
            frozen.add(name)
        if name not in from_images:
            continue
        for tensor in on_the_way(name):
            consumers[tensor] -= 1
            if not consumers[tensor]:
                waiting.discard(tensor)
        waiting |= {tensor for tensor in consumers if node_of(tensor) == name}
        if len(waiting) == 1 and name in frozen:
            (found,) = waiting
    if not frozen & from_images:
        raise CannotCut("no frozen variable is below everything that learns")
    if found is None:
        raise CannotCut("no single tensor connects the frozen part to the part that learns")
    while flat.nodes[node_of(found)].op in _ADDS_NOTHING:
        found = data_inputs(flat.nodes[node_of(found)])[0]
    return found


def _gradients(vectors_of: Callable[[], tf.Tensor], variables: list[tf.Variable]) -> list[tf.Tensor | None]:
    """Of a fixed scalar function of the vectors."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        vectors = vectors_of()
        weights = tf.random.stateless_uniform(vectors.shape, seed=[2, 3], minval=0.5, maxval=1.5)
        scalar = tf.reduce_sum(weights * tf.square(vectors + 1))
    return tape.gradient(scalar, variables)


def _differ(got: tf.Tensor, expected: tf.Tensor, tolerance: float) -> bool:
    """Whether any value differs, or is not a number."""
    return not np.max(np.abs(got - expected)) <= tolerance


def _check(parts: Cut, module: Any, learning: list[tf.Variable], image_size: int) -> None:
    """Raises CannotCut unless the two parts and their gradients equal the whole's."""
    whole = partial(module, training=False)

    def draw(number: int) -> tf.Tensor:
        return tf.random.stateless_uniform([PROBE_IMAGES, image_size, image_size, 3], seed=[number, 1])

    images = draw(0)
    activations = parts.bottom(images)
    if activations.shape != (PROBE_IMAGES, *parts.shape):
        raise CannotCut(f"{parts.boundary} has shape {activations.shape} for {PROBE_IMAGES} photos")
    scale = max(1.0, np.max(np.abs(activations)))
    if _differ(parts.bottom(images[:1]), activations[:1], LARGEST_GRADIENT_DIFFERENCE * scale):
        raise CannotCut(f"a photo's activations at {parts.boundary} depend on the other photos of its batch")
    expected = whole(images)
    scale = max(1.0, np.max(np.abs(expected)))
    if _differ(parts.top(activations), expected, LARGEST_DIFFERENCE * scale):
        raise CannotCut(f"cut at {parts.boundary}, the module returns different vectors")
    # The last bit of a value that lies on the bend of a ReLU decides its gradient, and may be another in each of the
    # two graphs, as processors compute them: one draw of images that agrees is enough, since a wrong gradient has none.
    others: list[str] = []
    for number in range(_DRAWS):
        if number:
            images = draw(number)
            activations = parts.bottom(images)
        got = _gradients(lambda: parts.top(activations), learning)  # noqa: B023  (called at once)
        wanted = _gradients(lambda: whole(images), learning)  # noqa: B023
        others = []
        for variable, a, b in zip(learning, got, wanted, strict=True):
            if a is None or b is None:
                raise CannotCut(f"no gradient reaches {variable.name}")
            if _differ(a, b, LARGEST_GRADIENT_DIFFERENCE * np.max(np.abs(b))):
                others.append(variable.name)
        if not others:
            return
    raise CannotCut(f"cut at {parts.boundary}, the gradient of {others[0]} is different")


def _cut(module: Any, learning: Collection[str], image_size: int) -> Cut:
    if not learning:
        raise CannotCut("no variable learns")
    flat = flatten(module, image_size)
    read = {variable.name for variable in flat.reads.values()}
    if unread := sorted(set(learning) - read):
        raise CannotCut(f"{unread[0]} does not affect the vectors")
    boundary = _boundary(flat, learning)

    @tf.function(input_signature=[tf.TensorSpec([None, image_size, image_size, 3])], autograph=False)
    def bottom(images):
        return flat.import_into_graph([boundary], {flat.images: images})[0]

    found = bottom.get_concrete_function().structured_outputs
    if found.dtype != tf.float32 or not found.shape.rank or not found.shape[1:].is_fully_defined():
        raise CannotCut(f"{boundary} is {found.dtype.name} {found.shape}, expected float32 with a known shape")
    shape = tuple(found.shape[1:])

    @tf.function(input_signature=[tf.TensorSpec([None, *shape])], autograph=False)
    def top(activations):
        return flat.import_into_graph([flat.vectors], {boundary: activations})[0]

    above = in_order(flat.nodes, [flat.vectors], stop={node_of(boundary)})
    top_variables = {id(flat.reads[name]): flat.reads[name] for name in above if name in flat.reads}
    parts = Cut(boundary, shape, bottom, top, list(top_variables.values()))
    # The check takes most of the time, and two steps of every run cut the same module.
    nodes = [node.SerializeToString(deterministic=True) for node in flat.nodes.values()]
    of = hashlib.sha256(repr((tf.__version__, nodes, boundary, sorted(learning), image_size)).encode()).hexdigest()
    checked = cache_folder() / _CHECKED_FOLDER / of
    if flat.custom_gradients or not checked.exists():
        _check(parts, module, [v for v in parts.top_variables if v.name in learning], image_size)
        with contextlib.suppress(OSError):  # a cache that is full or absent only costs time
            checked.parent.mkdir(parents=True, exist_ok=True)
            checked.touch()
    return parts


def cut(module: Any, learning: Collection[str], image_size: int) -> Cut:
    """Cuts `module` at the last place below which none of `learning` is.

    Args:
      module: of `hub.load`; `module(images, training=False)` gives float32 [batch, width].
      learning: names of those of its variables that will be trained.
      image_size: height and width of the images, in pixels.

    Raises:
      CannotCut: there is no such place, or the two parts do not equal the whole on random images, forward or in the
        gradients of the learning variables.
    """
    try:
        return _cut(module, learning, image_size)
    except CannotCut:
        raise
    except Exception as error:  # TensorFlow answers a graph that it cannot trace or import with many kinds of errors.
        raise CannotCut(f"TensorFlow failed ({type(error).__name__}: {first_line(error)})") from error
