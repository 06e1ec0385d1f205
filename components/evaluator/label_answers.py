"""How the answers of a classification are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from components.evaluator.stored_predictions import LABEL_INDEX, probabilities_key
from components.records import text
from schemas import features as f
from schemas.errors import BadInput


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
