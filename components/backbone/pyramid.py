"""Takes a feature-vector module's tensors at several resolutions: what a decoder reads, and what can be cached for it.

Nothing is known of the architecture. Of the dominators (see `dominators`) with one resolution, the last one knows most;
in networks with inverted residuals it is the expansion of the next stage, several times as wide as what it is computed
from. So the decoder reads the wide tensor, and the narrow one before the expansion is what is cached.
"""

from __future__ import annotations

import hashlib
import math
import weakref
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from components.backbone.cut import LARGEST_DIFFERENCE, LARGEST_GRADIENT_DIFFERENCE, PROBE_IMAGES
from components.backbone.dominators import dominators, where_it_is_made
from components.backbone.flat_graph import CannotCut, FlatGraph, data_inputs, flatten, in_order, node_of
from schemas.errors import BadInput
from schemas.words import first_line

# A decoder of anything coarser than this gives blobs.
COARSEST_FINEST_STRIDE = 8
COARSEST_STRIDE = 32
_DRAWS = 4
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
# One of these in front of a tensor at least doubles its channels: then it is an expansion.
_EXPANSION = 2

Shapes = dict[str, tuple[int, int, int]]
"""Dominator -> shape of one photo's values [cells, cells, channels], of those that are square maps."""

# Module -> side of the images -> its graph and shapes: a trainer asks for them several times, and each takes a second.
_flat: weakref.WeakKeyDictionary[Any, dict[int, tuple[FlatGraph, Shapes]]] = weakref.WeakKeyDictionary()
# Digests of graphs and of how they were taken apart, of which the parts were found to equal the whole.
_checked: set[bytes] = set()


@dataclass(frozen=True)
class Tap:
    """The tensors of a module at one resolution."""

    stride: int  # pixels of the image for each cell, a power of two
    wide: str  # the tensor that a decoder reads
    shape: tuple[int, int, int]  # of one photo's wide tensor: [cells, cells, channels]
    narrow: str  # the tensor that `wide` is computed from with one pointwise convolution, or `wide` itself
    narrow_shape: tuple[int, int, int]


@dataclass(frozen=True)
class Pyramid:
    """A module in two parts: `top(bottom(images))` gives the wide tensor of each tap.

    All parts are `tf.function`s for batches of any size, and read the module's own variables at each call. Gradients
    reach `top_variables`.
    """

    taps: tuple[Tap, ...]  # fine to coarse
    cached: tuple[str, ...]  # tensors that depend on nothing that learns, and that all else is computed from
    shapes: tuple[tuple[int, ...], ...]  # of one photo's cached tensors
    bottom: Callable[[tf.Tensor], tuple[tf.Tensor, ...]]
    """float32 [batch, size, size, 3], range [0, 1] -> each of `cached`, float32 [batch, *shape]."""
    with_vectors: Callable[[tf.Tensor], tuple[tf.Tensor, tuple[tf.Tensor, ...]]]
    """The same images -> the module's vectors, float32 [batch, width], and each of `cached`."""
    top: Callable[..., tuple[tf.Tensor, ...]]
    """Each of `cached` -> the wide tensor of each tap, float32 [batch, *shape]."""
    top_variables: list[tf.Variable]
    """Those that `top` reads."""

    @property
    def values(self) -> int:
        """How many numbers of one photo are cached."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(tap.stride for tap in self.taps)


def _flattened(module: Any, image_size: int) -> tuple[FlatGraph, Shapes]:
    """A module's graph, which reads its variables whatever their values are, and its shapes."""
    by_size = _flat.setdefault(module, {})
    if image_size not in by_size:
        flat = flatten(module, image_size)
        by_size[image_size] = flat, _shapes(flat, image_size)
    return by_size[image_size]


def _find_taps(flat: FlatGraph, shapes: Shapes, image_size: int, strides: Collection[int]) -> tuple[Tap, ...]:
    """One tap for each of the strides that the module has, fine to coarse.

    Args:
      flat, shapes: see `_flattened`.
      image_size: side of the images, pixels.
      strides: powers of two. Networks without padding have fewer cells than size / stride, so the stride of a tensor
        is the power of two that is nearest to size / cells.

    Raises:
      CannotCut: the module has no tensor that is fine enough for a mask.
    """
    chain = [tensor for tensor in shapes if _convolutions(flat, tensor)]
    taps = []
    for stride in sorted(strides):
        of_stride = [tensor for tensor in chain if _stride(shapes[tensor], image_size) == stride]
        if of_stride:
            wide = of_stride[-1]
            narrow = _before_expansion(flat, of_stride, shapes)
            taps.append(Tap(stride, wide, shapes[wide], narrow, shapes[narrow]))
    if not taps or taps[0].stride > COARSEST_FINEST_STRIDE:
        found = sorted({_stride(shapes[tensor], image_size) for tensor in chain})
        raise CannotCut(
            f"no tensor that all of the module's paths share has a stride of {COARSEST_FINEST_STRIDE} pixels or less "
            f"among {', '.join(map(str, sorted(strides)))} (found: {', '.join(map(str, found)) or 'none'}), so masks "
            "would be coarse"
        )
    return tuple(taps)


def _shapes(flat: FlatGraph, image_size: int) -> Shapes:
    tensors = list(dict.fromkeys(where_it_is_made(flat, tensor) for tensor in dominators(flat)))
    tensors = [tensor for tensor in tensors if tensor != flat.images]

    @tf.function(input_signature=[tf.TensorSpec([None, image_size, image_size, 3])], autograph=False)
    def trace(images):
        return flat.import_into_graph(tensors, {flat.images: images})

    found = {}
    for tensor, value in zip(tensors, trace.get_concrete_function().structured_outputs, strict=True):
        shape = value.shape[1:]
        if value.dtype == tf.float32 and shape.rank == 3 and shape.is_fully_defined() and shape[0] == shape[1] > 1:
            found[tensor] = tuple(shape)
    return found


def _stride(shape: tuple[int, int, int], image_size: int) -> int:
    return min(COARSEST_STRIDE, 2 ** round(math.log2(image_size / shape[0])))


def _convolutions(flat: FlatGraph, tensor: str, stop: Collection[str] = ()) -> list[str]:
    """The convolutions that a tensor is computed with, after those tensors."""
    nodes = in_order(flat.nodes, [tensor], stop={node_of(each) for each in stop})
    return [name for name in nodes if flat.nodes[name].op in _CONVOLUTIONS]


def _before_expansion(flat: FlatGraph, of_stride: list[str], shapes: Shapes) -> str:
    """The last of the tensors that one pointwise convolution makes the very last one from, if it widens it enough."""
    wide = of_stride[-1]
    for tensor in reversed(of_stride[:-1]):
        between = _convolutions(flat, wide, stop=[tensor])
        if len(between) > 1:
            break
        if between and shapes[wide][2] >= _EXPANSION * shapes[tensor][2] and _is_pointwise(flat, between[0]):
            return tensor
    return wide


def _is_pointwise(flat: FlatGraph, convolution: str) -> bool:
    """Whether it is a convolution of 1 x 1, whose kernel is a variable."""
    node = flat.nodes[convolution]
    kernel = node_of(data_inputs(node)[1])
    while kernel not in flat.reads and flat.nodes[kernel].op == "Identity":
        kernel = node_of(data_inputs(flat.nodes[kernel])[0])
    variable = flat.reads.get(kernel)
    return node.op == "Conv2D" and variable is not None and tuple(variable.shape[:2]) == (1, 1)


def _to_cache(flat: FlatGraph, taps: Sequence[Tap], shapes: Shapes, learning: Collection[str]) -> tuple[str, ...]:
    """The narrow tensors that depend on nothing that learns and, if others depend on it, the last frozen dominator."""

    def is_frozen(tensor: str) -> bool:
        read = [flat.reads[name].name for name in in_order(flat.nodes, [tensor]) if name in flat.reads]
        return not set(read) & set(learning)

    narrow = [tap.narrow for tap in taps]
    frozen = [tensor for tensor in narrow if is_frozen(tensor)]
    if len(frozen) < len(narrow):
        below = [tensor for tensor in shapes if _convolutions(flat, tensor) and is_frozen(tensor)]
        if not below:
            raise CannotCut("no single tensor connects the frozen part to the part that learns")
        frozen.append(below[-1])
    return tuple(dict.fromkeys(frozen))


def _gradients(function: Callable[[], Sequence[tf.Tensor]], variables: list[tf.Variable]) -> list[tf.Tensor | None]:
    """Of a fixed scalar function of some tensors."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        scalar = tf.constant(0.0)
        for tensor in function():
            weights = tf.random.stateless_uniform(tensor.shape, seed=[2, 3], minval=0.5, maxval=1.5)
            scalar += tf.reduce_mean(weights * tf.square(tensor + 1))
    return tape.gradient(scalar, variables)


def _differ(got: tf.Tensor, expected: tf.Tensor, tolerance: float) -> bool:
    """Whether any value differs by more than `tolerance` of the largest one, or is not a number."""
    return not np.max(np.abs(got - expected)) <= tolerance * max(1.0, float(np.max(np.abs(expected))))


def _check_gradients(got: Callable, wanted: Callable, learning: list[tf.Variable], image_size: int, of: str) -> None:
    """Raises CannotCut unless two functions of images have the same gradients.

    A value on the bend of a ReLU may have another gradient in each graph: one draw that agrees is enough, see `cut`.
    """
    others: list[str] = []
    for number in range(_DRAWS if learning else 0):
        images = _draw(number, image_size)
        pairs = [_gradients(lambda: function(images), learning) for function in (got, wanted)]  # noqa: B023
        others = []
        for variable, a, b in zip(learning, *pairs, strict=True):
            if a is None or b is None:
                raise CannotCut(f"no gradient reaches {variable.name}")
            if not np.max(np.abs(a - b)) <= LARGEST_GRADIENT_DIFFERENCE * np.max(np.abs(b)):
                others.append(variable.name)
        if not others:
            return
    if others:
        raise CannotCut(f"{of}, the module has a different gradient of {others[0]}")


def _draw(number: int, image_size: int) -> tf.Tensor:
    return tf.random.stateless_uniform([PROBE_IMAGES, image_size, image_size, 3], seed=[number, 1])


def _check(parts: Pyramid, module: Any, whole: Callable, learning: list[tf.Variable], image_size: int) -> None:
    """Raises CannotCut unless the parts and their gradients equal the whole's, and the whole's vectors the module's.

    Args:
      parts: to check.
      module: gives vectors.
      whole: images -> vectors and the wide tensors, in one graph that is not taken apart.
      learning: the variables that learn.
      image_size: pixels.
    """
    images = _draw(0, image_size)
    vectors, *wide = whole(images)
    cached = parts.bottom(images)
    if _differ(vectors, module(images, training=False), LARGEST_DIFFERENCE):
        raise CannotCut("the inlined graph of the module returns different vectors")
    for tensor, alone, together in zip(parts.cached, parts.bottom(images[:1]), cached, strict=True):
        if _differ(alone, together[:1], LARGEST_GRADIENT_DIFFERENCE):
            raise CannotCut(f"a photo's activations at {tensor} depend on the other photos of its batch")
    for tap, got, expected in zip(parts.taps, parts.top(*cached), wide, strict=True):
        if _differ(got, expected, LARGEST_DIFFERENCE):
            raise CannotCut(f"taken apart, the module gives different activations at {tap.wide}")
    _check_gradients(
        lambda images: parts.top(*parts.bottom(images)),
        lambda images: whole(images)[1:],
        learning,
        image_size,
        "taken apart",
    )


def _build(
    module: Any, learning: Collection[str], image_size: int, strides: Collection[int], also: Collection[str]
) -> Pyramid:
    flat, shapes = _flattened(module, image_size)
    taps = _find_taps(flat, shapes, image_size, strides)
    of_both = [tensor for names in (learning, also or learning) for tensor in _to_cache(flat, taps, shapes, names)]
    cached = tuple(dict.fromkeys(of_both))
    wide = [tap.wide for tap in taps]
    images_spec = tf.TensorSpec([None, image_size, image_size, 3])

    @tf.function(input_signature=[images_spec], autograph=False)
    def bottom(images):
        return tuple(flat.import_into_graph(cached, {flat.images: images}))

    @tf.function(input_signature=[images_spec], autograph=False)
    def with_vectors(images):
        vectors, *tensors = flat.import_into_graph([flat.vectors, *cached], {flat.images: images})
        return vectors, tuple(tensors)

    @tf.function(input_signature=[tf.TensorSpec([None, *shapes[tensor]]) for tensor in cached], autograph=False)
    def top(*tensors):
        return tuple(flat.import_into_graph(wide, dict(zip(cached, tensors, strict=True))))

    @tf.function(input_signature=[images_spec], autograph=False)
    def whole(images):
        return tuple(flat.import_into_graph([flat.vectors, *wide], {flat.images: images}))

    above = in_order(flat.nodes, wide, stop={node_of(tensor) for tensor in cached})
    top_variables = {id(flat.reads[name]): flat.reads[name] for name in above if name in flat.reads}
    variables = list(top_variables.values())
    parts = Pyramid(taps, cached, tuple(shapes[t] for t in cached), bottom, with_vectors, top, variables)
    # Two steps of a run in one process take the same module apart, and the check takes most of the time.
    nodes = [node.SerializeToString(deterministic=True) for node in flat.nodes.values()]
    of = hashlib.sha256(repr((nodes, cached, wide, sorted(learning), image_size)).encode()).digest()
    if flat.custom_gradients or of not in _checked:
        learns = [v for v in variables if v.name in learning]
        _check(parts, module, whole, learns, image_size)
        if flat.custom_gradients:  # the inlined graph has the formulas' own
            _check_gradients(
                lambda images: whole(images)[:1],
                lambda images: [module(images, training=False)],
                learns,
                image_size,
                "inlined",
            )
        _checked.add(of)
    return parts


def with_a_part(module: Any, learning: Collection[str], image_size: int, strides: Collection[int]) -> list[str]:
    """Those of the variables that any tap depends on, in their order; the others cannot learn anything from masks.

    Raises:
      CannotCut: as `build_pyramid`.
    """
    flat, shapes = _flattened(module, image_size)
    nodes = in_order(flat.nodes, [tap.wide for tap in _find_taps(flat, shapes, image_size, strides)])
    read = {flat.reads[name].name for name in nodes if name in flat.reads}
    return [name for name in learning if name in read]


def build_pyramid(
    module: Any,
    learning: Collection[str],
    image_size: int,
    strides: Collection[int],
    later_learning: Collection[str] = (),
) -> Pyramid:
    """Takes `module` apart below everything that learns, for a decoder that reads one tensor of each stride.

    Args:
      module: of `hub.load`; `module(images, training=False)` gives float32 [batch, width].
      learning: names of those of its variables that will be trained; each affects some tap, see `with_a_part`.
      image_size: height and width of the images, in pixels.
      strides: powers of two; those that the module lacks are left out.
      later_learning: names of variables that a later training changes; what that one needs is cached too.

    Raises:
      CannotCut: it has no fine tensors, or the parts do not equal the whole on random images, forward or in the
        gradients of the learning variables.
    """
    try:
        return _build(module, learning, image_size, strides, later_learning)
    except CannotCut:
        raise
    except Exception as error:  # TensorFlow answers a graph that it cannot trace or import with many kinds of errors.
        raise CannotCut(f"TensorFlow failed ({type(error).__name__}: {first_line(error)})") from error


def usable_pyramid(
    module: Any, handle: str, image_size: int, strides: Collection[int], later_learning: Collection[str] = ()
) -> Pyramid:
    """`build_pyramid` of a frozen module that masks are to be learnt on.

    Args:
      module, image_size, strides, later_learning: see `build_pyramid`.
      handle: of the backbone, for the message.

    Raises:
      BadInput: it cannot be used for masks.
    """
    try:
        return build_pyramid(module, [], image_size, strides, later_learning)
    except CannotCut as reason:
        raise _unusable(handle, reason) from reason


def taps_of(module: Any, handle: str, image_size: int, strides: Collection[int]) -> tuple[Tap, ...]:
    """The taps alone, fine to coarse; arguments and errors as of `usable_pyramid`."""
    try:
        return _find_taps(*_flattened(module, image_size), image_size, strides)
    except CannotCut as reason:
        raise _unusable(handle, reason) from reason


def _unusable(handle: str, reason: CannotCut) -> BadInput:
    return BadInput(
        f"Backbone {handle} cannot be used for segmentation: {reason}. Use a convolutional backbone such as "
        "efficientnet_lite0, or other training.decoder.strides."
    )
