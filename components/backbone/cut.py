"""Cuts a feature-vector module in two at the freeze boundary, without knowing its architecture.

Below the boundary nothing learns, so the activations there can be computed once per photo, and a training step runs
only the part above. The boundary is the last dominator (see `dominators`) that depends on no learning variable.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from components.backbone.dominators import dominators, from_images, where_it_is_made
from components.backbone.flat_graph import CannotCut, FlatGraph, data_inputs, flatten, in_order, node_of
from components.backbone.registry import cache_folder
from schemas.words import first_line

PROBE_IMAGES = 3
_DRAWS = 4
LARGEST_DIFFERENCE = 1e-5  # relative to the largest value, if that is above 1
LARGEST_GRADIENT_DIFFERENCE = 1e-3  # relative to the largest value of the variable's gradient

_CHECKED_FOLDER = "checked-cuts"


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


def _boundary(flat: FlatGraph, learning: Collection[str]) -> str:
    """The last dominator with frozen variables and no learning ones upstream."""
    learns: set[str] = set()  # nodes with a learning variable upstream
    frozen: set[str] = set()  # of the others, those with any variable upstream
    for name, node in flat.nodes.items():
        upstream = {node_of(tensor) for tensor in data_inputs(node)}
        variable = flat.reads.get(name)
        if upstream & learns or (variable is not None and variable.name in learning):
            learns.add(name)
        elif upstream & frozen or variable is not None:
            frozen.add(name)
    if not frozen & from_images(flat):
        raise CannotCut("no frozen variable is below everything that learns")
    found = [tensor for tensor in dominators(flat) if node_of(tensor) in frozen]
    if not found:
        raise CannotCut("no single tensor connects the frozen part to the part that learns")
    return where_it_is_made(flat, found[-1])


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
