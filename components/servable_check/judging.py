"""How a model's answers are judged, by what they are: a class for each photo, or one for each pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from components.servable_check import judgement, mask_judgement

Answers = Mapping[str, np.ndarray]

# Two processes that run the same model may differ in the last bits, so pixels between two classes tip over.
_PIXELS_THAT_TIP_OVER = 1e-3
_PROBABILITY_OF_A_PIXEL = 1e-4


@dataclass(frozen=True)
class OfClasses:
    """Of a model that gives a class for each photo. `difference` is from the answers that `component.check` expects."""

    tolerance: float
    """Largest difference of a probability."""
    what = "the probabilities differ"
    of_masks = False

    def difference(self, answers: Answers, expected: np.ndarray) -> float:
        return judgement.largest_difference(answers, expected)

    def disagreement(self, answers: Answers) -> float:
        return judgement.largest_disagreement(answers)

    def faults(self, answers: Answers, photos: Mapping[str, bytes]) -> list[str]:
        return judgement.wrong_answers(answers, list(photos), self.tolerance)


@dataclass(frozen=True)
class OfMasks:
    """Of a model that gives masks; the difference is a share of a photo's pixels."""

    tolerance: float = _PIXELS_THAT_TIP_OVER
    what = "the masks differ in a share of their pixels"
    of_masks = True

    def difference(self, answers: Answers, expected: np.ndarray) -> float:
        return mask_judgement.largest_difference(answers, expected)

    def disagreement(self, answers: Answers) -> float:
        return mask_judgement.largest_disagreement(answers)

    def faults(self, answers: Answers, photos: Mapping[str, bytes]) -> list[str]:
        return mask_judgement.wrong_answers(answers, photos, self.tolerance, _PROBABILITY_OF_A_PIXEL)


def judging_of(expected: np.ndarray, tolerance: float) -> OfClasses | OfMasks:
    """The way to judge by the expected answers: probabilities [photos, classes] or ids [photos, size, size]."""
    return OfMasks() if expected.ndim == 3 else OfClasses(tolerance)
