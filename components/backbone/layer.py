"""A feature vector as a Keras layer, frozen or in part learning."""

from __future__ import annotations

import math
import re

import tensorflow_hub as hub

from components.legacy_keras import tf_keras  # noqa: F401  (its AutoGraph rule, before a layer is called)
from schemas.errors import BadInput


class FeatureVector(hub.KerasLayer):
    """A TF-Hub image feature vector of which only the chosen variables learn.

    It is always called in inference mode, so that no batch-norm moving average moves, whatever is trainable
    (why: https://keras.io/guides/transfer_learning/, "Important notes about BatchNormalization layer").

    Input: float32 [batch, height, width, 3], range [0, 1]. Output: float32 [batch, width of the vector].
    """

    def __init__(self, module_path: str, unfreeze: str | None = None, **kwargs):
        """
        Args:
          module_path: folder of a SavedModel in TF-Hub's format.
          unfreeze: regular expression over variable names, matched from their start; None freezes all. Of the
            module's trainable variables, those that match learn.

        Raises:
          BadInput: the expression matches no trainable variable.
        """
        # Set before the layer exists: Keras reads the weights while it is being built.
        self._unfreeze = None if unfreeze is None else re.compile(unfreeze)
        super().__init__(module_path, trainable=unfreeze is not None, **kwargs)
        if unfreeze is not None and not self.trainable_weights:
            names = [v.name for v in self._func.trainable_variables]
            raise BadInput(
                f"training.fine_tuning.unfreeze (={unfreeze!r}) matches none of the backbone's {len(names)} "
                f"trainable variables; the last ones are {', '.join(names[-6:])}"
            )

    @property
    def trainable_weights(self):
        if self._unfreeze is None:
            return []
        return [v for v in self._func.trainable_variables if self._unfreeze.match(v.name)]

    @property
    def non_trainable_weights(self):
        learning = {id(v) for v in self.trainable_weights}
        return [v for v in self._func.variables if id(v) not in learning]

    def call(self, inputs, training=None):
        del training
        return super().call(inputs, training=False)


def last_fraction(variable_names: list[str], fraction: float) -> str:
    """A regular expression that matches exactly the last `fraction` of the names, at least one."""
    count = max(1, math.floor(len(variable_names) * fraction))
    return "(" + "|".join(re.escape(name) for name in variable_names[-count:]) + ")$"
