"""Which photo counts in which span of a window, and what the spans are together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.example_gen.copies import Key
from components.window.merge import Part, choose_photos, merge_files, merge_reports
from schemas.features import SPLITS


def part(span: int, *keys: str, trained: bool = True, tested: bool = True) -> Part:
    """A span from keys such as `a:train:cat`."""
    return Part(span, f"photos-{span}", f"vectors-{span}", [Key(*key.split(":")) for key in keys], trained, tested)


def report(*labels: str) -> dict:
    return {"layouts": {"cats_vs_dogs": "class_folders"}, "formats": {"JPEG": len(labels)}, "reasons": {"empty": 1}}


def test_without_a_photo_in_common_nothing_is_left_out():
    assert choose_photos([part(1, "a:train:cat"), part(2, "b:train:dog")]) == {1: set(), 2: set()}


def test_of_a_photo_in_several_spans_the_newest_counts_whatever_the_order():
    spans = [part(9, "a:train:cat", "b:eval:cat"), part(10, "a:train:dog"), part(2, "a:train:cat")]
    for order in (spans, spans[::-1]):
        assert choose_photos(order) == {2: {"a"}, 9: {"a"}, 10: set()}


def test_a_photo_that_is_tested_on_is_not_learnt_from_in_another_span():
    assert choose_photos([part(1, "a:test:cat"), part(2, "a:train:cat")]) == {1: set(), 2: {"a"}}


def test_a_test_split_that_is_not_used_takes_nothing_away():
    spans = [part(1, "a:test:cat"), part(2, "a:test:cat", tested=False)]
    assert choose_photos(spans) == {1: set(), 2: set()}


def test_counts_are_of_the_photos_that_count_and_identity_of_what_they_are():
    spans = [part(1, "a:train:cat", "b:train:dog", "t:test:cat"), part(2, "a:train:dog", "u:test:dog", tested=False)]
    left_out = choose_photos(spans)
    reports = {1: report("a", "b", "t"), 2: report("a", "u") | {"converted": {"WebP": 2}}}
    merged, keys = merge_reports(spans, left_out, reports)
    assert merged["splits"] == {"train": {"dog": 2}, "eval": {}, "test": {"cat": 1}}
    assert merged["accepted"] == 3
    assert merged["reasons"] == {"empty": 2}
    assert merged["converted"] == {"WebP": 2}
    assert merged["spans"]["1"] == {"photos": 3, "left_out_as_in_another_span": 1, "trained": True, "tested": True}
    assert merged["spans"]["2"] == {"photos": 1, "left_out_as_in_another_span": 0, "trained": True, "tested": False}
    assert [key.content_hash for key in keys] == ["a", "b", "t"]
    other, _ = merge_reports(spans[::-1], left_out, {1: report("a", "b", "t"), 2: report("a", "u")})
    assert other["data_fingerprint"] == merged["data_fingerprint"]
    without, _ = merge_reports(spans[:1], {1: set()}, {1: report("a", "b", "t")})
    assert without["data_fingerprint"] != merged["data_fingerprint"]


KEYS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(SPLITS), st.sampled_from(["cat", "dog"])),
    max_size=8,
    unique_by=lambda key: key[0],
)


@given(st.lists(st.tuples(KEYS, st.booleans(), st.booleans()), min_size=1, max_size=5))
def test_no_photo_counts_twice_none_is_lost_and_none_is_learnt_from_and_tested_on(drawn):
    spans = [
        Part(number, "", "", [Key(*key) for key in keys], trained, tested)
        for number, (keys, trained, tested) in enumerate(drawn)
    ]
    left_out = choose_photos(spans)
    counted = [
        (key.content_hash, key.split == "test")
        for each in spans
        for key in each.keys
        if each.uses(key.split) and key.content_hash not in left_out[each.span]
    ]
    assert len(counted) == len({content_hash for content_hash, _ in counted})
    used = {key.content_hash for each in spans for key in each.keys if each.uses(key.split)}
    assert {content_hash for content_hash, _ in counted} == used
    tested = {key.content_hash for each in spans if each.tested for key in each.keys if key.split == "test"}
    assert {content_hash for content_hash, is_test in counted if is_test} == tested


@pytest.fixture
def folders(tmp_path, drawn_photos, make_example, write_records):
    """Two spans with their files: (photos, vectors) by span; and the content hashes of the photos of each."""
    from schemas import features as f

    found, hashes = {}, {}
    for span, photos in ((1, drawn_photos[:4]), (12, drawn_photos[2:6])):
        examples = [make_example(photo) for photo in photos]
        hashes[span] = [e.features.feature[f.CONTENT_HASH].bytes_list.value[0].decode() for e in examples]
        for kind in ("photos", "vectors"):
            write_records(tmp_path / kind / str(span) / "Split-train", examples)
            for split in ("eval", "test"):
                write_records(tmp_path / kind / str(span) / f"Split-{split}", [])
        found[span] = (str(tmp_path / "photos" / str(span)), str(tmp_path / "vectors" / str(span)))
    return found, hashes


def test_files_are_linked_in_the_order_of_spans_and_written_anew_only_where_photos_are_left_out(folders, tmp_path):
    from components.records import matching_files, read_examples
    from schemas import features as f

    found, hashes = folders
    spans = [
        Part(span, *found[span], [Key(content_hash, "train", "cat") for content_hash in hashes[span]], True, True)
        for span in (12, 1)
    ]
    left_out = choose_photos(spans)
    assert left_out == {1: set(hashes[1][2:]), 12: set()}
    merge_files(spans, left_out, str(tmp_path / "window"), str(tmp_path / "of_vectors"))
    for folder in ("window", "of_vectors"):
        files = matching_files([str(tmp_path / folder / "Split-train" / "*")])
        read = [e.features.feature[f.CONTENT_HASH].bytes_list.value[0].decode() for e in read_examples(files)]
        assert read == hashes[1][:2] + hashes[12]
    (old,) = (tmp_path / "photos" / "12" / "Split-train").iterdir()
    assert old.stat().st_nlink == 2
    (old,) = (tmp_path / "photos" / "1" / "Split-train").iterdir()
    assert old.stat().st_nlink == 1
