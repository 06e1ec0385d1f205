"""TFX's Evaluator, told by `make_eval_config`, blesses the fine-tuned model for a real gain above the floor only."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
import tensorflow_model_analysis as tfma
from google.protobuf import json_format
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2
from tfx.components.evaluator.executor import Executor
from tfx.types import artifact_utils, standard_artifacts

from components.evaluator.answer_metrics import AnswerMetrics
from components.evaluator.eval_config import ACCURACY, make_eval_config
from components.evaluator.metrics import evaluate
from components.evaluator.stored_predictions import (
    ENSEMBLE,
    FEATURE_EXTRACTION,
    FINE_TUNED,
    LABEL_INDEX,
    probabilities_key,
    read_predictions,
)
from schemas import features as f
from tests.in_process import IN_PROCESS

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
def evaluator(tmp_path, write_records):
    """Runs the Evaluator on stored predictions of the eval split; what it finds is below the returned folder."""

    def run(config, eval_rows, test_rows=(), without=()):
        artifacts = {}
        for name, kind in (
            ("examples", standard_artifacts.Examples),
            ("model", standard_artifacts.Model),
            ("baseline_model", standard_artifacts.Model),
            ("evaluation", standard_artifacts.ModelEvaluation),
            ("blessing", standard_artifacts.ModelBlessing),
        ):
            artifacts[name] = kind()
            artifacts[name].uri = str(tmp_path / name)
        artifacts["examples"].split_names = artifact_utils.encode_split_names(["eval", "test"])
        write_records(tmp_path / "examples" / "Split-eval", eval_rows)
        write_records(tmp_path / "examples" / "Split-test", test_rows)
        Executor(Executor.Context(beam_pipeline_args=IN_PROCESS, tmp_dir=str(tmp_path / "temp"), unique_id="1")).Do(
            {name: [artifacts[name]] for name in ("examples", "model", "baseline_model") if name not in without},
            {name: [artifacts[name]] for name in ("evaluation", "blessing")},
            {
                "eval_config": json_format.MessageToJson(config, preserving_proto_field_name=True),
                "example_splits": json.dumps(["eval"]),
            },
        )
        return SimpleNamespace(**artifacts)

    return run


def verdict(run) -> bool | None:
    """Whether the model is blessed; None where Evaluator gave no verdict."""
    folder = Path(run.blessing.uri)
    marks = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    blessed = run.blessing.get_int_custom_property("blessed")
    assert marks == (["BLESSED"] if blessed else ["NOT_BLESSED"] if run.blessing.has_custom_property("blessed") else [])
    return bool(blessed) if marks else None


@pytest.fixture
def is_blessed(evaluator):
    """Runs the Evaluator; the models are right about the examples whose rows are given."""

    def run(fine_tuned, feature_extraction, minimum_accuracy=0.5, minimum_gain=0.0, ensemble=None, without=()):
        right = {FINE_TUNED: fine_tuned, FEATURE_EXTRACTION: feature_extraction}
        if ensemble is not None:
            right[ENSEMBLE] = ensemble
        rows = [
            prediction(row, {model: row in right_rows for model, right_rows in right.items()})
            for row in range(EXAMPLES)
        ]
        # The test split would turn every verdict round: it must not be looked at.
        opposite = [
            prediction(row, {model: row not in right_rows for model, right_rows in right.items()})
            for row in range(EXAMPLES)
        ]
        return verdict(evaluator(make_eval_config(minimum_accuracy, minimum_gain), rows, opposite * 9, without))

    return run


@pytest.mark.slow
@pytest.mark.release
def test_blessed_for_a_gain_even_if_a_slice_is_below_the_floor(is_blessed):
    """5 of 8 against 4 of 8. Of the dogs one in four is right, which would fail a threshold on every slice."""
    assert is_blessed(fine_tuned={0, 1, 2, 3, 4}, feature_extraction={0, 1, 2, 4}, minimum_accuracy=0.6)


@pytest.mark.slow
@pytest.mark.release
def test_a_tie_is_not_blessed(is_blessed):
    assert not is_blessed(fine_tuned={0, 1, 2, 4, 5}, feature_extraction={1, 2, 3, 6, 7})


@pytest.mark.slow
@pytest.mark.release
def test_the_ensembles_answers_do_not_count(is_blessed):
    """As candidate it would be blessed. Evaluator compares the other two, of which fine-tuned is the worse one."""
    assert not is_blessed(fine_tuned={0, 1, 2, 4}, feature_extraction={0, 1, 2, 4, 5}, ensemble=set(range(EXAMPLES)))


@pytest.mark.slow
def test_a_worse_model_is_not_blessed(is_blessed):
    assert not is_blessed(fine_tuned={0, 1, 2, 4}, feature_extraction={0, 1, 2, 4, 5})


@pytest.mark.slow
@pytest.mark.release
def test_a_better_model_below_the_floor_is_not_blessed(is_blessed):
    assert not is_blessed(fine_tuned={0, 1, 2, 4, 5}, feature_extraction={0}, minimum_accuracy=0.7)


@pytest.mark.slow
@pytest.mark.release
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
    config = make_eval_config(0.6, 0.0, code="0123abcd")
    assert config != make_eval_config(0.6, 0.0, code="4567")  # or an edit would leave what is cached
    text = json_format.MessageToJson(config, preserving_proto_field_name=True)
    assert json_format.Parse(text, config_pb2.EvalConfig()) == config
    [metric] = [m for m in config.metrics_specs[0].metrics if m.per_slice_thresholds or m.HasField("threshold")]
    assert not metric.HasField("threshold")
    [overall] = metric.per_slice_thresholds
    assert list(overall.slicing_specs) == [config_pb2.SlicingSpec()]


# What make_eval_config relies on.


def right_rows(fine_tuned, feature_extraction=()):
    """Examples about which the models are right in the rows given."""
    return [
        prediction(row, {FINE_TUNED: row in fine_tuned, FEATURE_EXTRACTION: row in feature_extraction})
        for row in range(EXAMPLES)
    ]


def accuracy_metric(config):
    [metric] = [metric for metric in config.metrics_specs[0].metrics if metric.class_name == ACCURACY]
    return metric


def failures(run) -> dict[tuple, set[str]]:
    """Slice -> what is said against it."""
    result = tfma.load_validation_result(run.evaluation.uri)
    return {
        tuple((key.column, key.bytes_value.decode()) for key in of_slice.slice_key.single_slice_keys): {
            failure.message for failure in of_slice.failures
        }
        for of_slice in result.metric_validations_per_slice
    }


@pytest.mark.slow
@pytest.mark.release
def test_a_plain_threshold_holds_for_every_slice(evaluator):
    """The case that is blessed above: of the dogs one in four is right."""
    config = make_eval_config(0.6, 0.0)
    metric = accuracy_metric(config)
    metric.threshold.value_threshold.CopyFrom(metric.per_slice_thresholds[0].threshold.value_threshold)
    del metric.per_slice_thresholds[:]
    run = evaluator(config, right_rows({0, 1, 2, 3, 4}, {0, 1, 2, 4}))
    assert verdict(run) is False
    assert (("label", "dog"),) in failures(run)
    assert () not in failures(run)


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize(("least_size", "blessed"), [(1, True), (2, False)])
def test_a_slice_below_the_least_size_fails_whatever_it_is_like(evaluator, least_size, blessed):
    """Why floors of slices are not given to Evaluator: all is right, and the threshold does not hold for slices."""
    config = make_eval_config(0.6, 0.0)
    config.options.min_slice_size.value = least_size
    rows = right_rows(range(EXAMPLES))
    rows[0].features.feature[f.IMAGE_FORMAT].bytes_list.value[0] = b"GIF"
    run = evaluator(config, rows)
    assert verdict(run) is blessed
    assert failures(run) == ({} if blessed else {((f.IMAGE_FORMAT, "GIF"),): {"Metric not found."}})


@pytest.mark.slow
@pytest.mark.release
def test_without_thresholds_there_is_no_verdict(evaluator):
    config = make_eval_config(0.6, 0.0)
    del accuracy_metric(config).per_slice_thresholds[:]
    assert verdict(evaluator(config, right_rows(range(EXAMPLES)))) is None


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize(("right", "blessed"), [({0, 1, 2, 4, 5}, True), ({0, 1, 2, 4}, False)])
def test_without_a_baseline_the_floor_alone_decides(is_blessed, right, blessed):
    """As the baseline is right about everything, there is no gain; nobody asks."""
    everything = set(range(EXAMPLES))
    assert is_blessed(right, everything, minimum_accuracy=0.6, without=("baseline_model",)) is blessed


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("missing_from", [range(EXAMPLES), [3]])
def test_predictions_that_are_not_there_are_an_error(evaluator, missing_from, tmp_path):
    """As when a model has gone, or its signature is another; even if of one example alone."""
    rows = right_rows(range(EXAMPLES))
    for row in missing_from:
        del rows[row].features.feature[probabilities_key(FINE_TUNED)]
    with pytest.raises(Exception, match="rediction"):
        evaluator(make_eval_config(0.1, 0.0), rows)
    assert not (tmp_path / "blessing").exists()


@pytest.mark.slow
@pytest.mark.release
def test_thresholds_without_a_model_are_an_error(evaluator, tmp_path):
    """Stored predictions need no model, but the blessing names it: graph.py has to give it."""
    with pytest.raises(KeyError, match="model"):
        evaluator(make_eval_config(0.1, 0.0), right_rows(range(EXAMPLES)), without=("model", "baseline_model"))
    assert not (tmp_path / "blessing").exists()


# What it computes.


def drawn_rows(classes: int, examples: int) -> list[tf.train.Example]:
    """Predictions of models that are often right; one class is never answered, the last one never seen."""
    rng = np.random.default_rng(classes)
    rows = []
    for i in range(examples):
        true = int(rng.integers(0, classes - (classes > 2)))
        example = tf.train.Example()
        feature = example.features.feature
        values = {f.LABEL: f"class {true}", f.IMAGE_FORMAT: ("JPEG", "PNG")[i % 2], f.CONTENT_HASH: f"{i:064d}"}
        values[f.FILE_NAME] = f"{i}.jpg"
        if i % 3:  # of the others the size is not known; of none the species and the breed
            values[f.IMAGE_SIZE] = ("below 256 px", "256-511 px")[i % 3 - 1]
        for name, value in values.items():
            feature[name].bytes_list.value.append(value.encode())
        feature[LABEL_INDEX].int64_list.value.append(true)
        for model in (FINE_TUNED, FEATURE_EXTRACTION):
            logits = rng.normal(0, 1, classes) + 1.5 * (np.arange(classes) == true)
            if classes > 2:
                logits[0] = -3
            feature[probabilities_key(model)].float_list.value.extend(np.exp(logits) / np.exp(logits).sum())
        rows.append(example)
    return rows


def numbers_of(evaluated: dict) -> dict:
    """Our numbers as TensorFlow Model Analysis names them, {(metric, class or None): value}; NaN where undefined."""
    names = {"accuracy": "sparse_categorical_accuracy", "calibration_error": "expected_calibration_error"}
    numbers = {
        (names.get(name, name), None): metric["value"] if metric else math.nan
        for name, metric in evaluated.items()
        if name not in ("per_class", "confusion_matrix")
    }
    numbers["example_count", None] = sum(of_class["examples"] for of_class in evaluated["per_class"].values())
    for class_id, of_class in enumerate(evaluated["per_class"].values()):
        for name, ours in (("precision", "precision"), ("recall", "recall"), ("f1_score", "f1")):
            numbers[name, class_id] = of_class[ours]["value"] if of_class[ours] else math.nan
    return numbers


def numbers_read(metrics: dict) -> dict:
    """What Evaluator wrote about a slice, {(metric, class or None): value}; without the gains on the baseline."""
    return {
        (name, int(sub_key.removeprefix("classId:")) if sub_key else None): float(value["doubleValue"])
        for sub_key, by_name in metrics[""].items()
        for name, value in by_name.items()
        if not name.endswith("_diff")
    }


def matrix_read(plots: dict, classes: int) -> list[list[float]]:
    """The confusion matrix that Evaluator drew."""
    [at_threshold] = plots[""][""]["multiClassConfusionMatrixAtThresholds"]["matrices"]
    matrix = np.zeros((classes, classes))
    for entry in at_threshold["entries"]:
        matrix[entry.get("actualClassId", 0), entry.get("predictedClassId", 0)] = entry["numWeightedExamples"]
    return matrix.tolist()


@pytest.mark.parametrize(("classes", "special"), [(2, {"auc"}), (3, set()), (4, {"top_3_accuracy"})])
def test_the_numbers_do_not_depend_on_how_the_examples_are_spread_over_workers(classes, special):
    [computation] = AnswerMetrics().computations(model_names=[FINE_TUNED])
    combiner = computation.combiner
    elements = [
        metric_types.StandardMetricInputs(
            labels={FINE_TUNED: np.array(row.features.feature[LABEL_INDEX].int64_list.value)},
            predictions={FINE_TUNED: np.array(row.features.feature[probabilities_key(FINE_TUNED)].float_list.value)},
        )
        for row in drawn_rows(classes, 40)
    ]

    def numbers(*parts):
        seen = [combiner.add_inputs(combiner.create_accumulator(), part) for part in parts]
        return combiner.extract_output(combiner.merge_accumulators(iter(seen)))

    whole = numbers(elements)
    always = {"loss", "expected_calibration_error", "precision", "recall", "f1_score"}
    assert {key.name for key in whole} == always | special
    assert numbers(elements[:10], [], elements[10:11], elements[11:], []) == pytest.approx(whole, nan_ok=True)


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("classes", [2, 4])
def test_evaluators_numbers_are_those_of_our_intervals(evaluator, classes):
    """Of both models, over all and on each slice; and TensorFlow Model Analysis' own metrics say the same.

    Its precision and recall of a class ask whether the class has more than half of the probability. Of two classes that
    is the first answer; of more it need not be.
    """
    config = make_eval_config(0.1, 0.0, code="0123abcd")
    theirs = config.metrics_specs.add()
    theirs.metrics.add(class_name="SparseCategoricalCrossentropy", config=json.dumps({"name": "their loss"}))
    if classes == 2:
        of_classes = config.metrics_specs.add()
        of_classes.binarize.class_ids.values.extend(range(classes))
        for class_name, name in (("Precision", "precision"), ("Recall", "recall"), ("F1Score", "f1_score")):
            of_classes.metrics.add(class_name=class_name, config=json.dumps({"name": f"their {name}"}))
    else:
        settings = {"name": "their top_3_accuracy", "k": 3}
        theirs.metrics.add(class_name="SparseTopKCategoricalAccuracy", config=json.dumps(settings))
    run = evaluator(config, drawn_rows(classes, 60))
    stored = read_predictions(run.examples, "eval")
    rows_by_slice = {
        ((feature, value),): rows for feature in f.SLICES for value, rows in stored.rows_by_value(feature).items()
    }
    assert [feature for ((feature, _),) in rows_by_slice].count(f.IMAGE_SIZE) == 2
    rows_by_slice[()] = np.arange(60)
    labels = [f"class {i}" for i in range(classes)]
    for model, probabilities in stored.probabilities.items():
        evaluation = tfma.load_eval_result(run.evaluation.uri, model_name=model)
        plots = dict(evaluation.plots)
        metrics = dict(evaluation.slicing_metrics)
        assert metrics.keys() == rows_by_slice.keys()  # an example without a feature is in none of its slices
        for slice_key, rows in rows_by_slice.items():
            ours = evaluate(probabilities[rows], stored.classes[rows], labels, 0.95, 200, 0)
            read = numbers_read(metrics[slice_key])
            native = {(name.removeprefix("their "), i): read.pop((name, i)) for name, i in [*read] if "their" in name}
            numbers = numbers_of(ours)
            assert read == pytest.approx(numbers, abs=1e-6, nan_ok=True), slice_key
            assert native == pytest.approx({key: numbers[key] for key in native}, abs=1e-6, nan_ok=True), slice_key
            assert len(native) == (7 if classes == 2 else 2)
            assert matrix_read(plots[slice_key], classes) == ours["confusion_matrix"]
