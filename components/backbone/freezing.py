"""Chooses the backbone variables that learn in fine-tuning, by name alone (no TensorFlow)."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.errors import BadInput

# The share of the kernels that counts as the top of a backbone without a pattern of its own.
DEFAULT_FRACTION = 0.2
# "Much" data: this many training photos per class on average (Marcelino's bound, see `choose_strategy`).
MUCH_PHOTOS_PER_CLASS = 1000
# "Similar" to ImageNet: frozen features remove this share of a guess's error. Our own choice, from no source.
SIMILAR_ERROR_REMOVED = 0.8

# The part of a path's segment that names its block, in the naming of each family of models.
_BLOCK = re.compile(
    r"conv\d+_block\d+"  # conv5_block3_2_conv: ResNet and DenseNet in Keras
    r"|block\d+[a-z]?(?=_|$)"  # block6d_expand_conv: EfficientNet; block5_conv3: VGG, Xception; block4: ResNet in slim
    r"|blocks?_\d+"  # block_16_project: MobileNetV2 in Keras
    r"|expanded_conv(_\d+)?"  # MobileNetV2 in slim, MobileNetV3 in Keras
    r"|Mixed_\d+[a-z]?"  # Inception in slim
    r"|\w*stage_\d+_block_\d+"  # ConvNeXt
)
_BIASES = ("bias", "biases")
_SCALES = ("gamma", "beta")  # also of layer norm and layer scale, which have no moving averages
_BATCH_NORM_STATE = ("moving_mean", "moving_variance")
_WAYS_TO_CHOOSE = "unfreeze, unfreeze_blocks, unfreeze_last or unfreeze_fraction"


@dataclass(frozen=True)
class Choice:
    """The choice that `auto` made."""

    strategy: str  # not `auto`
    similar: bool  # whether the task is similar to ImageNet
    why: str  # the numbers behind the choice, in words


def _layer_and_leaf(variable_name: str) -> tuple[str, str]:
    """`a/b/kernel:0` -> (`a/b`, `kernel`)."""
    layer, _, leaf = variable_name.rpartition("/")
    return layer, leaf.partition(":")[0]


def block_of(variable_name: str) -> str:
    """The block a variable belongs to: `block6d_expand_conv/kernel:0` -> `block6d`.

    For a nested path it is the path down to the block: `MobilenetV2/expanded_conv_16/project/weights:0` ->
    `MobilenetV2/expanded_conv_16`. A layer whose name shows no block is a block of its own, and so is its batch norm
    layer (`top_conv` and `top_bn`). This is true of every layer in a model without blocks, such as InceptionV3.
    """
    layer, leaf = _layer_and_leaf(variable_name)
    segments = layer.split("/")
    for i, segment in enumerate(segments):
        if found := _BLOCK.match(segment):
            return "/".join([*segments[:i], found.group()])
    return layer or leaf


def blocks(variable_names: Sequence[str]) -> list[str]:
    """The blocks of the variables, each once, in order of first appearance."""
    return list(dict.fromkeys(block_of(name) for name in variable_names))


def learning_variables(
    trainable: Sequence[str],
    every: Sequence[str],
    strategy: str,
    *,
    pattern: str | None = None,
    blocks: Sequence[str] | None = None,
    last: int | None = None,
    fraction: float | None = None,
    default_pattern: str | None = None,
) -> list[str]:
    """The names of the variables that learn, in the module's order.

    Batch norm's gamma and beta stay frozen with their moving averages unless `pattern` names them or everything
    learns (why: https://keras.io/guides/transfer_learning/, "Important notes about BatchNormalization layer").

    Args:
      trainable: names of the module's trainable variables, in its order, from the input to the feature vector.
      every: names of all its variables; a layer with a moving_mean or moving_variance is a batch norm layer.
      strategy: `feature_extraction` trains nothing, `all` trains all of `trainable`, and `top` trains what one of the
        next four arguments selects; the other strategies ignore them. `auto` must be resolved by `choose_strategy`.
      pattern: regular expression, matched from the start of a name.
      blocks: the variables of these blocks (see `block_of`), without batch norm.
      last: the last `last` kernels, with the biases of their layers.
      fraction: in (0, 1]: this share of the kernels, rounded down but at least one, from the end, with their biases.
      default_pattern: the backbone's own pattern, used if none of the four is given; without it the last fifth of the
        kernels learns.

    Raises:
      BadInput: the module has nothing to train, or the selection is ambiguous or matches nothing.
      ValueError: the strategy is not `feature_extraction`, `top` or `all`.
    """
    if strategy not in ("feature_extraction", "top", "all"):
        raise ValueError(f"strategy (={strategy!r}) must be feature_extraction, top or all once `auto` is resolved")
    if strategy == "feature_extraction":
        return []
    if not trainable:
        raise BadInput(
            f"The backbone has no trainable variables, but training.fine_tuning.strategy (={strategy!r}) trains some "
            "of them: choose feature_extraction or another backbone."
        )
    if strategy == "all":
        return list(trainable)

    given = [
        key
        for key, value in (
            ("unfreeze", pattern),
            ("unfreeze_blocks", blocks),
            ("unfreeze_last", last),
            ("unfreeze_fraction", fraction),
        )
        if value is not None
    ]
    if len(given) > 1:
        raise BadInput(
            f"training.fine_tuning selects what learns in {len(given)} ways ({', '.join(given)}): give at most one "
            f"of {_WAYS_TO_CHOOSE}."
        )
    without_batch_norm = _without_batch_norm(trainable, every)
    if pattern is not None:
        return _matching(trainable, pattern)
    if blocks is not None:
        return _of_blocks(without_batch_norm, blocks)
    if last is not None:
        return _last_kernels(without_batch_norm, last)
    if fraction is None and default_pattern is not None:
        return _matching(trainable, default_pattern)
    fraction = DEFAULT_FRACTION if fraction is None else fraction
    if not 0 < fraction <= 1:
        raise BadInput(f"training.fine_tuning.unfreeze_fraction (={fraction}) must be above 0 and at most 1.")
    count = len(_kernels(without_batch_norm))
    # The small addend: 0.29 of 100 is 28.999... in floating point.
    return _last_kernels(without_batch_norm, max(1, math.floor(count * fraction + 1e-9)))


def _without_batch_norm(trainable: Sequence[str], every: Sequence[str]) -> list[str]:
    split = [_layer_and_leaf(name) for name in every]
    batch_norms = {layer for layer, leaf in split if leaf in _BATCH_NORM_STATE}
    return [name for name in trainable if _layer_and_leaf(name)[0] not in batch_norms]


def _kernels(names: Sequence[str]) -> list[str]:
    return [name for name in names if _layer_and_leaf(name)[1] not in _BIASES + _SCALES]


def _matching(trainable: Sequence[str], pattern: str) -> list[str]:
    try:
        found = [name for name in trainable if re.match(pattern, name)]
    except re.error as error:
        raise BadInput(
            f"training.fine_tuning.unfreeze (={pattern!r}) is not a valid regular expression ({error}): correct it."
        ) from None
    if not found:
        raise BadInput(
            f"training.fine_tuning.unfreeze (={pattern!r}) matches none of the backbone's {len(trainable)} "
            f"trainable variables; the last ones are {', '.join(trainable[-6:])}; it must match from a name's start."
        )
    return found


def _of_blocks(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    known = blocks(names)
    if not wanted:
        raise BadInput(f"training.fine_tuning.unfreeze_blocks is empty: name some of {', '.join(known)}.")
    unknown = [block for block in wanted if block not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise BadInput(
            f"training.fine_tuning.unfreeze_blocks names {unknown[0]!r}, which the backbone does not have: {hint}"
            f"Its {len(known)} blocks are {', '.join(known)}."
        )
    return [name for name in names if block_of(name) in wanted]


def _last_kernels(names: Sequence[str], count: int) -> list[str]:
    kernels = _kernels(names)
    if not kernels:
        raise BadInput(
            "The backbone has no trainable kernels, only batch norm and the like: choose the strategy "
            "feature_extraction, or name the variables to train in training.fine_tuning.unfreeze."
        )
    if not 1 <= count <= len(kernels):
        raise BadInput(
            f"training.fine_tuning.unfreeze_last (={count}) must be from 1 to {len(kernels)}, the number of the "
            "backbone's kernels without batch norm."
        )
    chosen = set(kernels[-count:])
    layers = {_layer_and_leaf(name)[0] for name in chosen}

    def learns(name: str) -> bool:
        layer, leaf = _layer_and_leaf(name)
        return name in chosen or (leaf in _BIASES and layer in layers)

    return [name for name in names if learns(name)]


def choose_strategy(training_photos: int, classes: int, frozen_accuracy: float) -> Choice:
    """The rule behind `auto`: how much learns depends on the size of the data and its similarity to ImageNet.

    The size-similarity matrix of Marcelino 2018, "Transfer learning from pre-trained models":

    |             | similar to ImageNet  | different |
    |-------------|----------------------|-----------|
    | little data | `feature_extraction` | `top`     |
    | much data   | `top`                | `top`     |

    It follows the notes of Stanford's CS231n ("Transfer Learning", "When and how to fine-tune"), which differ in two
    cells: with much similar data they fine-tune everything, and with little different data they train a linear
    classifier on lower activations. With much different data Marcelino trains everything. Here the top of a task that
    is different reaches far down already (`training.fine_tuning.strategy`), at a fifth of the time.

    Much means `MUCH_PHOTOS_PER_CLASS` photos per class on average (Marcelino). Similarity is measured: the head on
    frozen ImageNet features removes at least `SIMILAR_ERROR_REMOVED` of the error of guessing,
    (accuracy - 1 / classes) / (1 - 1 / classes).

    Args:
      frozen_accuracy: range [0, 1], accuracy of the first phase's model on the eval split.

    Raises:
      ValueError: fewer than two classes.
    """
    if classes < 2:
        raise ValueError(f"classes (={classes}) must be at least 2")
    photos_per_class = training_photos / classes
    guess = 1 / classes
    error_removed = (frozen_accuracy - guess) / (1 - guess)
    much = photos_per_class >= MUCH_PHOTOS_PER_CLASS
    similar = error_removed >= SIMILAR_ERROR_REMOVED
    strategy = {
        (False, True): "feature_extraction",
        (False, False): "top",
        (True, True): "top",
        (True, False): "top",
    }[much, similar]
    why = (
        f"{strategy}: {photos_per_class:,.0f} training photos per class are {'much' if much else 'little'} data "
        f"(much: at least {MUCH_PHOTOS_PER_CLASS:,}). Frozen features remove {error_removed:.1%} of the error of "
        f"guessing (accuracy {frozen_accuracy:.1%} over {classes} classes), so the task is "
        f"{'similar to' if similar else 'different from'} ImageNet (similar: at least {SIMILAR_ERROR_REMOVED:.0%})"
    )
    return Choice(strategy, similar, why)
