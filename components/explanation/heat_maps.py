"""Heat maps of the parts of a photo that are evidence for a class, by the best of three methods that the model allows.

Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) if the last spatial layer can be reached; otherwise integrated
gradients (Sundararajan et al. 2017, arXiv:1703.01365) if there is a gradient; otherwise occlusion (Zeiler & Fergus
2014, arXiv:1311.2901).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from components.explanation.explained_model import ExplainedModel, Layer
from schemas.errors import BadInput
from schemas.words import first_line

GRAD_CAM, INTEGRATED_GRADIENTS, OCCLUSION = METHODS = ("Grad-CAM", "integrated gradients", "occlusion")
STEPS = 24  # of the path from one baseline to the photo
BASELINES = (0.0, 1.0)  # black and white, or what is as dark or as bright as the baseline would count for nothing
WINDOW, STRIDE = 1 / 5, 1 / 10  # of the image's side: what is covered, and how far it moves on
_BATCH = 16
_SMALLEST = 1e-30


class NoGradient(Exception):
    """No gradient reaches the photo."""


@dataclass(frozen=True)
class HeatMaps:
    """The heat maps of some images."""

    maps: np.ndarray
    """float32 [images, size, size], range [0, 1]; 1 where the evidence for the class is strongest, all 0 if none."""
    method: str
    """One of `METHODS`."""
    why: str = ""
    """Why a better method was not possible, in a few words; empty for the first method, or if it was requested."""


def heat_map(model: ExplainedModel, image: np.ndarray, class_index: int) -> tuple[np.ndarray, str]:
    """The evidence for a class in an image, and the name of the method.

    Args:
      model: see `load_model`.
      image: float32 [size, size, 3], range [0, 1]: one of `model.images([photo_bytes])`.
      class_index: of `model.labels`.

    Returns:
      float32 [size, size], range [0, 1], in the geometry of the image, which is the whole photo; and one of `METHODS`.
    """
    found = heat_maps(model, image[np.newaxis], [class_index])
    return found.maps[0], found.method


def heat_maps(
    model: ExplainedModel, images: np.ndarray, class_indices: Sequence[int], method: str | None = None
) -> HeatMaps:
    """Like `heat_map`, for several images with a class each.

    Args:
      model: see `load_model`.
      images: float32 [images, size, size, 3], range [0, 1].
      class_indices: one class per image.
      method: one of `METHODS`; None for the first that the model allows.

    Raises:
      BadInput: the model does not allow the requested method.
    """
    layer = model.last_places()
    no_layer = model.unreachable or "no spatial layer is on all paths and has most of the model below it"
    if method in (None, GRAD_CAM):
        if layer is not None:
            return HeatMaps(_each(lambda i, c: _grad_cam(model, layer, i, c), images, class_indices), GRAD_CAM)
        if method is not None:
            raise BadInput(f"Grad-CAM needs the model's layers, which cannot be reached: {no_layer}")
    why = "" if method else f"Grad-CAM needs its layers, which cannot be reached: {no_layer}"
    if method in (None, INTEGRATED_GRADIENTS):
        try:
            maps = [
                _positive(integrated_gradients(model, image, c)) for image, c in zip(images, class_indices, strict=True)
            ]
            return HeatMaps(np.stack(maps), INTEGRATED_GRADIENTS, why)
        except NoGradient as error:
            if method is not None:
                raise BadInput(f"integrated gradients cannot be computed for this model: {error}") from None
            why = f"{why}; {error}"
    maps = [_scaled(np.maximum(occlusion(model, image, c), 0)) for image, c in zip(images, class_indices, strict=True)]
    return HeatMaps(np.stack(maps), OCCLUSION, why)


def _each(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray], images: np.ndarray, class_indices: Sequence[int]
) -> np.ndarray:
    classes = np.asarray(class_indices, np.int32)
    batches = [function(images[i : i + _BATCH], classes[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
    return np.concatenate(batches) if batches else np.zeros(images.shape[:3], np.float32)


def _scaled(heat: np.ndarray) -> np.ndarray:
    """Not negative, its largest value 1, or all 0."""
    largest = float(heat.max(initial=0.0))
    return (heat / largest if largest > 0 else np.zeros_like(heat)).astype(np.float32)


def _grad_cam(model: ExplainedModel, layer: Layer, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    size = model.image_size

    @tf.function(
        input_signature=[tf.TensorSpec([None, size, size, 3]), tf.TensorSpec([None], tf.int32)], autograph=False
    )
    def maps(images, classes):
        activations, scores = model.tensors([layer.tensor, model.score_tensor()], images)
        [gradients] = tf.gradients(tf.gather(scores, classes, batch_dims=1), [activations])
        weights = tf.reduce_mean(gradients, axis=[1, 2], keepdims=True)  # [batch, 1, 1, channels]
        coarse = tf.nn.relu(tf.reduce_sum(weights * activations, axis=-1, keepdims=True))
        return tf.image.resize(coarse, [size, size])[..., 0]

    compiled = model.functions.setdefault(GRAD_CAM, maps)
    return np.stack([_scaled(heat) for heat in compiled(tf.constant(images), tf.constant(classes)).numpy()])


def _log_odds(model: ExplainedModel, images: tf.Tensor, class_index: tf.Tensor) -> tf.Tensor:
    """log(p / (1 - p)), float32 [batch]: it goes on growing where a probability has come near to 1.

    1 - p is summed up from the others, since near 1 a float32 has no digits left for the difference.
    """
    probabilities = model.probabilities(images)
    chosen = tf.one_hot(class_index, len(model.labels))
    own, others = (tf.reduce_sum(probabilities * share, axis=-1) for share in (chosen, 1 - chosen))
    return tf.math.log(own + _SMALLEST) - tf.math.log(others + _SMALLEST)


def integrated_gradients(model: ExplainedModel, image: np.ndarray, class_index: int) -> np.ndarray:
    """Attributions to each value of an image, float32 [size, size, 3], of the log-odds of a class.

    The mean over black and white as baselines (Sturmfels et al. 2020, doi:10.23915/distill.00022). They sum up to the
    image's log-odds less the mean of the baselines', but for the steps of the integral.

    Raises:
      NoGradient: no gradient reaches the image, or it is 0 or no number everywhere.
    """

    @tf.function(reduce_retracing=True, autograph=False)
    def gradients(images, class_index):
        return tf.gradients(_log_odds(model, images, class_index), [images])[0]

    compiled = model.functions.setdefault(INTEGRATED_GRADIENTS, gradients)
    total = np.zeros_like(image)
    shares = ((np.arange(STEPS) + 0.5) / STEPS).astype(np.float32)[:, np.newaxis, np.newaxis, np.newaxis]
    for baseline in BASELINES:
        path = baseline + shares * (image - baseline)
        for start in range(0, STEPS, _BATCH):
            try:
                found = compiled(tf.constant(path[start : start + _BATCH]), tf.constant(class_index))
            except (LookupError, ValueError, tf.errors.OpError) as error:  # an operation without a gradient
                raise NoGradient(f"no gradient reaches the photo ({first_line(error)[:200]})") from None
            if found is None:
                raise NoGradient("no gradient reaches the photo")
            total += (image - baseline) * found.numpy().sum(axis=0) / STEPS / len(BASELINES)
    if not np.isfinite(total).all() or not total.any():
        raise NoGradient("the gradient that reaches the photo is 0 or not a number")
    return total


def _positive(attributions: np.ndarray) -> np.ndarray:
    """A heat map of attributions, smoothed, since those of neighbours differ for no reason that eyes can see."""
    from scipy.ndimage import gaussian_filter

    by_place = attributions.sum(axis=-1)
    return _scaled(np.maximum(gaussian_filter(by_place, sigma=by_place.shape[0] / 32), 0))


def occlusion(model: ExplainedModel, image: np.ndarray, class_index: int) -> np.ndarray:
    """How much the log-odds of a class fall when a square of the photo's median colour covers a place.

    Returns:
      float32 [size, size]: for each pixel the mean over the squares that cover it; negative where they rise.
    """
    size = len(image)
    window, stride = max(1, round(size * WINDOW)), max(1, round(size * STRIDE))
    # From beyond the edges, or a pixel there would be covered by fewer squares than others.
    starts = range(stride - window, size, stride)
    places = [(top, left) for top in starts for left in starts]
    colour = np.median(image, axis=(0, 1))

    @tf.function(reduce_retracing=True, autograph=False)
    def scores(images, class_index):
        return _log_odds(model, images, class_index)

    compiled = model.functions.setdefault(OCCLUSION, scores)
    index = tf.constant(class_index)
    whole = float(compiled(tf.constant(image[np.newaxis]), index)[0])
    fall, covered = np.zeros([size, size]), np.zeros([size, size])
    for start in range(0, len(places), _BATCH):
        squares = [
            (slice(max(top, 0), top + window), slice(max(left, 0), left + window))
            for top, left in places[start : start + _BATCH]
        ]
        images = np.repeat(image[np.newaxis], len(squares), axis=0)
        for one, square in zip(images, squares, strict=True):
            one[square] = colour
        for square, score in zip(squares, compiled(tf.constant(images), index).numpy(), strict=True):
            fall[square] += whole - score
            covered[square] += 1
    return (fall / covered).astype(np.float32)
