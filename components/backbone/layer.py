"""A feature vector as a Keras layer: frozen, or in part learning, whole or from the freeze boundary on."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import tensorflow as tf
import tensorflow_hub as hub

from components.backbone.cut import Cut
from components.backbone.frozen_pass import FrozenPass
from components.backbone.pyramid import Pyramid
from components.legacy_keras import tf_keras


class FeatureVector(hub.KerasLayer):
    """A TF-Hub image feature vector of which only the chosen variables learn.

    It is always called in inference mode, so that no batch-norm moving average moves, whatever is trainable
    (why: https://keras.io/guides/transfer_learning/, "Important notes about BatchNormalization layer").

    Input: float32 [batch, height, width, 3], range [0, 1]. Output: float32 [batch, width of the vector].
    """

    def __init__(self, module: Any, learning: Collection[str] = (), **kwargs):
        """
        Args:
          module: a loaded SavedModel in TF-Hub's format, or its folder.
          learning: names of the module's trainable variables that learn, as `freezing.learning_variables` chooses
            them; empty freezes all.
        """
        # Set before the layer exists: Keras reads the weights while it is being built.
        self._learning = frozenset(learning)
        super().__init__(module, trainable=bool(learning), **kwargs)

    @property
    def trainable_weights(self):
        return [v for v in self._func.trainable_variables if v.name in self._learning]

    @property
    def non_trainable_weights(self):
        learning = {id(v) for v in self.trainable_weights}
        return [v for v in self._func.variables if id(v) not in learning]

    def call(self, inputs, training=None):
        del training
        return super().call(inputs, training=False)


class _ReadsModule(tf_keras.layers.Layer):
    """A layer that reads a module's own variables, of which those named in `learning` learn."""

    def __init__(self, variables: Collection[tf.Variable], learning: Collection[str], **kwargs):
        super().__init__(**kwargs)
        self._learning = [v for v in variables if v.name in learning]
        self._frozen = [v for v in variables if v.name not in learning]

    @property
    def trainable_weights(self):
        return self._learning

    @property
    def non_trainable_weights(self):
        return self._frozen


class TopOfBackbone(_ReadsModule):
    """What lies above the freeze boundary of a module, and reads the module's own variables.

    Input: float16 or float32 [batch, ...], the activations at the boundary. Output: float32 [batch, width].
    """

    def __init__(self, cut: Cut, learning: Collection[str], **kwargs):
        super().__init__(cut.top_variables, learning, **kwargs)
        self._top = cut.top

    def call(self, inputs, training=None):
        del training
        return self._top(tf.cast(inputs, tf.float32))


class Encoder(_ReadsModule):
    """A module's wide tensors at several resolutions, of which only the chosen variables learn.

    Input: float32 [batch, size, size, 3], range [0, 1]. Output: a list, float32 [batch, cells, cells, channels] each,
    fine to coarse.
    """

    def __init__(self, module: Any, pyramid: Pyramid, learning: Collection[str] = (), **kwargs):
        """
        Args:
          module: a loaded SavedModel in TF-Hub's format.
          learning: names of the module's variables that learn; empty freezes all.
        """
        super().__init__(module.variables, learning, **kwargs)
        self.resolved_object = module
        self.pyramid = pyramid

    def call(self, inputs, training=None):
        del training
        return list(self.pyramid.top(*self.pyramid.bottom(inputs)))


class FoldedEncoder(tf_keras.layers.Layer):
    """The same of a module of which nothing learns, with batch normalisation folded up to the cached tensors."""

    def __init__(self, run: FrozenPass, pyramid: Pyramid, **kwargs):
        super().__init__(trainable=False, **kwargs)
        self._run, self._top = run.call, pyramid.top

    def call(self, inputs, training=None):
        del training
        _, cached = self._run(inputs)
        return list(self._top(*cached))


class TopOfEncoder(_ReadsModule):
    """What lies above the cached tensors of a pyramid, and reads the module's own variables.

    Input: a list of each of `pyramid.cached`, float16 or float32 [batch, cells, cells, channels]. Output: as of
    `Encoder`.
    """

    def __init__(self, pyramid: Pyramid, learning: Collection[str] = (), **kwargs):
        super().__init__(pyramid.top_variables, learning, **kwargs)
        self._top = pyramid.top

    def call(self, inputs, training=None):
        del training
        return list(self._top(*(tf.cast(tensor, tf.float32) for tensor in inputs)))
