"""What a trainer learns on a backbone: a class for each photo, or a class for each pixel.

Both phases are the same for every task (`components.trainer.feature_extraction` and `fine_tuning`): the warm start by
name, its proof, the loop with its best epoch, the resumption and the calibration. What sits on the backbone, and what
it is fed with, is behind this protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2

from components.backbone.cut import Cut
from components.backbone.pyramid import Pyramid
from components.legacy_keras import tf_keras

if TYPE_CHECKING:  # they import this
    from components.trainer.model import Classifier
    from components.trainer.phase import Phase
    from components.trainer.settings import FineTuningSettings
    from components.trainer.training_data import TrainingData

PHOTOS, ACTIVATIONS, VECTORS = "photos", "activations", "vectors"


@dataclass(frozen=True)
class Inputs:
    """What a training step starts from."""

    kind: str
    """`VECTORS`, `ACTIVATIONS` (stored values between the two `parts`) or `PHOTOS`."""
    note: str
    """The same, in words."""
    parts: Cut | Pyramid | None = None


class TrainingTask(Protocol):
    """The part of both phases that depends on the task.

    A model is a backbone, from images to features, and a head, from features to logits.
    """

    one_device: bool
    """Whether it cannot be trained on several devices."""

    def classes(self, schema: schema_pb2.Schema) -> list[str]:
        """Names of the classes in the order of the model's outputs."""

    def frozen_inputs(self, phase: Phase, module: Any) -> Inputs:
        """What the first phase starts from, while nothing in `module` learns."""

    def learning_inputs(self, phase: Phase, module: Any, learning: Sequence[str], changed: Set[str]) -> Inputs:
        """What the second phase starts from.

        Args:
          phase: its vectors are the cached values.
          learning: names of the variables that learn.
          changed: names of the variables that no longer have the published values, with which the cache was computed.
        """

    def recipe(self, phase: Phase, own_source: Any) -> tuple[FineTuningSettings, str]:
        """The settings of the second phase with what depends on the task filled in, and why."""

    def learning(self, phase: Phase, module: Any, names: Sequence[str]) -> list[str]:
        """Those of the chosen variables that affect the head."""

    def new_head(self, phase: Phase, module: Any) -> tf_keras.Model:
        """An untrained head."""

    def backbone(self, phase: Phase, module: Any, inputs: Inputs, learning: Sequence[str]) -> Any:
        """A Keras layer from images to features, with `module` as its attribute `resolved_object`."""

    def ends(self, phase: Phase, inputs: Inputs, backbone: Any, learning: Sequence[str]) -> tuple[Any, Any]:
        """The Keras inputs of a training step, and the features that follow from them."""

    def data(self, phase: Phase, inputs: Inputs) -> tuple[TrainingData, TrainingData]:
        """The splits train and eval as such inputs."""

    def model(self, phase: Phase, start: Any, logits: tf.Tensor, train_data: TrainingData | None) -> Classifier:
        """The model to train, from inputs to logits; its loss weighs the classes by `train_data` if that is set."""

    def to_calibrate(
        self, phase: Phase, inputs: Inputs, model: Classifier, head: tf_keras.Model, eval_data: TrainingData
    ) -> tuple[Classifier, TrainingData]:
        """Of the first phase: a model with the same answers on the eval split, and its inputs, the cheapest known."""

    def export(self, folder: str, phase: Phase, trained: Any, temperature: float) -> None:
        """Writes the whole model."""


Transform = Callable[[tf.Tensor], tf.Tensor]
