"""The Predictions component: each model answers each photo of the eval and test splits once."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
from components.beam_records import read_splits, remove_leftovers, write_splits
from components.evaluator import mask_answers
from components.evaluator.mask_answers import AskForMasks, MaskAnswers
from components.evaluator.stored_predictions import (
    ENSEMBLE,
    FEATURE_EXTRACTION,
    FINE_TUNED,
    LABEL_INDEX,
    probabilities_key,
)
from components.loaded_models import forget_models, load_model
from components.records import choose_golden, read_examples, read_records, split_files, text
from schemas import features as f
from schemas import schema_files
from schemas.errors import BadInput
from schemas.words import spelled


class LabelAnswers:
    """Stores the true class of each photo, and each model's probabilities."""

    def __init__(self, labels: Sequence[str]):
        self._labels = labels
        self._index = {label: i for i, label in enumerate(labels)}

    def store(
        self, examples: Sequence[tf.train.Example], answers: Mapping[str, np.ndarray], splits: Sequence[str]
    ) -> None:
        """Adds the answers to the examples.

        Args:
          answers: model -> probabilities, float32 [photos, classes].

        Raises:
          BadInput: a photo's label is not among the models' classes.
        """
        for i, example in enumerate(examples):
            feature = example.features.feature
            label = text(example, f.LABEL)
            if label not in self._index:
                raise BadInput(
                    f"{text(example, f.FILE_NAME)} of {text(example, f.DATASET)} is a {label!r}, which the models do "
                    f"not know; expected {', '.join(self._labels[:5])}{' ...' if len(self._labels) > 5 else ''}, "
                    "so choose another evaluation.further_label, or leave the data set out"
                )
            feature[LABEL_INDEX].int64_list.value.append(self._index[label])
            for name, probabilities in answers.items():
                feature[probabilities_key(name)].float_list.value.extend(probabilities[i])


_BATCH, _STORED_BATCH = 32, 256
_OF_FEATURE_VECTOR_GEN = (f.FEATURE_VECTOR, f.ACTIVATIONS, f.BOUNDARY, f.BRIGHTNESS, f.VIEW)
# Of the predictions: how they were made.
ANSWERED_FROM_PROPERTY = "answered_from"
PHOTOS, STORED = "photos", "stored vectors and activations"


def _of_photos(model: Any, records: Sequence[bytes]) -> np.ndarray:
    """Probabilities float32 [batch, classes] of examples with photos, by the signature that is served."""
    return model.signatures["serve_examples"](examples=tf.constant(records))["probabilities"].numpy()


def _of_stored(model: Any, records: Sequence[bytes]) -> np.ndarray:
    """The same of examples of FeatureVectorGen, by what the model has for them (`ServedModel`)."""
    features = [tf.train.Example.FromString(record).features.feature for record in records]
    if hasattr(model, "probabilities_of_vectors"):
        function = model.probabilities_of_vectors
        values = [np.array(feature[f.FEATURE_VECTOR].float_list.value, np.float32) for feature in features]
    elif hasattr(model, "probabilities_of_activations"):
        function, boundary = model.probabilities_of_activations, model.boundary.numpy()
        if any(
            f.BOUNDARY not in feature or feature[f.BOUNDARY].bytes_list.value[0] != boundary for feature in features
        ):
            raise LookupError
        values = [np.frombuffer(feature[f.ACTIVATIONS].bytes_list.value[0], np.float32) for feature in features]
    else:
        raise LookupError
    [spec] = function.input_signature
    if any(value.size != math.prod(spec.shape[1:]) for value in values):
        raise LookupError
    return function(tf.constant(np.reshape(values, [len(values), *spec.shape[1:]]))).numpy()


@dataclass(frozen=True)
class StoredInputs:
    """Stored vectors and activations that models may answer from instead of photos."""

    vectors: Artifact
    asked_twice: int
    """Number of photos on which the answers from photos and from stored values are compared first."""
    tolerance: float
    """Largest difference of a probability allowed in that comparison."""

    def answers_alike(self, models: dict[str, str], examples: Artifact, splits: Sequence[str]) -> bool:
        """Whether every photo has stored values, and each model gives the same probabilities from them.

        The compared photos include those of ServableCheck, which compares the stored answers with the served model's.
        """
        for split in splits:
            ours, theirs = (_hashes(split_files(artifact, split)) for artifact in (self.vectors, examples))
            if ours != theirs or not ours:
                return False
        split = splits[-1]
        without_values = map(_without_values, read_examples(split_files(self.vectors, split)))
        asked = [text(example, f.CONTENT_HASH) for example in choose_golden(without_values, self.asked_twice)]
        stored, photos = (
            {
                key: example.SerializeToString()
                for example in read_examples(split_files(artifact, split))
                if (key := text(example, f.CONTENT_HASH)) in asked
            }
            for artifact in (self.vectors, examples)
        )
        for folder in models.values():
            model = load_model(folder)
            try:
                answers = _of_stored(model, [stored[key] for key in asked])
            except LookupError:
                return False
            expected = _of_photos(model, [photos[key] for key in asked])
            if answers.shape != expected.shape or not np.max(np.abs(answers - expected)) <= self.tolerance:
                return False
        return True


def _hashes(files: Sequence[str]) -> Counter[bytes]:
    """Content hash -> how many examples have it."""
    spec = {f.CONTENT_HASH: tf.io.FixedLenFeature([], tf.string)}
    batches = read_records(files).batch(_STORED_BATCH).map(lambda r: tf.io.parse_example(r, spec)[f.CONTENT_HASH])
    return Counter(content_hash for batch in batches.as_numpy_iterator() for content_hash in batch)


def _without_values(example: tf.train.Example) -> tf.train.Example:
    for name in (f.FEATURE_VECTOR, f.ACTIVATIONS):
        example.features.feature.pop(name, None)
    return example


class _Unknown(beam.DoFn):
    """(split, serialised example) of photos that are not in files of examples, which each worker reads itself."""

    def __init__(self, files: Sequence[str]):
        self._files = list(files)

    def setup(self):
        self._known = set(_hashes(self._files))

    def process(self, element: tuple[str, bytes]) -> Iterable[tuple[str, bytes]]:
        feature = tf.train.Example.FromString(element[1]).features.feature
        if feature[f.CONTENT_HASH].bytes_list.value[0] not in self._known:
            yield element


class _Answer(beam.DoFn):
    """Batch of (split, serialised example) -> examples with each model's answers, tagged.

    ask: gives probabilities [photos, ...] of a model, such as `_of_photos` or `_of_stored`, by what the examples have.
    """

    def __init__(
        self,
        models: dict[str, str],
        answers: LabelAnswers | MaskAnswers,
        with_ensemble: bool,
        ask: Callable[[Any, Sequence[bytes]], np.ndarray],
    ):
        self._models, self._answers, self._with_ensemble, self._ask = models, answers, with_ensemble, ask

    def setup(self):
        self._loaded = {name: load_model(path) for name, path in self._models.items()}
        self._counter = progress.Counter(f"photos answered by {' and '.join(map(spelled, self._models))}")

    def process(self, batch: list[tuple[str, bytes]]) -> Iterable[beam.pvalue.TaggedOutput]:
        records = [record for _, record in batch]
        answers = {name: self._ask(model, records) for name, model in self._loaded.items()}
        if self._with_ensemble:
            answers[ENSEMBLE] = np.mean(list(answers.values()), axis=0)
        examples = [tf.train.Example.FromString(record) for record in records]
        self._answers.store(examples, answers, [split for split, _ in batch])
        for (split, _), example in zip(batch, examples, strict=True):
            feature = example.features.feature
            width, height = (feature[side].int64_list.value[0] for side in (f.WIDTH, f.HEIGHT))
            feature[f.IMAGE_SIZE].bytes_list.value.append(f.image_size(width, height).encode())
            # Where a slice is unknown, Evaluator sees the feature missing and no value that is empty.
            for name in (f.IMAGE, *_OF_FEATURE_VECTOR_GEN, *(name for name in f.SLICES if not text(example, name))):
                if name in feature:
                    del feature[name]
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
    known_from: Sequence[str] = (),
    stored: StoredInputs | None = None,
    ask_for_masks: AskForMasks | None = None,
    ignored: Sequence[str] = (),
) -> None:
    """Asks the models about splits of `examples` and writes their answers to `predictions`.

    Where FeatureVectorGen has passed the photos through the backbone, and the models can answer from that, they need
    not do it again: the answers are those of the signature that is served, which a part of the photos is asked by too.
    Where these differ by more than rounding, and where one model cannot, all photos are passed through all of it.

    Args:
      models: name -> folder of a SavedModel.
      with_ensemble: also stores the mean of all models' probabilities.
      known_from: files of examples whose photos are left out.
      ask_for_masks: asks for a class for each pixel; None: the models give a class for each photo.
      ignored: names of the pixels' classes that are not counted.

    Raises:
      BadInput: a photo's label is not among `labels`.
    """
    source, batch, how = examples, _BATCH, PHOTOS
    ask: Callable[[Any, Sequence[bytes]], np.ndarray] = _of_photos
    kept: LabelAnswers | MaskAnswers = LabelAnswers(labels)
    if ask_for_masks is not None:
        ask, batch, kept = ask_for_masks, mask_answers.BATCH, MaskAnswers(len(labels), ignored)
    elif stored is not None and stored.answers_alike(models, examples, splits):
        source, ask, batch, how = stored.vectors, _of_stored, _STORED_BATCH, STORED
    predictions.set_string_custom_property(ANSWERED_FROM_PROPERTY, how)
    with beam_pipeline as pipeline:
        photos = read_splits(pipeline, source, splits)
        if known_from:
            photos |= "Unknown" >> beam.ParDo(_Unknown(known_from))
        answers = (
            photos
            | "Batch" >> beam.BatchElements(batch, batch)
            | "Answer" >> beam.ParDo(_Answer(models, kept, with_ensemble, ask)).with_outputs(*splits)
        )
        write_splits(answers, predictions, splits)
    remove_leftovers(predictions, splits)
    forget_models(models.values())


@component(use_beam=True)
def Predictions(
    examples: InputArtifact[standard_artifacts.Examples],
    schema: InputArtifact[standard_artifacts.Schema],
    feature_extraction: InputArtifact[standard_artifacts.Model],
    fine_tuned: InputArtifact[standard_artifacts.Model],
    predictions: OutputArtifact[standard_artifacts.Examples],
    code: Parameter[str],
    asked_twice: Parameter[int] = 0,
    tolerance: Parameter[float] = 0.0,
    ensemble: InputArtifact[standard_artifacts.Model] = None,
    learnt_from: InputArtifact[standard_artifacts.Examples] = None,
    vectors: InputArtifact[standard_artifacts.Examples] = None,
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Stores what both models answer, as through the signature they are served with (`store_answers`).

    `predictions` are the examples of the splits eval and test, of further data sets those of test, without `image`,
    with `image_size` (`schemas/features.py`), `label_index` (int64) and `feature_extraction_probabilities`,
    `fine_tuned_probabilities` (float32 [classes]). What is unknown of a photo (`species`, `breed`) is left out.

    Where there is an `ensemble`, also with `ensemble_probabilities`. It answers with the mean of the two by
    definition, so the mean is stored and it is not run: that would run both models once more. Should it win,
    ServableCheck compares the exported model with what is stored here.

    Of a segmentation it stores, in place of the probabilities, what `components/evaluator/stored_masks.py` lists.

    Args:
      schema: of DataGate; it has the models' classes.
      learnt_from: examples of the splits train and eval; their photos are left out, for nobody is examined with what
        he learnt from.
      vectors, asked_twice, tolerance: see `StoredInputs`.

    Raises:
      BadInput: a label that the models do not know.
    """
    del code
    known_from = []
    if learnt_from is not None:
        known_from = [file for split in ("train", "eval") for file in split_files(learnt_from, split)]
    read_schema = schema_files.read_schema(os.path.join(schema.uri, schema_files.SCHEMA_FILE))
    kind = schema_files.task_kind(read_schema)
    store_answers(
        beam_pipeline,
        examples,
        [split for split in artifact_utils.decode_split_names(examples.split_names) if split != "train"],
        {
            FEATURE_EXTRACTION: path_utils.serving_model_path(feature_extraction.uri),
            FINE_TUNED: path_utils.serving_model_path(fine_tuned.uri),
        },
        schema_files.classes(read_schema, kind),
        predictions,
        ensemble is not None,
        known_from,
        StoredInputs(vectors, asked_twice, tolerance) if vectors is not None else None,
        AskForMasks() if kind == f.SEGMENTATION else None,
        schema_files.ignored_classes(read_schema),
    )
