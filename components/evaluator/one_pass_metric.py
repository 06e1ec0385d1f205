"""The part that every metric of our own needs to be one of TensorFlow Model Analysis."""

from __future__ import annotations

from collections.abc import Callable

import apache_beam as beam
from tensorflow_model_analysis.metrics import metric_types, metric_util


class OnePassMetric(metric_types.Metric):
    """A metric that a single combiner computes over the examples of a slice.

    `code`, a fingerprint, changes nothing but the configuration, and so Evaluator's cache key.
    """

    def __init__(self, combiner: Callable[[metric_types.MetricKey], beam.CombineFn], name: str, code: str):
        def computations(
            name: str, code: str, model_name: str = "", output_name: str = "", example_weighted: bool = False
        ) -> metric_types.MetricComputations:
            del code
            key = metric_types.MetricKey(
                name=name, model_name=model_name, output_name=output_name, example_weighted=example_weighted
            )
            return [metric_types.MetricComputation(keys=[key], preprocessors=None, combiner=combiner(key))]

        super().__init__(metric_util.merge_per_key_computations(computations), name=name, code=code)
