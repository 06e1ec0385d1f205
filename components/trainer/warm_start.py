"""Copying variables from one exported model into another, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class WarmStart:
    """What was copied. `unused` are the source's variables that the new model does not have."""

    matched: list[str]
    unused: list[str]


def read_variables(saved_model: str) -> dict[str, np.ndarray]:
    """Name -> value of every variable of a model exported by `serving_model.export`."""
    loaded = tf.saved_model.load(saved_model)
    return {variable.name: variable.numpy() for variable in loaded.model_variables}


def copy_by_name(source: dict[str, np.ndarray], variables: Sequence[tf.Variable]) -> WarmStart:
    """Assigns to every variable the value of the same name.

    By name, since the order of a Keras model's weights changes with what is trainable.

    Raises:
      ValueError: the source lacks a variable, or has it in another shape, or two variables share a name; nothing is
        assigned then.
    """
    repeated = [name for name, count in Counter(v.name for v in variables).items() if count > 1]
    if repeated:
        raise ValueError(
            f"variables cannot be copied by name: of {len(variables)} variables, {len(repeated)} names stand for more "
            f"than one ({', '.join(repeated[:3])})"
        )
    wrong = [
        f"{v.name} is {'missing' if v.name not in source else f'{source[v.name].shape}, not {tuple(v.shape)}'}"
        for v in variables
        if v.name not in source or source[v.name].shape != tuple(v.shape)
    ]
    if wrong:
        raise ValueError(
            f"the model to warm-start from does not fit: of {len(variables)} variables, {len(wrong)} differ "
            f"({'; '.join(wrong[:3])})"
        )
    for variable in variables:
        variable.assign(source[variable.name])
    names = {v.name for v in variables}
    return WarmStart(matched=sorted(names), unused=sorted(set(source) - names))
