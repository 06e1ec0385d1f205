"""What the trainings are told: from the configuration through TFX's JSON to the step, with its types."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
from tfx.orchestration import data_types_utils
from tfx.proto.orchestration import pipeline_pb2
from tfx.utils import json_utils

from components.backbone.unfreezing import Unfreezing
from pipeline.config import load_config
from pipeline.graph import make_pipeline
from pipeline.places import Places
from pipeline.trainer_settings import TrainerSettings, trainer_settings, unfreezing

PLACES = Places("artifacts", "serving", vectors="vectors", resume="resume")


def settings_of(*overrides: str) -> TrainerSettings:
    return trainer_settings(load_config("cats_vs_dogs", list(overrides), ["photos"]), PLACES)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["training.fine_tuning.unfreeze_blocks=[block6a, top]", "training.gradient_clip_norm=.inf"],
        ["training.augmentation.mode=online", "training.warm_start.renamed={head/kernel:0: logits/kernel:0}"],
    ],
)
def test_the_settings_survive_what_tfx_does_with_custom_config(overrides):
    for settings in settings_of(*overrides):
        told = json_utils.loads(json_utils.dumps(settings.model_dump()))
        assert type(settings).model_validate(told) == settings


def test_what_is_not_a_setting_is_refused():
    first = settings_of().feature_extraction
    with pytest.raises(ValidationError, match="learning_rat"):
        first.replaced(learning_rat=0.1)
    with pytest.raises(ValidationError, match="optimizer"):
        first.replaced(optimizer="sgd")
    with pytest.raises(ValidationError, match="frozen"):
        first.epochs = 3
    with pytest.raises(ValidationError, match="strategy"):
        type(first).model_validate({**first.model_dump(), "strategy": "top"})


def test_what_the_tuner_found_takes_its_place_and_phase_two_keeps_its_ratio():
    settings = settings_of("training.feature_extraction.learning_rate=0.001", "training.fine_tuning.learning_rate=1e-5")
    found = {"space": [], "values": {"learning_rate": 0.02, "hidden_units": 128, "unknown": 1}}
    first, second = settings.feature_extraction.tuned(found), settings.fine_tuning.tuned(found)
    assert (first.learning_rate, first.hidden_units) == (0.02, 128)
    assert (second.learning_rate, second.hidden_units) == (pytest.approx(0.0002), 128)
    assert settings.fine_tuning.tuned(None) == settings.fine_tuning
    assert first.replaced(learning_rate=0.001, hidden_units=0) == settings.feature_extraction


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("fine_tuning.unfreeze=top/", Unfreezing(pattern="top/")),
        ("fine_tuning.unfreeze_blocks=[block6a]", Unfreezing(blocks=("block6a",))),
        ("fine_tuning.unfreeze_last=3", Unfreezing(last=3)),
        ("fine_tuning.unfreeze_fraction=0.5", Unfreezing(fraction=0.5)),
    ],
)
def test_a_backbone_s_own_pattern_counts_where_nothing_else_is_said(override, expected, tiny_backbone):
    config = load_config("cats_vs_dogs", [f"training.{override}"], ["photos"])
    assert unfreezing(config) == expected
    assert unfreezing(load_config("cats_vs_dogs", [], ["photos"])).default_pattern
    unknown = load_config("cats_vs_dogs", [f"backbone.handle={tiny_backbone}"], ["photos"])
    assert unfreezing(unknown) == Unfreezing()


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["training.fine_tuning.unfreeze_blocks=[block6a, top]", "training.augmentation.mode=views"],
        ["drift.image_size.note=null", "serving.maximum_megabytes=null", "serving.exports=[tflite, onnx]"],
        ["evaluation.further_minimum_accuracy=0.7", "release.minimum_slice_accuracy={label: 0.3}"],
    ],
)
def test_the_parameters_of_every_step_come_out_of_ml_metadata_as_they_went_in(overrides):
    """TFX's dictionaries hold values of one kind only, and no None."""
    config = load_config("cats_vs_dogs", [*overrides, "data.window=2"], ["/photos/{SPAN}"])
    pipeline = make_pipeline(config, PLACES, {"cats_vs_dogs": "/photos/{SPAN}"}, {}, None, [])
    checked = 0
    for node in pipeline.components:
        for name, value in node.exec_properties.items():
            if isinstance(value, dict | list) and node.id != "EarlierSpans":
                stored = data_types_utils.set_parameter_value(pipeline_pb2.Value(), value)
                read = data_types_utils.get_parsed_value(stored.field_value, stored.schema)
                assert json_utils.dumps(read) == json_utils.dumps(value), (node.id, name)
                checked += 1
    assert checked >= 8
