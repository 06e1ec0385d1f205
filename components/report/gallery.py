"""The gallery of a run: test photos with the answers of one model.

There is room for `MOST_PHOTOS`. Of more photos, mistakes come first, then answers that the model is not sure of, then
right answers of every class in turn. What is left out is counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from components.evaluator.stored_predictions import StoredPredictions
from components.report.thumbnails import Album
from schemas.findings import CLOSE

MOST_PHOTOS = 96
# Of these, if there are right ones for the rest of the room.
_MOST_WRONG, _MOST_UNSURE = 48, 24
MOST_MASKS = 24  # each has three pictures
_LOWEST_SHARE = 0.25  # of the photos with masks


def gallery(
    stored: StoredPredictions, labels: Sequence[str], winner: str | None, abstain_below: float, album: Album
) -> dict[str, Any] | None:
    """The part `gallery` of the findings (`components.report.findings`).

    Args:
      winner: whose answers are shown; None: the last model's.
      abstain_below: the probability below which it abstains.

    Returns:
      `model`; `of`, `wrong` and `unsure`: how many photos there are, and how many of them are answered wrongly, or
      without being sure; `photos`: entries with `photo`, `answer`, `probability`, `runner_up`,
      `runner_up_probability`, `wrong`, `unsure`, and `classes`: label and answer. None without photos.
    """
    model = winner if winner in stored.probabilities else next(reversed(stored.probabilities), None)
    if model is None or not stored.keys:
        return None
    probabilities = stored.probabilities[model]
    order = np.argsort(-probabilities, axis=1, kind="stable")
    rows = np.arange(len(order))
    first = probabilities[rows, order[:, 0]]
    second = probabilities[rows, order[:, 1]] if len(labels) > 1 else np.zeros(len(order))
    wrong, unsure = order[:, 0] != stored.classes, (first - second < CLOSE) | (first < abstain_below)

    def entry(row: int) -> dict[str, Any]:
        true = labels[stored.classes[row]]
        return {
            "photo": album.photo(stored.keys[row], stored.file_names[row], true, "test"),
            "classes": sorted({true, labels[order[row, 0]]}),
            "answer": labels[order[row, 0]],
            "probability": float(first[row]),
            "runner_up": labels[order[row, 1]] if len(labels) > 1 else "",
            "runner_up_probability": float(second[row]),
            "wrong": bool(wrong[row]),
            "unsure": bool(unsure[row]),
        }

    return {
        "model": model,
        "of": len(rows),
        "wrong": int(wrong.sum()),
        "unsure": int(unsure.sum()),
        "photos": [entry(row) for row in chosen(wrong, unsure, first, stored.classes)],
    }


def chosen(wrong: np.ndarray, unsure: np.ndarray, probability: np.ndarray, classes: np.ndarray) -> list[int]:
    """Rows of the photos that are shown: wrong ones, surest first; unsure ones, least sure first; right ones.

    Args:
      wrong, unsure: bool [photos].
      probability: of the answers, float [photos].
      classes: true class indices, int [photos].
    """
    mistakes = sorted(np.flatnonzero(wrong), key=lambda row: (-probability[row], row))
    doubtful = sorted(np.flatnonzero(unsure & ~wrong), key=lambda row: (probability[row], row))
    of_class: dict[int, list[int]] = defaultdict(list)
    for row in np.flatnonzero(~wrong & ~unsure):
        of_class[classes[row]].append(row)
    turns = zip_longest(*(of_class[index] for index in sorted(of_class)))
    right = [row for turn in turns for row in turn if row is not None]
    enough = [*mistakes[:_MOST_WRONG], *doubtful[:_MOST_UNSURE]]
    wanted = [*enough, *right, *mistakes[_MOST_WRONG:], *doubtful[_MOST_UNSURE:]]
    taken = set(wanted[:MOST_PHOTOS])
    return [int(row) for row in [*mistakes, *doubtful, *right] if row in taken]


def evenly(scores: np.ndarray) -> list[int]:
    """Rows of at most `MOST_MASKS` photos, from the lowest to the highest score, evenly spaced by rank.

    Args:
      scores: mean IoU of each photo, float [photos].
    """
    order = np.argsort(scores, kind="stable")
    places = np.linspace(0, len(order) - 1, min(MOST_MASKS, len(order))).round().astype(int)
    return [int(row) for row in order[places]]


def is_low(scores: np.ndarray) -> np.ndarray:
    """Whether a photo is in the quarter with the lowest scores, bool [photos]."""
    return scores <= np.quantile(scores, _LOWEST_SHARE)
