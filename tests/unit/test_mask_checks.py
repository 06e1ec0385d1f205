"""The data gate of masks: each reason to stop, what is only told, and the classes of a window's spans."""

import pytest

from components.data_gate.checks import find_mask_problems, find_notes, find_problems
from components.data_gate.component import schema_of_run
from components.example_gen.copies import Key
from components.example_gen.report import count_masks, read_keys, write_counts
from components.window.merge import Part, merge_reports
from schemas.errors import BadInput
from schemas.schema_files import curated_schema_file, ignored_classes, labels, mask_classes

CLASSES = ("background", "cat", "dog")
PETS = ("pet", "background", "border")


def key(name: str, split: str, *ids: int, mask_hash: str = "m") -> Key:
    """A photo whose mask has ten pixels of each class."""
    return Key(name, split, "", mask_hash, tuple((number, 10) for number in ids))


def report(*keys: Key, classes=CLASSES, notes=(), ignored=()) -> dict:
    splits = {split: {"": sum(each.split == split for each in keys)} for split in ("train", "eval", "test")}
    splits = {split: {label: n for label, n in counts.items() if n} for split, counts in splits.items()}
    return {"accepted": len(keys), "splits": splits, "masks": count_masks(keys, classes, notes, ignored)}


FIT = (key("a", "train", 0, 1, 2), key("b", "eval", 0, 1, 2), key("c", "test", 0, 1, 2))


def test_fit_masks_give_no_problem_although_all_labels_are_one():
    assert find_problems(report(*FIT), [], {}, 0.1) + find_mask_problems(report(*FIT)) == []
    assert find_notes(report(*FIT), []) == []


def test_counts_of_pixels_and_photos():
    counts = count_masks([key("a", "train", 0, 1, 255), key("b", "train", 0), key("c", "test", 2)], CLASSES)
    assert counts["splits"] == {
        "train": {"background": {"photos": 2, "pixels": 20}, "cat": {"photos": 1, "pixels": 10}},
        "eval": {},
        "test": {"dog": {"photos": 1, "pixels": 10}},
    }
    assert counts["ignored_pixels"] == {"train": 10, "eval": 0, "test": 0}


def test_one_class_in_all_pixels():
    keys = [key(name, split, 0) for name, split in (("a", "train"), ("b", "eval"), ("c", "test"))]
    assert find_mask_problems(report(*keys)) == [
        "all 30 pixels of the 3 masks are of one class, 'background'; expected at least two classes: check what the "
        "values of the masks stand for"
    ]


def test_a_class_that_no_training_mask_has():
    keys = (key("a", "train", 0, 1), key("b", "eval", 0, 2), key("c", "test", 0, 1))
    assert find_mask_problems(report(*keys)) == [
        "no mask of the train split has pixels of 'dog' to learn from (only masks of the other splits have it); add "
        "photos that show it"
    ]


def test_a_class_of_the_curated_schema_that_no_mask_has():
    keys = tuple(key(name, split, 0, 1) for name, split in (("a", "train"), ("b", "eval"), ("c", "test")))
    assert find_mask_problems(report(*keys, classes=PETS), PETS) == [
        "no mask of the train split has pixels of 'border' to learn from; add photos that show it"
    ]


def test_a_class_that_only_a_list_names_is_told():
    keys = tuple(key(name, split, 0, 1) for name, split in (("a", "train"), ("b", "eval"), ("c", "test")))
    assert find_mask_problems(report(*keys)) == []
    assert find_notes(report(*keys), []) == ["no mask has pixels of 'dog', so no model can learn it"]


def test_what_is_lacking_where_models_are_chosen_and_tested_is_told():
    keys = (key("a", "train", 0, 1, 2), key("b", "eval", 0, 1), key("c", "test", 0, 2, 255))
    assert find_notes(report(*keys, notes=["the masks were read so."]), []) == [
        "the masks were read so.",
        "no mask of the eval split has pixels of 'dog', so the best epoch is chosen without any",
        "no mask of the test split has pixels of 'cat', so the model is tested without any",
        "12.5% of the pixels of the masks are not counted (value 255)",
    ]


def test_of_a_part_of_the_data_no_class_is_asked_for():
    assert find_mask_problems(report(key("a", "train", 0)), PETS, whole=False) == []


def test_a_split_without_masks_is_still_a_problem():
    [problem] = find_problems(report(*FIT[:2]), [], {}, 0.1)
    assert problem.startswith("the test split got none of the 2 accepted photos")


@pytest.mark.parametrize("label", ["Abyssinian", ""])
def test_a_label_that_lost_its_photos_is_no_class(label):
    counts = {**report(*FIT), "classes": {"Abyssinian": {"accepted": 0, "rejected": 3}}}
    rejected = [{"reason": "mask_missing", "label": label, "file_name": "x", "detail": "x has no mask."}] * 3
    assert find_problems(counts, rejected, {}, 0.5) == []


def test_the_schema_of_a_run_has_the_classes_in_the_order_of_their_ids():
    schema = schema_of_run(curated_schema_file("image_masks"), report(*FIT, classes=("zebra", "cat", "ape")))
    assert (mask_classes(schema), labels(schema)) == (["zebra", "cat", "ape"], [])
    schema = schema_of_run(curated_schema_file("oxford_iiit_pet_masks"), report(*FIT, classes=PETS))
    assert mask_classes(schema) == list(PETS)
    assert ignored_classes(schema) == []


def test_what_is_not_counted_is_told_and_no_class_of_the_schema():
    keys = (key("a", "train", 0, 1, 255), key("b", "eval", 0, 1), key("c", "test", 0, 1))
    counts = report(*keys, classes=("pet", "background"), ignored=["border"])
    assert find_mask_problems(counts, PETS) == []
    assert find_notes(counts, []) == [
        "14.3% of the pixels of the masks are not counted (value 255, and by task.ignore 'border')"
    ]
    schema = schema_of_run(curated_schema_file("oxford_iiit_pet_masks"), counts)
    assert (mask_classes(schema), ignored_classes(schema)) == (["pet", "background"], ["border"])
    del counts["masks"]["ignored"]  # of an older version
    assert ignored_classes(schema_of_run(curated_schema_file("image_masks"), counts)) == []


def test_keys_are_read_back_as_they_were_written(tmp_path):
    keys = [key("a", "train", 0, 255), Key("b", "test", "cat")]
    write_counts(str(tmp_path), {}, [], keys)
    assert read_keys(str(tmp_path)) == keys
    assert len(set(read_keys(str(tmp_path)))) == 2
    # Of a photo without a mask, the line is as older versions write and read it.
    assert (tmp_path / "keys.jsonl").read_text().splitlines()[1] == '["b", "test", "cat"]'


def of_span(number: int, classes, *keys: Key) -> tuple[Part, dict]:
    counts = {"layouts": {}, "formats": {}, "reasons": {}, "masks": count_masks(keys, classes, [f"note {number}"])}
    return Part(number, "", "", keys, True, True), counts


def test_the_spans_of_a_window_together():
    old, of_old = of_span(1, ("class_0", "class_1"), key("a", "train", 0, 1), key("b", "test", 0, mask_hash="wrong"))
    new, of_new = of_span(2, ("class_0", "class_1", "class_2"), key("b", "test", 2, mask_hash="right"))
    merged, keys = merge_reports([old, new], {1: {"b"}, 2: set()}, {1: of_old, 2: of_new})
    assert merged["masks"]["classes"] == ["class_0", "class_1", "class_2"]
    assert merged["masks"]["splits"]["test"] == {"class_2": {"photos": 1, "pixels": 10}}
    assert merged["masks"]["notes"] == ["note 1", "note 2"]
    assert [each.mask_hash for each in keys] == ["m", "right"]
    corrected, _ = of_span(2, ("class_0", "class_1", "class_2"), key("b", "test", 2, mask_hash="corrected"))
    other, _ = merge_reports([old, corrected], {1: {"b"}, 2: set()}, {1: of_old, 2: of_new})
    assert other["data_fingerprint"] != merged["data_fingerprint"]


def test_spans_whose_ids_mean_different_classes_are_refused():
    old, of_old = of_span(1, ("background", "cat"), key("a", "train", 0, 1))
    new, of_new = of_span(2, ("background", "dog", "cat"), key("b", "train", 0, 1))
    with pytest.raises(
        BadInput, match=r"masks of span 1 have the class 'cat' where those of span 2 have 'dog' \(id 1\)"
    ):
        merge_reports([old, new], {1: set(), 2: set()}, {1: of_old, 2: of_new})
