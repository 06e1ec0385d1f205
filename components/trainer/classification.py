"""A class for each photo: a classifier on the feature vector (`components.task.training`)."""

from __future__ import annotations

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
from components.trainer import serving_model, warm_start
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
        try:
            backbone_cut = cut(module, learning, settings.image_size)
        except CannotCut as reason:
            return Inputs(PHOTOS, f"{whole}{reason}")
        above = {v.name for v in backbone_cut.top_variables}
        if changed - above:
            return Inputs(PHOTOS, f"{whole}the model it starts from changed variables below {backbone_cut.place}")
        example = next(iter(read_examples(phase.vectors.train)))
        if f.BOUNDARY not in example.features.feature or text(example, f.BOUNDARY) != backbone_cut.boundary:
            return Inputs(PHOTOS, f"{whole}no activations are cached for a boundary at {backbone_cut.place}")
        return Inputs(ACTIVATIONS, f"cached activations at {backbone_cut.place}", backbone_cut)

    def choose_strategy(self, phase: Phase, own_source: warm_start.Source) -> tuple[str, str]:
        """By the run's own head, whatever the source of the training."""
        head = self.new_head(phase, None)
        warm_start.copy_by_name(own_source, head.variables, phase.labels)
        answers = [np.argmax(head(vectors).numpy(), axis=1) for vectors, _, _ in phase.eval_vectors.in_order(0)]
        accuracy = float(np.mean(np.concatenate(answers) == phase.eval_vectors.classes))
        choice = freezing.choose_strategy(count_photos(phase.vectors.train), len(phase.labels), accuracy)
        return choice.strategy, choice.why

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
        weights = loss_weights(phase.settings, train_data.classes, len(phase.labels))
        return Classifier(start, logits, class_weights=weights)

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
