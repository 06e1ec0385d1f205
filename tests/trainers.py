"""Trainers that are run for real, as TFX's Trainer runs them: for the tests of both tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
from tfx.components.trainer.fn_args_utils import FnArgs

from components.backbone.unfreezing import Unfreezing
from components.example_gen.photo_rules import PhotoRules
from components.trainer import warm_start
from components.trainer.settings import FeatureExtractionSettings, FineTuningSettings, PhaseSettings, WarmStart
from components.transform.augmentation import Augmentation
from tests.conftest import IMAGE_SIZE

TRAIN_PHOTOS, BATCH_SIZE = 15, 4  # the last batch is of three
LEARNING = "top_conv/kernel:0"
PHASE_ONE = FeatureExtractionSettings(
    code="code",
    backbone="",  # `run_phase` knows it
    backbone_fingerprint="backbone",
    image_size=IMAGE_SIZE,
    seed=5,
    batch_size=BATCH_SIZE,
    epochs=6,
    patience=6,
    optimizer="adam",
    learning_rate=0.1,
    learning_rate_ratio=1.0,
    schedule="constant",
    warmup_fraction=0.0,
    gradient_clip_norm=None,
    label_smoothing=0.0,
    class_weights="none",
    mixed_precision="auto",
    hidden_units=0,
    dropout=0.2,
    augmentation_mode="none",
    augmentation=Augmentation(flip=True, rotation_degrees=10.0, zoom=0.1, scale_jitter=0.2, colour=0.1),
    warm_start=WarmStart(
        source="feature_extraction", folder="", fingerprint="", epochs=None, variables=".*", renamed={}
    ),
    calibrate=True,
    abstain_below=0.0,
    photo_rules=PhotoRules(),
    resume_folder="",
)


def second_phase(first: FeatureExtractionSettings) -> FineTuningSettings:
    """Fine-tuning after a phase with these settings."""
    return FineTuningSettings(
        **dict(first.replaced(epochs=3, learning_rate=0.01, learning_rate_ratio=0.1, patience=3)),
        strategy="top",
        unfreeze=Unfreezing(pattern="top_conv/"),
        block_rate=1.0,
        stages=1,
        from_activations=True,
    )


class Written(NamedTuple):
    """What a run of a run_fn wrote."""

    folder: str  # of the exported model
    history: dict
    variables: dict[str, np.ndarray]


def run_phase(
    module: Any, settings: PhaseSettings, data: Path, folder: Path, schema: str, transform_graph: str, **arguments: Any
) -> Written:
    """Runs one of the two run_fns.

    Args:
      module: it has the run_fn.
      settings: of the phase.
      data: has photos/ and vectors/, with the splits train and eval.
      folder: for all that is written.
      schema: path of the curated schema.
      transform_graph: its folder.
      arguments: further ones of `FnArgs`.
    """
    kinds = ("vectors", "photos")
    module.run_fn(
        FnArgs(
            train_files=[str(data / kind / "Split-train" / "*") for kind in kinds],
            eval_files=[str(data / kind / "Split-eval" / "*") for kind in kinds],
            schema_path=schema,
            transform_graph_path=transform_graph,
            serving_model_dir=str(folder / "Format-Serving"),
            model_run_dir=str(folder / "model_run"),
            custom_config=settings.model_dump(),
            **arguments,
        )
    )
    history = json.loads((folder / "model_run" / "training.json").read_text())
    exported = str(folder / "Format-Serving")
    return Written(exported, history, warm_start.read_source(exported).values)


def changed_variables(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    """Names of the variables whose values differ; both models have the same ones."""
    assert before.keys() == after.keys()
    return {name for name in before if not np.array_equal(before[name], after[name])}
