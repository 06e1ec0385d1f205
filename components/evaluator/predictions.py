"""The Predictions component: each model answers each photo of the eval and test splits once."""

import os
from collections.abc import Iterable

import apache_beam as beam
import numpy as np
import tensorflow as tf
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components import progress
from components.beam_records import read_splits, write_splits
from components.evaluator.stored_predictions import (
    ENSEMBLE,
    FEATURE_EXTRACTION,
    FINE_TUNED,
    LABEL_INDEX,
    probabilities_key,
)
from components.records import text
from schemas import features as f
from schemas import schema_files

_SPLITS = ("eval", "test")
_BATCH = 32


class _Answer(beam.DoFn):
    """Batch of (split, serialised example with photo) -> examples with each model's probabilities, tagged."""

    def __init__(self, models: dict[str, str], labels: list[str], with_ensemble: bool):
        self._models, self._labels, self._with_ensemble = models, labels, with_ensemble

    def setup(self):
        # The loaded models are kept with their signatures, which do not keep them alive.
        self._loaded = {name: tf.saved_model.load(path) for name, path in self._models.items()}
        self._index = {label: i for i, label in enumerate(self._labels)}
        self._counter = progress.Counter("photos answered by both models")

    def process(self, batch: list[tuple[str, bytes]]) -> Iterable[beam.pvalue.TaggedOutput]:
        records = tf.constant([record for _, record in batch])
        answers = {
            name: model.signatures["serve_examples"](examples=records)["probabilities"].numpy()
            for name, model in self._loaded.items()
        }
        if self._with_ensemble:
            answers[ENSEMBLE] = np.mean(list(answers.values()), axis=0)
        for i, (split, record) in enumerate(batch):
            example = tf.train.Example.FromString(record)
            del example.features.feature[f.IMAGE]
            example.features.feature[LABEL_INDEX].int64_list.value.append(self._index[text(example, f.LABEL)])
            for name, probabilities in answers.items():
                example.features.feature[probabilities_key(name)].float_list.value.extend(probabilities[i])
            yield beam.pvalue.TaggedOutput(split, example.SerializeToString(deterministic=True))
        self._counter.add(len(batch))


@component(use_beam=True)
def Predictions(
    examples: InputArtifact[standard_artifacts.Examples],
    schema: InputArtifact[standard_artifacts.Schema],
    feature_extraction: InputArtifact[standard_artifacts.Model],
    fine_tuned: InputArtifact[standard_artifacts.Model],
    predictions: OutputArtifact[standard_artifacts.Examples],
    code: Parameter[str],
    ensemble: InputArtifact[standard_artifacts.Model] = None,
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Stores what both models answer, through the signature they are served with.

    `predictions` are the examples of the splits eval and test without `image`, with `label_index` (int64) and
    `feature_extraction_probabilities`, `fine_tuned_probabilities` (float32 [classes]).

    Where there is an `ensemble`, also with `ensemble_probabilities`. It answers with the mean of the two by
    definition, so the mean is stored and it is not run: that would run both models once more. Should it win,
    ServableCheck compares the exported model with what is stored here.
    """
    del code
    labels = schema_files.labels(schema_files.read_schema(os.path.join(schema.uri, schema_files.SCHEMA_FILE)))
    models = {
        FEATURE_EXTRACTION: path_utils.serving_model_path(feature_extraction.uri),
        FINE_TUNED: path_utils.serving_model_path(fine_tuned.uri),
    }
    with beam_pipeline as pipeline:
        answers = (
            read_splits(pipeline, examples, _SPLITS)
            | "Batch" >> beam.BatchElements(_BATCH, _BATCH)
            | "Answer" >> beam.ParDo(_Answer(models, labels, ensemble is not None)).with_outputs(*_SPLITS)
        )
        write_splits(answers, predictions, _SPLITS)
