"""The Predictions component: each model answers each photo of the eval and test splits once."""

import functools
import os
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

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
from tfx.types import Artifact, artifact_utils, standard_artifacts
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
from components.records import read_examples, split_files, text
from schemas import features as f
from schemas import schema_files
from schemas.errors import BadInput

_BATCH = 32


@functools.lru_cache(maxsize=4)
def load_model(folder: str) -> tf.Module:
    """A SavedModel, loaded once a process though Beam asks for it again; `forget_models` lets it go.

    It is kept with its signatures, which do not keep it alive.
    """
    return tf.saved_model.load(folder)


def forget_models() -> None:
    """The steps that follow in this process need the memory."""
    load_model.cache_clear()


class _Answer(beam.DoFn):
    """Batch of (split, serialised example with photo) -> examples with each model's probabilities, tagged."""

    def __init__(self, models: dict[str, str], labels: list[str], with_ensemble: bool):
        self._models, self._labels, self._with_ensemble = models, labels, with_ensemble

    def setup(self):
        self._loaded = {name: load_model(path) for name, path in self._models.items()}
        self._index = {label: i for i, label in enumerate(self._labels)}
        self._counter = progress.Counter(f"photos answered by {' and '.join(self._models).replace('_', ' ')}")

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
            feature = example.features.feature
            label = text(example, f.LABEL)
            if label not in self._index:
                raise BadInput(
                    f"{text(example, f.FILE_NAME)} of {text(example, f.DATASET)} is a {label!r}, which the models do "
                    f"not know; expected {', '.join(self._labels[:5])}{' ...' if len(self._labels) > 5 else ''}, "
                    "so choose another evaluation.further_label, or leave the data set out"
                )
            width, height = (feature[side].int64_list.value[0] for side in (f.WIDTH, f.HEIGHT))
            feature[f.IMAGE_SIZE].bytes_list.value.append(f.image_size(width, height).encode())
            # Where a slice is unknown, Evaluator sees the feature missing and no value that is empty.
            for name in (f.IMAGE, *(name for name in f.SLICES if not text(example, name))):
                del feature[name]
            feature[LABEL_INDEX].int64_list.value.append(self._index[label])
            for name, probabilities in answers.items():
                feature[probabilities_key(name)].float_list.value.extend(probabilities[i])
            yield beam.pvalue.TaggedOutput(split, example.SerializeToString(deterministic=True))
        self._counter.add(len(batch))


def store_answers(
    beam_pipeline: beam.Pipeline,
    examples: Artifact,
    splits: Sequence[str],
    models: dict[str, str],
    labels: list[str],
    predictions: Artifact,
    with_ensemble: bool = False,
    known: AbstractSet[str] = frozenset(),
) -> None:
    """Runs the models over splits of `examples`, in batches of 32, and writes their answers to `predictions`.

    Args:
      beam_pipeline: not yet run.
      examples: with photos.
      splits: of these, to be read and written.
      models: name -> folder of a SavedModel.
      labels: classes in the order of their indices.
      predictions: see `Predictions`.
      with_ensemble: also stores the mean of all models' probabilities.
      known: content hashes of photos to leave out.

    Raises:
      BadInput: a photo's label is not among `labels`.
    """
    with beam_pipeline as pipeline:
        photos = read_splits(pipeline, examples, splits)
        if known:
            photos |= "Unknown" >> beam.Filter(
                lambda row: text(tf.train.Example.FromString(row[1]), f.CONTENT_HASH) not in known
            )
        answers = (
            photos
            | "Batch" >> beam.BatchElements(_BATCH, _BATCH)
            | "Answer" >> beam.ParDo(_Answer(models, labels, with_ensemble)).with_outputs(*splits)
        )
        write_splits(answers, predictions, splits)
    forget_models()


@component(use_beam=True)
def Predictions(
    examples: InputArtifact[standard_artifacts.Examples],
    schema: InputArtifact[standard_artifacts.Schema],
    feature_extraction: InputArtifact[standard_artifacts.Model],
    fine_tuned: InputArtifact[standard_artifacts.Model],
    predictions: OutputArtifact[standard_artifacts.Examples],
    code: Parameter[str],
    ensemble: InputArtifact[standard_artifacts.Model] = None,
    learnt_from: InputArtifact[standard_artifacts.Examples] = None,
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Stores what both models answer, through the signature they are served with.

    `predictions` are the examples of the splits eval and test, of further data sets those of test, without `image`,
    with `image_size` (`schemas/features.py`), `label_index` (int64) and `feature_extraction_probabilities`,
    `fine_tuned_probabilities` (float32 [classes]). What is unknown of a photo (`species`, `breed`) is left out.

    Where there is an `ensemble`, also with `ensemble_probabilities`. It answers with the mean of the two by
    definition, so the mean is stored and it is not run: that would run both models once more. Should it win,
    ServableCheck compares the exported model with what is stored here.

    Args:
      examples: photos, from ImageExampleGen.
      schema: of DataGate; its label domain is the models' classes.
      feature_extraction, fine_tuned, ensemble: the models.
      predictions: what they answer.
      code: fingerprint of the code this step runs; part of the cache key.
      learnt_from: examples of the splits train and eval; their photos are left out, for nobody is examined with what
        he learnt from.
      beam_pipeline: given by TFX.

    Raises:
      BadInput: a label that the models do not know.
    """
    del code
    known = set()
    if learnt_from is not None:
        files = [file for split in ("train", "eval") for file in split_files(learnt_from, split)]
        known = {text(example, f.CONTENT_HASH) for example in read_examples(files)}
    store_answers(
        beam_pipeline,
        examples,
        [split for split in artifact_utils.decode_split_names(examples.split_names) if split != "train"],
        {
            FEATURE_EXTRACTION: path_utils.serving_model_path(feature_extraction.uri),
            FINE_TUNED: path_utils.serving_model_path(fine_tuned.uri),
        },
        schema_files.labels(schema_files.read_schema(os.path.join(schema.uri, schema_files.SCHEMA_FILE))),
        predictions,
        ensemble is not None,
        known,
    )
