"""Records as JSON: what is written is read again, and what is not as it should be is named."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from schemas.json_records import OPTIONAL, from_json, to_json
from schemas.run_end import RunEnd, read_summary_file
from schemas.summary import Summary
from tests.report_runs import PUSHED, SUMMARIES, whole_run


@dataclass(frozen=True, kw_only=True)
class Part:
    name: str
    size: float | None = None
    note: str | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class Whole:
    parts: list[Part]
    by_name: dict[str, Part] = field(default_factory=dict)
    anything: Any = None


WHOLE = Whole(
    parts=[Part(name="a", size=1), Part(name="b", note="odd")],
    by_name={"x": Part(name="c", size=0.5)},
    anything={"deep": [1, None]},
)


def test_a_record_is_read_as_it_was_written():
    assert from_json(Whole, json.loads(json.dumps(to_json(WHOLE)))) == WHOLE


def test_what_is_none_is_null_or_has_no_key():
    assert to_json(WHOLE)["parts"] == [{"name": "a", "size": 1}, {"name": "b", "size": None, "note": "odd"}]


def test_what_a_record_does_not_know_is_passed_over():
    assert from_json(Part, {"name": "a", "of": "a later version"}) == Part(name="a")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], "it is [], expected keys with values"),
        ({}, "there is no parts"),
        ({"parts": {}}, "parts is {}, expected list"),
        ({"parts": [{"name": "a"}, {}]}, "there is no parts[1].name"),
        ({"parts": [{"name": "a", "size": "large"}]}, "parts[0].size is 'large', expected float"),
        ({"parts": [{"name": None}]}, "parts[0].name is None, expected str"),
        ({"parts": [], "by_name": {"x": 3}}, "by_name.x is 3, expected keys with values"),
        ({"parts": "a" * 99}, f"parts is '{'a' * 58}…, expected list"),
    ],
)
def test_what_is_not_as_it_should_be_is_named(found, said):
    with pytest.raises(ValueError, match=r".") as error:
        from_json(Whole, found)
    assert str(error.value) == said


# ---- summaries


def same(given: Any, written: Any) -> bool:
    """Whether everything given is written, key by key."""
    if isinstance(given, dict):
        return all(key in written and same(value, written[key]) for key, value in given.items())
    if isinstance(given, list):
        return len(given) == len(written) and all(map(same, given, written))
    return given == written


@pytest.mark.parametrize("summary", [*SUMMARIES.values(), whole_run(["cat", "dog"])[0]])
def test_a_summary_keeps_its_keys_and_values(summary):
    assert same(summary, to_json(from_json(Summary, summary)))


def test_a_summary_of_an_older_version_has_defaults():
    keys = ("schema_version", "run_id", "status", "reason", "production")
    summary = from_json(Summary, {key: PUSHED[key] for key in keys})
    assert (summary.nodes, summary.window, summary.drift, summary.lineage) == ([], None, None, {})


def test_the_end_of_a_run_is_read_whatever_else_is_in_its_summary(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps({**PUSHED, "models": "of another version"}))
    assert read_summary_file(RunEnd, tmp_path).status == "pushed"
    with pytest.raises(ValueError, match="models is 'of another version', expected dict"):
        read_summary_file(Summary, tmp_path)
