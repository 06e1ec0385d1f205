"""Whether the model in production can be compared with one of ours: it is loaded and asked about a photo."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from components.evaluator.mask_answers import AskForMasks
from components.loaded_models import load_model
from components.release_gate.decision import COMPARABLE, OTHER_LABELS, OTHER_SIGNATURE, UNREADABLE
from schemas.features import CLASSIFICATION, SEGMENTATION
from schemas.labels import LABELS_FILE, read_labels
from schemas.verdicts import ProductionStanding
from schemas.words import first_line

_OF_THE_MACHINE = (MemoryError, tf.errors.ResourceExhaustedError)


def examine(
    production_model: str, labels: list[str], example: tf.Tensor, kind: str = CLASSIFICATION
) -> ProductionStanding:
    """Whether a model can be compared with one of ours; the version is for the caller to say.

    Args:
      production_model: folder of a SavedModel, by whomever.
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
