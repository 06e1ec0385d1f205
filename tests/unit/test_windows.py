"""Which spans are complete, and which of them are trained on."""

from __future__ import annotations

import datetime
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from components.example_gen import found_photos, layouts, photo_folder
from components.example_gen.spans import (
    SpanFolders,
    Spans,
    UnfinishedFolder,
    choose_window,
    find_spans,
    fingerprint,
    resolve_sources,
    span_number,
)
from schemas.errors import BadInput

NOW = 1_800_000_000  # seconds since 1970
SETTLE = 300
OLD = 10_000  # seconds ago
PHOTO = {"cat/1.jpg": OLD}


def place(root, name: str, files: dict[str, int] | None = None, folders: int = OLD, marker: str = "") -> None:
    """A folder of files, by their age in seconds; its own age and that of the folders in it; its marker is new."""
    base = Path(root, name)
    base.mkdir(parents=True, exist_ok=True)
    for path, age in (PHOTO if files is None else files).items():
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_bytes(path.encode())
        os.utime(base / path, (NOW - age, NOW - age))
    if marker:
        (base / marker).write_bytes(b"")
        os.utime(base / marker, (NOW, NOW))
    for folder, _, _ in os.walk(base, topdown=False):
        os.utime(folder, (NOW - folders, NOW - folders))


def found(root, pattern: str = "{SPAN}", **keywords) -> Spans:
    return find_spans({"image_folder": f"{root}/{pattern}"}, **{"settle_seconds": SETTLE, "now": NOW, **keywords})


def names(root, spans: Spans | tuple[SpanFolders, ...]) -> list[str]:
    """The folders of complete spans, below the root."""
    complete = spans.complete if isinstance(spans, Spans) else spans
    return [os.path.relpath(span.folders["image_folder"], root) for span in complete]


def waiting(root, spans: Spans) -> dict[str, str]:
    """Folder below the root -> why it is not complete."""
    return {os.path.relpath(unfinished.folder, root): unfinished.reason for unfinished in spans.unfinished}


def changed(seconds: int, marker: str = "_SUCCESS") -> str:
    return f"changed {seconds} s ago and has no {marker} file; it counts as complete after 300 s without a change"


# What makes a folder complete.


def test_a_folder_is_complete_when_it_has_settled(tmp_path):
    place(tmp_path, "1", {"cat/1.jpg": 300, "dog/1.jpg": 301}, folders=300)
    place(tmp_path, "2", {"cat/1.jpg": 299, "dog/1.jpg": 301}, folders=300)
    assert found(tmp_path) == Spans(
        (SpanFolders(1, None, {"image_folder": f"{tmp_path}/1"}, "1"),),
        (UnfinishedFolder(f"{tmp_path}/2", changed(299), 2, True),),
    )
    assert names(tmp_path, found(tmp_path, now=NOW + 1)) == ["1", "2"]


@pytest.mark.parametrize(
    "youngest",
    ["a file", "a file far below", "the folder", "a folder in it", "an empty folder in it", "a file behind a link"],
)
def test_one_change_anywhere_is_a_change(tmp_path, youngest):
    place(tmp_path, "spans/1", {"cat/1.jpg": OLD, "cat/a/b/c/2.jpg": OLD})
    place(tmp_path, "elsewhere", {"3.jpg": OLD})
    (tmp_path / "spans" / "1" / "empty").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "spans" / "1" / "dog")
    place(tmp_path, "spans/1", {})
    assert names(tmp_path, found(tmp_path, "spans/{SPAN}")) == ["spans/1"]
    path = {
        "a file": "spans/1/cat/1.jpg",
        "a file far below": "spans/1/cat/a/b/c/2.jpg",
        "the folder": "spans/1",
        "a folder in it": "spans/1/cat/a/b",
        "an empty folder in it": "spans/1/empty",
        "a file behind a link": "elsewhere/3.jpg",
    }[youngest]
    os.utime(tmp_path / path, (NOW - 7, NOW - 7))
    spans = found(tmp_path, "spans/{SPAN}")
    assert (spans.complete, waiting(tmp_path, spans)) == ((), {"spans/1": changed(7)})


def test_a_marker_completes_a_folder_at_once(tmp_path):
    place(tmp_path, "1", {"cat/1.jpg": 0}, folders=0, marker="_SUCCESS")
    place(tmp_path, "2", {"cat/1.jpg": 0}, folders=0, marker="DONE")
    place(tmp_path, "3", {"cat/1.jpg": 0, "cat/_SUCCESS": 0}, folders=0)
    place(tmp_path, "4", {"cat/1.jpg": 0, "_SUCCESS/1.jpg": 0}, folders=0)
    assert names(tmp_path, found(tmp_path)) == ["1"]
    assert names(tmp_path, found(tmp_path, success_file="DONE")) == ["2"]
    assert waiting(tmp_path, found(tmp_path, success_file="DONE"))["1"] == changed(0, "DONE")


def test_without_waiting_every_folder_is_complete(tmp_path):
    place(tmp_path, "1", {"cat/1.jpg": -5}, folders=0)
    assert names(tmp_path, found(tmp_path, settle_seconds=0)) == ["1"]
    assert waiting(tmp_path, found(tmp_path)) == {
        "1": "changed 5 s in the future and has no _SUCCESS file; it counts as complete after 300 s without a change"
    }


def test_the_clock_is_that_of_this_machine(tmp_path):
    place(tmp_path, "1")
    (tmp_path / "1" / "cat" / "2.jpg").write_bytes(b"new")
    assert names(tmp_path, found(tmp_path, now=None)) == []
    (tmp_path / "1" / "cat" / "2.jpg").unlink()
    for path in (tmp_path / "1" / "cat", tmp_path / "1" / "cat" / "1.jpg", tmp_path / "1"):
        os.utime(path, (1e9, 1e9))
    assert names(tmp_path, found(tmp_path, now=None)) == ["1"]


def test_an_unfinished_version_leaves_the_one_before_in_force(tmp_path):
    place(tmp_path, "1/v1")
    place(tmp_path, "1/v2", folders=20)
    place(tmp_path, "1/v3", {"cat/1.jpg": 10})
    place(tmp_path, "2/v1", folders=30)
    spans = found(tmp_path, "{SPAN}/v{VERSION}")
    assert spans.complete == (SpanFolders(1, 1, {"image_folder": f"{tmp_path}/1/v1"}, "1"),)
    assert waiting(tmp_path, spans) == {"1/v3": changed(10), "1/v2": changed(20), "2/v1": changed(30)}
    place(tmp_path, "1/v2", folders=20, marker="_SUCCESS")
    spans = found(tmp_path, "{SPAN}/v{VERSION}")
    assert names(tmp_path, spans) == ["1/v2"]
    assert waiting(tmp_path, spans) == {"1/v3": changed(10), "2/v1": changed(30)}
    assert [span.version for span in spans.complete] == [2]


def test_a_marker_beside_the_versions_says_nothing_about_them(tmp_path):
    place(tmp_path, "1/v1", folders=0)
    place(tmp_path, "1", {}, folders=0, marker="_SUCCESS")
    assert names(tmp_path, found(tmp_path, "{SPAN}/v{VERSION}")) == []


def test_a_remote_address_is_looked_at_like_a_local_folder(tmp_path):
    pytest.importorskip("tensorflow")
    place(tmp_path, "1")
    place(tmp_path, "2", {"cat/1.jpg": 9})
    place(tmp_path, "3", {"cat/1.jpg": OLD}, folders=8)
    place(tmp_path, "4", {"cat/1.jpg": 0}, marker="DONE")
    place(tmp_path, "5", {}, marker="DONE")
    place(tmp_path, "6", {"DONE/1.jpg": 7})
    for keywords in ({}, {"success_file": "DONE"}, {"settle_seconds": 0}):
        local, remote = found(tmp_path, **keywords), found(f"file://{tmp_path}", **keywords)
        assert [(s.number, s.empty, s.folders["image_folder"]) for s in remote.complete] == [
            (s.number, s.empty, "file://" + s.folders["image_folder"]) for s in local.complete
        ]
        assert [(u.folder, u.reason) for u in remote.unfinished] == [
            ("file://" + u.folder, u.reason) for u in local.unfinished
        ]
    span = found(tmp_path).complete[0]
    address = SpanFolders(1, None, {"image_folder": f"file://{tmp_path}/1"}, "1")
    assert len(fingerprint(span)) == len(fingerprint(address)) == len("image_folder:") + 64


AGES = st.sampled_from([0, SETTLE - 1, *[SETTLE, SETTLE + 1, OLD] * 4])
FOLDERS = st.fixed_dictionaries(
    {
        "files": st.dictionaries(
            st.sampled_from(["1.jpg", "cat/1.jpg", "cat/a/2.jpg", "dog/1.jpg", "cat/_SUCCESS"]), AGES, max_size=4
        ),
        "folders": AGES,
        "marker": st.sampled_from(["", "", "_SUCCESS", "DONE"]),
    }
)


def is_complete(folder: dict, success_file: str) -> bool:
    """The rule again, of what was placed rather than of what lies there."""
    # Another marker is but a file, and a new one.
    ages = [*folder["files"].values(), folder["folders"], *([0] if folder["marker"] else [])]
    return folder["marker"] == success_file or min(ages) >= SETTLE


def holds_photos(folder: dict, success_file: str) -> bool:
    stray = folder["marker"] not in ("", "_SUCCESS", success_file)
    return stray or any(not path.endswith("_SUCCESS") for path in folder["files"])


@settings(max_examples=150, deadline=None)
@given(
    versions=st.dictionaries(st.tuples(st.integers(8, 11), st.integers(8, 11)), FOLDERS, min_size=1, max_size=8),
    success_file=st.sampled_from(["_SUCCESS", "DONE"]),
)
def test_of_each_span_the_newest_complete_version_is_found(tmp_path_factory, versions, success_file):
    root = tmp_path_factory.mktemp("spans")
    expected: dict[int, tuple[int, bool]] = {}
    left: list[str] = []
    for (number, version), folder in sorted(versions.items()):
        place(root, f"{number}/v{version}", **folder)
        if is_complete(folder, success_file):
            expected[number] = version, not holds_photos(folder, success_file)
            left = [name for name in left if not name.startswith(f"{number}/")]
        else:
            left.append(f"{number}/v{version}")
    spans = found(root, "{SPAN}/v{VERSION}", success_file=success_file)
    event(f"{len(expected)} complete, {len(spans.empty)} of them empty, {len(left)} unfinished")
    assert {span.number: (span.version, span.empty) for span in spans.complete} == expected
    assert [span.number for span in spans.complete] == sorted(expected)
    assert sorted(waiting(root, spans)) == sorted(left)
    assert [unfinished.number for unfinished in spans.unfinished] == sorted(u.number for u in spans.unfinished)


# Order.


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**18 - 1) | st.integers(0, 200), min_size=1, unique=True, max_size=6), st.data())
def test_numbers_are_ordered_as_numbers_whenever_their_folders_were_made(tmp_path_factory, numbers, data):
    roots = [tmp_path_factory.mktemp("spans") for _ in range(2)]
    for number in numbers:
        place(roots[0], f"span-{number}")
    for number in data.draw(st.permutations(numbers)):
        place(roots[1], f"span-{number}")
    for root in roots:
        spans = found(root, "span-{SPAN}")
        assert names(root, spans) == [f"span-{number}" for number in sorted(numbers)]
        assert [(span.number, span.shown, span.span) for span in spans.complete] == [
            (number, str(number), number) for number in sorted(numbers)
        ]
        newest = choose_window(spans, 2)
        assert names(root, newest) == [f"span-{number}" for number in sorted(numbers)[-2:]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dates(), min_size=1, unique=True, max_size=6), st.data())
def test_days_are_ordered_as_days_whenever_their_folders_were_made(tmp_path_factory, days, data):
    root = tmp_path_factory.mktemp("spans")
    for day in data.draw(st.permutations(days)):
        place(root, f"{day.day:02}.{day.month:02}.{day.year:04}")
    spans = found(root, "{DD}.{MM}.{YYYY}")
    assert [span.shown for span in spans.complete] == [day.isoformat() for day in sorted(days)]
    assert [span.span for span in spans.complete] == sorted(days)
    assert [span.number for span in spans.complete] == [span_number(day) for day in sorted(days)]
    assert [span.shown for span in choose_window(spans, "all", min(days))] == [min(days).isoformat()]


# Windows.


def spans_of(numbers: dict[int, bool]) -> Spans:
    """Complete spans by number, and whether they are empty."""
    return Spans(tuple(SpanFolders(n, None, {}, str(n), empty) for n, empty in sorted(numbers.items())), ())


@given(
    numbers=st.dictionaries(st.integers(0, 40), st.booleans(), max_size=12),
    size=st.integers(1, 14) | st.just("all"),
    as_of=st.none() | st.integers(0, 40),
)
def test_a_window_is_the_newest_spans_with_photos(numbers, size, as_of):
    holding = [n for n in sorted(numbers) if not numbers[n] and (as_of is None or n <= as_of)]
    if not holding:
        with pytest.raises(BadInput):
            choose_window(spans_of(numbers), size, as_of)
        return
    window = [span.number for span in choose_window(spans_of(numbers), size, as_of)]
    assert window == holding[len(holding) - len(window) :]
    assert len(window) == (len(holding) if size == "all" else min(size, len(holding)))


@given(
    numbers=st.dictionaries(st.integers(0, 40), st.booleans(), min_size=1, max_size=12),
    size=st.integers(1, 6),
    as_of=st.integers(0, 40),
    later=st.sets(st.integers(0, 40), max_size=5),
)
def test_a_window_as_of_a_span_stays_what_it_is_when_newer_spans_come(numbers, size, as_of, later):
    before = spans_of({n: empty for n, empty in numbers.items() if n <= as_of} | {0: False})
    after = spans_of({n: False for n in later if n > as_of} | {span.number: span.empty for span in before.complete})
    assert choose_window(before, size, as_of) == choose_window(after, size, as_of)
    assert choose_window(before, size) == choose_window(after, size, as_of)


def test_a_window_as_of_a_day(tmp_path):
    for name in ("2026-11-30", "2026-12-01", "2026-12-03"):
        place(tmp_path, name)
    spans = found(tmp_path, "{YYYY}-{MM}-{DD}")
    day = datetime.date(2026, 12, 2)
    assert names(tmp_path, choose_window(spans, 2, day)) == ["2026-11-30", "2026-12-01"]
    assert names(tmp_path, choose_window(spans, 1, span_number(day))) == ["2026-12-01"]
    with pytest.raises(BadInput) as error:
        choose_window(spans, 4, datetime.date(2026, 11, 29))
    assert str(error.value) == (
        "data.span asks for spans up to 2026-11-29, but no complete span with photos is that old; the oldest is "
        "2026-11-30; choose a later one, or leave data.span empty"
    )


def test_a_late_span_takes_its_place(tmp_path):
    place(tmp_path, "9")
    place(tmp_path, "11")
    assert names(tmp_path, choose_window(found(tmp_path), 2)) == ["9", "11"]
    place(tmp_path, "10")
    assert names(tmp_path, found(tmp_path)) == ["9", "10", "11"]
    assert names(tmp_path, choose_window(found(tmp_path), 2)) == ["10", "11"]
    place(tmp_path, "8")
    assert names(tmp_path, choose_window(found(tmp_path), 2)) == ["10", "11"]


def test_a_missing_span_is_not_counted(tmp_path):
    for name in ("1", "7", "200"):
        place(tmp_path, name)
    assert names(tmp_path, choose_window(found(tmp_path), 2)) == ["7", "200"]
    assert names(tmp_path, choose_window(found(tmp_path), 3)) == ["1", "7", "200"]


def test_an_empty_span_is_passed_over_and_named(tmp_path):
    place(tmp_path, "1")
    place(tmp_path, "2", {}, marker="_SUCCESS")
    place(tmp_path, "3", {"cat/_SUCCESS": OLD})
    place(tmp_path, "4", {})
    place(tmp_path, "5", {}, folders=3)
    place(tmp_path, "6")
    spans = found(tmp_path)
    assert names(tmp_path, spans) == ["1", "2", "3", "4", "6"]
    assert names(tmp_path, spans.empty) == ["2", "3", "4"]
    assert names(tmp_path, choose_window(spans, 2)) == ["1", "6"]
    assert waiting(tmp_path, spans) == {"5": changed(3)}


def test_a_span_with_a_renamed_marker_only_is_empty(tmp_path):
    place(tmp_path, "1", {}, marker="DONE")
    assert names(tmp_path, found(tmp_path, success_file="DONE").empty) == ["1"]
    assert found(tmp_path, settle_seconds=0).empty == ()


def test_a_duplicate_span_is_refused_by_name(tmp_path):
    place(tmp_path, "1")
    place(tmp_path, "01", folders=0)
    place(tmp_path, "2")
    with pytest.raises(BadInput, match=f"{tmp_path}/01 and {tmp_path}/1 are each span 1 of"):
        found(tmp_path)


def test_a_duplicate_version_is_refused_by_name(tmp_path):
    place(tmp_path, "1/v2")
    place(tmp_path, "1/v02", folders=0)
    with pytest.raises(BadInput, match=f"{tmp_path}/1/v02 and {tmp_path}/1/v2 are each span 1, version 2 of"):
        found(tmp_path, "{SPAN}/v{VERSION}")


def test_a_folder_that_only_looks_like_a_span_is_refused_by_name(tmp_path):
    place(tmp_path, "span-1")
    place(tmp_path, "span-2.tmp")
    with pytest.raises(BadInput, match=rf"the folder {tmp_path}/span-2\.tmp looks like"):
        found(tmp_path, "span-{SPAN}")
    (tmp_path / "span-2.tmp").rename(tmp_path / ".span-2")
    (tmp_path / "span-3").write_bytes(b"a file")
    assert names(tmp_path, found(tmp_path, "span-{SPAN}")) == ["span-1"]


def test_a_withdrawn_span_is_in_no_window(tmp_path):
    for name in ("1", "2", "3"):
        place(tmp_path, name)
    shutil.rmtree(tmp_path / "3")
    assert names(tmp_path, choose_window(found(tmp_path), 2)) == ["1", "2"]
    for name in ("1", "2"):
        shutil.rmtree(tmp_path / name)
    with pytest.raises(BadInput, match=r"no folder matches .*/\{SPAN\}: .* contains no folders"):
        found(tmp_path)


def test_a_replaced_span_is_read_in_its_newest_version(tmp_path):
    place(tmp_path, "1/v9")
    place(tmp_path, "2/v1")
    place(tmp_path, "1/v10")
    spans = found(tmp_path, "{SPAN}/v{VERSION}")
    assert names(tmp_path, choose_window(spans, "all")) == ["1/v10", "2/v1"]
    place(tmp_path, "1/v11", {}, marker="_SUCCESS")
    spans = found(tmp_path, "{SPAN}/v{VERSION}")
    assert (names(tmp_path, spans.empty), names(tmp_path, choose_window(spans, "all"))) == (["1/v11"], ["2/v1"])


def test_nothing_to_train_on_is_one_sentence_with_all_that_there_is(tmp_path):
    place(tmp_path, "1", {})
    place(tmp_path, "2", folders=12)
    with pytest.raises(BadInput) as error:
        choose_window(found(tmp_path), "all")
    assert str(error.value) == (
        f"there is no complete span with photos: 1 is empty; {tmp_path}/2 {changed(12)}; wait, add that file if "
        "the folder is complete, or set data.settle_seconds=0"
    )
    for name in ("3", "4", "5"):
        place(tmp_path, name, {})
    shutil.rmtree(tmp_path / "2")
    with pytest.raises(BadInput) as error:
        choose_window(found(tmp_path), 1)
    assert str(error.value) == (
        "there is no complete span with photos: 1 is empty; 3 is empty; 4 is empty; and 1 more; add what is missing"
    )


# The one span of a run without a window.


def one(root, pattern: str = "{SPAN}", span=None, **keywords) -> SpanFolders:
    sources = {"image_folder": f"{root}/{pattern}"}
    return resolve_sources(sources, span, **{"settle_seconds": SETTLE, "now": NOW, **keywords})


def test_a_run_reads_the_latest_complete_span_and_knows_what_it_passed_over(tmp_path):
    place(tmp_path, "8")
    place(tmp_path, "9")
    place(tmp_path, "10", folders=12)
    place(tmp_path, "11", folders=5)
    assert one(tmp_path) == SpanFolders(
        9,
        None,
        {"image_folder": f"{tmp_path}/9"},
        "9",
        passed_over=(
            UnfinishedFolder(f"{tmp_path}/11", changed(5), 11, True),
            UnfinishedFolder(f"{tmp_path}/10", changed(12), 10, True),
        ),
    )
    assert one(tmp_path, settle_seconds=0).number == 11
    assert one(tmp_path, span=8) == SpanFolders(8, None, {"image_folder": f"{tmp_path}/8"}, "8")


def test_the_only_span_a_moment_after_it_was_copied_is_one_sentence(tmp_path):
    place(tmp_path, "span-1", folders=12)
    with pytest.raises(BadInput) as error:
        one(tmp_path, "span-{SPAN}")
    assert str(error.value).replace(str(tmp_path), "/photos") == (
        "no span of /photos/span-{SPAN} is complete yet: /photos/span-1 changed 12 s ago and has no _SUCCESS file; it "
        "counts as complete after 300 s without a change; wait, add that file if the folder is complete, or set "
        "data.settle_seconds=0"
    )
    place(tmp_path, "span-1", folders=12, marker="_SUCCESS")
    assert one(tmp_path, "span-{SPAN}").number == 1


@pytest.mark.parametrize(
    ("pattern", "name", "span", "shown"),
    [("{SPAN}", "10", 10, "10"), ("{YYYY}-{MM}-{DD}", "2026-11-22", datetime.date(2026, 11, 22), "2026-11-22")],
)
def test_an_unfinished_span_that_is_asked_for_is_one_sentence(tmp_path, pattern, name, span, shown):
    place(tmp_path, name, folders=12)
    for asked in (span, span_number(span)):
        with pytest.raises(BadInput) as error:
            one(tmp_path, pattern, asked)
        assert str(error.value).replace(str(tmp_path), "/photos") == (
            f"span {shown} of /photos/{pattern}, requested by data.span, is not complete yet: /photos/{name} "
            f"{changed(12)}; wait, add that file if the folder is complete, or set data.settle_seconds=0"
        )


def test_photos_without_spans_are_one_span_and_never_waited_for(tmp_path):
    sources = {"image_folder": str(tmp_path / "absent")}
    whole = SpanFolders(0, None, sources, "0")
    assert find_spans(sources, now=0) == Spans((whole,), ())
    assert resolve_sources(sources, now=0) == whole
    assert choose_window(find_spans(sources), 4) == (whole,)


# Several data sets.


def test_a_span_is_complete_when_all_data_sets_have_it_complete(tmp_path):
    for name in ("cats/1", "pets/1", "cats/2", "cats/3", "pets/4", "cats/5"):
        place(tmp_path, name)
    place(tmp_path, "pets/2", folders=12)
    place(tmp_path, "pets/5", folders=0, marker="_SUCCESS")
    place(tmp_path, "all", folders=0)
    sources = {
        "cats_vs_dogs": f"{tmp_path}/cats/{{SPAN}}",
        "image_folder": f"{tmp_path}/all",
        "oxford_iiit_pet": f"{tmp_path}/pets/{{SPAN}}",
    }
    spans = find_spans(sources, settle_seconds=SETTLE, now=NOW)
    assert spans.complete == tuple(
        SpanFolders(
            number,
            None,
            {
                "cats_vs_dogs": f"{tmp_path}/cats/{number}",
                "image_folder": f"{tmp_path}/all",
                "oxford_iiit_pet": f"{tmp_path}/pets/{number}",
            },
            str(number),
        )
        for number in (1, 5)
    )
    assert waiting(tmp_path, spans) == {
        "pets/2": changed(12),
        "cats/3": "is waiting for span 3 of oxford_iiit_pet",
        "pets/4": "is waiting for span 4 of cats_vs_dogs",
    }
    assert [unfinished.settling for unfinished in spans.unfinished] == [True, False, False]


def test_of_several_data_sets_an_empty_one_is_left_out_of_the_span(tmp_path):
    place(tmp_path, "cats/1", {}, marker="_SUCCESS")
    place(tmp_path, "pets/1")
    place(tmp_path, "cats/2", {})
    place(tmp_path, "pets/2", {})
    place(tmp_path, "all")
    sources = {
        "cats_vs_dogs": f"{tmp_path}/cats/{{SPAN}}",
        "image_folder": f"{tmp_path}/all",
        "oxford_iiit_pet": f"{tmp_path}/pets/{{SPAN}}",
    }
    first, second = find_spans(sources, settle_seconds=SETTLE, now=NOW).complete
    assert (sorted(first.folders), first.empty) == (["image_folder", "oxford_iiit_pet"], False)
    assert (sorted(second.folders), second.empty) == (sorted(sources), True)


# Fingerprints.


def test_a_span_s_fingerprint_is_of_its_files_and_not_of_its_markers(tmp_path):
    place(tmp_path, "1", {"cat/1.jpg": OLD, "dog/1.jpg": OLD})
    (span,) = found(tmp_path).complete
    before = fingerprint(span)
    assert before == f"image_folder:{photo_folder.fingerprint(photo_folder.list_files(str(tmp_path / '1')))}"
    place(tmp_path, "1", {"cat/_SUCCESS": 0}, marker="_SUCCESS")
    assert fingerprint(span) == before
    place(tmp_path, "1", {}, marker="DONE")
    assert fingerprint(span, "DONE") == before
    assert fingerprint(span) != before
    (tmp_path / "1" / "DONE").unlink()
    os.utime(tmp_path / "1" / "cat" / "1.jpg", (NOW, NOW))
    assert fingerprint(span) != before


def test_the_fingerprint_of_several_data_sets_names_them_in_order(tmp_path):
    place(tmp_path, "a/1")
    place(tmp_path, "b/1")
    folders = {"oxford_iiit_pet": f"{tmp_path}/b/1", "cats_vs_dogs": f"{tmp_path}/a/1"}
    told = fingerprint(SpanFolders(1, None, folders, "1"))
    assert told == fingerprint(SpanFolders(7, 3, dict(reversed(folders.items())), "7"))
    assert [part.split(":")[0] for part in told.split(",")] == ["cats_vs_dogs", "oxford_iiit_pet"]


def test_a_renamed_marker_is_no_photo_and_no_rejected_file(tmp_path):
    place(tmp_path, "1", {"cat/1.jpg": OLD, "dog/1.jpg": OLD, "cat/_SUCCESS": OLD, "cat/DONE": OLD}, marker="DONE")
    folder = str(tmp_path / "1")
    renamed, usual = (
        layouts.find_photos(folder, "cats_vs_dogs", found_photos.FolderRules("DONE")),
        layouts.find_photos(folder, "cats_vs_dogs"),
    )
    assert [photo.file_name for photo in renamed.photos] == ["cat/1.jpg", "cat/DONE", "dog/1.jpg"]
    assert (renamed.photos, renamed.rejected) == (usual.photos, [])
    assert renamed.left_out == []
    assert [(file.file_name, file.reason) for file in usual.left_out] == [("DONE", "unlabelled")]
