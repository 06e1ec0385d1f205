"""What the Predictions component stored, read back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tfx.types import Artifact

from components.evaluator.metrics import evaluate, share_interval
from components.model_selector.paired_comparison import are_identical, compare, compare_losses, photos_to_show
from components.records import read_examples, split_files, text
from components.task.judging import IntervalSettings, ProductionScores, StoredAnswers
from schemas import features as f
from schemas.release import Interval
from schemas.verdicts import Comparison, LossComparison


class Accuracy:
    """See `components.task.judging.Measure`."""

    name = key = "accuracy"
    prefix = ""
    compare = staticmethod(compare)
    photos_to_show = staticmethod(photos_to_show)

    def value(self, scores: np.ndarray) -> float:
        return float(np.mean(scores))

    def interval(self, scores: np.ndarray, confidence: float) -> Interval | None:
        found = share_interval(int(scores.sum()), len(scores), confidence)
        return Interval(**found) if found else None

    def compare_classes(self, candidate: np.ndarray, baseline: np.ndarray, confidence: float) -> dict[int, Comparison]:
        return {}


FEATURE_EXTRACTION = "feature_extraction"
FINE_TUNED = "fine_tuned"
ENSEMBLE = "ensemble"
CANDIDATES = (FEATURE_EXTRACTION, FINE_TUNED, ENSEMBLE)  # from the cheapest to the dearest
PRODUCTION = "production"
LABEL_INDEX = "label_index"


def probabilities_key(model: str) -> str:
    """Name of the feature with the probabilities of `model`, float32 [classes]."""
    return f"{model}_probabilities"


@dataclass(frozen=True)
class StoredPredictions(StoredAnswers):
    """The stored predictions of one split of a classification, see `components.task.judging.StoredAnswers`.

    classes: true class indices, int64 [examples]. probabilities: model -> float32 [examples, classes], of the models
    that were stored, cheapest first.
    """

    classes: np.ndarray
    probabilities: dict[str, np.ndarray]
    loss_decides = True

    @property
    def measure(self) -> Accuracy:
        return Accuracy()

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.probabilities)

    def scores(self, model: str) -> np.ndarray:
        """Whether the model's first answer is right, bool [examples]."""
        return np.argmax(self.probabilities[model], axis=1) == self.classes

    def constant_scores(self) -> tuple[int, np.ndarray]:
        commonest = int(np.argmax(np.bincount(self.classes)))
        return commonest, self.classes == commonest

    def production_scores(
        self, labels: Sequence[str], its_labels: Sequence[str], ours: StoredAnswers
    ) -> ProductionScores:
        """Photos of a class that production does not know are left out: it could not answer them."""
        assert isinstance(ours, StoredPredictions)
        known = np.isin(ours.classes, [i for i, label in enumerate(labels) if label in its_labels])
        truth = np.array(labels)[ours.classes]
        answers = np.array(its_labels)[np.argmax(self.probabilities[PRODUCTION], axis=1)]
        return ProductionScores(answers == truth, known)

    def are_identical(self, candidate: str, baseline: str) -> bool:
        return are_identical(self.probabilities[candidate], self.probabilities[baseline])

    def compare_losses(self, candidate: str, baseline: str, confidence: float) -> LossComparison:
        return compare_losses(self.probabilities[candidate], self.probabilities[baseline], self.classes, confidence)

    def evaluate(
        self, model: str, labels: Sequence[str], settings: IntervalSettings, abstain_below: float = 0.0
    ) -> dict[str, Any]:
        return evaluate(
            self.probabilities[model], self.classes, labels, **asdict(settings), abstain_below=abstain_below
        )

    def describe_slice(self, model: str, rows: np.ndarray, confidence: float) -> dict[str, Any]:
        accuracy = self.measure.interval(self.scores(model)[rows], confidence)
        return {"accuracy": asdict(accuracy) if accuracy else None}


def read_predictions(predictions: Artifact, split: str) -> StoredPredictions:
    """Reads a split of the Predictions artifact of a classification."""
    return of_examples(first_of_copies(read_examples(split_files(predictions, split))))


def first_of_copies(examples: Iterable[tf.train.Example]) -> list[tf.train.Example]:
    """Each photo once, in the order of the content hashes; of copies, the one whose name comes first."""
    rows: dict[str, tf.train.Example] = {}
    for example in examples:
        other = rows.setdefault(text(example, f.CONTENT_HASH), example)
        if text(example, f.FILE_NAME) < text(other, f.FILE_NAME):
            rows[text(example, f.CONTENT_HASH)] = example
    return [rows[key] for key in sorted(rows)]


def photos_of(rows: Sequence[tf.train.Example]) -> dict[str, Any]:
    """The fields of `StoredAnswers`."""
    return {
        "keys": [text(e, f.CONTENT_HASH) for e in rows],
        "file_names": [text(e, f.FILE_NAME) for e in rows],
        "slices": {name: [text(e, name) if name in e.features.feature else "" for e in rows] for name in f.SLICES},
    }


def of_examples(rows: Sequence[tf.train.Example]) -> StoredPredictions:
    """The stored predictions of examples, each photo once."""
    return StoredPredictions(
        **photos_of(rows),
        classes=np.array([e.features.feature[LABEL_INDEX].int64_list.value[0] for e in rows], np.int64),
        probabilities={
            model: np.array([e.features.feature[probabilities_key(model)].float_list.value for e in rows], np.float32)
            for model in (*CANDIDATES, PRODUCTION)
            if all(probabilities_key(model) in e.features.feature for e in rows)
        },
    )
