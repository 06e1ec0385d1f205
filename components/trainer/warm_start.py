"""Starting from an exported model: what is copied, what is not, and the proof that the score is the same.

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
from components.trainer.model import HEAD_NAME
from components.trainer.settings import WarmStart
from schemas.errors import BadInput
from schemas.features import IMAGE
from schemas.labels import LABELS_FILE, read_labels

# Differences of a probability between two processes that run the same model.
STEP_ZERO_TOLERANCE = 1e-4
_LEAST_SHARED = 0.01
# Photos that both models answer before training, to prove that they answer alike.
_STEP_ZERO_PHOTOS = 16


class WarmStartFailed(RuntimeError):
    """The warm-started model does not score what its source scored."""


@dataclass(frozen=True)
class Source:
    """An exported model to start from.

    folder: of the SavedModel. values: name -> value of each of its variables. labels: class names in the order of its
    head, or None where it does not say. model: the loaded object. temperature: what it divides its logits by.
    """

    folder: str
    values: dict[str, np.ndarray]
    labels: list[str] | None
    model: Any
    temperature: float = 1.0


@dataclass(frozen=True)
class Matches:
    """What a warm start did, by names of the new model's variables.

    matched: copied from the source. skipped: left as they were, since the expression does not match. missing: left as
    they were, since the source has none. unused: the source's that the new model does not have. new_classes,
    dropped_classes: rows of the head that began anew, and those of the source that nothing took.
    """

    matched: list[str]
    skipped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    new_classes: list[str] = field(default_factory=list)
    dropped_classes: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether every variable came from the source."""
        return not self.skipped and not self.missing


def read_source(folder: str) -> Source:
    """Reads any SavedModel; one that `serving_model.export` wrote lists its variables under their own names.

    Raises:
      BadInput: it cannot be loaded, has no variables, two of one name, or a temperature that no calibration gives.
    """
    try:
        model = load_model(folder)
    except Exception as error:  # damaged protocol buffers and variables fail in many ways
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"the model {folder} cannot be loaded to start from it ({first_line})") from error
    variables = list(getattr(model, "model_variables", None) or getattr(model, "variables", None) or [])
    if not variables:
        variables = [part for part in tf.train.TrackableView(model).descendants() if isinstance(part, tf.Variable)]
    repeated = _repeated(variables)
    if repeated or not variables:
        found = f"two variables named {repeated[0]}" if repeated else "no variables"
        raise BadInput(f"the model {folder} has {found}; expected a SavedModel whose variables have a name each")
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
    """The model to start from, and what to call it; or None, and why another takes its place, from ` instead of` on.

    Args:
      asked_for: its source is `production` or the folder of another model.
      variables, transform, photos: see `what_differs`.
    """
    name = "the model in production" if asked_for.source == "production" else asked_for.source
    if not asked_for.folder:
        return None, f", since there is no {name.removeprefix('the ')} yet"
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
            f"the model {folder} has the temperature {value}; expected a variable of one number from "
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
    """None, or in words why a model cannot start from `source`.

    Args:
      source: the model to start from.
      variables: the new model's; the classes of its head may be others.
      transform: the new model's, photos' bytes to images.
      photos: some photos' bytes, string [batch]; both transforms are tried on them.
      pattern, renamed: as in `copy_by_name`; what is not to be copied need not fit.
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
        first_line = (str(error).splitlines() or [""])[0]
        return f"its signature transform_features gives no images ({type(error).__name__}: {first_line})"
    if theirs.shape[1:] != ours.shape[1:]:
        sizes = [f"{images.shape[2]} x {images.shape[1]}" for images in (theirs, ours)]
        return f"its input size is {sizes[0]} pixels, not {sizes[1]}"
    largest = float(tf.reduce_max(tf.abs(theirs - ours)))
    if not largest <= 1e-6:
        return f"its transform differs: the same photo gives pixels up to {largest:.2g} apart"
    wanted = [v for v in variables if re.match(pattern, v.name)]
    different = [v.name for v in wanted if not _fits(v, source, (renamed or {}).get(v.name, v.name))]
    if different:
        part = "head" if all(name.startswith(HEAD_NAME) for name in different) else "backbone"
        return (
            f"its {part} differs: {len(different)} of {len(wanted)} variables are missing or of another shape, "
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
    """Assigns to every variable the source's value of the same name.

    By name, since the order of a Keras model's weights changes with what is trainable. The rows of the head go by
    class: a class that is new gets a row of zeros and the mean bias, one that is gone is dropped.

    Args:
      source: the model to start from.
      variables: of the new model.
      labels: its classes in the order of their indices.
      pattern: only names that match it, from their start, are copied.
      renamed: name in the new model -> name in the source.

    Raises:
      BadInput: `renamed` names a variable that is not there, or a shape differs; nothing is assigned then.
      ValueError: two variables share a name; nothing is assigned then.
    """
    renamed = renamed or {}
    if repeated := _repeated(variables):
        raise ValueError(
            f"variables cannot be copied by name: of {len(variables)} variables, {len(repeated)} names stand for more "
            f"than one ({', '.join(repeated[:3])})"
        )
    names = {v.name for v in variables}
    for new, old in renamed.items():
        if new not in names or old not in source.values:
            where = "the new model" if new not in names else source.folder
            raise BadInput(
                f"training.warm_start.renamed says {new}: {old}, but {where} has no variable "
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
                wrong.append(f"{variable.name} is {value.shape}, not {tuple(variable.shape)}")
    if wrong:
        raise BadInput(
            f"the model to start from, {source.folder}, does not fit: of {len(variables)} variables, {len(wrong)} "
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
    """Of a phase that started from another model: `few`, where that is configured and nothing has to begin anew."""
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
    """What `check_step_zero` compared: how many photos, and the largest difference of a probability."""

    photos: int
    largest: float

    def __str__(self) -> str:
        if not self.photos:
            return "not compared, since the two have too few classes in common to tell photos apart"
        return f"{self.photos} photos answered as by the source, within {self.largest:.1g}"


def check_step_zero(source: Source, labels: list[str], photos: tf.Tensor, logits: np.ndarray) -> Proof:
    """Proves that the warm-started model answers as its source does, on the classes that both know.

    The source's probabilities are calibrated, so the new model's logits are divided by the source's temperature too.
    Logits, since a probability near 0 has lost what a high temperature would bring back.

    Args:
      source: the model started from.
      labels: the new model's classes.
      photos: photos' bytes, string [batch].
      logits: what the new model says of them before training, float32 [batch, classes].

    Returns:
      What was compared: no photo where the two have fewer than two classes in common.

    Raises:
      WarmStartFailed: it is larger than `STEP_ZERO_TOLERANCE`, or than that divided by a temperature below 1, which
        magnifies the differences of logits.
    """
    old_labels = source.labels or labels
    shared = [label for label in labels if label in old_labels]
    if len(shared) < 2:
        return Proof(0, 0.0)
    answers = getattr(source.model, "warm_start_probabilities", None)  # of an ensemble, its second model's
    if answers is None:
        before = source.model.signatures["serving_default"](image_bytes=photos)["probabilities"].numpy()
    else:
        before = answers(photos).numpy()
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
    if not largest <= tolerance:
        raise WarmStartFailed(
            f"the model warm-started from {source.folder} does not answer as that one does: the probabilities of "
            f"{len(after)} photos differ by up to {largest:.2g}, expected at most {tolerance:g}; "
            "this is a defect, please report it"
        )
    return Proof(len(after), largest)


def step_zero(
    strategy: tf.distribute.Strategy,
    answer: Callable[[], tf.Tensor],
    source: Source,
    labels: list[str],
    photos: tf.Tensor,
) -> str:
    """What `check_step_zero` compared, in words; `answer` gives the new model's logits of the photos on each device."""
    logits = strategy.experimental_local_results(strategy.run(answer))[0].numpy()
    return str(check_step_zero(source, labels, photos, logits))
