"""What TFX Evaluator is told.

It reads the stored predictions instead of running the models again, with the fine-tuned model as candidate and the
feature-extraction model as baseline. Reference: https://www.tensorflow.org/tfx/model_analysis/setup

For all examples and for each slice of `schemas.features.SLICES` it computes the number of examples, the accuracy, the
confusion matrix and what `components.evaluator.answer_metrics` lists, of masks what `components.evaluator.mask_metrics`
lists; an example that lacks a feature is in none of its slices. Intervals are computed by
`components.evaluator.metrics` from the same predictions: those of TensorFlow Model Analysis take minutes, and its
thresholds do not look at them.

The thresholds hold for all examples together. Floors of slices are held by ReleaseGate, for here they would hold for a
slice of one example, too: the only least number there is, `min_slice_size`, fails the model for every smaller slice,
since its accuracy is then "not found".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from tensorflow_model_analysis.proto import config_pb2

from components.evaluator.answer_metrics import AnswerMetrics
from components.evaluator.mask_metrics import MaskMetrics
from components.evaluator.stored_masks import COUNTED_PIXELS, confusion_key
from components.evaluator.stored_predictions import (
    FEATURE_EXTRACTION,
    FINE_TUNED,
    LABEL_INDEX,
    probabilities_key,
)
from schemas import features as f

ACCURACY = "SparseCategoricalAccuracy"
# A tie is no gain.
_LEAST_GAIN = 1e-6


def make_eval_config(
    minimum: float,
    minimum_gain: float,
    slices: Sequence[str] = f.SLICES,
    code: str = "",
    kind: str = f.CLASSIFICATION,
) -> config_pb2.EvalConfig:
    """Metrics, slices and thresholds.

    Args:
      minimum: floor of the candidate's accuracy, of masks of its mean IoU, over all examples.
      minimum_gain: what the candidate must gain in it on the baseline, over all examples.
      slices: the features to slice by, of `SLICES`; a metric costs as much again for every slice.
      code: fingerprint of our own metrics; part of Evaluator's cache key, of which this configuration is the only part
        that we write.
    """
    overall = _overall(minimum, minimum_gain)
    if kind == f.SEGMENTATION:  # which has no label, and some label is asked for
        return _eval_config([_own(MaskMetrics, code, overall)], confusion_key, COUNTED_PIXELS, slices)
    metrics = [
        config_pb2.MetricConfig(class_name=ACCURACY, per_slice_thresholds=[overall]),
        config_pb2.MetricConfig(class_name="MultiClassConfusionMatrixPlot"),
        _own(AnswerMetrics, code),
    ]
    return _eval_config(metrics, probabilities_key, LABEL_INDEX, slices)


def _overall(minimum: float, minimum_gain: float) -> config_pb2.PerSliceMetricThreshold:
    """TFMA applies a plain threshold to every slice; these hold for all examples together."""
    return config_pb2.PerSliceMetricThreshold(
        slicing_specs=[config_pb2.SlicingSpec()],
        threshold=config_pb2.MetricThreshold(
            value_threshold=config_pb2.GenericValueThreshold(lower_bound={"value": minimum}),
            change_threshold=config_pb2.GenericChangeThreshold(
                direction=config_pb2.MetricDirection.HIGHER_IS_BETTER,
                absolute={"value": max(minimum_gain, _LEAST_GAIN)},
            ),
        ),
    )


def _own(metric: type, code: str, *thresholds: config_pb2.PerSliceMetricThreshold) -> config_pb2.MetricConfig:
    return config_pb2.MetricConfig(
        class_name=metric.__name__,
        module=metric.__module__,
        config=json.dumps({"code": code}),
        per_slice_thresholds=thresholds,
    )


def _eval_config(
    metrics: Sequence[config_pb2.MetricConfig], key_of: Callable[[str], str], label_key: str, slices: Sequence[str]
) -> config_pb2.EvalConfig:
    """A configuration with the fine-tuned model as candidate and the feature-extraction model as baseline."""
    counted = config_pb2.MetricConfig(class_name="ExampleCount")
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                name=model,
                model_type="materialized_prediction",
                prediction_key=key_of(model),
                label_key=label_key,
                is_baseline=model == FEATURE_EXTRACTION,
            )
            for model in (FINE_TUNED, FEATURE_EXTRACTION)
        ],
        slicing_specs=[
            config_pb2.SlicingSpec(),
            *(config_pb2.SlicingSpec(feature_keys=[feature]) for feature in slices),
        ],
        metrics_specs=[config_pb2.MetricsSpec(metrics=[counted, *metrics])],
        options=config_pb2.Options(),
    )
