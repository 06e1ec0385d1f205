"""TFX's Evaluator, told by `make_eval_config`, blesses the fine-tuned model for a real gain above the floor only."""

import json

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_model_analysis.proto import config_pb2
from tfx.components.evaluator.executor import Executor
from tfx.types import artifact_utils, standard_artifacts

from components.evaluator.eval_config import make_eval_config
from components.evaluator.stored_predictions import (
    ENSEMBLE,
    FEATURE_EXTRACTION,
    FINE_TUNED,
    LABEL_INDEX,
    probabilities_key,
)
from schemas import features as f

LABELS = ("cat", "dog")
EXAMPLES = 8  # four cats, then four dogs


def prediction(row, answers):
    """A stored prediction; `answers` says for each model whether it is right about this example."""
    class_index = row // (EXAMPLES // 2)
    example = tf.train.Example()
    for name, value in (
        (f.LABEL, LABELS[class_index]),
        (f.DATASET, "cats_vs_dogs"),
        (f.IMAGE_FORMAT, ("JPEG", "PNG")[row % 2]),
        (f.CONTENT_HASH, f"{row:064d}"),
    ):
        example.features.feature[name].bytes_list.value.append(value.encode())
    example.features.feature[LABEL_INDEX].int64_list.value.append(class_index)
    for model, is_right in answers.items():
        probabilities = np.full(2, 0.25)
        probabilities[class_index if is_right else 1 - class_index] = 0.75
        example.features.feature[probabilities_key(model)].float_list.value.extend(probabilities)
    return example


@pytest.fixture
def is_blessed(tmp_path, write_records):
    """Runs the Evaluator; the models are right about the examples whose rows are given."""

    def run(fine_tuned, feature_extraction, minimum_accuracy=0.5, minimum_gain=0.0, ensemble=None):
        right = {FINE_TUNED: fine_tuned, FEATURE_EXTRACTION: feature_extraction}
        if ensemble is not None:
            right[ENSEMBLE] = ensemble
        examples = standard_artifacts.Examples()
        examples.uri = str(tmp_path / "predictions")
        examples.split_names = artifact_utils.encode_split_names(["eval", "test"])
        rows = [
            prediction(row, {model: row in right_rows for model, right_rows in right.items()})
            for row in range(EXAMPLES)
        ]
        write_records(tmp_path / "predictions" / "Split-eval", rows)
        # The test split would turn every verdict round: it must not be looked at.
        opposite = [
            prediction(row, {model: row not in right_rows for model, right_rows in right.items()})
            for row in range(EXAMPLES)
        ]
        write_records(tmp_path / "predictions" / "Split-test", opposite * 9)
        artifacts = {}
        for name in ("model", "baseline_model", "evaluation", "blessing"):
            kind = {"evaluation": standard_artifacts.ModelEvaluation, "blessing": standard_artifacts.ModelBlessing}
            artifacts[name] = kind.get(name, standard_artifacts.Model)()
            artifacts[name].uri = str(tmp_path / name)
        config = make_eval_config(minimum_accuracy, minimum_gain)
        Executor(
            Executor.Context(beam_pipeline_args=["--runner=FnApiRunner"], tmp_dir=str(tmp_path / "temp"), unique_id="1")
        ).Do(
            {"examples": [examples], "model": [artifacts["model"]], "baseline_model": [artifacts["baseline_model"]]},
            {"evaluation": [artifacts["evaluation"]], "blessing": [artifacts["blessing"]]},
            {
                "eval_config": json_format.MessageToJson(config, preserving_proto_field_name=True),
                "example_splits": json.dumps(["eval"]),
            },
        )
        blessed = artifacts["blessing"].get_int_custom_property("blessed")
        marks = [path.name for path in (tmp_path / "blessing").iterdir()]
        assert marks == (["BLESSED"] if blessed else ["NOT_BLESSED"])
        return bool(blessed)

    return run


def test_blessed_for_a_gain_even_if_a_slice_is_below_the_floor(is_blessed):
    """5 of 8 against 4 of 8. Of the dogs one in four is right, which would fail a threshold on every slice."""
    assert is_blessed(fine_tuned={0, 1, 2, 3, 4}, feature_extraction={0, 1, 2, 4}, minimum_accuracy=0.6)


def test_a_tie_is_not_blessed(is_blessed):
    assert not is_blessed(fine_tuned={0, 1, 2, 4, 5}, feature_extraction={1, 2, 3, 6, 7})


def test_the_ensembles_answers_do_not_count(is_blessed):
    """As candidate it would be blessed. Evaluator compares the other two, of which fine-tuned is the worse one."""
    assert not is_blessed(fine_tuned={0, 1, 2, 4}, feature_extraction={0, 1, 2, 4, 5}, ensemble=set(range(EXAMPLES)))


@pytest.mark.slow
def test_a_worse_model_is_not_blessed(is_blessed):
    assert not is_blessed(fine_tuned={0, 1, 2, 4}, feature_extraction={0, 1, 2, 4, 5})


def test_a_better_model_below_the_floor_is_not_blessed(is_blessed):
    assert not is_blessed(fine_tuned={0, 1, 2, 4, 5}, feature_extraction={0}, minimum_accuracy=0.7)


@pytest.mark.slow
@pytest.mark.parametrize(("right", "blessed"), [({0, 1, 2, 4}, False), ({0, 1, 2, 4, 5}, True)])
def test_a_gain_of_less_than_the_minimum_is_not_blessed(is_blessed, right, blessed):
    """The minimum lies between the gains 1/8 and 2/8 on 3 of 8."""
    assert is_blessed(fine_tuned=right, feature_extraction={0, 4, 6}, minimum_accuracy=0.1, minimum_gain=0.2) == blessed


@pytest.mark.slow
def test_a_gain_of_exactly_the_minimum_is_blessed(is_blessed):
    """`selection.minimum_gain` is the least gain."""
    assert is_blessed(fine_tuned={0, 1, 2, 4, 5, 6}, feature_extraction={0, 1, 4, 5}, minimum_gain=0.25)


def test_the_configuration_survives_the_way_to_the_executor():
    """TFX hands the configuration over as JSON; the thresholds must be there, for all examples together alone."""
    config = make_eval_config(0.6, 0.0)
    text = json_format.MessageToJson(config, preserving_proto_field_name=True)
    assert json_format.Parse(text, config_pb2.EvalConfig()) == config
    [metric] = [m for m in config.metrics_specs[0].metrics if m.per_slice_thresholds or m.HasField("threshold")]
    assert not metric.HasField("threshold")
    [overall] = metric.per_slice_thresholds
    assert list(overall.slicing_specs) == [config_pb2.SlicingSpec()]
