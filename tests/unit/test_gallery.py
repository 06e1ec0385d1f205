"""The gallery of a run: which test photos are shown where there is no room for all, and what is said of them."""

import numpy as np
import pytest

from components.evaluator.stored_predictions import FEATURE_EXTRACTION, FINE_TUNED, StoredPredictions
from components.report.gallery import MOST_MASKS, MOST_PHOTOS, chosen, evenly, gallery, is_low
from components.report.thumbnails import Album

LABELS = ["cat", "dog", "hen"]


def stored(answers: list[tuple[int, list[float]]], model: str = FINE_TUNED) -> StoredPredictions:
    """(true class, probabilities) of each photo."""
    rows = range(len(answers))
    return StoredPredictions(
        keys=[f"{row:064}" for row in rows],
        file_names=[f"{row}.jpg" for row in rows],
        slices={},
        classes=np.array([true for true, _ in answers], np.int64),
        probabilities={model: np.array([shares for _, shares in answers], np.float32)},
    )


def test_mistakes_come_first_then_what_the_model_is_not_sure_of_then_the_rest():
    answers = [(0, [0.9, 0.1, 0]), (1, [0.8, 0.2, 0]), (1, [0.3, 0.4, 0.3]), (2, [0.45, 0.05, 0.5]), (0, [0, 1.0, 0])]
    found = gallery(stored(answers), LABELS, FINE_TUNED, 0.0, Album())
    assert [one["photo"]["name"] for one in found["photos"]] == ["4.jpg", "1.jpg", "2.jpg", "3.jpg", "0.jpg"]
    assert (found["of"], found["wrong"], found["unsure"]) == (5, 2, 2)
    assert [(one["wrong"], one["unsure"]) for one in found["photos"]] == [
        (True, False), (True, False), (False, True), (False, True), (False, False),
    ]  # fmt: skip
    first, unsure = found["photos"][0], found["photos"][3]
    assert (first["photo"]["label"], first["answer"], first["classes"]) == ("cat", "dog", ["cat", "dog"])
    assert (unsure["answer"], unsure["runner_up"]) == ("hen", "cat")
    assert unsure["runner_up_probability"] == pytest.approx(0.45)


def test_where_the_model_abstains_it_is_not_sure():
    answers = [(0, [0.7, 0.1, 0.2]), (1, [0.0, 0.95, 0.05])]
    found = gallery(stored(answers), LABELS, FINE_TUNED, 0.9, Album())
    assert [(one["photo"]["name"], one["unsure"]) for one in found["photos"]] == [("0.jpg", True), ("1.jpg", False)]


def test_without_a_winner_another_model_is_named_and_without_photos_there_is_none():
    found = gallery(stored([(0, [1, 0, 0])], FEATURE_EXTRACTION), LABELS, None, 0.0, Album())
    assert found["model"] == FEATURE_EXTRACTION
    assert gallery(stored([]), LABELS, FINE_TUNED, 0.0, Album()) is None


def answered(wrong: int, unsure: int, right: int) -> dict[str, np.ndarray]:
    """Photos in this order, of two classes in turn within the right ones: all of the first class, then the second."""
    total = wrong + unsure + right
    rows = np.arange(total)
    classes = (rows >= total - right // 4).astype(int)
    return {
        "wrong": rows < wrong,
        "unsure": (rows >= wrong) & (rows < wrong + unsure),
        "probability": np.linspace(0.9, 0.6, total),
        "classes": classes,
    }


@pytest.mark.parametrize(
    ("wrong", "unsure", "right", "shown"),
    [
        (3, 2, 10, (3, 2, 10)),
        (1000, 1000, 1000, (48, 24, 24)),
        (0, 0, 1000, (0, 0, 96)),
        (1000, 5, 10, (81, 5, 10)),
        (10, 1000, 10, (10, 76, 10)),
        (500, 500, 0, (72, 24, 0)),
        (50, 30, 90, (48, 24, 24)),
    ],
)
def test_there_is_room_for_some_of_every_kind(wrong, unsure, right, shown):
    found = answered(wrong, unsure, right)
    rows = chosen(**found)
    assert len(set(rows)) == len(rows) <= MOST_PHOTOS
    kinds = [int(np.sum(found[kind][rows])) for kind in ("wrong", "unsure")]
    assert (*kinds, len(rows) - sum(kinds)) == shown
    # In this order, and the surest mistakes are among them.
    assert list(found["wrong"][rows]) == sorted(found["wrong"][rows], reverse=True)
    assert rows[: shown[0]] == list(range(shown[0]))


def test_the_right_answers_are_of_every_class():
    found = answered(0, 0, 1000)
    assert np.bincount(found["classes"][chosen(**found)]).tolist() == [48, 48]


@pytest.mark.parametrize("photos", [1, 2, MOST_MASKS, 1000])
def test_masks_are_shown_from_the_worst_to_the_best(photos):
    scores = np.random.default_rng(1).uniform(size=photos)
    rows = evenly(scores)
    assert len(set(rows)) == len(rows) == min(photos, MOST_MASKS)
    assert list(scores[rows]) == sorted(scores[rows])
    assert {scores.min(), scores.max()} <= set(scores[rows])
    assert is_low(scores)[rows[0]]
    assert photos < 4 or is_low(scores).sum() == photos // 4
