"""The plan of a run and the notes of its tasks: written whole, read back as they were, and put into one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.kubeflow import plan as plans
from deploy.kubeflow.plan import (
    FAILED,
    PIPELINE_FILE,
    PREPARE,
    REPORT,
    RUNNING,
    SKIPPED,
    STOPPED,
    Note,
    Plan,
    read_notes,
    read_plan,
    why_it_ended,
    write_note,
    write_plan,
)

REPOSITORY = Path(__file__).parents[2]
PLAN = Plan("cats", {"Make": [], "Use": ["Make"], "Publish": ["Use"]}, 12.5, "17", "/warmstart/runs/cats/artifacts")
DONE = {PREPARE: Note("complete"), "Make": Note("cached"), "Use": Note("complete"), "Publish": Note("complete")}


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# ---- files


@pytest.mark.parametrize("before", ["17", None])
def test_a_plan_is_read_as_it_was_written(tmp_path, before):
    plan = Plan("cats", {"Make": [], "Use": ["Make"]}, 12.5, before, "gs://bucket/cats")
    write_plan(tmp_path, plan, b"\x00pipeline\xff")
    assert read_plan(tmp_path) == plan
    assert set(content(tmp_path)) == {"plan.json", PIPELINE_FILE}
    assert (tmp_path / PIPELINE_FILE).read_bytes() == b"\x00pipeline\xff"


def test_where_no_plan_was_made_there_is_none(tmp_path):
    assert read_plan(tmp_path) is None
    assert read_plan(tmp_path / "absent") is None


def test_the_plan_is_there_only_when_the_pipeline_is(tmp_path, monkeypatch):
    write = plans.write_whole

    def killed(file: Path, content: bytes) -> None:
        if file.name == "plan.json":
            raise KeyboardInterrupt
        write(file, content)

    monkeypatch.setattr(plans, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        write_plan(tmp_path, PLAN, b"pipeline")
    assert read_plan(tmp_path) is None
    assert (tmp_path / PIPELINE_FILE).read_bytes() == b"pipeline"


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    write_plan(tmp_path, PLAN, b"old")
    before = content(tmp_path)

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_plan(tmp_path, PLAN, b"new")
    monkeypatch.undo()
    assert read_plan(tmp_path) == PLAN
    assert {name: content(tmp_path)[name] for name in before} == before


# As in two containers, where the first process has the same number.
TWIN = """
import os, pathlib, sys
from deploy.kubeflow.plan import Note, write_note
os.getpid = lambda: 1
for _ in range(300):
    write_note(pathlib.Path(sys.argv[1]), "Make", Note("failed", sys.argv[2] * 2000))
"""


def test_twins_of_a_task_in_two_containers_never_leave_half_a_note(tmp_path):
    write_note(tmp_path, "Make", Note(FAILED, "a" * 2000))
    twins = [subprocess.Popen([sys.executable, "-c", TWIN, tmp_path, text], cwd=REPOSITORY) for text in "ab"]
    seen = set()
    while any(twin.poll() is None for twin in twins):
        seen.add(read_notes(tmp_path)["Make"].reason)
    assert [twin.wait() for twin in twins] == [0, 0]
    assert seen
    assert seen <= {"a" * 2000, "b" * 2000}
    assert list(content(tmp_path)) == ["nodes/Make.json"]


def test_notes_are_read_by_task_and_the_last_word_counts(tmp_path):
    assert read_notes(tmp_path) == {}
    write_note(tmp_path, "Use", Note(RUNNING))
    write_note(tmp_path, "Use", Note(FAILED, "out of luck"))
    write_note(tmp_path, "Use", Note(RUNNING))
    write_note(tmp_path, "Use", Note("complete"))
    write_note(tmp_path, PREPARE, Note(STOPPED, "no photos"))
    assert read_notes(tmp_path) == {PREPARE: Note(STOPPED, "no photos"), "Use": Note("complete", "")}


def test_a_note_half_written_by_a_killed_task_is_not_read(tmp_path):
    write_note(tmp_path, "Use", Note("complete"))
    for name in (".Make.json.1234", ".Use.json.abcdef"):
        (tmp_path / "nodes" / name).write_text('{"state": "fai')
    assert read_notes(tmp_path) == {"Use": Note("complete")}


@pytest.mark.parametrize(
    "reason",
    [
        'quotes " and \\ and\nlines',
        "kätzchen 🐱 \u202egnp.exe",
        "x" * 200_000,
    ],
)
def test_a_reason_may_hold_anything(tmp_path, reason):
    write_note(tmp_path, "Make", Note(FAILED, reason))
    assert read_notes(tmp_path)["Make"].reason == reason
    json.loads((tmp_path / "nodes" / "Make.json").read_bytes().decode("utf-8"))


def test_bytes_in_a_reason_that_are_no_text_can_be_written_and_printed(tmp_path):
    name = b"K\xf6nig.jpg".decode("utf-8", "surrogateescape")
    write_note(tmp_path, "Make", Note(FAILED, f"{name} is no photo"))
    assert read_notes(tmp_path)["Make"].reason == r"K\udcf6nig.jpg is no photo"


# ---- one sentence


def test_a_run_whose_tasks_all_ended_well_has_nothing_to_explain():
    assert why_it_ended(PLAN, DONE) == ("", "")


def test_a_skipped_task_is_a_good_end():
    assert why_it_ended(PLAN, {**DONE, "Publish": Note(SKIPPED)}) == ("", "")


def test_what_the_user_got_wrong_stops_the_run_in_the_words_of_the_task():
    notes = {PREPARE: Note("complete"), "Make": Note(STOPPED, "11 % of the photos were rejected")}
    assert why_it_ended(PLAN, notes) == (STOPPED, "11 % of the photos were rejected")


def test_a_task_that_failed_is_named_with_its_reason():
    notes = {PREPARE: Note("complete"), "Make": Note("complete"), "Use": Note(FAILED, "ValueError: no")}
    assert why_it_ended(PLAN, notes) == (FAILED, "Use failed: ValueError: no")


def test_a_task_that_was_killed_has_not_said_so_itself():
    notes = {PREPARE: Note("complete"), "Make": Note("complete"), "Use": Note(RUNNING)}
    status, reason = why_it_ended(PLAN, notes)
    assert status == FAILED
    assert reason.startswith("Use was killed while it was running")
    assert "runtime.steps.Use.memory" in reason


def test_a_task_that_never_began_is_named():
    status, reason = why_it_ended(PLAN, {PREPARE: Note("complete"), "Make": Note("complete")})
    assert status == FAILED
    assert reason.startswith("Use never started")
    assert "Publish" not in reason


def test_without_a_plan_it_was_prepare():
    assert why_it_ended(None, {PREPARE: Note(STOPPED, "no photos")}) == (STOPPED, "no photos")
    assert why_it_ended(None, {PREPARE: Note(FAILED, "disk")}) == (FAILED, "Prepare failed: disk")
    for notes, begins in (({PREPARE: Note(RUNNING)}, "Prepare was killed"), ({}, "Prepare never started")):
        status, reason = why_it_ended(None, notes)
        assert status == FAILED
        assert reason.startswith(begins)


def test_the_first_in_the_order_of_the_graph_is_the_cause():
    failed = {"Publish": Note(FAILED, "third"), "Make": Note(FAILED, "first"), "Use": Note(FAILED, "second")}
    assert why_it_ended(PLAN, {**DONE, **failed}) == (FAILED, "Make failed: first")
    killed = {"Publish": Note(RUNNING), "Use": Note(RUNNING)}
    assert why_it_ended(PLAN, {**DONE, **killed})[1].startswith("Use was killed")


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (Note(FAILED, "disk"), Note(STOPPED, "bad photos"), "bad photos"),
        (Note(RUNNING), Note(STOPPED, "bad photos"), "bad photos"),
        (Note(RUNNING), Note(FAILED, "disk"), "Use failed: disk"),
        (None, Note(STOPPED, "bad photos"), "bad photos"),
        (None, Note(FAILED, "disk"), "Use failed: disk"),
        (None, Note(RUNNING), "Use was killed"),
    ],
)
def test_what_a_task_says_itself_goes_before_what_is_concluded(first, second, told):
    notes = {PREPARE: Note("complete"), "Use": second, **({"Make": first} if first else {})}
    assert why_it_ended(PLAN, notes)[1].startswith(told)


def test_notes_of_what_is_no_task_of_the_plan_are_passed_over():
    assert why_it_ended(PLAN, {**DONE, "Old": Note(FAILED, "x"), REPORT: Note(RUNNING)}) == ("", "")


def test_nothing_slow_is_imported():
    slow = ("tensorflow", "tfx", "kfp", "ml_metadata", "yaml")
    code = f"import sys; import deploy.kubeflow.plan; print([one for one in {slow} if one in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
