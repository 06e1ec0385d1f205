"""What is wrong with a model's answers, in sentences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

Answers = Mapping[str, np.ndarray]

# Sums in float32 are exact but for rounding.
ROUNDING = 1e-4
_SIGNATURES = ("serving_default", "serve_examples")


@dataclass(frozen=True)
class Limits:
    """What a measurement must not exceed; None: any value will do. The names are those of the configuration."""

    maximum_load_seconds: float | None = None
    maximum_latency_milliseconds: float | None = None
    maximum_batch_latency_milliseconds: float | None = None
    maximum_megabytes: float | None = None


@dataclass(frozen=True)
class Judging(ABC):
    """How a model's answers (`probe`, and `labels`, its classes) are judged, whatever it answers."""

    tolerance: float
    """The largest difference from the answers that `component.check` expects."""
    what: ClassVar[str]
    """Says in a sentence what differs."""
    of_masks: ClassVar[bool]
    _first_output: ClassVar[str]
    """Of `serving_default`; `after_corrupt` has it of the first photo once more."""

    @abstractmethod
    def difference(self, answers: Answers, expected: np.ndarray) -> float:
        """The largest one of the first n photos from the n expected answers; infinite if the shapes differ."""

    @abstractmethod
    def disagreement(self, answers: Answers) -> float:
        """Of the probabilities of one signature from those of the others."""

    def faults(self, answers: Answers, photos: Mapping[str, bytes]) -> list[str]:
        """Whatever contradicts itself, or what the signatures promise.

        Args:
          photos: name of each photo -> its bytes, in order.

        Returns:
          Parts of a sentence, one for each kind of fault; empty for a model without fault.
        """
        faults = self._wrong_outputs(answers, photos)
        disagreement, most = self.disagreement(answers), self._most_disagreement
        if not disagreement <= most:
            faults.append(f"the signatures disagree about a probability by {disagreement:.1e}, more than {most:.0e}")
        faults += _wrong_images_and_vectors(answers, len(photos))
        if not answers["corrupt_error"]:
            faults.append("a JPEG that is cut in half got an answer and no error")
        if not largest(answers["after_corrupt"], answers[self._first_output][0]) <= self.tolerance:
            faults.append("after a photo that could not be decoded the next one got another answer than before")
        return faults

    @property
    def _most_disagreement(self) -> float:
        return self.tolerance

    @abstractmethod
    def _wrong_outputs(self, answers: Answers, photos: Mapping[str, bytes]) -> list[str]: ...


class OfClasses(Judging):
    """Of a model that gives a class for each photo: probabilities, float32 [n, classes]. NaN differs by NaN."""

    what, of_masks = "the probabilities differ", False
    _first_output = "serving_default_probabilities"

    def difference(self, answers: Answers, expected: np.ndarray) -> float:
        found = [answers[f"{signature}_probabilities"][: len(expected)] for signature in _SIGNATURES]
        return float(np.max([largest(each, expected) for each in found]))  # Python's max() may pass over a NaN

    def disagreement(self, answers: Answers) -> float:
        """Of `serving_default` from `serve_examples` and from the model of `transform_features`' images."""
        others = [answers[name] for name in ("serve_examples_probabilities", "image_probabilities") if name in answers]
        return float(np.max([largest(each, answers["serving_default_probabilities"]) for each in others]))

    def _wrong_outputs(self, answers: Answers, photos: Mapping[str, bytes]) -> list[str]:
        return [fault for signature in _SIGNATURES for fault in self._wrong_of(signature, answers, list(photos))]

    def _wrong_of(self, signature: str, answers: Answers, kinds: list[str]) -> list[str]:
        probabilities, probability = answers[f"{signature}_probabilities"], answers[f"{signature}_probability"]
        labels = answers["labels"]
        if probabilities.shape != (len(kinds), len(labels)):
            return [f"{signature} gives probabilities of shape {probabilities.shape}, not {(len(kinds), len(labels))}"]
        sums = probabilities.sum(axis=1)  # not finite if a value is not
        likeliest = labels[probabilities.argmax(axis=1)]
        wrong = {
            "probabilities that do not add up to 1": ~(np.abs(sums - 1) <= ROUNDING),
            "a probability that is not the largest one": probability != probabilities.max(axis=1),
            "a label that is not the likeliest one": answers[f"{signature}_label"] != likeliest,
        }
        if "abstain_below" in answers and f"{signature}_abstains" in answers:
            limit = answers["abstain_below"]
            wrong[f"abstentions that do not follow from abstain_below ({limit:.2f})"] = (
                answers[f"{signature}_abstains"] != (probability < limit)
            ) & ~(np.abs(probability - limit) <= self.tolerance)
        return of_first(signature, wrong, kinds)


def largest(found: np.ndarray, expected: np.ndarray) -> float:
    """Difference of two arrays; NaN if a value is, infinite if the shapes differ."""
    return float(np.max(np.abs(found - expected))) if found.shape == expected.shape else float("inf")


def of_first(signature: str, wrong: Mapping[str, np.ndarray], kinds: list[str]) -> list[str]:
    """A part of a sentence for each fault of a signature that a photo has; `wrong`: fault -> bool [photos]."""
    return [
        f"{signature} gives {what}, first for the photo {kinds[int(np.argmax(rows))]!r}"
        for what, rows in wrong.items()
        if np.any(rows)
    ]


def _wrong_images_and_vectors(answers: Answers, photos: int) -> list[str]:
    """Faults among what `transform_features` and `feature_vector` give for so many photos."""
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


def exceeded_limits(measured: Mapping[str, float], limits: Limits) -> list[str]:
    """Each limit that is exceeded, as part of a sentence that names its key, what was found and what is allowed.

    Args:
      measured: the limits' names without `maximum_` -> what was found.
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
