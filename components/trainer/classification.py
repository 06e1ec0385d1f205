"""A class for each photo: a classifier on the feature vector (`components.task.training`)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2

from components.backbone import freezing
from components.backbone.cut import Cut, cut
from components.backbone.flat_graph import CannotCut
from components.backbone.layer import FeatureVector, TopOfBackbone
from components.legacy_keras import tf_keras
from components.loaded_models import remember_model
from components.records import read_examples, text
from components.task.training import ACTIVATIONS, PHOTOS, VECTORS, Inputs
from components.trainer import recipe, serving_model, warm_start
from components.trainer.model import Classifier, build_head
from components.trainer.optimization import loss_weights
from components.trainer.phase import Phase, TrainedPhase
from components.trainer.settings import FineTuningSettings
from components.trainer.training_data import TrainingData, count_photos
from schemas import features as f
from schemas import schema_files


class Classification:
    """The task of classifying photos."""

    one_device = False

    def classes(self, schema: schema_pb2.Schema) -> list[str]:
        return schema_files.labels(schema)

    def frozen_inputs(self, phase: Phase, module: Any) -> Inputs:
        if phase.settings.augmentation_mode == "online":
            return Inputs(PHOTOS, "photos, augmented anew in every epoch, through the frozen backbone")
        return Inputs(VECTORS, "cached feature vectors")

    def learning_inputs(
        self, phase: Phase[FineTuningSettings], module: Any, learning: Sequence[str], changed: Set[str]
    ) -> Inputs:
        """The inputs that need the least work in each step: cached values, as long as nothing below them changes."""
        settings, whole = phase.settings, "photos through the whole backbone: "
        if settings.augmentation_mode == "online":
            return Inputs(PHOTOS, whole + "they are augmented anew in every epoch")
        if not settings.from_activations:
            return Inputs(PHOTOS, whole + "training.fine_tuning.from_activations is off")
        if phase.devices.strategy.num_replicas_in_sync > 1:
            return Inputs(PHOTOS, whole + "a backbone cannot be cut on several devices")
        if not learning and not changed:
            return Inputs(VECTORS, "cached feature vectors: the whole backbone stays frozen")
        example = next(iter(read_examples(phase.vectors.train)))
        cached = text(example, f.BOUNDARY) if f.BOUNDARY in example.features.feature else ""
        try:
            backbone_cut = _cached_cut(module, learning, settings, cached)
        except CannotCut as reason:
            return Inputs(PHOTOS, f"{whole}{reason}")
        above = {v.name for v in backbone_cut.top_variables}
        if changed - above:
            return Inputs(PHOTOS, f"{whole}the model it starts from changed variables below {backbone_cut.place}")
        if backbone_cut.boundary != cached:
            return Inputs(PHOTOS, f"{whole}no activations are cached for a boundary at {backbone_cut.place}")
        return Inputs(ACTIVATIONS, f"cached activations at {backbone_cut.place}", backbone_cut)

    def recipe(self, phase: Phase[FineTuningSettings], own_source: warm_start.Source) -> tuple[FineTuningSettings, str]:
        """By the run's own head, whatever the source of the training."""
        settings = phase.settings
        if settings.strategy != "auto" and not settings.epochs_by_task and not settings.rate_by_task:
            return settings, ""
        head = self.new_head(phase, None)
        warm_start.copy_by_name(own_source, head.variables, phase.labels)
        answers = [np.argmax(head(vectors).numpy(), axis=1) for vectors, _, _ in phase.eval_vectors.in_order(0)]
        accuracy = float(np.mean(np.concatenate(answers) == phase.eval_vectors.classes))
        return recipe.by_task(settings, count_photos(phase.vectors.train), len(phase.labels), accuracy)

    def learning(self, phase: Phase, module: Any, names: Sequence[str]) -> list[str]:
        return list(names)

    def new_head(self, phase: Phase, module: Any) -> tf_keras.Sequential:
        settings = phase.settings
        width = phase.eval_vectors.values.shape[1]
        return build_head(width, len(phase.labels), settings.hidden_units, settings.dropout, settings.seed)

    def backbone(self, phase: Phase, module: Any, inputs: Inputs, learning: Sequence[str]) -> FeatureVector:
        return FeatureVector(module, learning)

    def ends(self, phase: Phase, inputs: Inputs, backbone: FeatureVector, learning: Sequence[str]) -> tuple[Any, Any]:
        size = phase.settings.image_size
        if inputs.kind == PHOTOS:
            start = tf_keras.Input([size, size, 3])
            return start, backbone(start)
        if isinstance(inputs.parts, Cut):
            start = tf_keras.Input(inputs.parts.shape)
            return start, TopOfBackbone(inputs.parts, learning)(start)
        start = tf_keras.Input([phase.eval_vectors.values.shape[1]])
        return start, start

    def data(self, phase: Phase, inputs: Inputs) -> tuple[TrainingData, TrainingData]:
        settings = phase.settings
        if inputs.kind == PHOTOS:
            augmentation = settings.augmentation if settings.augmentation_mode != "none" else None
            return phase.read_photos(phase.photos.train, augmentation), phase.read_photos(phase.photos.eval)
        if isinstance(inputs.parts, Cut):
            shape = inputs.parts.shape
            return (
                phase.read_rows(phase.vectors.train, f.ACTIVATIONS, shape),
                phase.read_rows(phase.vectors.eval, f.ACTIVATIONS, shape),
            )
        return phase.read_rows(phase.vectors.train), phase.eval_vectors

    def model(self, phase: Phase, start: Any, logits: tf.Tensor, train_data: TrainingData | None) -> Classifier:
        if train_data is None:
            return Classifier(start, logits)
        settings = phase.settings
        weights = loss_weights(settings, train_data.classes, len(phase.labels))
        # The first phase's head is never much too sure.
        calibrated = isinstance(settings, FineTuningSettings) and settings.calibrated_choice
        return Classifier(start, logits, class_weights=weights, calibrated=calibrated)

    def to_calibrate(
        self, phase: Phase, inputs: Inputs, model: Classifier, head: tf_keras.Model, eval_data: TrainingData
    ) -> tuple[Classifier, TrainingData]:
        if inputs.kind != PHOTOS:
            return model, eval_data
        # The backbone is frozen, so its cached vectors answer for the photos.
        cached = tf_keras.Input([phase.eval_vectors.values.shape[1]])
        return self.model(phase, cached, head(cached), None), phase.eval_vectors

    def export(self, folder: str, phase: Phase, trained: TrainedPhase, temperature: float) -> None:
        backbone, head, settings = trained.backbone, trained.head, phase.settings
        if phase.devices.strategy.num_replicas_in_sync > 1:
            new_head = self.new_head(phase, None)
            backbone, head = serving_model.on_one_device(phase.module_path, backbone, head, new_head)
        parts = trained.inputs.parts
        frozen = trained.inputs.kind == VECTORS or trained.is_frozen
        served = serving_model.export(
            folder,
            phase.transform,
            backbone,
            head,
            phase.labels,
            temperature,
            settings.abstain_below,
            cached="vectors" if frozen else parts if isinstance(parts, Cut) else None,
            rules=settings.photo_rules,
        )
        remember_model(folder, served)  # the steps that follow in this process need not load it


def _cached_cut(module: Any, learning: Sequence[str], settings: FineTuningSettings, cached: str) -> Cut:
    """The cut at the boundary `cached`, below the most that `auto` may train, or else the one below `learning`.

    Raises:
      CannotCut: there is neither.
    """
    if settings.unfreeze_far is not None:
        trainable, every = ([v.name for v in variables] for variables in (module.trainable_variables, module.variables))
        with contextlib.suppress(CannotCut):
            most = freezing.learning_variables(trainable, every, "top", **settings.unfreeze_far.model_dump())
            found = cut(module, most, settings.image_size)
            if found.boundary == cached and set(learning) <= {v.name for v in found.top_variables}:
                return found
    return cut(module, learning, settings.image_size)
