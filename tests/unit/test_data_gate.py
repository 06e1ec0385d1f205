"""The data gate: each reason to stop, in its words, data that give none, and what is only told."""

import pytest

from components.data_gate.checks import find_notes, find_problems

FIT = {"train": {"cat": 8, "dog": 9}, "eval": {"cat": 1, "dog": 1}, "test": {"dog": 1}}


def report(splits=None) -> dict:
    splits = FIT if splits is None else splits
    return {"accepted": sum(sum(counts.values()) for counts in splits.values()), "splits": splits}


def rejected(label="cat", **reasons: int) -> list[dict[str, str]]:
    return [
        {"label": label, "file_name": f"{label}/{i}.jpg", "reason": reason, "detail": f"{label}/{i}.jpg is {reason}."}
        for reason, count in reasons.items()
        for i in range(count)
    ]


def problems(splits=None, files=(), anomalies=None, limit=0.1) -> list[str]:
    return find_problems(report(splits), list(files), anomalies or {}, limit)


def test_fit_data_give_no_problem():
    assert problems() == []
    assert problems(files=rejected(not_a_photo=2)) == []


def test_no_photo_at_all():
    assert problems({"train": {}, "eval": {}, "test": {}}) == [
        "no photos were found; expected JPEG, PNG, GIF or BMP photos"
    ]


def test_no_photo_that_could_be_used_is_the_only_problem_told():
    found = problems({"train": {}}, rejected(empty=1, not_a_photo=2), {"train": {"label": "x"}})
    assert found == [
        "no photo could be used: all 3 files were rejected (1 empty, 2 not_a_photo); expected JPEG, PNG, GIF or BMP "
        "photos; the first: cat/0.jpg is empty."
    ]


def test_too_many_rejected_files():
    assert problems(files=rejected(not_a_photo=4, empty=1)) == [
        "5 of 25 files were rejected (20.0%: 1 empty, 4 not_a_photo), more than data.max_rejected_fraction (10.0%); "
        "replace the files or raise the limit; the first: cat/0.jpg is not_a_photo."
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
    counts = {**report(splits), "accepted": accepted}
    assert len(find_problems(counts, rejected(empty=refused), {}, limit)) == stops
    copies = rejected(contradictory_label=refused, duplicate_of_test=refused, duplicate_of_eval=refused)
    assert find_problems(counts, copies, {}, limit) == []


def test_a_single_class():
    splits = {"train": {"cat": 8}, "eval": {"cat": 1}, "test": {"cat": 1}}
    assert problems(splits) == [
        "all 10 accepted photos are of one class, 'cat'; expected at least two classes, each in a folder of its own"
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
        "the train split has no photos of 'lynx' to learn from; add photos"
    ]


def test_many_classes_that_cannot_be_learnt_are_counted():
    found = problems({**FIT, "eval": dict.fromkeys("gfedcba", 1)})
    assert found == ["the train split has no photos of 'a', 'b', 'c', 'd', 'e' and 2 more to learn from; add photos"]


def test_each_anomaly_of_each_split():
    found = problems(
        anomalies={"train": {"width": "is 0", "label": "has 'lynx'"}, "test": {"the data set": "is small"}}
    )
    assert found == [
        "the train split violates the schema at 'label': has 'lynx'",
        "the train split violates the schema at 'width': is 0",
        "the test split violates the schema at 'the data set': is small",
    ]


def test_all_problems_at_once():
    splits = {"train": {"cat": 1, "dog": 1}, "eval": {"lynx": 1}, "test": {}}
    found = problems(splits, rejected(empty=3), {"eval": {"label": "has 'lynx'"}})
    fragments = ["3 of 6 files were rejected", "the test split got none", "no photos of 'lynx'", "violates the schema"]
    assert len(found) == len(fragments)
    for fragment, problem in zip(fragments, found, strict=True):
        assert fragment in problem


@pytest.mark.parametrize(
    ("accepted", "contradictions", "limit", "stops"),
    [
        (54, 12, 0.01, True),  # six photos of 60, each in both classes
        (990, 10, 0.01, False),  # the limit itself is allowed
        (989, 11, 0.01, True),
        (9_998, 2, 0.0, True),
        (10, 0, 0.0, False),
        (1, 99, 1.0, False),
    ],
)
def test_the_limit_of_photos_with_two_labels(accepted, contradictions, limit, stops):
    counts = {**report(), "accepted": accepted}
    found = find_problems(counts, rejected(contradictory_label=contradictions), {}, 0.0, limit)
    assert len(found) == stops


def test_too_many_photos_with_two_labels():
    counts = {**report(), "accepted": 54}
    assert find_problems(counts, rejected(contradictory_label=12, empty=1), {}, 0.1, 0.01) == [
        "12 of 66 photos (18.2%) have the same bytes as a photo of another class, more than data.max_contradictions "
        "(1.0%); fix the labels, or raise the limit to leave these photos out; the first: "
        "cat/0.jpg is contradictory_label."
    ]


def of_classes(files=(), limit=0.1, whole=True, **classes: tuple[int, int]) -> list[str]:
    """Of classes with so many accepted and rejected files."""
    counted = {label: {"accepted": accepted, "rejected": lost} for label, (accepted, lost) in classes.items()}
    found = {**report(), "accepted": 1000, "classes": {"cat": {"accepted": 10, "rejected": 0}, **counted}}
    return find_problems(found, list(files), {}, limit, whole=whole)


@pytest.mark.parametrize("whole", [True, False])
def test_a_class_that_lost_every_file_is_named(whole):
    assert of_classes(rejected("rabbit", unsupported_format=6), whole=whole, rabbit=(0, 6)) == [
        "the class 'rabbit' (all 6 files were rejected: 6 unsupported_format) has no usable photos; replace the "
        "files, or remove its folder"
    ]
    [problem] = of_classes(rejected("rabbit", contradictory_label=1), whole=whole, rabbit=(0, 1))
    assert "'rabbit' (its only file was rejected: 1 contradictory_label)" in problem


def test_many_classes_that_lost_every_file_are_one_problem():
    files = [line for label in "gfedcba" for line in rejected(label, empty=2)]
    [problem] = of_classes(files, **dict.fromkeys("abcdefg", (0, 2)))
    assert problem.startswith("the classes 'a' (all 2 files were rejected: 2 empty), 'b' (")
    assert "'e' (all 2 files were rejected: 2 empty) and 2 more have no usable photos; replace the files" in problem


def test_an_empty_folder_of_a_class():
    assert of_classes(hamster=(0, 0)) == ["the class 'hamster' has no photos at all; add photos, or remove its folder"]
    assert of_classes(hamster=(0, 0), mouse=(0, 0)) == [
        "the classes 'hamster', 'mouse' have no photos at all; add photos, or remove their folders"
    ]
    assert of_classes(hamster=(0, 0), whole=False) == []  # a span need not have every class


@pytest.mark.parametrize(
    ("accepted", "refused", "limit", "stops"),
    [
        (2, 1, 0.1, False),  # a small class may lose one file
        (2, 2, 0.1, True),
        (18, 2, 0.1, False),  # the limit itself is allowed
        (17, 2, 0.1, True),
        (17, 2, 0.5, False),
        (1, 1, 0.0, False),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_a_class_may_lose_as_much_as_all_may_and_always_one_file(accepted, refused, limit, stops, whole):
    counted = {"pug": {"accepted": accepted, "rejected": refused}}
    files = rejected("pug", empty=refused)
    found = find_problems({**report(), "accepted": 10**6, "classes": counted}, files, {}, max(limit, 1e-3), whole=whole)
    assert len(found) == stops
    if stops:
        assert found == [
            f"2 of the {accepted + refused} files of 'pug' (2 empty) were rejected, more than "
            "data.max_rejected_fraction (10.0%) allows per class; replace the files or raise the limit"
        ]


def test_copies_are_no_damage_of_a_class():
    files = rejected("pug", contradictory_label=5, duplicate_of_test=5)
    assert of_classes(files, pug=(10, 10)) == []


def test_a_report_of_an_older_version_names_no_classes():
    assert problems(files=rejected("rabbit", empty=1)) == []


def test_nothing_to_note():
    assert find_notes(report({split: {"cat": 1, "dog": 1} for split in FIT}), rejected(empty=3)) == []


def test_what_was_left_out_is_noted():
    splits = {split: {"cat": 1, "dog": 1} for split in FIT}
    files = rejected(contradictory_label=2, duplicate_of_test=1, duplicate_of_eval=7)
    assert find_notes(report(splits), files) == [
        "2 photos were left out because the same photo is in two classes: cat/0.jpg, cat/1.jpg",
        "1 copy of a photo in the test split was left out of the other splits: cat/0.jpg",
        "7 copies of photos in the eval split were left out of the other splits: cat/0.jpg, cat/1.jpg, cat/2.jpg, "
        "cat/3.jpg, cat/4.jpg and 2 more",
    ]


def test_a_class_that_nothing_is_tested_on_is_noted():
    assert find_notes(report(), []) == [
        "the test split has no photos of 'cat', so the model is tested without any; add photos"
    ]
    splits = {**FIT, "eval": {"dog": 1}}
    assert [note[:14] for note in find_notes(report(splits), [])] == [
        "the eval split", "the test split",
    ]  # fmt: skip
    assert find_notes(report(), [], whole=False) == []


def test_what_was_left_out_is_counted_in_a_note_and_stops_nothing():
    with_sidecars = {**report(), "left_out": {"sidecar": 1200, "unlabelled": 1}}
    assert find_problems(with_sidecars, [], {}, max_rejected_fraction=0.0) == []
    assert find_notes(with_sidecars, [])[0] == "left out: 1,200 desktop system files, 1 photo without a label"
