"""What is wrong with a model's answers, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

# Rows of float32 probabilities add up to 1 but for rounding.
_SUM_TOLERANCE = 1e-4
_SIGNATURES = ("serving_default", "serve_examples")


@dataclass(frozen=True)
class Limits:
    """What a measurement must not exceed; None: any value will do. The names are those of the configuration."""

    maximum_load_seconds: float | None = None
    maximum_latency_milliseconds: float | None = None
    maximum_batch_latency_milliseconds: float | None = None
    maximum_megabytes: float | None = None


def largest_difference(answers: Mapping[str, np.ndarray], expected: np.ndarray) -> float:
    """Of the probabilities of both signatures from the expected ones; NaN if one is, infinite if the shapes differ.

    Args:
      expected: float32 [n, classes], of the first n photos.
    """
    found = [answers[f"{signature}_probabilities"][: len(expected)] for signature in _SIGNATURES]
    return float(np.max([_difference(each, expected) for each in found]))  # Python's max() may pass over a NaN


def largest_disagreement(answers: Mapping[str, np.ndarray]) -> float:
    """Of the probabilities of `serving_default` from those of `serve_examples` and of `transform_features`' images."""
    others = [answers[name] for name in ("serve_examples_probabilities", "image_probabilities") if name in answers]
    return float(np.max([_difference(each, answers["serving_default_probabilities"]) for each in others]))


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.max(np.abs(found - expected))) if found.shape == expected.shape else float("inf")


def wrong_answers(answers: Mapping[str, np.ndarray], kinds: list[str], tolerance: float) -> list[str]:
    """Whatever contradicts itself, or what the signatures promise.

    Args:
      answers: see `probe`; and `labels`, the model's classes.
      kinds: name of each photo, in order.
      tolerance: largest difference of a probability allowed.

    Returns:
      Parts of a sentence, one for each kind of fault; empty for a model without fault.
    """
    faults = []
    for signature in _SIGNATURES:
        faults += _wrong_outputs(answers, signature, kinds, tolerance)
    disagreement = largest_disagreement(answers)
    if not disagreement <= tolerance:
        faults.append(f"the signatures disagree about a probability by {disagreement:.1e}, more than {tolerance:.0e}")
    faults += wrong_images_and_vectors(answers, len(kinds))
    if not answers["corrupt_error"]:
        faults.append("a JPEG that is cut in half got an answer and no error")
    if not _difference(answers["after_corrupt"], answers["serving_default_probabilities"][0]) <= tolerance:
        faults.append("after a photo that could not be decoded the next one got another answer than before")
    return faults


def wrong_images_and_vectors(answers: Mapping[str, np.ndarray], photos: int) -> list[str]:
    """Faults among what `transform_features` and `feature_vector` give for so many photos, see `wrong_answers`."""
    faults = []
    shape = tuple(int(side) for side in answers["image_shape"])
    if len(shape) != 4 or shape != (photos, shape[1], shape[1], 3):
        faults.append(f"transform_features gives images of shape {shape}, not ({photos}, size, size, 3)")
    low, high = answers["image_range"]
    if not (low >= 0 and high <= 1):
        faults.append(f"transform_features gives values from {low:.3g} to {high:.3g}, not within 0 and 1")
    vectors = answers["feature_vector"]
    if vectors.ndim != 2 or len(vectors) != photos or not np.all(np.isfinite(vectors)):
        faults.append(f"feature_vector gives shape {vectors.shape} or values that are no numbers")
    return faults


def _wrong_outputs(answers: Mapping[str, np.ndarray], signature: str, kinds: list[str], tolerance: float) -> list[str]:
    probabilities, probability = answers[f"{signature}_probabilities"], answers[f"{signature}_probability"]
    labels = answers["labels"]
    if probabilities.shape != (len(kinds), len(labels)):
        return [f"{signature} gives probabilities of shape {probabilities.shape}, not {(len(kinds), len(labels))}"]
    sums = probabilities.sum(axis=1)  # not finite if a value is not
    wrong = {
        "probabilities that do not add up to 1": ~(np.abs(sums - 1) <= _SUM_TOLERANCE),
        "a probability that is not the largest one": probability != probabilities.max(axis=1),
        "a label that is not the likeliest one": answers[f"{signature}_label"] != labels[probabilities.argmax(axis=1)],
    }
    if "abstain_below" in answers and f"{signature}_abstains" in answers:
        limit = answers["abstain_below"]
        wrong[f"abstentions that do not follow from abstain_below ({limit:.2f})"] = (
            answers[f"{signature}_abstains"] != (probability < limit)
        ) & ~(np.abs(probability - limit) <= tolerance)
    return [
        f"{signature} gives {what}, first for the photo {kinds[int(np.argmax(rows))]!r}"
        for what, rows in wrong.items()
        if np.any(rows)
    ]


def exceeded_limits(measured: Mapping[str, float], limits: Limits) -> list[str]:
    """Each limit that is exceeded, as part of a sentence that names its key, what was found and what is allowed.

    Args:
      measured: the limits' names without `maximum_` -> what was found.
      limits: None: any value will do.
    """
    return [
        f"{key.replace('_', ' ')}: {measured[key]:.3g}, more than serving.maximum_{key} ({allowed:g})"
        for key, allowed in _exceeded(measured, limits).items()
    ]


def is_too_slow(measured: Mapping[str, float], limits: Limits) -> bool:
    """Whether a limit of time is exceeded: another measurement of the same model may give less."""
    return any(key != "megabytes" for key in _exceeded(measured, limits))


def _exceeded(measured: Mapping[str, float], limits: Limits) -> dict[str, float]:
    allowed = {limit.name.removeprefix("maximum_"): getattr(limits, limit.name) for limit in fields(limits)}
    return {key: most for key, most in allowed.items() if most is not None and not measured[key] <= most}
