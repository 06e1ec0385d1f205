"""The part that every metric of our own needs to be one of TensorFlow Model Analysis."""

from __future__ import annotations

import apache_beam as beam
from tensorflow_model_analysis.metrics import metric_types, metric_util


class OnePassCombiner(beam.CombineFn):
    """A combiner whose values have names of their own."""

    def __init__(self, key: metric_types.MetricKey):
        self._key = key

    def _named(self, name: str, class_id: int | None = None) -> metric_types.MetricKey:
        sub_key = None if class_id is None else metric_types.SubKey(class_id=class_id)
        return self._key._replace(name=name, sub_key=sub_key)


class OnePassMetric(metric_types.Metric):
    """A metric that a single combiner computes over the examples of a slice.

    `code`, a fingerprint, changes nothing but the configuration, and so Evaluator's cache key.
    """

    def __init__(self, combiner: type[OnePassCombiner], name: str, code: str):
        def computations(
            name: str, code: str, model_name: str = "", output_name: str = "", example_weighted: bool = False
        ) -> metric_types.MetricComputations:
            del code
            key = metric_types.MetricKey(
                name=name, model_name=model_name, output_name=output_name, example_weighted=example_weighted
            )
            return [metric_types.MetricComputation(keys=[key], preprocessors=None, combiner=combiner(key))]

        super().__init__(metric_util.merge_per_key_computations(computations), name=name, code=code)
