"""Whether the model in production can be compared with one of ours: it is loaded and asked about a photo."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from components.loaded_models import load_model
from components.release_gate.decision import COMPARABLE, OTHER_LABELS, OTHER_SIGNATURE, UNREADABLE
from schemas.labels import LABELS_FILE, read_labels
from schemas.verdicts import ProductionStanding
from schemas.words import first_line

_OF_THE_MACHINE = (MemoryError, tf.errors.ResourceExhaustedError)


def examine(production_model: str, labels: list[str], example: Any) -> ProductionStanding:
    """Whether a model can be compared with one of ours; the version is for the caller to say.

    Args:
      production_model: folder of a SavedModel, by whomever.
      labels: the new models' classes.
      example: a serialised example with a photo: bytes, or a string scalar.

    Raises:
      MemoryError, ResourceExhaustedError: memory is short.
    """

    def no(state: str, why: str) -> ProductionStanding:
        return ProductionStanding(state=state, text=f"the model in production cannot be compared: {why}")

    try:
        loaded = load_model(production_model)
    except _OF_THE_MACHINE:  # it says nothing of the model, and must not be kept
        raise
    except Exception as error:  # damaged protocol buffers and variables fail in many ways
        return no(UNREADABLE, f"{production_model} cannot be loaded ({_first_line(error)})")
    signature = getattr(loaded, "signatures", {}).get("serve_examples")
    if signature is None:
        return no(OTHER_SIGNATURE, "it has no signature serve_examples")
    its_labels = read_labels(production_model)
    if its_labels is None:
        return no(OTHER_LABELS, f"it has no {LABELS_FILE}, so its classes are unknown")
    try:
        probabilities = signature(examples=tf.reshape(example, [-1]))["probabilities"].numpy()
    except _OF_THE_MACHINE:
        raise
    except Exception as error:  # somebody else's signature may take and give anything
        return no(OTHER_SIGNATURE, f"its signature serve_examples fails on a photo ({_first_line(error)})")
    if probabilities.shape != (1, len(its_labels)) or not np.isfinite(probabilities).all():
        return no(
            OTHER_SIGNATURE,
            f"its signature serve_examples returns probabilities of shape {list(probabilities.shape)}, not of its "
            f"{len(its_labels)} classes",
        )
    common = [label for label in labels if label in its_labels]
    if len(common) < 2:
        return no(
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


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)[:200]}"
