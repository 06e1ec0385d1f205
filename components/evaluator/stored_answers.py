"""What the Predictions component stored, read back, whatever the task."""

from __future__ import annotations

from tfx.types import Artifact

from components.evaluator import stored_masks, stored_predictions
from components.records import read_examples, split_files
from components.task.judging import StoredAnswers


def read_answers(predictions: Artifact, split: str) -> StoredAnswers:
    """Reads a split of the Predictions artifact; the examples themselves say which task they are of."""
    examples = map(stored_masks.without_pictures, read_examples(split_files(predictions, split)))
    rows = stored_predictions.first_of_copies(examples)
    return stored_masks.of_examples(rows) if stored_masks.are_masks(rows) else stored_predictions.of_examples(rows)
