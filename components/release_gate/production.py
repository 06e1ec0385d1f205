"""The ProductionPredictions component: what the model now in production answers, on today's test split."""

import os
from dataclasses import replace

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

from components.artifacts import Verdict
from components.evaluator.mask_answers import AskForMasks
from components.evaluator.predictions import StoredInputs, store_answers
from components.evaluator.stored_predictions import PRODUCTION
from components.loaded_models import forget_models, load_model
from components.records import read_records, split_files
from components.release_gate.decision import COMPARABLE, NONE, OTHER_LABELS, OTHER_SIGNATURE, SAME, UNREADABLE
from components.serving_folder.files import model_identity
from components.verdict import write_verdict
from schemas import schema_files
from schemas.features import CLASSIFICATION, SEGMENTATION
from schemas.labels import LABELS_FILE, read_labels
from schemas.verdicts import ProductionStanding
from schemas.words import first_line

_OF_THE_MACHINE = (MemoryError, tf.errors.ResourceExhaustedError)


@component(use_beam=True)
def ProductionPredictions(
    examples: InputArtifact[standard_artifacts.Examples],
    schema: InputArtifact[standard_artifacts.Schema],
    model: InputArtifact[standard_artifacts.Model],
    predictions: OutputArtifact[standard_artifacts.Examples],
    standing: OutputArtifact[Verdict],
    production_model: Parameter[str],
    production_identity: Parameter[str],
    code: Parameter[str],
    mask_size: Parameter[int] = 0,
    asked_twice: Parameter[int] = 0,
    tolerance: Parameter[float] = 0.0,
    vectors: InputArtifact[standard_artifacts.Examples] = None,
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Runs the model in production over the test split, if it can be run and is another one than the winner.

    Args:
      examples: photos, from ImageExampleGen.
      schema: of DataGate; it has the new models' classes.
      model: the winner.
      predictions: the examples of the split test as `Predictions` stores them, with `production_probabilities`, float32
        [classes of the model in production]; without examples unless the two can be compared. Of masks, its confusions
        in the order of the new models' classes.
      standing: whether the two can be compared, see `ProductionStanding`; `other_labels`: they have no two classes in
        common.
      production_model: folder of the version in production; empty: there is none.
      production_identity: of its content; part of the cache key.
      code: fingerprint of the code this step runs; part of the cache key.
      mask_size: side of the new models' masks, at which the two are compared.
      vectors, asked_twice, tolerance: see `StoredInputs`.
      beam_pipeline: given by TFX.
    """
    del code
    read_schema = schema_files.read_schema(os.path.join(schema.uri, schema_files.SCHEMA_FILE))
    kind = schema_files.task_kind(read_schema)
    labels = schema_files.classes(read_schema, kind)
    winner = path_utils.serving_model_path(model.uri)
    if not production_model:
        found = ProductionStanding(state=NONE, text="no model is in production yet")
    elif production_identity == model_identity(winner):
        found = ProductionStanding(state=SAME, text="the winner is the model in production")
    else:
        [photo] = read_records(split_files(examples, "test")).take(1)
        found = examine(production_model, labels, photo, kind)
    if production_model:
        found = replace(found, version=int(os.path.basename(production_model)))
    if found.state == COMPARABLE:
        stored = StoredInputs(vectors, asked_twice, tolerance) if vectors is not None else None
        models = {PRODUCTION: production_model}
        ask = None
        if kind == SEGMENTATION:
            its_labels = found.labels or []
            ask = AskForMasks(mask_size, [its_labels.index(label) for label in labels])
        store_answers(beam_pipeline, examples, ["test"], models, labels, predictions, stored=stored, ask_for_masks=ask)
    forget_models([production_model])  # the trainers may have loaded it
    write_verdict(standing.uri, found)


def examine(
    production_model: str, labels: list[str], example: tf.Tensor, kind: str = CLASSIFICATION
) -> ProductionStanding:
    """Whether a model can be compared with one of ours; the version is for the caller to say.

    Args:
      production_model: folder of a SavedModel, by whomever.
      labels: the new models' classes.
      example: a serialised example with a photo, string scalar.
      kind: `task.kind` of the new models; a model of the other one has another signature.

    Raises:
      MemoryError, ResourceExhaustedError: memory is short.
    """
    try:
        loaded = load_model(production_model)
    except _OF_THE_MACHINE:  # it says nothing of the model, and must not be kept
        raise
    except Exception as error:  # damaged protocol buffers and variables fail in many ways
        return _incomparable(UNREADABLE, f"{production_model} cannot be loaded ({_first_line(error)})")
    name = "probabilities" if kind == SEGMENTATION else "serve_examples"
    signature = getattr(loaded, "signatures", {}).get(name)
    if signature is None:
        why = f"it has no signature {name}"
        if kind == SEGMENTATION and "serve_examples" in getattr(loaded, "signatures", {}):
            why += ": it gives a class for each photo, and the winner one for each pixel"
        return _incomparable(OTHER_SIGNATURE, why)
    its_labels = read_labels(production_model)
    if its_labels is None:
        return _incomparable(OTHER_LABELS, f"it has no {LABELS_FILE}, so its classes are unknown")
    try:
        if kind == SEGMENTATION:
            shape = AskForMasks()(loaded, [example.numpy()]).shape
            expected, finite = (1, *shape[1:3], len(its_labels)), True
        else:
            outputs = signature(examples=tf.reshape(example, [-1]))
            if "probabilities" not in outputs and "mask_png_bytes" in outputs:
                why = "it gives a class for each pixel, and the winner one for each photo"
                return _incomparable(OTHER_SIGNATURE, why)
            probabilities = outputs["probabilities"].numpy()
            shape, expected = probabilities.shape, (1, len(its_labels))
            finite = bool(np.isfinite(probabilities).all())
    except _OF_THE_MACHINE:
        raise
    except Exception as error:  # somebody else's signature may take and give anything
        return _incomparable(OTHER_SIGNATURE, f"its signature {name} fails on a photo ({_first_line(error)})")
    if shape != expected or not finite:
        return _incomparable(
            OTHER_SIGNATURE,
            f"its signature {name} returns probabilities of shape {list(shape)}, not of its {len(its_labels)} classes",
        )
    return _standing_of_classes(labels, its_labels, kind)


def _standing_of_classes(labels: list[str], its_labels: list[str], kind: str) -> ProductionStanding:
    """Whether the classes of the model in production make a comparison possible.

    Masks are compared if the classes are the same, in whatever order: a pixel of a class that one model does not know
    would be wrong with it, whatever it answers.
    """
    common = [label for label in labels if label in its_labels]
    if kind == SEGMENTATION and set(labels) != set(its_labels):
        classes = f"{', '.join(map(repr, its_labels[:5]))}{' ...' if len(its_labels) > 5 else ''}"
        return _incomparable(OTHER_LABELS, f"its pixels have the classes {classes}, and not those of the winner")
    if len(common) < 2:
        return _incomparable(
            OTHER_LABELS,
            f"it shares {len(common)} of its {len(its_labels)} classes with the winner, expected at least two",
        )
    return ProductionStanding(
        state=COMPARABLE,
        labels=its_labels,
        text="it knows the same classes"
        if set(labels) == set(its_labels)
        else f"it knows {len(its_labels)} classes, of which {len(common)} are among the winner's {len(labels)}",
    )


def _incomparable(state: str, why: str) -> ProductionStanding:
    return ProductionStanding(state=state, text=f"the model in production cannot be compared: {why}")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)[:200]}"
