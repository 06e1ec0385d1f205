"""What the Predictions component stored, read back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tfx.types import Artifact

from components.records import read_examples, split_files, text
from schemas import features as f

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
class StoredPredictions:
    """The stored predictions of one split, in the order of the content hashes; of copies of a photo, the first one.

    A photo that is there twice says no more than once: intervals and tests count it once.

    keys: content hashes, each once. file_names: below their data folder. classes: true class indices, int64 [examples].
    probabilities: model -> float32 [examples, classes], of the models that were stored, cheapest first. slices: feature
    of `SLICES` -> its value for each example, empty where unknown.
    """

    keys: list[str]
    file_names: list[str]
    classes: np.ndarray
    probabilities: dict[str, np.ndarray]
    slices: dict[str, list[str]]

    def correct(self, model: str) -> np.ndarray:
        """Whether the model's first answer is right, bool [examples]."""
        return np.argmax(self.probabilities[model], axis=1) == self.classes

    def rows_by_value(self, feature: str) -> dict[str, np.ndarray]:
        """Value of a feature of `SLICES` -> the rows that have it, int64 [n]; sorted, without the unknown ones."""
        values = np.array(self.slices[feature])
        return {str(value): np.flatnonzero(values == value) for value in np.unique(values) if value}


def read_predictions(predictions: Artifact, split: str) -> StoredPredictions:
    """Reads a split of the Predictions artifact."""
    last_first = sorted(
        read_examples(split_files(predictions, split)),
        key=lambda e: (text(e, f.CONTENT_HASH), text(e, f.FILE_NAME)),
        reverse=True,
    )
    rows = list({text(e, f.CONTENT_HASH): e for e in last_first}.values())[::-1]
    return StoredPredictions(
        keys=[text(e, f.CONTENT_HASH) for e in rows],
        file_names=[text(e, f.FILE_NAME) for e in rows],
        classes=np.array([e.features.feature[LABEL_INDEX].int64_list.value[0] for e in rows], np.int64),
        probabilities={
            model: np.array([e.features.feature[probabilities_key(model)].float_list.value for e in rows], np.float32)
            for model in (*CANDIDATES, PRODUCTION)
            if all(probabilities_key(model) in e.features.feature for e in rows)
        },
        slices={name: [text(e, name) if name in e.features.feature else "" for e in rows] for name in f.SLICES},
    )
