"""What the trainers are told: their part of the configuration."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from components.backbone import registry
from pipeline.config import Config
from pipeline.fingerprint import code_fingerprint as code
from pipeline.places import Places

_SHARED = {
    "seed",
    "batch_size",
    "optimizer",
    "gradient_clip_norm",
    "label_smoothing",
    "class_weights",
    "mixed_precision",
}


class TrainerSettings(NamedTuple):
    """`custom_config` of each."""

    tuner: dict[str, Any]
    feature_extraction: dict[str, Any]
    fine_tuning: dict[str, Any]


def trainer_settings(config: Config, places: Places) -> TrainerSettings:
    training, backbone = config.training, config.backbone.handle
    head, fine = training.feature_extraction, training.fine_tuning
    shared = {
        "backbone": backbone,
        "backbone_fingerprint": registry.fingerprint(backbone),
        "image_size": config.image.size,
        **training.model_dump(include=_SHARED),
        **training.head.model_dump(),
        "augmentation_mode": training.augmentation.mode,
        "augmentation": training.augmentation.model_dump(exclude={"mode", "views"}),
        "calibrate": training.calibrate,
        "abstain_below": config.serving.abstain_below,
        **asdict(config.photo_rules),
        "resume_folder": places.resume,
    }
    starts = _starts(config, places)
    return TrainerSettings(
        tuner={
            **shared,
            **head.model_dump(),
            **training.tuner.model_dump(),
            "code": code("components.trainer.tuning"),
        },
        feature_extraction={
            **shared,
            **head.model_dump(),
            **starts,
            "learning_rate_ratio": 1.0,
            "code": code("components.trainer.feature_extraction"),
        },
        fine_tuning={
            **shared,
            **fine.model_dump(exclude={"unfreeze", "unfreeze_blocks", "unfreeze_last", "unfreeze_fraction"}),
            "unfreeze": unfreezing(config),
            "learning_rate": training.fine_tuning_rate,
            "learning_rate_ratio": training.fine_tuning_rate / head.learning_rate,
            **starts,
            "code": code("components.trainer.fine_tuning"),
        },
    )


def unfreezing(config: Config) -> dict[str, Any]:
    """Which variables the strategy `top` unfreezes."""
    fine = config.training.fine_tuning
    known = registry.BACKBONES.get(config.backbone.handle)
    return {
        "pattern": fine.unfreeze,
        "blocks": fine.unfreeze_blocks,
        "last": fine.unfreeze_last,
        "fraction": fine.unfreeze_fraction,
        "default_pattern": known.unfreeze if known else None,
    }


def _starts(config: Config, places: Places) -> dict[str, Any]:
    """What both trainers start from."""
    warm_start = config.training.warm_start
    folder = {"feature_extraction": "", "production": places.production_model}.get(warm_start.source, warm_start.source)
    return {
        "warm_start_from": warm_start.source,
        "warm_start_epochs": warm_start.epochs,
        "warm_start_folder": folder,
        "warm_start_fingerprint": _model_fingerprint(folder),
        "variables_to_warm_start": warm_start.variables,
        "renamed": warm_start.renamed,
    }


def _model_fingerprint(folder: str) -> str:
    """Of a SavedModel's content; empty where there is none to read, which FineTuning will say."""
    return registry.fingerprint(folder) if folder and registry.check_folder(Path(folder)) is None else ""
