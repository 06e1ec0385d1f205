"""Phase two: part of the backbone learns too, warm-started from phase one as a rule."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from tfx.components.trainer.fn_args_utils import FnArgs

from components.backbone import freezing
from components.backbone.cut import CannotCut, Cut, cut
from components.backbone.layer import FeatureVector, TopOfBackbone
from components.backbone.unfreezing import Unfreezing
from components.legacy_keras import tf_keras
from components.records import read_examples, text
from components.trainer import loop, recipe, warm_start
from components.trainer.model import Classifier
from components.trainer.optimization import layer_multipliers, loss_weights, unfreeze_stages
from components.trainer.phase import Phase, TrainedPhase, run_phase
from components.trainer.settings import FineTuningSettings
from components.trainer.training_data import StoredRows, TrainingData, count_photos
from schemas import features as f


def run_fn(fn_args: FnArgs) -> None:
    """Fine-tunes and exports the whole model (called by TFX Trainer)."""
    settings = FineTuningSettings.model_validate(fn_args.custom_config)
    run_phase("fine_tuning", settings, fn_args, _train)


def _train(phase: Phase[FineTuningSettings]) -> TrainedPhase:
    devices, labels = phase.devices, phase.labels
    eval_vectors = phase.read_rows(phase.vectors.eval)
    with devices.strategy.scope():
        module = hub.load(phase.module_path)
        head = phase.new_head(eval_vectors.values.shape[1])
    published = {v.name: v.numpy() for v in module.variables}
    own_source = warm_start.read_source(phase.base_model)
    photos = warm_start.some_photos(phase.photos.eval)
    configured, why = phase.settings, ""
    if configured.strategy == "auto" or configured.epochs_by_task or configured.rate_by_task:
        # By the run's own head, whatever the source.
        accuracy = _frozen_accuracy(phase, own_source, eval_vectors)
        settings, why = recipe.by_task(configured, count_photos(phase.vectors.train), len(labels), accuracy)
        phase = replace(phase, settings=settings)
    settings = phase.settings
    start = _warm_start(phase, own_source, [*module.variables, *head.variables], photos)
    changed = {v.name for v in module.variables if not np.array_equal(v.numpy(), published[v.name])}
    learning = _learning(module, settings.strategy, settings.unfreeze)
    # `auto` has its activations cached for the most that it may train.
    below = _learning(module, "top", settings.unfreeze_far) if configured.strategy == "auto" else learning
    inputs = _inputs(phase, module, learning, changed, below)
    with devices.strategy.scope():
        backbone = FeatureVector(module, learning)
        model, train_data, eval_data = _model_and_data(phase, inputs, backbone, head, learning, eval_vectors)
    proof = "not compared, because not every variable came from the source"
    if start.matches.is_complete:
        images = phase.transform(photos)
        proof = warm_start.step_zero(devices.strategy, lambda: head(backbone(images)), start.source, labels, photos)
    with devices.strategy.scope():
        history = loop.train(
            model,
            train_data,
            eval_data,
            settings.replaced(epochs=start.epochs),
            phase.log_folder,
            multipliers=layer_multipliers(learning, settings.block_rate) if settings.block_rate < 1 else None,
            stages=unfreeze_stages(learning, settings.stages) if settings.stages > 1 else None,
            resume_file=phase.resume_file,
            scale_loss=devices.scale_loss,
            calibrated=settings.calibrate,
        )
    history |= {
        "strategy": settings.strategy,
        "strategy_reason": why,
        "trained_on": inputs.note,
        "warm_start": {"source": start.note, "step_zero": proof, **asdict(start.matches)},
    }
    return TrainedPhase(
        model, eval_data, backbone, head, "vectors" if inputs.kind == "vectors" else inputs.cut, history
    )


@dataclass(frozen=True)
class _Start:
    """The model that a training starts from."""

    source: warm_start.Source
    note: str  # the source, in words
    matches: warm_start.Matches
    epochs: int  # to train


def _warm_start(
    phase: Phase[FineTuningSettings],
    own_source: warm_start.Source,
    variables: list[tf.Variable],
    photos: tf.Tensor,
) -> _Start:
    """Starts the variables from the requested model, or from the run's own if that does not fit."""
    asked_for, epochs = phase.settings.warm_start, phase.settings.epochs
    own = "this run's feature-extraction model"
    chosen = asked_for.variables, asked_for.renamed
    if asked_for.source == "feature_extraction":
        matches = warm_start.copy_by_name(own_source, variables, phase.labels, *chosen)
        return _Start(own_source, own, matches, epochs)
    source, told = warm_start.find_source(asked_for, variables, phase.transform, photos)
    # What the source does not give is as the run's own model has it.
    matches = warm_start.copy_by_name(own_source, variables, phase.labels)
    if source is None:
        return _Start(own_source, own + told, matches, epochs)
    matches = warm_start.copy_by_name(source, variables, phase.labels, *chosen)
    return _Start(source, told, matches, warm_start.epochs(epochs, asked_for.epochs, matches))


def _learning(module: Any, strategy: str, unfreeze: Unfreezing) -> list[str]:
    """Names of the backbone's variables that learn."""
    return freezing.learning_variables(
        [v.name for v in module.trainable_variables],
        [v.name for v in module.variables],
        strategy,
        **(unfreeze.model_dump() if strategy == "top" else {}),
    )


def _frozen_accuracy(
    phase: Phase[FineTuningSettings], own_source: warm_start.Source, eval_vectors: StoredRows
) -> float:
    """Accuracy of the first phase's model on the eval split."""
    head = phase.new_head(eval_vectors.values.shape[1])
    warm_start.copy_by_name(own_source, head.variables, phase.labels)
    answers = [np.argmax(head(vectors).numpy(), axis=1) for vectors, _, _ in eval_vectors.in_order(0)]
    return float(np.mean(np.concatenate(answers) == eval_vectors.classes))


@dataclass(frozen=True)
class _Inputs:
    """The inputs of the training."""

    kind: str  # `vectors`, `activations` (at `cut`) or `photos`
    note: str  # the same, in words
    cut: Cut | None = None


def _inputs(
    phase: Phase[FineTuningSettings], module: Any, learning: list[str], changed: set[str], below: list[str]
) -> _Inputs:
    """The inputs that need the least work in each step: cached values, as long as nothing below them changes.

    Args:
      phase: its vectors are the cached values.
      module: the backbone.
      learning: names of the variables that learn.
      changed: names of the variables that no longer have the published values, with which the cache was computed.
      below: names of the variables that the activations are cached below.
    """
    settings, whole = phase.settings, "photos through the whole backbone: "
    if settings.augmentation_mode == "online":
        return _Inputs("photos", whole + "they are augmented anew in every epoch")
    if not settings.from_activations:
        return _Inputs("photos", whole + "training.fine_tuning.from_activations is off")
    if phase.devices.strategy.num_replicas_in_sync > 1:
        return _Inputs("photos", whole + "a backbone cannot be cut on several devices")
    if not learning and not changed:
        return _Inputs("vectors", "cached feature vectors: the whole backbone stays frozen")
    example = next(iter(read_examples(phase.vectors.train)))
    cached = text(example, f.BOUNDARY) if f.BOUNDARY in example.features.feature else ""
    try:
        backbone_cut = _cached_cut(module, [below, learning], settings.image_size, cached)
    except CannotCut as reason:
        return _Inputs("photos", f"{whole}{reason}")
    above = {v.name for v in backbone_cut.top_variables}
    if missing := sorted(set(learning) - above):
        return _Inputs("photos", f"{whole}{missing[0]} is below {backbone_cut.place}")
    if changed - above:
        return _Inputs("photos", f"{whole}the model it starts from changed variables below {backbone_cut.place}")
    if backbone_cut.boundary != cached:
        return _Inputs("photos", f"{whole}no activations are cached for a boundary at {backbone_cut.place}")
    return _Inputs("activations", f"cached activations at {backbone_cut.place}", backbone_cut)


def _cached_cut(module: Any, choices: list[list[str]], image_size: int, cached: str) -> Cut:
    """The cut by the first of `choices` whose activations are cached at the boundary `cached`, or else by the last.

    Raises:
      CannotCut: there is no cut by the last.
    """
    for learning in choices[:-1]:
        with contextlib.suppress(CannotCut):
            found = cut(module, learning, image_size)
            if found.boundary == cached or learning == choices[-1]:
                return found
    return cut(module, choices[-1], image_size)


def _model_and_data(
    phase: Phase[FineTuningSettings],
    inputs: _Inputs,
    backbone: FeatureVector,
    head: tf_keras.Model,
    learning: list[str],
    eval_vectors: StoredRows,
) -> tuple[Classifier, TrainingData, TrainingData]:
    """The model from the inputs to logits, and the inputs of both splits."""
    settings = phase.settings
    train_data: TrainingData
    eval_data: TrainingData
    if inputs.kind == "photos":
        augmentation = settings.augmentation if settings.augmentation_mode != "none" else None
        train_data = phase.read_photos(phase.photos.train, augmentation)
        eval_data = phase.read_photos(phase.photos.eval)
        start = tf_keras.Input([settings.image_size, settings.image_size, 3])
        end = backbone(start)
    elif inputs.cut is not None:
        shape = inputs.cut.shape
        train_data, eval_data = (phase.read_rows(files, f.ACTIVATIONS, shape) for files in phase.vectors)
        start = tf_keras.Input(shape)
        end = TopOfBackbone(inputs.cut, learning)(start)
    else:
        train_data, eval_data = phase.read_rows(phase.vectors.train), eval_vectors
        start = end = tf_keras.Input([eval_vectors.values.shape[1]])
    weights = loss_weights(settings, train_data.classes, len(phase.labels))
    return Classifier(start, head(end), class_weights=weights), train_data, eval_data
