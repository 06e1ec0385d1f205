"""The settings of the trainers, from the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from components.backbone import registry
from components.backbone.unfreezing import Unfreezing
from components.trainer.recipe import FAR_RATE, MOST_EPOCHS
from components.trainer.settings import (
    DecoderSettings,
    FeatureExtractionSettings,
    FineTuningSettings,
    TunerSettings,
    WarmStart,
)
from components.transform.augmentation import Augmentation
from pipeline.config import Config
from pipeline.fingerprint import code_fingerprint as code
from pipeline.places import Places
from schemas.features import SEGMENTATION

_OF_EVERY_TRAINING = {"seed", "batch_size", "optimizer", "gradient_clip_norm", "label_smoothing", "class_weights"}


class TrainerSettings(NamedTuple):
    """The settings of each step that trains."""

    tuner: TunerSettings
    feature_extraction: FeatureExtractionSettings
    fine_tuning: FineTuningSettings


def trainer_settings(config: Config, places: Places) -> TrainerSettings:
    training, backbone = config.training, config.backbone.handle
    head, fine = training.feature_extraction, training.fine_tuning
    shared: dict[str, Any] = {**training.model_dump(include=_OF_EVERY_TRAINING), **training.head.model_dump()}
    of_phases: dict[str, Any] = {
        **shared,
        "backbone": backbone,
        "backbone_fingerprint": registry.fingerprint(backbone),
        "image_size": config.image.size,
        "mixed_precision": training.mixed_precision,
        "task": config.task.kind,
        "decoder": DecoderSettings(**training.decoder.model_dump(exclude={"cache_gigabytes"})),
        "augmentation_mode": training.augmentation.mode,
        "augmentation": augmentation(config),
        "warm_start": _warm_start(config, places),
        "calibrate": training.calibrate,
        "abstain_below": config.serving.abstain_below,
        "photo_rules": config.photo_rules,
        "resume_folder": places.resume,
    }
    return TrainerSettings(
        tuner=TunerSettings(
            **{**shared, **head.model_dump(), **training.tuner.model_dump()},
            code=code("components.trainer.tuning"),
        ),
        feature_extraction=FeatureExtractionSettings(
            **of_phases,
            **head.model_dump(),
            learning_rate_ratio=1.0,
            code=code("components.trainer.feature_extraction"),
        ),
        fine_tuning=FineTuningSettings(
            **of_phases,
            **fine.model_dump(
                exclude={"epochs", "learning_rate", "unfreeze", "unfreeze_blocks", "unfreeze_last", "unfreeze_fraction"}
            ),
            unfreeze=unfreezing(config),
            unfreeze_far=unfreezing_far(config),
            epochs=most_epochs(config),
            calibrated_choice=training.calibrate,
            epochs_by_task=fine.epochs is None,
            learning_rate=training.fine_tuning_rate,
            rate_by_task=fine.learning_rate is None,
            far_rate=FAR_RATE,
            learning_rate_ratio=training.fine_tuning_rate / head.learning_rate,
            code=code("components.trainer.fine_tuning"),
        ),
    )


def most_epochs(config: Config) -> int:
    """The most epochs that fine-tuning may train."""
    epochs = config.training.fine_tuning.epochs
    return MOST_EPOCHS if epochs is None else epochs


def augmentation(config: Config) -> Augmentation:
    """How much training photos are changed, whether or not the mode changes any."""
    return Augmentation(**config.training.augmentation.model_dump(exclude={"mode", "views"}))


def unfreezing(config: Config) -> Unfreezing:
    """Which variables the strategy `top` unfreezes."""
    fine = config.training.fine_tuning
    given = Unfreezing(
        pattern=fine.unfreeze,
        blocks=None if fine.unfreeze_blocks is None else tuple(fine.unfreeze_blocks),
        last=fine.unfreeze_last,
        fraction=fine.unfreeze_fraction,
    )
    known = registry.BACKBONES.get(config.backbone.handle)
    if known is None or given != Unfreezing():
        return given
    of_masks = config.task.kind == SEGMENTATION
    return Unfreezing(default_pattern=known.unfreeze_for_masks if of_masks else known.unfreeze)


def unfreezing_far(config: Config) -> Unfreezing | None:
    """Which variables the strategy `auto` unfreezes in a task that is far from ImageNet: about half of the kernels.

    None where there is nothing for it to choose: with another strategy, or for masks.
    """
    if config.training.fine_tuning.strategy != "auto" or config.task.kind == SEGMENTATION:
        return None
    known = registry.BACKBONES.get(config.backbone.handle)
    return Unfreezing(fraction=0.5) if known is None else Unfreezing(pattern=known.unfreeze_far)


def _warm_start(config: Config, places: Places) -> WarmStart:
    warm_start = config.training.warm_start
    folder = {"feature_extraction": "", "production": places.production_model}.get(warm_start.source, warm_start.source)
    return WarmStart(**warm_start.model_dump(), folder=folder, fingerprint=_model_fingerprint(folder))


def _model_fingerprint(folder: str) -> str:
    """Fingerprint of the content of a SavedModel; empty: it cannot be read, which FineTuning reports."""
    return registry.fingerprint(folder) if folder and registry.check_folder(Path(folder)) is None else ""
