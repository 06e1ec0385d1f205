"""Phase one: a head on the frozen backbone, trained on what FeatureVectorGen stored."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow_hub as hub
from tfx.components.trainer.fn_args_utils import FnArgs

from components.legacy_keras import tf_keras
from components.trainer import loop, warm_start
from components.trainer.phase import Phase, TrainedPhase
from components.trainer.run import run_phase
from components.trainer.settings import FeatureExtractionSettings


def run_fn(fn_args: FnArgs) -> None:
    """Trains the head and exports the whole model (called by TFX Trainer)."""
    settings = FeatureExtractionSettings.model_validate(fn_args.custom_config)
    run_phase("feature_extraction", settings, fn_args, _train)


def _train(phase: Phase[FeatureExtractionSettings]) -> TrainedPhase:
    settings, strategy, task = phase.settings, phase.devices.strategy, phase.task
    with strategy.scope():
        module = hub.load(phase.module_path)
    inputs = task.frozen_inputs(phase, module)
    train_data, eval_data = task.data(phase, inputs)
    with strategy.scope():
        backbone = task.backbone(phase, module, inputs, [])
        start, features = task.ends(phase, inputs, backbone, [])
        head = task.new_head(phase, module)
    started, epochs = _warm_start(phase, backbone, head)
    with strategy.scope():
        model = task.model(phase, start, head(features), train_data)
        history = loop.train(
            model,
            train_data,
            eval_data,
            settings.replaced(epochs=epochs),
            phase.log_folder,
            resume_file=phase.resume_file,
            scale_loss=phase.devices.scale_loss,
        )
        if settings.calibrate:
            model, eval_data = task.to_calibrate(phase, inputs, model, head, eval_data)
    history |= {"strategy": "feature_extraction", "trained_on": inputs.note, "warm_start": started}
    return TrainedPhase(model, eval_data, backbone, head, inputs, history, is_frozen=True)


def _warm_start(
    phase: Phase[FeatureExtractionSettings], backbone: Any, head: tf_keras.Model
) -> tuple[dict[str, Any] | None, int]:
    """Starts the head from the requested model. Returns an entry for the history, or None, and the epochs to train.

    A head that was trained on a fine-tuned backbone does not fit the features of the published backbone, so then the
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
