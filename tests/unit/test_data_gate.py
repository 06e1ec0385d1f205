"""The data gate: each reason to stop, in its words, and data that give none."""

import pytest

from components.data_gate.checks import find_problems

FIT = {"train": {"cat": 8, "dog": 9}, "eval": {"cat": 1, "dog": 1}, "test": {"dog": 1}}


def report(splits=None, reasons=None) -> dict:
    splits = FIT if splits is None else splits
    accepted = sum(sum(counts.values()) for counts in splits.values())
    return {"accepted": accepted, "splits": splits, "reasons": reasons or {}}


def rejected(count: int) -> list[dict[str, str]]:
    return [{"detail": f"cat/{i}.jpg is a text, not a photo"} for i in range(count)]


def problems(splits=None, reasons=None, files=(), anomalies=None, limit=0.1) -> list[str]:
    return find_problems(report(splits, reasons), list(files), anomalies or {}, limit)


def test_fit_data_give_no_problem():
    assert problems() == []
    assert problems(reasons={"not_a_photo": 2}, files=rejected(2)) == []


def test_no_photo_at_all():
    assert problems({"train": {}, "eval": {}, "test": {}}) == [
        "no photo was found; expected JPEG, PNG, GIF or BMP photos"
    ]


def test_no_photo_that_could_be_read_is_the_only_problem_told():
    found = problems({"train": {}}, {"empty": 1, "not_a_photo": 2}, rejected(3), {"train": {"label": "x"}})
    assert found == [
        "no photo could be read: all 3 files were rejected (1 empty, 2 not_a_photo); expected JPEG, PNG, GIF or BMP "
        "photos; the first: cat/0.jpg is a text, not a photo"
    ]


def test_too_many_rejected_files():
    assert problems(reasons={"not_a_photo": 4, "empty": 1}, files=rejected(5)) == [
        "5 of 25 files were rejected (20.0%: 4 not_a_photo, 1 empty), more than data.max_rejected_fraction (10.0%); "
        "replace the files or raise the limit; the first: cat/0.jpg is a text, not a photo"
    ]


@pytest.mark.parametrize(
    ("accepted", "refused", "limit", "stops"),
    [
        (90, 10, 0.1, False),  # the limit itself is allowed
        (89, 11, 0.1, True),
        (9_000, 1_000, 0.1, False),
        (8_999, 1_001, 0.1, True),
        (7, 3, 0.3, False),
        (100, 0, 0.0, False),
        (100, 1, 0.0, True),
        (1, 99, 1.0, False),
    ],
)
def test_the_limit_of_rejected_files(accepted, refused, limit, stops):
    splits = {"train": {"cat": accepted, "dog": 0}, "eval": {"cat": 1}, "test": {"dog": 1}}
    counts = {**report(splits), "accepted": accepted, "reasons": {"empty": refused}}
    assert len(find_problems(counts, rejected(refused), {}, limit)) == stops


def test_a_single_class():
    splits = {"train": {"cat": 8}, "eval": {"cat": 1}, "test": {"cat": 1}}
    assert problems(splits) == [
        "all 10 accepted photos are of one class, 'cat'; expected at least two, one folder each"
    ]


@pytest.mark.parametrize("split", ["eval", "test"])
@pytest.mark.parametrize("absent", [True, False], ids=["absent", "empty"])
def test_an_empty_split(split, absent):
    splits = {name: counts for name, counts in FIT.items() if name != split}
    if not absent:
        splits[split] = {}
    accepted = report(splits)["accepted"]
    assert problems(splits) == [
        f"the {split} split got none of the {accepted} accepted photos; add photos or change data.splits"
    ]


def test_an_empty_train_split_is_not_told_once_more_for_each_class():
    found = problems({**FIT, "train": {}})
    assert found == ["the train split got none of the 3 accepted photos; add photos or change data.splits"]


def test_a_class_that_cannot_be_learnt():
    assert problems({**FIT, "test": {"lynx": 1}}) == [
        "no photo of 'lynx' is in the train split, so it cannot be learnt; add photos"
    ]


def test_many_classes_that_cannot_be_learnt_are_counted():
    found = problems({**FIT, "eval": dict.fromkeys("gfedcba", 1)})
    assert found == [
        "no photo of 'a', 'b', 'c', 'd', 'e' and 2 more is in the train split, so it cannot be learnt; add photos"
    ]


def test_each_anomaly_of_each_split():
    found = problems(
        anomalies={"train": {"width": "is 0", "label": "has 'lynx'"}, "test": {"the data set": "is small"}}
    )
    assert found == [
        "the train split breaks the schema at 'label': has 'lynx'",
        "the train split breaks the schema at 'width': is 0",
        "the test split breaks the schema at 'the data set': is small",
    ]


def test_all_problems_at_once():
    splits = {"train": {"cat": 1, "dog": 1}, "eval": {"lynx": 1}, "test": {}}
    found = problems(splits, {"empty": 3}, rejected(3), {"eval": {"label": "has 'lynx'"}})
    fragments = ["3 of 6 files were rejected", "the test split got none", "no photo of 'lynx'", "breaks the schema"]
    assert len(found) == len(fragments)
    for fragment, problem in zip(fragments, found, strict=True):
        assert fragment in problem
