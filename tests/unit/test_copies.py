"""Files with the same bytes: which of them are used, which are not, and what is said of these."""

import hashlib
import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from components.example_gen.copies import (
    CONTRADICTORY_LABEL,
    CONTRADICTORY_MASK,
    MODULUS,
    REASONS,
    AcceptedPhoto,
    find_removals,
    identity,
    without_removed,
)

HELD_BACK = ("train", "eval", "test")


def read(
    content: str, label: str, file_name: str, split: str = "train", dataset: str = "image_folder"
) -> AcceptedPhoto:
    return AcceptedPhoto(hashlib.sha256(content.encode()).hexdigest(), split, label, dataset, file_name, "JPEG")


def told(*photos: AcceptedPhoto) -> dict[str, tuple[str, str]]:
    return {removed.file_name: (removed.reason, removed.detail) for _, removed in find_removals(lambda: photos)}


def test_a_photo_with_two_labels_is_named_with_both_files():
    found = told(read("a", "dog", "dog/copy.jpg"), read("a", "cat", "cat/1.jpg"), read("b", "cat", "cat/2.jpg"))
    assert found == {
        "cat/1.jpg": (
            "contradictory_label",
            "cat/1.jpg is labelled 'cat', but the same photo is also labelled 'dog' (dog/copy.jpg); none of "
            "them is used. Keep the right one and delete the others.",
        ),
        "dog/copy.jpg": (
            "contradictory_label",
            "dog/copy.jpg is labelled 'dog', but the same photo is also labelled 'cat' (cat/1.jpg); none of "
            "them is used. Keep the right one and delete the others.",
        ),
    }


def test_a_placeholder_in_every_class_names_one_file_of_a_few():
    photos = [read("none", label, f"{label}/{i}.jpg") for label in "abcdefg" for i in range(300)]
    found = told(*photos)
    assert len(found) == 2100
    detail = found["b/7.jpg"][1]
    assert "labelled 'a' (a/0.jpg), 'c' (c/0.jpg), 'd' (d/0.jpg) and 3 more; none" in detail


def test_a_file_of_another_data_set_is_named_with_it():
    ours, theirs = read("a", "cat", "1.jpg", "test"), read("a", "dog", "2.jpg", "train", "oxford_iiit_pet")
    assert "labelled 'dog' (2.jpg of oxford_iiit_pet)" in told(ours, theirs)["1.jpg"][1]


def test_copies_of_one_label_stay_in_the_split_that_is_held_back_most():
    copies = [read("a", "cat", f"{split}/1.jpg", split) for split in HELD_BACK]
    assert told(*copies) == {
        "train/1.jpg": ("duplicate_of_test", "train/1.jpg is identical to the test photo test/1.jpg."),
        "eval/1.jpg": ("duplicate_of_test", "eval/1.jpg is identical to the test photo test/1.jpg."),
    }
    assert told(*copies[:2])["train/1.jpg"][0] == "duplicate_of_eval"
    assert told(copies[0], read("a", "cat", "train/2.jpg")) == {}


read_photos = st.lists(
    st.builds(read, st.sampled_from("abcdef"), st.sampled_from("xyz"), st.text(max_size=2), st.sampled_from(HELD_BACK)),
    max_size=30,
)


@given(read_photos)
def test_what_is_left_has_one_label_and_one_split_and_nothing_more_is_lost(photos):
    removals = find_removals(lambda: photos)
    left = Counter(photos) - Counter(photo for photo, _ in removals)
    assert sum(left.values()) == len(photos) - len(removals)
    for content_hash in {photo.content_hash for photo in photos}:
        before = [photo for photo in photos if photo.content_hash == content_hash]
        after = [photo for photo in left.elements() if photo.content_hash == content_hash]
        if len({photo.label for photo in before}) > 1:
            assert after == []
        else:
            held_back = max((photo.split for photo in before), key=HELD_BACK.index)
            assert Counter(after) == Counter(photo for photo in before if photo.split == held_back)
    for photo, rejected in removals:
        assert (rejected.file_name, rejected.dataset, rejected.label) == (photo.file_name, photo.dataset, photo.label)
        assert rejected.reason in REASONS


@given(read_photos, st.randoms())
def test_the_order_of_the_workers_makes_no_difference(photos, random):
    shuffled = random.sample(photos, len(photos))
    assert find_removals(lambda: shuffled) == find_removals(lambda: photos)


def facts(photos) -> list[str]:
    """What the workers count, as they write it."""
    sums: dict[tuple, tuple[int, int]] = {}
    for photo in photos:
        group = (photo.dataset, photo.split, photo.label, photo.image_format)
        count, total = sums.get(group, (0, 0))
        number = identity(photo.content_hash, photo.label, photo.split)
        sums[group] = (count + 1, (total + number) % MODULUS)
    return [json.dumps(item) for item in sums.items()]


@given(read_photos)
def test_the_counts_are_those_of_a_data_set_without_the_removed_photos(photos):
    removals = find_removals(lambda: photos)
    left = Counter(photos) - Counter(photo for photo, _ in removals)
    assert sorted(without_removed(facts(photos), removals)) == sorted(facts(left.elements()))
    assert without_removed(facts(photos), []) == facts(photos)


def test_contradictions_are_none_of_the_duplicates():
    assert REASONS == (CONTRADICTORY_LABEL, CONTRADICTORY_MASK, "duplicate_of_test", "duplicate_of_eval")
