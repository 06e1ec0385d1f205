"""Phase one: a head on the frozen backbone, trained on the vectors that FeatureVectorGen stored."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow_hub as hub
from tfx.components.trainer.fn_args_utils import FnArgs

from components.backbone.layer import FeatureVector
from components.legacy_keras import tf_keras
from components.trainer import loop, warm_start
from components.trainer.model import Classifier
from components.trainer.optimization import loss_weights
from components.trainer.phase import Phase, TrainedPhase, run_phase
from components.trainer.settings import FeatureExtractionSettings
from components.trainer.training_data import StoredRows, TrainingData


def run_fn(fn_args: FnArgs) -> None:
    """Trains the head and exports the whole model (called by TFX Trainer)."""
    settings = FeatureExtractionSettings.model_validate(fn_args.custom_config)
    run_phase("feature_extraction", settings, fn_args, _train)


def _train(phase: Phase[FeatureExtractionSettings]) -> TrainedPhase:
    settings, strategy = phase.settings, phase.devices.strategy
    train_data: TrainingData
    eval_data: TrainingData
    online = settings.augmentation_mode == "online"
    if online:
        train_data = phase.read_photos(phase.photos.train, settings.augmentation)
        eval_data = phase.read_photos(phase.photos.eval)
    else:
        train_data, eval_data = phase.read_rows(phase.vectors.train), phase.read_rows(phase.vectors.eval)
    with strategy.scope():
        backbone = FeatureVector(hub.load(phase.module_path))
        if isinstance(train_data, StoredRows):
            inputs = vectors = tf_keras.Input([train_data.values.shape[1]])
        else:
            inputs = tf_keras.Input([settings.image_size, settings.image_size, 3])
            vectors = backbone(inputs)
        head = phase.new_head(vectors.shape[-1])
    started, epochs = _warm_start(phase, backbone, head)
    with strategy.scope():
        weights = loss_weights(settings, train_data.classes, len(phase.labels))
        model = Classifier(inputs, head(vectors), class_weights=weights)
        history = loop.train(
            model,
            train_data,
            eval_data,
            settings.replaced(epochs=epochs),
            phase.log_folder,
            resume_file=phase.resume_file,
            scale_loss=phase.devices.scale_loss,
        )
        if online and settings.calibrate:  # the backbone is frozen, so its cached vectors answer for the photos
            eval_data = phase.read_rows(phase.vectors.eval)
            cached = tf_keras.Input([vectors.shape[-1]])
            model = Classifier(cached, head(cached))
    how = "photos, augmented anew in every epoch, through the frozen backbone" if online else "cached feature vectors"
    history |= {"strategy": "feature_extraction", "trained_on": how, "warm_start": started}
    return TrainedPhase(model, eval_data, backbone, head, "vectors", history)


def _warm_start(
    phase: Phase[FeatureExtractionSettings], backbone: FeatureVector, head: tf_keras.Model
) -> tuple[dict[str, Any] | None, int]:
    """Starts the head from the requested model. Returns an entry for the history, or None, and the epochs to train.

    A head that was trained on a fine-tuned backbone does not fit the vectors of the published backbone, so then the
    head starts untrained.
    """
    asked_for, epochs = phase.settings.warm_start, phase.settings.epochs
    chooses = asked_for.variables != ".*" or asked_for.renamed
    if asked_for.source == "feature_extraction" or chooses:
        return None, epochs
    published = backbone.resolved_object.variables
    photos = warm_start.some_photos(phase.photos.eval)
    source, told = warm_start.find_source(asked_for, [*published, *head.variables], phase.transform, photos)
    if source is None or not all(np.array_equal(source.values[v.name], v.numpy()) for v in published):
        return None, epochs
    matches = warm_start.copy_by_name(source, head.variables, phase.labels)
    images = phase.transform(photos)
    proof = warm_start.step_zero(phase.devices.strategy, lambda: head(backbone(images)), source, phase.labels, photos)
    return {"source": told, "step_zero": proof, **asdict(matches)}, warm_start.epochs(epochs, asked_for.epochs, matches)
