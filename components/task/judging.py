"""What gates, summaries and pages ask of stored answers, whatever the task.

A task brings a `Measure`, by which models are compared, and `StoredAnswers`, which know the scores of each photo. The
two tasks:

|                    | classification                             | segmentation                                     |
|--------------------|--------------------------------------------|--------------------------------------------------|
| an answer          | a class for a photo, with probabilities    | a class for each pixel                           |
| what is stored     | probabilities, float32 [classes]           | confusion of pixels, int64 [classes * classes]   |
| the score          | whether the answer is right, bool          | the confusion, scaled to sum 1, [classes, classes] |
| the measure        | accuracy                                   | mean IoU                                         |
| implemented in     | `evaluator/stored_predictions.py`          | `evaluator/mean_iou.py`,                         |
|                    |                                            | `evaluator/stored_masks.py`                      |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from schemas.release import Interval
from schemas.verdicts import Comparison, LossComparison


@dataclass(frozen=True)
class IntervalSettings:
    """How intervals are computed."""

    confidence: float
    """Level, such as 0.95."""
    samples: int
    """Bootstrap samples, where an interval has no formula."""
    seed: int


class Measure(Protocol):
    """A number by which models are compared. `scores` are one row a photo, as `StoredAnswers.scores` gives them."""

    @property
    def name(self) -> str:
        """In words, such as `accuracy`."""

    @property
    def key(self) -> str:
        """Of the metric in summaries and releases, and of its floor: `release.minimum_<key>`."""

    @property
    def prefix(self) -> str:
        """What a difference is called in a sentence, with a blank at its end; empty for the usual measure."""

    def value(self, scores: np.ndarray) -> float:
        """Over all rows, in [0, 1]; there is at least one."""

    def interval(self, scores: np.ndarray, confidence: float) -> Interval | None:
        """The value with its interval; None: there is no row."""

    def compare(
        self, candidate: np.ndarray, baseline: np.ndarray, confidence: float, samples: int, seed: int
    ) -> Comparison:
        """Compares the scores of two models on the same photos.

        Args:
          candidate, baseline: of the two models, the same photos in the same order; at least one.
          samples, seed: of the bootstrap, if there is one.
        """

    def compare_classes(self, candidate: np.ndarray, baseline: np.ndarray, confidence: float) -> dict[int, Comparison]:
        """Class index -> comparison by this class alone, on the photos that have to do with it.

        Empty where a photo is of one class: then the slices of the label say as much.
        """

    def photos_to_show(self, comparison: Comparison, confidence: float) -> int | None:
        """How many photos would show a gain of this size four times in five; None where there is no gain."""


@dataclass(frozen=True)
class StoredAnswers(ABC):
    """The stored answers of one split, in the order of the content hashes; of copies of a photo, the first one.

    A photo that is there twice says no more than once: intervals and tests count it once.
    """

    keys: list[str]
    """Content hashes, each once."""
    file_names: list[str]
    """Below their data folder."""
    slices: dict[str, list[str]]
    """Feature of `SLICES` -> its value for each photo, empty where unknown."""
    loss_decides: ClassVar[bool]
    """Whether a lower loss makes a model better where the measure does not tell two apart."""

    @property
    @abstractmethod
    def measure(self) -> Measure:
        """By which these answers are compared."""

    @property
    @abstractmethod
    def models(self) -> tuple[str, ...]:
        """Whose answers are stored, cheapest first."""

    def rows_by_value(self, feature: str) -> dict[str, np.ndarray]:
        """Value of a feature of `SLICES` -> the rows that have it, int64 [n]; sorted, without the unknown ones."""
        values = np.array(self.slices[feature])
        return {str(value): np.flatnonzero(values == value) for value in np.unique(values) if value}

    @abstractmethod
    def scores(self, model: str) -> np.ndarray:
        """Score of each photo, [photos, ...]."""

    @abstractmethod
    def constant_scores(self) -> tuple[int, np.ndarray]:
        """The best model that always gives the same answer: index of its class, and its scores."""

    @abstractmethod
    def production_scores(
        self, labels: Sequence[str], its_labels: Sequence[str], ours: StoredAnswers
    ) -> ProductionScores:
        """The scores of the model in production, if these are its answers.

        Args:
          labels: classes of the run's models, in the order of their indices.
          its_labels: those of the model in production.
          ours: answers of the run's models to the same photos.
        """

    @abstractmethod
    def are_identical(self, candidate: str, baseline: str) -> bool:
        """Whether two models give the same answers, but for rounding."""

    @abstractmethod
    def compare_losses(self, candidate: str, baseline: str, confidence: float) -> LossComparison:
        """Compares two models by their mean loss."""

    @abstractmethod
    def evaluate(
        self, model: str, labels: Sequence[str], settings: IntervalSettings, abstain_below: float = 0.0
    ) -> dict[str, Any]:
        """Every metric of a model with its interval, as `schemas.summary.ModelSummary` has them, ready for JSON."""

    @abstractmethod
    def describe_slice(self, model: str, rows: np.ndarray, confidence: float) -> dict[str, Any]:
        """The metrics of some photos, as `schemas.summary.SliceMetrics` has them."""


@dataclass(frozen=True)
class ProductionScores:
    """What the model in production is worth on the photos of a run."""

    scores: np.ndarray
    """One row a photo, as those of the run's models."""
    known: np.ndarray
    """Whether production knows the photo's class, bool [photos]; the others are left out."""
