"""What the Predictions component stored, read back, whatever the task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tfx.types import Artifact

from components.evaluator import stored_masks, stored_predictions
from components.records import read_examples, split_files
from components.task.judging import StoredAnswers


def read_answers(predictions: Artifact, split: str) -> StoredAnswers:
    """Reads a split of the Predictions artifact; the examples themselves say which task they are of."""
    examples = map(stored_masks.without_pictures, read_examples(split_files(predictions, split)))
    rows = stored_predictions.first_of_copies(examples)
    return stored_masks.of_examples(rows) if stored_masks.are_masks(rows) else stored_predictions.of_examples(rows)


def read_expected(predictions: Artifact, model: str, content_hashes: Sequence[str]) -> np.ndarray:
    """What a model answered to a few photos of the test split, for a comparison with what it answers when it is served.

    Args:
      content_hashes: of the photos; all are in the split.

    Returns:
      float32 [photos, classes], probabilities; of masks uint8 [photos, size, size], ids at the model's size.
    """
    stored = read_answers(predictions, "test")
    if isinstance(stored, stored_predictions.StoredPredictions):
        row = {key: i for i, key in enumerate(stored.keys)}
        return stored.probabilities[model][[row[key] for key in content_hashes]]
    found = stored_masks.read_mask_ids(predictions, "test", [model], content_hashes)
    return np.stack([found[key][model] for key in content_hashes])
