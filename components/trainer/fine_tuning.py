"""Phase two: part of the backbone learns too, warm-started from phase one as a rule."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from tfx.components.trainer.fn_args_utils import FnArgs

from components.backbone import freezing
from components.trainer import loop, warm_start
from components.trainer.optimization import layer_multipliers, unfreeze_stages
from components.trainer.phase import Phase, TrainedPhase
from components.trainer.run import run_phase
from components.trainer.settings import FineTuningSettings


def run_fn(fn_args: FnArgs) -> None:
    """Fine-tunes and exports the whole model (called by TFX Trainer)."""
    settings = FineTuningSettings.model_validate(fn_args.custom_config)
    run_phase("fine_tuning", settings, fn_args, _train)


def _train(phase: Phase[FineTuningSettings]) -> TrainedPhase:
    devices, labels, task = phase.devices, phase.labels, phase.task
    with devices.strategy.scope():
        module = hub.load(phase.module_path)
        head = task.new_head(phase, module)
    published = {v.name: v.numpy() for v in module.variables}
    own_source = warm_start.read_source(phase.base_model)
    photos = warm_start.some_photos(phase.photos.eval)
    settings, why = task.recipe(phase, own_source)
    phase = replace(phase, settings=settings)
    start = _warm_start(phase, own_source, [*module.variables, *head.variables], photos)
    changed = {v.name for v in module.variables if not np.array_equal(v.numpy(), published[v.name])}
    chosen = freezing.learning_variables(
        [v.name for v in module.trainable_variables],
        [v.name for v in module.variables],
        settings.strategy,
        **(settings.unfreeze.model_dump() if settings.strategy == "top" else {}),
    )
    learning = task.learning(phase, module, chosen)

    inputs = task.learning_inputs(phase, module, learning, changed)
    train_data, eval_data = task.data(phase, inputs)
    with devices.strategy.scope():
        backbone = task.backbone(phase, module, inputs, learning)
        first, features = task.ends(phase, inputs, backbone, learning)
        model = task.model(phase, first, head(features), train_data)
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
        )
    history |= {
        "strategy": settings.strategy,
        "strategy_reason": why,
        "trained_on": inputs.note,
        "warm_start": {"source": start.note, "step_zero": proof, **asdict(start.matches)},
    }
    unchanged = own_source if own_source.has_values([*module.variables, *head.variables], labels) else None
    return TrainedPhase(model, eval_data, backbone, head, inputs, history, unchanged=unchanged)


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
