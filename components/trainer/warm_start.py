"""Starts a model from an exported one: copies variables, and proves that the two give the same answers.

Variables are matched by name, through a regular expression and a table of renamed ones, as in TensorFlow's
WarmStartSettings (https://www.tensorflow.org/api_docs/python/tf/estimator/WarmStartSettings).
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from components.loaded_models import load_model
from components.records import read_examples
from components.trainer.calibration import GREATEST_TEMPERATURE, LEAST_TEMPERATURE
from components.trainer.decoder import DECODER_NAME
from components.trainer.model import HEAD_NAME
from components.trainer.settings import WarmStart
from schemas.errors import BadInput
from schemas.features import IMAGE
from schemas.labels import LABELS_FILE, read_labels
from schemas.words import first_line

# Differences of a probability between two processes that run the same model.
STEP_ZERO_TOLERANCE = 1e-4
_LEAST_SHARED = 0.01
# Photos that both models answer before training, to prove that they answer alike.
_STEP_ZERO_PHOTOS = 16


class WarmStartFailed(RuntimeError):
    """The warm-started model does not give the same answers as its source."""


@dataclass(frozen=True)
class Source:
    """An exported model to start from."""

    folder: str
    """Folder of the SavedModel."""
    values: dict[str, np.ndarray]
    """Name -> value of each variable."""
    labels: list[str] | None
    """Class names in the order of the head's outputs, or None if the model does not have them."""
    model: Any
    """The loaded object."""
    temperature: float = 1.0
    """The model divides its logits by this."""

    def has_values(self, variables: Sequence[tf.Variable], labels: Sequence[str]) -> bool:
        """Whether these are all of its variables, value by value, of a model with these classes."""
        values = {v.name: v.numpy() for v in variables}
        return (
            self.labels == list(labels)
            and values.keys() == self.values.keys()
            and all(np.array_equal(values[name], value) for name, value in self.values.items())
        )


@dataclass(frozen=True)
class Matches:
    """The result of a warm start, as names of variables and classes."""

    matched: list[str]
    """Variables copied from the source."""
    skipped: list[str] = field(default_factory=list)
    """Variables left unchanged because the pattern does not match them."""
    missing: list[str] = field(default_factory=list)
    """Variables left unchanged because the source does not have them."""
    unused: list[str] = field(default_factory=list)
    """Variables of the source that the new model does not have."""
    new_classes: list[str] = field(default_factory=list)
    """Classes whose rows of the head start untrained."""
    dropped_classes: list[str] = field(default_factory=list)
    """Classes of the source that the new model does not have."""

    @property
    def is_complete(self) -> bool:
        """Whether every variable came from the source."""
        return not self.skipped and not self.missing


def read_source(folder: str) -> Source:
    """Reads any SavedModel; one that `serving_model.export` wrote lists its variables under their own names.

    Raises:
      BadInput: the model cannot be loaded, has no variables or two with one name, or has an impossible temperature.
    """
    try:
        model = load_model(folder)
    except Exception as error:  # damaged protocol buffers and variables fail in many ways
        raise BadInput(f"the model {folder} cannot be loaded for a warm start ({first_line(error)})") from error
    variables = list(getattr(model, "model_variables", None) or getattr(model, "variables", None) or [])
    if not variables:
        variables = [part for part in tf.train.TrackableView(model).descendants() if isinstance(part, tf.Variable)]
    repeated = _repeated(variables)
    if repeated or not variables:
        found = f"two variables named {repeated[0]}" if repeated else "no variables"
        raise BadInput(f"the model {folder} has {found}; expected a SavedModel whose variables have unique names")
    values = {v.name: v.numpy() for v in variables}
    return Source(folder, values, read_labels(folder), model, _temperature(model, folder))


def some_photos(files: Sequence[str]) -> tf.Tensor:
    """The bytes of the first photos in files of examples, string [photos], for `what_differs` and `check_step_zero`."""
    examples = itertools.islice(read_examples(files), _STEP_ZERO_PHOTOS)
    return tf.constant([example.features.feature[IMAGE].bytes_list.value[0] for example in examples])


def find_source(
    asked_for: WarmStart,
    variables: Sequence[tf.Variable],
    transform: Callable[[tf.Tensor], tf.Tensor],
    photos: tf.Tensor,
) -> tuple[Source | None, str]:
    """The model to start from, and its description; or None, and the end of a sentence on why another model is used.

    Args:
      asked_for: its source is `production` or the folder of another model.
      variables, transform, photos: see `what_differs`.
    """
    name = "the model in production" if asked_for.source == "production" else asked_for.source
    if not asked_for.folder:
        return None, f", because there is no {name.removeprefix('the ')} yet"
    try:
        source = read_source(asked_for.folder)
        difference = what_differs(source, variables, transform, photos, asked_for.variables, asked_for.renamed)
    except BadInput as error:
        difference = str(error)
    if difference:
        return None, f" instead of {name}: {difference}"
    return source, f"{name} ({asked_for.folder})"


def _temperature(model: Any, folder: str) -> float:
    found = getattr(model, "temperature", None)
    if found is None:  # somebody else's, or exported before there was one
        return 1.0
    value = np.asarray(found.numpy() if isinstance(found, tf.Variable) else np.nan)
    if value.ndim or not LEAST_TEMPERATURE <= value <= GREATEST_TEMPERATURE:
        raise BadInput(
            f"the model {folder} has the temperature {value}; expected a single number from "
            f"{LEAST_TEMPERATURE:g} to {GREATEST_TEMPERATURE:g}: start from another model"
        )
    return float(value)


def what_differs(
    source: Source,
    variables: Sequence[tf.Variable],
    transform: Callable[[tf.Tensor], tf.Tensor],
    photos: tf.Tensor,
    pattern: str = ".*",
    renamed: dict[str, str] | None = None,
) -> str | None:
    """None, or the reason why a model cannot start from `source`, in words.

    Args:
      source: the model to start from.
      variables: variables of the new model; its head may have other classes.
      transform: transform of the new model, from photos' bytes to images.
      photos: bytes of some photos, string [batch], on which both transforms are compared.
      pattern, renamed: as in `copy_by_name`; variables that are not copied need not fit.
    """
    signature = getattr(source.model, "signatures", {}).get("transform_features")
    if signature is None:
        return "it has no signature transform_features, so its preprocessing cannot be compared"
    if source.labels is None:
        return f"it has no {LABELS_FILE}, so its classes are unknown"
    ours = transform(photos)
    examples = []
    for photo in photos.numpy():
        example = tf.train.Example()
        example.features.feature[IMAGE].bytes_list.value.append(photo)
        examples.append(example.SerializeToString())
    try:
        theirs = signature(examples=tf.constant(examples))[IMAGE]
        tf.debugging.assert_rank(theirs, 4)
    except Exception as error:  # somebody else's signature may take and give anything
        return f"its signature transform_features returns no images ({type(error).__name__}: {first_line(error)})"
    if theirs.shape[1:] != ours.shape[1:]:
        sizes = [f"{images.shape[2]} x {images.shape[1]}" for images in (theirs, ours)]
        return f"its input size is {sizes[0]} pixels, not {sizes[1]}"
    largest = float(tf.reduce_max(tf.abs(theirs - ours)))
    if not largest <= 1e-6:
        return f"its transform differs: pixels of the same photo differ by up to {largest:.2g}"
    wanted = [v for v in variables if re.match(pattern, v.name)]
    different = [v.name for v in wanted if not _fits(v, source, (renamed or {}).get(v.name, v.name))]
    if different:
        parts = {"head": HEAD_NAME, "decoder": (HEAD_NAME, f"{DECODER_NAME}/")}
        fitting = (part for part, start in parts.items() if all(name.startswith(start) for name in different))
        part = next(fitting, "backbone")
        return (
            f"its {part} differs: {len(different)} of {len(wanted)} variables are missing or have a different shape, "
            f"such as {different[0]}"
        )
    return None


def _fits(variable: tf.Variable, source: Source, name: str) -> bool:
    shape = tuple(variable.shape)
    if name not in source.values:
        return False
    found = source.values[name].shape
    if variable.name.startswith(f"{HEAD_NAME}/"):
        return found[:-1] == shape[:-1]
    return found == shape


def copy_by_name(
    source: Source,
    variables: Sequence[tf.Variable],
    labels: list[str],
    pattern: str = ".*",
    renamed: dict[str, str] | None = None,
) -> Matches:
    """Assigns every variable the value with the same name in the source.

    Names are used because the order of a Keras model's weights depends on what is trainable. The rows of the head are
    matched by class: a new class gets a row of zeros and the mean bias, and a class that is gone is dropped.

    Args:
      source: the model to start from.
      variables: variables of the new model.
      labels: its classes in the order of their indices.
      pattern: only names that match it from their start are copied.
      renamed: name in the new model -> name in the source.

    Raises:
      BadInput: `renamed` names an unknown variable, or a shape differs; then nothing is assigned.
      ValueError: two variables share a name; then nothing is assigned.
    """
    renamed = renamed or {}
    if repeated := _repeated(variables):
        raise ValueError(
            f"variables cannot be copied by name: among {len(variables)} variables, {len(repeated)} names are not "
            f"unique ({', '.join(repeated[:3])})"
        )
    names = {v.name for v in variables}
    for new, old in renamed.items():
        if new not in names or old not in source.values:
            where = "the new model" if new not in names else source.folder
            raise BadInput(
                f"training.warm_start.renamed maps {new} to {old}, but {where} has no variable "
                f"{new if new not in names else old}"
            )
    values, skipped, missing, wrong = {}, [], [], []
    for variable in variables:
        name = renamed.get(variable.name, variable.name)
        if not re.match(pattern, variable.name):
            skipped.append(variable.name)
        elif name not in source.values:
            missing.append(variable.name)
        else:
            value = source.values[name]
            if variable.name.startswith(f"{HEAD_NAME}/"):
                value = _rows_by_class(value, source.labels or labels, labels)
            values[variable.name] = value
            if value.shape != tuple(variable.shape):
                wrong.append(f"{variable.name} has shape {value.shape}, not {tuple(variable.shape)}")
    if wrong:
        raise BadInput(
            f"the model to start from, {source.folder}, does not fit: {len(wrong)} of {len(variables)} variables "
            f"differ in shape ({'; '.join(wrong[:3])})"
        )
    for variable in variables:
        if variable.name in values:
            variable.assign(values[variable.name])
    taken = {renamed.get(name, name) for name in values}
    old_labels = source.labels or labels
    return Matches(
        matched=sorted(values),
        skipped=sorted(skipped),
        missing=sorted(missing),
        unused=sorted(set(source.values) - taken),
        new_classes=[label for label in labels if label not in old_labels],
        dropped_classes=[label for label in old_labels if label not in labels],
    )


def epochs(usual: int, few: int | None, matches: Matches) -> int:
    """The epochs of a warm-started phase: `few` if it is configured and no variable starts untrained, else `usual`."""
    return usual if few is None or not matches.is_complete or matches.new_classes else few


def _repeated(variables: Sequence[tf.Variable]) -> list[str]:
    return [name for name, count in Counter(v.name for v in variables).items() if count > 1]


def _rows_by_class(value: np.ndarray, old_labels: list[str], labels: list[str]) -> np.ndarray:
    """A head's kernel [width, classes] or bias [classes], its last axis in the order of the new classes."""
    if value.shape[-1] != len(old_labels):
        return value  # of no head of ours; its shape will be refused
    new = np.zeros([*value.shape[:-1], len(labels)], value.dtype)
    if value.ndim == 1:
        new[:] = value.mean()
    for i, label in enumerate(labels):
        if label in old_labels:
            new[..., i] = value[..., old_labels.index(label)]
    return new


@dataclass(frozen=True)
class Proof:
    """The result of `check_step_zero`."""

    photos: int  # that were compared
    largest: float  # difference of a probability

    def __str__(self) -> str:
        if not self.photos:
            return "not compared, because the two models have too few classes in common"
        return f"same answers as the source on {self.photos} photos, within {self.largest:.1g}"


def check_step_zero(source: Source, labels: list[str], photos: tf.Tensor, logits: np.ndarray) -> Proof:
    """Proves that the warm-started model gives the same answers as its source, on the classes that both know.

    The source's probabilities are calibrated, so the new model's logits are divided by the source's temperature too.
    This works on logits, because a probability near 0 has lost the precision that a high temperature would need.

    Args:
      source: the model started from.
      labels: classes of the new model.
      photos: bytes of photos, string [batch].
      logits: logits of the new model for them before training, float32 [batch, classes], or [batch, size, size,
        classes] of masks.

    Returns:
      The comparison; it has no photos if the models have fewer than two classes in common.

    Raises:
      WarmStartFailed: the largest difference exceeds `STEP_ZERO_TOLERANCE`, which is divided by a temperature below 1
        since that magnifies differences of logits.
    """
    old_labels = source.labels or labels
    shared = [label for label in labels if label in old_labels]
    if len(shared) < 2:
        return Proof(0, 0.0)
    answers = getattr(source.model, "warm_start_probabilities", None)  # of an ensemble, its second model's
    if answers is None:
        # That of a class for each pixel has a signature of its own for its probabilities.
        name = "probabilities" if "probabilities" in source.model.signatures else "serving_default"
        before = source.model.signatures[name](image_bytes=photos)["probabilities"].numpy()
    else:
        before = answers(photos).numpy()
    answers_each, logits = int(np.prod(logits.shape[1:-1])), logits.reshape(-1, logits.shape[-1])
    before = before.reshape(-1, before.shape[-1])
    before = before[:, [old_labels.index(label) for label in shared]].astype(np.float64)
    scaled = logits.astype(np.float64) / source.temperature
    probabilities = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    after = probabilities[:, [labels.index(label) for label in shared]]
    if shared != labels or shared != old_labels:
        # Softmax over fewer classes is the same ratios, divided by their sum. Where that is next to nothing, the
        # ratios are noise.
        told = ~((before.sum(1) <= _LEAST_SHARED) | (after.sum(1) <= _LEAST_SHARED))  # NaN is told
        before, after = before[told], after[told]
        before, after = before / before.sum(1, keepdims=True), after / after.sum(1, keepdims=True)
    largest = float(np.max(np.abs(before - after), initial=0.0))
    tolerance = STEP_ZERO_TOLERANCE / min(source.temperature, 1.0)
    compared = -(-len(after) // answers_each)
    if not largest <= tolerance:
        raise WarmStartFailed(
            f"the model warm-started from {source.folder} gives different answers: the probabilities of {compared} "
            f"photos differ by up to {largest:.2g}, expected at most {tolerance:g}; this is a bug, please report it"
        )
    return Proof(compared, largest)


def step_zero(
    strategy: tf.distribute.Strategy,
    answer: Callable[[], tf.Tensor],
    source: Source,
    labels: list[str],
    photos: tf.Tensor,
) -> str:
    """The result of `check_step_zero` in words; `answer` gives the new model's logits for the photos on each device."""
    logits = strategy.experimental_local_results(strategy.run(answer))[0].numpy()
    return str(check_step_zero(source, labels, photos, logits))
