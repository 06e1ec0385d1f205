"""Span patterns: which are understood, which folder they mean, and what is said where they mean none.

Every folder counts as complete here; which ones are, and windows, are tested in test_windows.py. That the choice is
TFX's own is tested in tests/component/test_example_gen_spans.py, where TFX is imported.
"""

import datetime
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.example_gen.spans import SpanFolders, SpanPattern, parse_pattern, resolve_sources, span_number
from deploy.data_folders import check_sources
from pipeline.config import load_config
from schemas.errors import BadInput

REPOSITORY = Path(__file__).parents[2]


def make_folders(root, *names):
    for name in names:
        for label in ("cat", "dog"):
            photo = Path(root, name, label, "1.jpg")
            photo.parent.mkdir(parents=True, exist_ok=True)
            photo.write_bytes(b"photo")


def mark(root, *names, marker="_SUCCESS"):
    for name in names:
        Path(root, name, marker).write_bytes(b"")


def resolved(root, pattern, span=None):
    """(folder below the root, span, version)."""
    found = resolve_sources({"image_folder": f"{root}/{pattern}"}, span, settle_seconds=0)
    return os.path.relpath(found.folders["image_folder"], root), found.number, found.version


def refusal(root, pattern, span=None):
    """The sentence, with the root called /photos."""
    with pytest.raises(BadInput) as error:
        resolved(root, pattern, span)
    return str(error.value).replace(str(root), "/photos")


@pytest.mark.parametrize(
    ("source", "dated", "versioned"),
    [
        ("/photos/span-{SPAN}", False, False),
        ("/photos/span-{SPAN:3}/version-{VERSION}", False, True),
        ("/photos/{VERSION:2}{SPAN}", False, True),
        ("/photos/{YYYY}-{MM}-{DD}", True, False),
        ("gs://bucket/{YYYY}/{MM}/{DD}/v{VERSION}", True, True),
        ("/photos/{DD}.{MM}.{YYYY}", True, False),
        ("/photos/{{SPAN}}", False, False),
    ],
)
def test_a_pattern(source, dated, versioned):
    assert parse_pattern(source) == SpanPattern(source, dated, versioned)


@pytest.mark.parametrize(
    "source",
    ["/photos", "tfds:cats_vs_dogs", "tfds:{SPAN}", "/photos/{}", "/{a}/b", "/x{/y}", "/{2026}", "gs://b/c", ""],
)
def test_a_plain_folder_stays_one(source):
    assert parse_pattern(source) is None
    assert resolve_sources({"image_folder": source}) == SpanFolders(0, None, {"image_folder": source}, "0")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "/photos/{SPAN",
            "{SPAN is not a known placeholder; expected {SPAN}, or {YYYY}, {MM} and {DD}, optionally with {VERSION}",
        ),
        ("/photos/{span}", "{span} is not a known placeholder"),
        ("/photos/{ SPAN }", "{ SPAN } is not a known placeholder"),
        ("/photos/{SPAN:}", "{SPAN:} is not a known placeholder"),
        ("/photos/{SPAN:0}", "{SPAN:0} is not a known placeholder"),
        ("/photos/{SPAN:two}", "{SPAN:two} is not a known placeholder"),
        ("/photos/{SPAN:19}", "{SPAN:19} is not a known placeholder"),
        ("/photos/{SPAM}", "{SPAM} is not a known placeholder"),
        ("/photos/{YYYY:4}-{MM}-{DD}", "{YYYY:4} is not a known placeholder"),
        ("/photos/{YYYYMMDD}", "{YYYYMMDD} is not a known placeholder"),
        ("/photos/{YYYY}-{mm}-{DD}", "{mm} is not a known placeholder"),
        (
            "/photos/{SPAN}/{YYYY}-{MM}-{DD}",
            "the path has both {SPAN} and {YYYY}; expected a number or a day, not both",
        ),
        ("/photos/{SPAN}/{DD}", "the path has both {SPAN} and {DD}"),
        ("/photos/{YYYY}-{MM}", "the day is incomplete; expected {YYYY}, {MM} and {DD}, each once"),
        ("/photos/{YYYY}-{MM}-{DD}-{DD}", "the day is incomplete; expected {YYYY}, {MM} and {DD}, each once"),
        ("/photos/{SPAN}/{SPAN:2}", "{SPAN} appears 2 times; expected it once"),
        ("/photos/{SPAN}/{VERSION}-{VERSION}", "{VERSION} appears 2 times; expected it once"),
        ("/photos/{VERSION}", "{VERSION} has no span; expected {SPAN}, or {YYYY}, {MM} and {DD}, in the path as well"),
        ("/photos/{VERSION}/{VERSION}", "{VERSION} has no span"),
        (
            "/photos/{SPAN}{VERSION}",
            "{SPAN} and {VERSION} cannot be told apart; expected text between them, or a width",
        ),
        ("/photos/{VERSION}0{SPAN}", "{SPAN} and {VERSION} cannot be told apart"),
        ("gs://{SPAN}/photos", "the span is in the bucket's name; expected it in the name of a folder below"),
    ],
)
def test_a_pattern_that_is_none(source, says):
    with pytest.raises(BadInput) as error:
        parse_pattern(source)
    assert str(error.value).startswith(says)


def test_a_span_is_compared_as_a_number(tmp_path):
    make_folders(tmp_path, "span-9", "span-10", "span-8")
    assert resolved(tmp_path, "span-{SPAN}") == ("span-10", 10, None)
    assert resolved(tmp_path, "span-{SPAN}/") == ("span-10", 10, None)
    assert resolved(tmp_path, "span-{SPAN}", 9) == ("span-9", 9, None)


def test_a_span_is_compared_as_a_day(tmp_path):
    make_folders(tmp_path, "22.11.2026", "30.09.2026", "31.12.2025")
    day = datetime.date(2026, 11, 22)
    assert resolved(tmp_path, "{DD}.{MM}.{YYYY}") == ("22.11.2026", (day - datetime.date(1970, 1, 1)).days, None)
    older = datetime.date(2025, 12, 31)
    assert resolved(tmp_path, "{DD}.{MM}.{YYYY}", older) == ("31.12.2025", span_number(older), None)


def test_the_latest_version_of_the_latest_span_is_taken(tmp_path):
    make_folders(tmp_path, "3/v11", "4/v9", "4/v10")
    assert resolved(tmp_path, "{SPAN}/v{VERSION}") == ("4/v10", 4, 10)
    assert resolved(tmp_path, "{SPAN}/v{VERSION}", 3) == ("3/v11", 3, 11)
    make_folders(tmp_path, "4/v0")
    assert resolved(tmp_path, "{SPAN}/v{VERSION}", 4) == ("4/v10", 4, 10)


def test_a_version_may_be_zero(tmp_path):
    make_folders(tmp_path, "0/v0")
    assert resolved(tmp_path, "{SPAN}/v{VERSION}") == ("0/v0", 0, 0)


def test_a_span_may_lie_in_several_folders_and_above_others(tmp_path):
    make_folders(tmp_path, "2026/11/22/photos", "2026/02/28/photos", "2025/12/31/photos", "2026/12/01/other", "old/x")
    assert resolved(tmp_path, "{YYYY}/{MM}/{DD}/photos")[0] == "2026/11/22/photos"


def test_widths(tmp_path):
    make_folders(tmp_path, "001-1", "012-9", "012-1")
    assert resolved(tmp_path, "{SPAN:3}-{VERSION}") == ("012-9", 12, 9)
    assert resolved(tmp_path, "{SPAN:3}-{VERSION:1}", 1) == ("001-1", 1, 1)
    assert resolved(tmp_path, "{SPAN}-{VERSION}", 1) == ("001-1", 1, 1)
    make_folders(tmp_path, "1234-1")
    assert refusal(tmp_path, "{SPAN:3}-{VERSION}") == (
        "the folder /photos/1234-1 looks like /photos/{SPAN:3}-{VERSION} but does not have a number in place of "
        "{SPAN:3}, {VERSION}, with that many digits; rename it or move it elsewhere"
    )
    assert "data.span asks for span 1234, but" in refusal(tmp_path, "0{SPAN:2}-{VERSION}", 1234)


def test_nothing_but_the_specs_is_special_in_a_path(tmp_path):
    make_folders(tmp_path, "a [1] (x)+*?.{b}/span-3", "a1/span-4")
    assert resolved(tmp_path, "a [1] (x)+*?.{b}/span-{SPAN}") == ("a [1] (x)+*?.{b}/span-3", 3, None)
    assert "cannot be read (No such file or directory)" in refusal(tmp_path, "a?/span-{SPAN}")


def test_files_and_hidden_folders_are_no_spans(tmp_path):
    make_folders(tmp_path, "1", ".2", ".trash")
    for name in ("3", "4.zip", "README"):
        (tmp_path / name).write_bytes(b"")
    os.symlink(tmp_path / "nowhere", tmp_path / "5")
    assert resolved(tmp_path, "{SPAN}") == ("1", 1, None)
    os.symlink(tmp_path / "1", tmp_path / "6")
    assert resolved(tmp_path, "{SPAN}") == ("6", 6, None)


@pytest.mark.parametrize(
    "name", ["span-2.tmp", "span-", "span--3", "span-+3", "span-1_0", "span-٣", "span-" + "9" * 19]
)
def test_a_folder_that_looks_like_a_span_without_a_number_is_refused_by_name(tmp_path, name):
    make_folders(tmp_path, "span-1", name)
    assert refusal(tmp_path, "span-{SPAN}") == (
        f"the folder /photos/{name} looks like /photos/span-{{SPAN}} but does not have a number in place of "
        "{SPAN}; rename it or move it elsewhere"
    )
    assert resolved(tmp_path, "span-{SPAN}", 1) == ("span-1", 1, None)


@pytest.mark.parametrize(
    "name", ["2026-02-30", "2026-13-01", "0000-01-01", "2026-1-1", "best-of-2026", "2026-11-22-copy"]
)
def test_a_folder_that_looks_like_a_day_but_is_none_is_refused_by_name(tmp_path, name):
    make_folders(tmp_path, "2026-11-21", name)
    assert refusal(tmp_path, "{YYYY}-{MM}-{DD}") == (
        f"the folder /photos/{name} looks like /photos/{{YYYY}}-{{MM}}-{{DD}} but does not have a day in place of "
        "{YYYY}, {MM}, {DD}; rename it or move it elsewhere"
    )
    assert resolved(tmp_path, "{YYYY}-{MM}-{DD}", datetime.date(2026, 11, 21))[0] == "2026-11-21"


def test_a_version_that_is_no_number_is_refused_where_it_matters(tmp_path):
    make_folders(tmp_path, "1/v1", "2/v1", "2/vx")
    says = "the folder /photos/2/vx looks like /photos/{SPAN}/v{VERSION} but does not have a number in place of"
    assert refusal(tmp_path, "{SPAN}/v{VERSION}").startswith(says)
    assert refusal(tmp_path, "{SPAN}/v{VERSION}", 2).startswith(says)
    assert resolved(tmp_path, "{SPAN}/v{VERSION}", 1) == ("1/v1", 1, 1)


def test_one_span_in_two_folders_is_refused_by_name(tmp_path):
    make_folders(tmp_path, "span-1", "span-01", "span-2")
    assert resolved(tmp_path, "span-{SPAN}") == ("span-2", 2, None)
    assert refusal(tmp_path, "span-{SPAN}", 1) == (
        "/photos/span-01 and /photos/span-1 are each span 1 of /photos/span-{SPAN}; expected one folder; rename or "
        "remove the others"
    )
    make_folders(tmp_path, "span-002")
    assert refusal(tmp_path, "span-{SPAN}").startswith("/photos/span-002 and /photos/span-2 are each span 2 of")


def test_one_version_in_two_folders_is_refused_by_name(tmp_path):
    make_folders(tmp_path, "1/v2", "1/v02", "01/v3")
    assert refusal(tmp_path, "{SPAN}/v{VERSION}").startswith("/photos/01/v3 and /photos/1/v2 are each span 1 of")
    (tmp_path / "01").rename(tmp_path / ".01")
    assert refusal(tmp_path, "{SPAN}/v{VERSION}").startswith(
        "/photos/1/v02 and /photos/1/v2 are each span 1, version 2 of"
    )


def test_a_span_that_is_not_there_is_one_sentence(tmp_path):
    make_folders(tmp_path, "span-3", "span-12")
    assert refusal(tmp_path, "span-{SPAN}", 4) == (
        "data.span asks for span 4, but /photos/span-{SPAN} has no folder for it; the latest is 12; choose another, or "
        "leave data.span empty"
    )
    make_folders(tmp_path, "2026-11-22")
    assert "{DD} has no folder for it; the latest is 2026-11-22;" in refusal(
        tmp_path, "{YYYY}-{MM}-{DD}", datetime.date(2026, 11, 23)
    )


@pytest.mark.parametrize("span", [None, 3])
def test_a_pattern_that_no_folder_fits_is_one_sentence(tmp_path, span):
    assert refusal(tmp_path, "span-{SPAN}", span) == (
        "no folder matches /photos/span-{SPAN}: /photos contains no folders; expected one with a number in place of "
        "{SPAN}; check the path"
    )
    make_folders(tmp_path, *"gfedcba")
    assert "/photos contains the folders a, b, c, d, e and 2 more; expected one with" in refusal(
        tmp_path, "span-{SPAN}", span
    )


def test_a_folder_of_spans_that_is_not_there_or_not_readable_is_one_sentence(tmp_path):
    assert refusal(tmp_path, "absent/span-{SPAN}") == (
        "the folder /photos/absent, which should contain spans, cannot be read (No such file or directory); check "
        "the path and its permissions"
    )
    (tmp_path / "file").write_bytes(b"")
    assert "(Not a directory)" in refusal(tmp_path, "file/span-{SPAN}")


@pytest.mark.parametrize("files", [["_SUCCESS"], ["_SUCCESS", "cat/_SUCCESS"]])
def test_an_empty_span_is_the_latest_all_the_same(tmp_path, files):
    make_folders(tmp_path, "1")
    (tmp_path / "2").mkdir()
    assert resolved(tmp_path, "{SPAN}") == ("2", 2, None)
    for name in files:
        (tmp_path / "2" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "2" / name).write_bytes(b"")
    assert resolved(tmp_path, "{SPAN}") == ("2", 2, None)
    with pytest.raises(BadInput, match=f"The data folder {tmp_path}/2 is empty; expected photos"):
        check_sources(load_config("image_folder", data=[f"{tmp_path}/{{SPAN}}"]))


def test_a_remote_address_is_resolved_like_a_local_folder(tmp_path):
    pytest.importorskip("tensorflow")
    make_folders(tmp_path, "9/v1", "10/v2", "10/v10", ".11/v1")
    (tmp_path / "12").write_bytes(b"")
    assert resolved(f"file://{tmp_path}", "{SPAN}/v{VERSION}") == resolved(tmp_path, "{SPAN}/v{VERSION}")
    found = resolve_sources({"image_folder": f"file://{tmp_path}/{{SPAN}}/v{{VERSION}}"}, settle_seconds=0)
    assert found == SpanFolders(10, 10, {"image_folder": f"file://{tmp_path}/10/v10"}, "10")
    assert refusal(f"file://{tmp_path}", "absent/{SPAN}").startswith(
        "the folder /photos/absent, which should contain spans, cannot be read ("
    )


def test_the_latest_span_is_the_latest_that_all_data_sets_have(tmp_path):
    make_folders(tmp_path, "cats/9", "cats/10", "pets/9")
    sources = {"cats_vs_dogs": f"{tmp_path}/cats/{{SPAN}}", "oxford_iiit_pet": f"{tmp_path}/pets/{{SPAN}}"}
    found = resolve_sources(sources, settle_seconds=0)
    folders = {"cats_vs_dogs": f"{tmp_path}/cats/9", "oxford_iiit_pet": f"{tmp_path}/pets/9"}
    assert (found.number, found.version, found.folders) == (9, None, folders)
    assert [(unfinished.folder, unfinished.reason, unfinished.settling) for unfinished in found.passed_over] == [
        (f"{tmp_path}/cats/10", "is waiting for span 10 of oxford_iiit_pet", False)
    ]
    assert resolve_sources(sources, 9, settle_seconds=0) == SpanFolders(9, None, folders, "9")
    with pytest.raises(BadInput, match=r"data\.span asks for span 10, but .*/pets/\{SPAN\} has no folder for it"):
        resolve_sources(sources, 10, settle_seconds=0)
    make_folders(tmp_path, "pets/10")
    assert resolve_sources(sources, settle_seconds=0).number == 10


def test_data_sets_without_a_common_span_are_refused_by_name(tmp_path):
    make_folders(tmp_path, "cats/10", "pets/9")
    sources = {"cats_vs_dogs": f"{tmp_path}/cats/{{SPAN}}", "oxford_iiit_pet": f"{tmp_path}/pets/{{SPAN}}"}
    with pytest.raises(BadInput) as error:
        resolve_sources(sources, settle_seconds=0)
    assert str(error.value).replace(str(tmp_path), "") == (
        "no span of /cats/{SPAN} and /pets/{SPAN} is complete yet: /cats/10 is waiting for span 10 of "
        "oxford_iiit_pet; /pets/9 is waiting for span 9 of cats_vs_dogs; add what is missing"
    )


def test_the_latest_version_is_the_latest_that_all_data_sets_have(tmp_path):
    make_folders(tmp_path, "cats/1/2", "cats/1/1", "pets/1/1")
    sources = {
        "cats_vs_dogs": f"{tmp_path}/cats/{{SPAN}}/{{VERSION}}",
        "oxford_iiit_pet": f"{tmp_path}/pets/{{SPAN}}/{{VERSION}}",
    }
    found = resolve_sources(sources, settle_seconds=0)
    assert (found.number, found.version) == (1, 1)
    assert [unfinished.reason for unfinished in found.passed_over] == [
        "is waiting for span 1, version 2 of oxford_iiit_pet"
    ]
    make_folders(tmp_path, "pets/1/2")
    found = resolve_sources(sources, settle_seconds=0)
    assert (found.number, found.version, found.passed_over) == (1, 2, ())


def test_a_data_set_without_spans_goes_with_any_span(tmp_path):
    make_folders(tmp_path, "cats/9", "pets")
    sources = {"cats_vs_dogs": f"{tmp_path}/cats/{{SPAN}}", "oxford_iiit_pet": f"{tmp_path}/pets"}
    folders = {"cats_vs_dogs": f"{tmp_path}/cats/9", "oxford_iiit_pet": f"{tmp_path}/pets"}
    assert resolve_sources(sources, settle_seconds=0) == SpanFolders(9, None, folders, "9")


@given(st.lists(st.dates(), min_size=1, unique=True, max_size=6))
def test_days_are_numbered_in_their_order(days):
    assert sorted(days) == sorted(days, key=span_number)
    assert span_number(datetime.date(1970, 1, 1)) == 0
    assert all(span_number(day + datetime.timedelta(1)) == span_number(day) + 1 for day in days if day.year < 9999)


@given(spans=st.sets(st.integers(0, 10**18 - 1), min_size=1, max_size=5), width=st.integers(0, 18))
def test_the_highest_number_is_the_latest_however_it_is_written(tmp_path_factory, spans, width):
    root = tmp_path_factory.mktemp("spans")
    for span in spans:
        (root / f"a{str(span).zfill(width)}b").mkdir()
    assert resolved(root, "a{SPAN}b") == (f"a{str(max(spans)).zfill(width)}b", max(spans), None)
    for span in spans:
        assert resolved(root, "a{SPAN}b", span)[1] == span


def test_the_check_before_a_run_looks_into_the_span_and_leaves_the_pattern_to_the_step(tmp_path):
    make_folders(tmp_path, "span-9", "span-10")
    mark(tmp_path, "span-9", "span-10")
    pattern = f"{tmp_path}/span-{{SPAN}}"
    assert check_sources(load_config("image_folder", data=[pattern])) == ({"image_folder": pattern}, {})
    for photo in (tmp_path / "span-10" / "dog").iterdir():
        photo.unlink()
    with pytest.raises(BadInput, match=rf"all photos in {tmp_path}/span-10 are of one class, 'cat'"):
        check_sources(load_config("image_folder", data=[pattern]))
    check_sources(load_config("image_folder", ["data.span=9"], [pattern]))
    with pytest.raises(BadInput, match=r"data\.span asks for span 8, but"):
        check_sources(load_config("image_folder", ["data.span=8"], [pattern]))


def test_the_check_before_a_run_takes_the_latest_of_the_further_data_sets(tmp_path):
    make_folders(tmp_path, "span-9", "2026-11-22", "2026-11-23")
    mark(tmp_path, "span-9", "2026-11-22", "2026-11-23")
    (tmp_path / "2026-11-23" / "cat").rename(tmp_path / "2026-11-23" / "horse")
    further = [
        f"evaluation.further={{image_folder: '{tmp_path}/{{YYYY}}-{{MM}}-{{DD}}'}}",
        "evaluation.further_label=label",
    ]
    config = load_config("image_folder", [*further, "data.span=9"], [f"{tmp_path}/span-{{SPAN}}"])
    with pytest.raises(BadInput, match=r"/2026-11-23, have classes that the model does not learn \(horse;"):
        check_sources(config)
    (tmp_path / "2026-11-23").rename(tmp_path / "2026-11-20")
    sources, evaluated = check_sources(config)
    assert sources == {"image_folder": f"{tmp_path}/span-{{SPAN}}"}
    assert evaluated == {"image_folder": f"{tmp_path}/{{YYYY}}-{{MM}}-{{DD}}"}


def test_the_check_before_a_run_reads_complete_spans_only(tmp_path):
    make_folders(tmp_path, "span-9", "further-1")
    further = [f"evaluation.further={{image_folder: '{tmp_path}/further-{{SPAN}}'}}", "evaluation.further_label=label"]
    data = [f"{tmp_path}/span-{{SPAN}}"]
    with pytest.raises(
        BadInput, match=rf"no span of {tmp_path}/span-{{SPAN}} is complete yet: {tmp_path}/span-9 changed"
    ):
        check_sources(load_config("image_folder", further, data))
    check_sources(load_config("image_folder", [*further, "data.settle_seconds=0"], data))
    mark(tmp_path, "span-9", marker="done.txt")
    with pytest.raises(
        BadInput, match=rf"{tmp_path}/further-1 changed .* and has no done\.txt file; it counts as complete"
    ):
        check_sources(load_config("image_folder", [*further, "data.success_file=done.txt"], data))
    mark(tmp_path, "further-1", marker="done.txt")
    check_sources(load_config("image_folder", [*further, "data.success_file=done.txt"], data))


def test_looking_for_a_span_imports_nothing_heavy(tmp_path):
    make_folders(tmp_path, "1")
    code = (
        "import sys; from components.example_gen.spans import choose_window, find_spans, resolve_sources\n"
        f"sources = {{'image_folder': {str(tmp_path)!r} + '/{{SPAN}}'}}\n"
        "assert resolve_sources(sources, settle_seconds=0).number == 1\n"
        "assert [span.number for span in choose_window(find_spans(sources, settle_seconds=0), 'all')] == [1]\n"
        "print(sorted({'tensorflow', 'tfx', 'numpy', 'apache_beam', 'ml_metadata'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
