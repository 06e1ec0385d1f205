"""A classifier to explain: from images to probabilities, with the layers in between that can be reached."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from components import loaded_models

# The graph without function calls, of which a cut is two parts.
from components.backbone.flat_graph import CannotCut, FlatGraph, data_inputs, flatten, in_order, node_of
from components.transform import image_ops
from schemas.errors import BadInput
from schemas.features import IMAGE
from schemas.labels import LABELS_FILE, read_labels
from schemas.words import first_line

_SIGNATURE, _INPUT, _OUTPUT = "serving_default", "image_bytes", "probabilities"
_SIDE_UNKNOWN = 160  # pixels; of what is shown to a model that does not say what it looks at
# Never a layer of their own.
_HANDED_ON = ("Identity", "Snapshot", "StopGradient")
_CALLS = ("StatefulPartitionedCall", "PartitionedCall", "Func", "input", "output")


@dataclass(frozen=True)
class Layer:
    """A tensor between photo and answer with spatial positions."""

    name: str  # without the prefix that all layers share
    tensor: str  # name in the graph
    height: int  # cells
    width: int  # cells
    channels: int


class ExplainedModel:
    """A model to explain.

    Attributes:
      labels: class names in the order of the probabilities.
      image_size: side of its square input images, in pixels.
      unreachable: why its layers cannot be reached, in a few words; empty if they can.
      layers: the layers that can be reached, from the photo to the answer.
    """

    def __init__(
        self,
        probabilities: Callable[[tf.Tensor], tf.Tensor],
        image_size: int,
        labels: Sequence[str],
        images_of: Callable[[tf.Tensor], tf.Tensor] | None = None,
        unreachable: str = "",
        keep: Any = None,
    ):
        """Wraps a function.

        Args:
          probabilities: from images, float32 [batch, size, size, 3], range [0, 1], to float32 [batch, classes].
          image_size: size of the images.
          labels: the classes.
          images_of: from photos' bytes, string [batch], to images; None resizes them as in a run with the defaults.
          unreachable: why the layers must not be looked for; empty to look for them.
          keep: an object that must live as long as this one, such as the loaded model.
        """
        self.probabilities = probabilities
        self.image_size = image_size
        self.labels = list(labels)
        self.unreachable = unreachable
        self.layers: list[Layer] = []
        # Compiled functions of this model, by what they do.
        self.functions: dict[Any, Callable[..., tf.Tensor]] = {}
        self._keep = keep
        self._images_of = images_of
        self._graph: FlatGraph | None = None
        if not unreachable:
            try:
                self._graph = flatten(lambda images, training: probabilities(images), image_size)
                self.layers = _layers(self._graph, image_size)
            except CannotCut as error:
                self.unreachable = str(error)
            except Exception as error:  # TensorFlow answers a graph that it cannot trace or import with many kinds
                self._graph = None
                self.unreachable = f"TensorFlow cannot import its graph ({first_line(error)[:200]})"
            if not self.layers and not self.unreachable:
                self.unreachable = "it has no trained layer with spatial positions"

    def images(self, photos: Sequence[bytes]) -> np.ndarray:
        """The model's input images: float32 [photos, size, size, 3], range [0, 1]; photos are squeezed, never cropped.

        Raises:
          tf.errors.OpError: a photo cannot be decoded.
        """
        photo_bytes = tf.constant(list(photos), tf.string)
        if self._images_of is not None:
            return self._images_of(photo_bytes).numpy()
        return image_ops.photos_to_unit_range(photo_bytes, self.image_size, "bilinear", antialias=False).numpy()

    def tensors(self, wanted: Sequence[str], images: tf.Tensor) -> list[tf.Tensor]:
        """Tensors between `images` and the answer, in the graph being built; gradients reach all of them."""
        assert self._graph is not None, self.unreachable
        return self._graph.import_into_graph(list(wanted), {self._graph.images: images})

    def score_tensor(self) -> str:
        """The tensor with the class scores: the logits, or the probabilities if there are none."""
        assert self._graph is not None, self.unreachable
        tensor = self._graph.vectors
        while self._graph.nodes[node_of(tensor)].op in _HANDED_ON:
            tensor = data_inputs(self._graph.nodes[node_of(tensor)])[0]
        node = self._graph.nodes[node_of(tensor)]
        return data_inputs(node)[0] if node.op == "Softmax" else tensor

    def before_rectifier(self, tensor: str) -> str:
        """The input of the rectifier that computes the tensor; the tensor itself if it is not from a rectifier."""
        assert self._graph is not None, self.unreachable
        node = self._graph.nodes[node_of(tensor)]
        return data_inputs(node)[0] if node.op in ("Relu", "Relu6") else tensor

    def last_places(self) -> Layer | None:
        """The last spatial layer, if all paths pass through it and most of the model is below it."""
        if self._graph is None:
            return None
        nodes, score = self._graph.nodes, self.score_tensor()
        for layer in reversed(self.layers):
            above = in_order(nodes, [score], stop={node_of(layer.tensor)})
            if node_of(self._graph.images) in above:
                continue
            weights_above = sum(name in self._graph.reads for name in above)
            return layer if weights_above <= len(self._graph.reads) / 2 else None
        return None


def _layers(graph: FlatGraph, image_size: int) -> list[Layer]:
    """The last tensor of each name scope, among those from the images to the answer that weights have a part in."""
    from_images, learnt = {node_of(graph.images)}, set(graph.reads)
    names = []
    for name, node in graph.nodes.items():
        upstream = {node_of(tensor) for tensor in data_inputs(node)}
        if upstream & learnt:
            learnt.add(name)
        if upstream & from_images:
            from_images.add(name)
            if name in learnt and node.op not in _HANDED_ON:
                names.append(name)

    @tf.function(input_signature=[tf.TensorSpec([None, image_size, image_size, 3])], autograph=False)
    def everything(images):
        return graph.import_into_graph([f"{name}:0" for name in names], {graph.images: images})

    scopes: dict[str, Layer] = {}
    for name, tensor in zip(names, everything.get_concrete_function().structured_outputs, strict=True):
        shape = tensor.shape
        if tensor.dtype != tf.float32 or shape.rank != 4 or not shape[1:].is_fully_defined() or shape[1] * shape[2] < 2:
            continue
        parts = [part for part in name.split("/") if part not in _CALLS]
        scope = "/".join(parts[:-1] or parts)
        scopes.pop(scope, None)  # a scope lies where its last tensor does
        scopes[scope] = Layer(scope, f"{name}:0", int(shape[1]), int(shape[2]), int(shape[3]))
    shared = os.path.commonpath(list(scopes)) if len(scopes) > 1 else ""
    return [
        Layer(scope.removeprefix(f"{shared}/"), layer.tensor, layer.height, layer.width, layer.channels)
        for scope, layer in scopes.items()
    ]


def load_model(folder: str) -> ExplainedModel:
    """Loads a SavedModel that warmstart exported, or that has the same kind of signature for photos' bytes.

    Raises:
      BadInput: it is not such a model.
    """
    if not os.path.isfile(os.path.join(folder, "saved_model.pb")):
        found = "it has no saved_model.pb" if os.path.isdir(folder) else "it is not a folder"
        raise BadInput(f"{folder} is not a SavedModel: {found}; expected the folder of a model that warmstart exported")
    try:
        model = loaded_models.load_model(folder)
    except Exception as error:  # damaged graphs and variables fail in many ways
        raise BadInput(f"the model in {folder} is damaged and cannot be loaded ({first_line(error)[:200]})") from None
    signatures = getattr(model, "signatures", {})
    answers = signatures.get(_SIGNATURE)
    labels = read_labels(folder)
    if answers is not None and "mask_png_bytes" in answers.structured_outputs:
        raise BadInput(
            f"the model in {folder} gives a class for each pixel, which cannot be explained yet; `warmstart predict "
            "--masks DIR --overlays` draws its masks over photos"
        )
    if (
        answers is None
        or set(answers.structured_input_signature[1]) != {_INPUT}
        or _OUTPUT not in answers.structured_outputs
        or labels is None
    ):
        raise BadInput(
            f"the model in {folder} was not exported by warmstart: it has no {LABELS_FILE}, or no signature "
            f"{_SIGNATURE} from {_INPUT} to {_OUTPUT}"
        )
    transform, size = signatures.get("transform_features"), _SIDE_UNKNOWN
    images_of = None
    if transform is not None and (found_size := _square(transform.structured_outputs.get(IMAGE))):
        size, images_of = found_size, lambda photos: transform(examples=_examples(photos))[IMAGE]
    inner = getattr(model, "probabilities_of_images", None)
    if inner is not None and images_of is not None:
        return ExplainedModel(inner, size, labels, images_of, keep=model)

    def by_file(images: tf.Tensor) -> tf.Tensor:
        pixels = tf.image.convert_image_dtype(images, tf.uint8, saturate=True)
        files = tf.map_fn(tf.io.encode_png, pixels, fn_output_signature=tf.string)
        return answers(**{_INPUT: files})[_OUTPUT]

    why = "it accepts only encoded photos, not pixels"
    return ExplainedModel(by_file, size, labels, images_of, why, keep=model)


def _square(spec: Any) -> int:
    """Side of float32 [batch, side, side, 3]; 0: it is something else."""
    shape = getattr(spec, "shape", tf.TensorShape(None))
    return int(shape[1]) if shape.rank == 4 and shape[1] and shape[1:] == [shape[1], shape[1], 3] else 0


def _examples(photos: tf.Tensor) -> tf.Tensor:
    examples = []
    for photo in photos.numpy():
        example = tf.train.Example()
        example.features.feature[IMAGE].bytes_list.value.append(photo)
        examples.append(example.SerializeToString())
    return tf.constant(examples, tf.string)
