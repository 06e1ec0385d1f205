"""The split of a photo: for life, from its bytes alone or from the official list."""

import hashlib
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from components.example_gen.executor import choose_split
from components.example_gen.found_photos import OFFICIAL_SPLITS

SPLITS = ("train", "eval", "test")
BUCKETS = {"train": 8, "eval": 1, "test": 1}

content_hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
bucket_counts = st.tuples(*[st.integers(1, 1000)] * 3).map(lambda counts: dict(zip(SPLITS, counts, strict=True)))
official_splits = st.sampled_from(sorted(OFFICIAL_SPLITS))


def drawn_hashes(count: int, name: str = "photo") -> list[str]:
    return [hashlib.sha256(f"{name} {i}".encode()).hexdigest() for i in range(count)]


@given(content_hashes, official_splits, bucket_counts)
def test_a_photo_has_one_split(content_hash, official_split, buckets):
    split = choose_split(content_hash, official_split, buckets)
    assert split in SPLITS
    assert choose_split(content_hash, official_split, dict(buckets)) == split
    assert choose_split(content_hash.upper(), official_split, buckets) == split


@given(content_hashes, bucket_counts)
def test_the_official_test_photos_stay_test_photos(content_hash, buckets):
    assert choose_split(content_hash, "test", buckets) == "test"


@given(content_hashes, bucket_counts)
def test_the_official_trainval_photos_never_land_in_test(content_hash, buckets):
    assert choose_split(content_hash, "trainval", buckets) in ("train", "eval")


@given(content_hashes, official_splits, bucket_counts, st.text(max_size=20))
def test_what_a_data_set_says_of_splits_is_kept(content_hash, official_split, buckets, group):
    assert choose_split(content_hash, official_split, buckets, group) in OFFICIAL_SPLITS[official_split]


@given(st.lists(content_hashes, min_size=2), bucket_counts, st.text(min_size=1, max_size=20))
def test_a_series_shares_a_split(photos, buckets, group):
    assert len({choose_split(photo, "", buckets, group) for photo in photos}) == 1


def test_many_series_fill_all_splits():
    counts = Counter(choose_split("0" * 64, "", BUCKETS, f"series {i}") for i in range(5000))
    assert all(abs(counts[split] - 500 * BUCKETS[split]) < 200 for split in SPLITS)


@given(st.lists(content_hashes, min_size=1, unique=True), st.lists(content_hashes))
def test_more_photos_move_none(photos, more):
    assume(not set(photos) & set(more))
    before = {photo: choose_split(photo, "", BUCKETS) for photo in photos}
    after = {photo: choose_split(photo, "", BUCKETS) for photo in sorted(photos + more)}
    assert {photo: after[photo] for photo in photos} == before


@pytest.mark.parametrize(
    ("bucket", "official_split", "split"),
    [
        (0, "", "train"),
        (7, "", "train"),
        (8, "", "eval"),
        (9, "", "test"),
        (10, "", "train"),
        (0, "trainval", "train"),
        (7, "trainval", "train"),
        (8, "trainval", "eval"),
        (9, "trainval", "train"),
        (0, "test", "test"),
    ],
)
def test_buckets_by_hand(bucket, official_split, split):
    assert choose_split(f"{bucket:064x}", official_split, BUCKETS) == split


@pytest.mark.parametrize(("content", "split"), [(b"abcde", "train"), (b"dog", "train"), (b"c", "eval"), (b"a", "test")])
def test_known_contents_keep_their_splits(content, split):
    # A change of these moves photos of existing roots between training and testing.
    assert choose_split(hashlib.sha256(content).hexdigest(), "", BUCKETS) == split


def test_shares_are_about_eight_one_one():
    counts = Counter(choose_split(each, "", BUCKETS) for each in drawn_hashes(5000))
    # Three standard deviations: 85 photos of the train split, 64 of each other one.
    assert counts["train"] == pytest.approx(4000, abs=85)
    assert counts["eval"] == pytest.approx(500, abs=64)
    assert counts["test"] == pytest.approx(500, abs=64)


def test_trainval_photos_share_the_train_and_eval_buckets():
    counts = Counter(choose_split(each, "trainval", BUCKETS) for each in drawn_hashes(4500))
    assert counts["eval"] == pytest.approx(500, abs=64)
    assert set(counts) == {"train", "eval"}


def test_duplicates_of_a_photo_share_its_split():
    photos = [bytes([i]) * 9 for i in range(50)] * 2
    homes = {}
    for photo in photos:
        homes.setdefault(photo, set()).add(choose_split(hashlib.sha256(photo).hexdigest(), "", BUCKETS))
    assert all(len(splits) == 1 for splits in homes.values())
