"""ServingFolder: production is always one whole version, whoever pushes, dies, fills the disk or rolls back."""

import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import filelock
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from components.serving_folder import folder as serving_folder
from components.serving_folder.files import checksums, model_identity
from components.serving_folder.folder import ServingFolder
from schemas.errors import BadInput
from schemas.json_records import to_json
from schemas.release import Interval, Release

REPOSITORY = Path(__file__).parents[2]
RELEASE = Release(
    winner="fine_tuned",
    reason="no worse than version 7",
    metrics={"accuracy": Interval(value=0.9, low=0.8, high=0.95)},
    data_fingerprint="abc",
    compared_with=7,
)
MANIFEST = "assets.extra/manifest.json"


@pytest.fixture
def serving(tmp_path):
    return ServingFolder(tmp_path / "serving")


@pytest.fixture
def model(tmp_path):
    """A function from a name to a model's folder; models of one name are the same."""

    def make(name: str, megabytes: int = 0) -> Path:
        folder = tmp_path / f"model_{name}"
        write_model(folder, name, megabytes)
        return folder

    return make


@pytest.fixture
def push(serving, model):
    """A function that pushes a model, compared with what is in production; gives its version."""

    def do(name: str, **release) -> int:
        folder = model(name)
        result = serving.push(folder, model_identity(folder), replace(RELEASE, **release), serving.production(), "run")
        assert result.outcome == "pushed", result
        return result.version

    return do


def write_model(folder: Path, name: str, megabytes: int = 0) -> None:
    files = {
        "saved_model.pb": f"graph {name}".encode(),
        "variables/variables.data-00000-of-00001": name.encode() * 1000 + bytes(megabytes << 20),
        "assets.extra/labels.txt": f"cat\n{name}\n".encode(),
    }
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }


def assert_whole(serving: ServingFolder) -> None:
    """Every version holds exactly what its manifest says."""
    for version in serving.versions():
        folder = serving.folder / str(version)
        assert json.loads((folder / MANIFEST).read_text())["version"] == version
        assert checksums(folder) == serving.manifest(version).files


def leftovers(serving: ServingFolder) -> list[str]:
    return [path.name for path in serving.folder.iterdir() if path.name.startswith((".incoming-", ".removed-"))]


# What a version is.


def test_a_pushed_version_is_the_model_and_a_manifest(serving, model):
    folder = model("a")
    before = datetime.now(timezone.utc).replace(microsecond=0)
    result = serving.push(folder, model_identity(folder), RELEASE, None, "2026-01-01T00-00-00Z")
    version = serving.folder / str(result.version)
    assert content(version) == content(folder)
    manifest = json.loads((version / MANIFEST).read_text())
    pushed_at = datetime.fromisoformat(manifest.pop("pushed_at"))
    assert before <= pushed_at <= datetime.now(timezone.utc)
    assert manifest == {
        "schema_version": 1,
        "version": result.version,
        "kind": "push",
        "replaced": None,
        "restores": None,
        "reason": "no worse than version 7",
        "forced": None,
        "run_id": "2026-01-01T00-00-00Z",
        "winner": "fine_tuned",
        "model_sha256": model_identity(folder),
        "files": checksums(folder),
        "labels": ["cat", "a"],
        "metrics": {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}},
        "data_fingerprint": "abc",
    }
    assert to_json(serving.manifest(result.version)) == json.loads((version / MANIFEST).read_text())
    assert result.reason == f"the model is in production as version {result.version}"


def test_the_next_push_says_what_it_replaced_and_that_it_was_forced(serving, push):
    first = push("a")
    second = push("b", forced="the customer waits")
    assert serving.production() == second
    assert serving.manifest(second).replaced == first
    assert serving.manifest(second).forced == "the customer waits"


def test_checksums_and_identity(tmp_path, model):
    one, other = model("a"), tmp_path / "elsewhere"
    shutil.copytree(one, other)
    assert model_identity(one) == model_identity(other)
    assert set(checksums(one)) == set(content(one))
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (other / "empty").touch()
    assert checksums(other)["empty"] == empty
    assert model_identity(one) != model_identity(other)
    (other / "empty").unlink()
    (other / "saved_model.pb").rename(other / "renamed.pb")
    assert model_identity(one) != model_identity(other)


@pytest.mark.parametrize(
    ("names", "versions"),
    [
        ([], []),
        (["9", "10"], [9, 10]),
        (["2", "latest", "3.5", "-4", "5x", "\u00b2", "\u0663", "007", "02", ".incoming-11", "0"], [0, 2]),
        (["3", str(2**63), str(2**63 - 1)], [3, 2**63 - 1]),
    ],
)
def test_versions_are_the_numbers_that_tensorflow_serving_finds(serving, names, versions):
    for name in names:
        (serving.folder / name).mkdir(parents=True)
    assert serving.versions() == versions
    assert serving.production() == (max(versions) if versions else None)


def test_numbers_are_times_and_never_come_twice(serving, push, monkeypatch):
    now = int(time.time())
    first = push("a")
    assert now <= first <= time.time()
    second = push("b")  # in the same second, mostly
    assert second > first
    shutil.rmtree(serving.folder / str(second))  # by hand
    monkeypatch.setattr(time, "time", lambda: 1000.0)  # a clock that is behind
    assert push("c") == second + 1
    serving.remove_old(0)
    shutil.rmtree(serving.folder / str(second + 1))
    assert push("d") == second + 2
    (serving.folder / str(second + 50)).touch()  # TensorFlow Serving takes a file for a version, too
    assert serving.production() == second + 2
    assert push("e") == second + 51


# Which pushes are refused.


def test_a_push_is_refused_when_production_is_another_than_the_model_was_compared_with(serving, push, model):
    first = push("a")
    folder = model("b")
    for expected, said in ((None, "no version"), (first - 1, f"version {first - 1}")):
        result = serving.push(folder, model_identity(folder), RELEASE, expected)
        assert (result.outcome, result.version) == ("production_changed", first)
        assert result.reason == (
            f"the model was compared with {said}, but version {first} is now in production; run again"
        )
    assert serving.versions() == [first]
    shutil.rmtree(serving.folder / str(first))
    result = serving.push(folder, model_identity(folder), RELEASE, first)
    assert (result.outcome, result.version) == ("production_changed", None)
    assert "but no version is now in production" in result.reason


def test_the_model_in_production_is_not_pushed_again(serving, push, model):
    folder = model("a")
    identity = model_identity(folder)
    (folder / "assets.extra/warm_up").write_text("beside the model")
    first = serving.push(folder, identity, RELEASE, None).version
    (folder / "assets.extra/warm_up").write_text("beside the model, and written anew")
    for expected in (first, None):  # None: as by a step that is run again after it was killed just after the push
        result = serving.push(folder, identity, RELEASE, expected)
        assert (result.outcome, result.version) == ("already_in_production", first)
        assert f"already in production, as version {first}" in result.reason
    assert serving.versions() == [first]
    second = push("b")
    assert serving.push(folder, identity, RELEASE, second).outcome == "pushed"  # it is not in production any more


def test_a_model_that_was_rolled_back_from_comes_back_by_force_only(serving, push, model):
    push("a")
    second = push("b")
    third = serving.rollback(reason="cats became dogs")
    folder = model("b")
    arguments = (folder, model_identity(folder), RELEASE, third)
    result = serving.push(*arguments)
    assert (result.outcome, result.version) == ("rolled_back", third)
    assert result.reason == (
        f"this model was version {second}, from which production was rolled back by version {third} "
        "(cats became dogs); use --force-push to push it anyway"
    )
    result = serving.push(*arguments, force_push="it was the camera")
    assert result.outcome == "pushed"
    assert serving.manifest(result.version).forced == "it was the camera"
    push("a")
    assert push("b")  # whoever forced it once has taken the rollback back


def test_a_reason_to_force_is_recorded_only_where_it_was_needed(serving, model):
    folder = model("a")
    result = serving.push(folder, model_identity(folder), RELEASE, None, force_push="to be sure")
    assert serving.manifest(result.version).forced is None


def test_a_model_that_was_rolled_back_to_again_is_no_longer_refused(serving, push, model):
    push("a"), push("b")
    serving.rollback()
    serving.rollback(serving.versions()[1])
    push("c")
    assert push("b")
    serving.rollback()
    folder = model("b")
    assert serving.push(folder, model_identity(folder), RELEASE, serving.production()).outcome == "rolled_back"


# Rollback.


def test_a_rollback_is_a_new_highest_version_with_the_old_content(serving, push):
    first, second = push("a", forced="the customer waits"), push("b")
    before = {version: content(serving.folder / str(version)) for version in (first, second)}
    third = serving.rollback(reason="too many complaints")
    assert third > second
    assert serving.production() == third
    assert content(serving.folder / str(third)) == before[first]
    assert {version: content(serving.folder / str(version)) for version in (first, second)} == before
    manifest, old = to_json(serving.manifest(third)), to_json(serving.manifest(first))
    changed = {key: value for key, value in manifest.items() if value != old[key]}
    assert changed.pop("pushed_at", old["pushed_at"]) >= old["pushed_at"]
    assert changed == {
        "version": third,
        "kind": "rollback",
        "replaced": second,
        "restores": first,
        "reason": "too many complaints",
        "forced": None,
    }
    assert_whole(serving)


def test_rollbacks_go_back_and_never_forward_unless_asked(serving, push):
    first, second, third = push("a"), push("b"), push("c")
    assert serving.manifest(serving.rollback()).restores == second
    fifth = serving.rollback()
    assert serving.manifest(fifth).restores == first
    with pytest.raises(BadInput) as error:
        serving.rollback()
    assert str(error.value) == (
        f"no version from before version {first}, whose content is in production, is left; choose one of "
        f"{second}, {third}, {fifth - 1}"
    )
    assert serving.manifest(serving.rollback(third)).restores == third
    assert serving.manifest(serving.rollback(fifth)).restores == first


def test_a_rollback_goes_to_what_was_read_before_and_not_to_what_was_rolled_back_from(serving, push):
    first = push("a")
    push("bad")
    serving.rollback()
    push("c")
    assert serving.manifest(serving.rollback()).restores == first


def test_a_rollback_passes_over_the_same_model(serving, push):
    first = push("a")
    push("b")
    push("a", forced="the second thought")
    push("b", forced="the third thought")
    shutil.rmtree(serving.folder / str(serving.versions()[2]))
    assert serving.manifest(serving.rollback()).restores == first


def test_a_rollback_finds_the_content_of_a_removed_version_in_its_copy(serving, push):
    first, second = push("a"), push("b")
    copy = serving.rollback()
    serving.rollback(second)
    serving.pin(copy)
    serving.remove_old(0)
    assert first not in serving.versions()
    back = serving.rollback()
    assert serving.manifest(back).restores == first
    assert serving.manifest(back).labels == ["cat", "a"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "saved_model.pb").write_bytes(b"other"), "saved_model.pb is not what was pushed"),
        (lambda folder: (folder / "saved_model.pb").unlink(), "saved_model.pb is not what was pushed"),
        (
            lambda folder: [(folder / name).write_bytes(b"") for name in ("saved_model.pb", "assets.extra/labels.txt")],
            "assets.extra/labels.txt, saved_model.pb are not what was pushed",
        ),
    ],
)
def test_a_damaged_version_is_refused_and_production_stays(serving, push, damage, said):
    first, second, third = push("a"), push("b"), push("c")
    damage(serving.folder / str(second))
    for version in (None, second):
        with pytest.raises(BadInput) as error:
            serving.rollback(version)
        assert str(error.value) == f"version {second} is damaged: {said}; choose one of {first}"
    assert serving.production() == third
    assert leftovers(serving) == []
    (serving.folder / str(first) / "notes.txt").write_text("mine")  # harms nobody, and is not taken along
    assert "notes.txt" not in content(serving.folder / str(serving.rollback(first)))


@pytest.mark.parametrize(
    "name", ["../outside.txt", "/outside.txt", "assets/../../outside.txt", "a//b", "", ".", "assets/.", "a\0b"]
)
def test_a_manifest_that_names_files_elsewhere_is_none(serving, push, name):
    outside = serving.folder.parent / "outside.txt"
    outside.write_text("not ours")
    first, second = push("a"), push("b")
    for file in (
        serving.folder / str(first) / MANIFEST,
        serving.folder.with_name(serving.folder.name + "-manifests") / f"{first}.json",
    ):
        manifest = json.loads(file.read_text())
        manifest["files"][name] = hashlib.sha256(b"not ours").hexdigest()
        file.write_text(json.dumps(manifest))
    assert serving.manifest(first) is None
    with pytest.raises(BadInput, match=f"version {first} is damaged: its manifest is unreadable"):
        serving.rollback(first)
    assert outside.read_text() == "not ours"
    assert serving.versions() == [first, second]


@pytest.mark.parametrize(
    ("key", "value"),
    [("files", ["a"]), ("files", {"a": 1}), ("labels", "cat"), ("labels", [1]), ("restores", "1"), ("metrics", 3),
     ("kind", 1), ("model_sha256", []), ("pushed_at", 7)],
)  # fmt: skip
def test_a_manifest_of_other_types_is_none(serving, push, key, value):
    first = push("a")
    push("b")
    for file in (
        serving.folder / str(first) / MANIFEST,
        serving.folder.with_name(serving.folder.name + "-manifests") / f"{first}.json",
    ):
        file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    assert serving.manifest(first) is None
    assert [version.state for version in serving.history()] == ["kept", "production"]


def test_a_damaged_manifest_is_made_good_by_its_copy(serving, push):
    first, second = push("a"), push("b")
    manifest = serving.folder / str(first) / MANIFEST
    for text in ("{", "[]", '{"version": 3}', manifest.read_text().replace(str(first), str(second))):
        manifest.write_text(text)
        assert serving.manifest(first).restores is None
        assert serving.manifest(first).version == first
    kept = serving.folder.with_name(serving.folder.name + "-manifests") / f"{first}.json"
    for spoil in (lambda: kept.write_text("{"), kept.unlink):
        spoil()
        assert serving.manifest(first) is None
        with pytest.raises(BadInput) as error:
            serving.rollback(first)
        assert str(error.value) == (
            f"version {first} is damaged: its manifest is unreadable; there is no other version to choose"
        )
    assert [entry.kind for entry in serving.history()] == [None, "push"]


def test_what_cannot_be_rolled_back_to_is_refused_by_name(serving, push):
    with pytest.raises(BadInput, match=f"nothing is in production in {serving.folder}; there is nothing to roll back"):
        serving.rollback()
    only = push("a")
    with pytest.raises(BadInput, match="whose content is in production, is left; there is no other version to choose"):
        serving.rollback()
    second, third = push("b"), push("c")
    serving.remove_old(1)
    for version, said in (
        (only, f"version {only} was removed"),
        (17, "version 17 is unknown"),
        (third, f"the content of version {third} is already in production"),
    ):
        with pytest.raises(BadInput) as error:
            serving.rollback(version)
        assert str(error.value) == f"{said}; choose one of {second}"
    fourth = serving.rollback(second)
    with pytest.raises(BadInput, match=f"the content of version {second} is already in production"):
        serving.rollback(second)
    assert serving.production() == fourth


def test_versions_of_an_older_warmstart_can_be_rolled_back_to(serving, push, model):
    for number, name in ((1000, "a"), (1001, "b")):
        shutil.copytree(model(name), serving.folder / str(number))
    assert serving.manifest(1000) is None
    told = [(entry.version, entry.kind, entry.state) for entry in serving.history()]
    assert told == [(1000, "push", "kept"), (1001, "push", "production")]
    folder = model("b")
    assert serving.push(folder, model_identity(folder), RELEASE, 1001).outcome == "already_in_production"
    back = serving.rollback()
    assert content(serving.folder / str(back)) == content(model("a"))
    assert serving.manifest(back).restores == 1000
    assert serving.manifest(back).labels == ["cat", "a"]
    (serving.folder / "1001" / "saved_model.pb").write_bytes(b"other")
    with pytest.raises(BadInput, match=r"version 1001 is damaged: saved_model\.pb is not what was pushed"):
        serving.rollback(1001)


# Pins and removal.


def test_old_versions_are_removed_but_not_production_nor_pinned_ones(serving, push):
    versions = [push(name) for name in "abcdef"]
    serving.pin(versions[0])
    assert serving.pinned() == [versions[0]]
    assert serving.remove_old(2) == versions[1:3]
    assert serving.versions() == [versions[0], *versions[3:]]
    assert serving.remove_old(2) == []
    assert leftovers(serving) == []
    serving.unpin(versions[0])
    assert serving.remove_old(0) == [versions[0], *versions[3:5]]
    assert serving.versions() == versions[5:]
    assert_whole(serving)


def test_what_a_rollback_restored_may_be_removed_and_the_rollback_stays(serving, push, model):
    first, _ = push("a"), push("b")
    third = serving.rollback()
    serving.remove_old(0)
    assert serving.versions() == [third]
    assert content(serving.folder / str(third)) == content(model("a"))
    assert serving.manifest(third).restores == first


def test_pins_of_what_is_not_there_are_refused(serving, push):
    first, second = push("a"), push("b")
    with pytest.raises(BadInput) as error:
        serving.pin(17)
    assert str(error.value) == f"version 17 does not exist; choose one of {first}, {second}"
    with pytest.raises(BadInput, match=f"version {first} is not pinned; there is no other version to choose"):
        serving.unpin(first)


def test_history_tells_of_all_versions_ever(serving, push):
    first, second = push("a"), push("b")
    serving.pin(second)
    push("c"), push("d")
    serving.rollback()
    serving.remove_old(1)
    shutil.rmtree(serving.folder / str(second))  # by hand
    entries = serving.history()
    assert [(entry.state, entry.pinned, entry.kind) for entry in entries] == [
        ("removed", False, "push"),
        ("removed", True, "push"),
        ("removed", False, "push"),
        ("kept", False, "push"),
        ("production", False, "rollback"),
    ]
    assert entries[0].version == first
    assert entries[0].metrics == RELEASE.metrics
    assert [entry.version for entry in entries] == sorted(entry.version for entry in entries)


def test_reading_makes_and_changes_nothing(serving, push):
    assert (serving.versions(), serving.production(), serving.history(), serving.pinned()) == ([], None, [], [])
    assert not serving.folder.exists()
    push("a")
    before = sorted(serving.folder.rglob("*"))
    serving.history(), serving.manifest(serving.production())
    assert sorted(serving.folder.rglob("*")) == before


# Several processes, kills and full disks.

PUSH_PROGRAM = """
import sys
from components.serving_folder.files import model_identity
from components.serving_folder.folder import ServingFolder
from schemas.release import Release
serving, expected = ServingFolder(sys.argv[1]), None if sys.argv[3] == "none" else int(sys.argv[3])
identity = model_identity(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
print(serving.push(sys.argv[2], identity, Release(), expected).outcome, flush=True)
"""


def start_push(serving: ServingFolder, model: Path, expected: int | None) -> subprocess.Popen:
    """Another process that is ready to push; a line on its input starts it."""
    command = [sys.executable, "-c", PUSH_PROGRAM, str(serving.folder), str(model), str(expected or "none")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen) -> None:
    process.stdin.write("\n")
    process.stdin.flush()


def test_of_two_pushes_at_once_the_second_learns_of_the_first(serving, push, model):
    first = push("a")
    processes = [start_push(serving, model(name, megabytes=20), first) for name in ("b", "c")]
    for process in processes:
        go(process)
    outcomes = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert sorted(outcomes) == ["production_changed", "pushed"]
    assert len(serving.versions()) == 2
    winner = ("b", "c")[outcomes.index("pushed")]
    assert content(serving.folder / str(serving.production())) == content(model(winner, megabytes=20))
    assert_whole(serving)
    assert leftovers(serving) == []


def test_a_push_that_is_killed_while_it_copies_leaves_production_whole(serving, push, model):
    first = push("a")
    process = start_push(serving, model("big", megabytes=200), first)
    go(process)
    while not (copies := list(serving.folder.glob(".incoming-*/variables/*"))):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert copies[0].stat().st_size < 200 << 20, "the kill must come while the model is being copied"
    assert serving.versions() == [first]
    assert_whole(serving)
    assert len(leftovers(serving)) == 1
    second = push("b")
    assert leftovers(serving) == []
    assert serving.versions() == [first, second]


def test_a_removal_that_was_killed_is_finished_by_the_next_change(serving, push):
    push("a")
    shutil.copytree(serving.folder / str(push("b")), serving.folder / ".removed-5")
    serving.pin(serving.production())
    assert leftovers(serving) == []


def test_a_version_leaves_by_one_rename_before_anything_of_it_is_deleted(serving, push, monkeypatch):
    first, second = push("a"), push("b")
    monkeypatch.setattr(shutil, "rmtree", lambda folder, ignore_errors: None)  # as if it were killed just before
    assert serving.remove_old(0) == [first]
    assert serving.versions() == [second]
    assert leftovers(serving) == [f".removed-{first}"]


def test_who_waits_too_long_is_told(serving, push, monkeypatch):
    first = push("a")
    monkeypatch.setattr(serving_folder, "_LOCK_TIMEOUT_SECONDS", 0.2)
    with filelock.FileLock(serving.folder / ".lock"):
        for change in (
            lambda: serving.push(serving.folder, "x", RELEASE, first),
            serving.rollback,
            lambda: serving.pin(first),
            lambda: serving.unpin(first),
            lambda: serving.remove_old(0),
        ):
            with pytest.raises(BadInput, match=r"another push or rollback has been running in .+ for more than 0.2 s"):
                change()
        assert [entry.state for entry in serving.history()] == ["production"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_leaves_production_whole_and_nothing_else(small_disk, model):
    serving = ServingFolder(small_disk / "serving")
    folder = model("a", megabytes=3)
    first = serving.push(folder, model_identity(folder), RELEASE, None).version
    big = model("big", megabytes=6)
    with pytest.raises(OSError, match="No space left on device"):
        serving.push(big, model_identity(big), RELEASE, first)
    assert serving.versions() == [first]
    assert leftovers(serving) == []
    assert_whole(serving)
    small = model("b")
    assert serving.push(small, model_identity(small), RELEASE, first).outcome == "pushed"
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    production = serving.production()
    with pytest.raises(OSError, match="No space left on device"):
        serving.rollback()
    assert serving.production() == production
    assert leftovers(serving) == []
    assert_whole(serving)


READER_PROGRAM = """
import json, sys
from pathlib import Path
from components.serving_folder.files import checksums
from components.serving_folder.folder import ServingFolder
serving, reads, seen = ServingFolder(sys.argv[1]), 0, set()
print("ready", flush=True)
while not Path(sys.argv[2]).exists():
    version = serving.production()
    folder = serving.folder / str(version)
    try:
        expected = json.loads((folder / "assets.extra/manifest.json").read_text())["files"]
        whole = checksums(folder) == expected
    except FileNotFoundError:
        whole = False
    # A version may have been removed by now; then it is gone as a whole.
    if not whole and folder.exists():
        sys.exit(f"version {version} is not whole")
    reads, seen = reads + whole, seen | {version}
print(reads, len(seen))
"""


def test_a_server_that_reads_all_the_time_never_sees_a_part(serving, push, tmp_path):
    push("a")
    stop = tmp_path / "stop"
    command = [sys.executable, "-c", READER_PROGRAM, str(serving.folder), str(stop)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY) as reader:
        assert reader.stdout.readline() == "ready\n"
        for i in range(12):
            push(f"{i}")
            serving.rollback()
            serving.remove_old(1)
        stop.touch()
        said, errors = reader.communicate(timeout=60)
    assert reader.returncode == 0, errors
    reads, seen = map(int, said.split())
    assert reads > 20
    assert seen > 5


def test_threads_take_turns(serving, model):
    folders = [model(f"{i}") for i in range(6)]
    outcomes = []

    def work(folder: Path) -> None:
        while True:
            result = serving.push(folder, model_identity(folder), RELEASE, serving.production())
            outcomes.append(result.outcome)
            if result.outcome != "production_changed":
                return

    threads = [threading.Thread(target=work, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes.count("pushed") == len(serving.versions()) == 6
    assert_whole(serving)


class AnyOrder(RuleBasedStateMachine):
    """Whatever is done in whatever order: production is whole, numbers grow, and only what may go has gone."""

    folders = itertools.count()

    def __init__(self):
        super().__init__()
        self.base = Path(os.environ["SERVING_FOLDER_TESTS"], str(next(self.folders)))
        self.serving = ServingFolder(self.base / "serving")
        self.contents: dict[int, str] = {}
        self.pins: set[int] = set()

    @rule(name=st.sampled_from("abc"), force=st.booleans())
    def push(self, name, force):
        write_model(self.base / name, name)
        production = self.serving.production()
        result = self.serving.push(
            self.base / name, model_identity(self.base / name), RELEASE, production, force_push="yes" if force else ""
        )
        if production is not None and self.contents[production] == name:
            assert result.outcome == "already_in_production"
        elif result.outcome == "pushed":
            assert result.version > max(self.contents, default=0)
            self.contents[result.version] = name
        else:
            assert result.outcome == "rolled_back"
            assert not force

    @precondition(lambda self: self.contents)
    @rule(data=st.data())
    def rollback(self, data):
        target = data.draw(st.none() | st.sampled_from(sorted(self.contents)))
        production = self.serving.production()
        try:
            version = self.serving.rollback(target)
        except BadInput:
            assert (
                target is None
                or target not in self.serving.versions()
                or self.contents[target] == self.contents[production]
            )
            return
        assert version > max(self.contents)
        restored = target or self.serving.manifest(version).restores
        assert self.contents[restored] != self.contents[production]
        self.contents[version] = self.contents[restored]

    @precondition(lambda self: self.contents)
    @rule(data=st.data())
    def pin(self, data):
        version = data.draw(st.sampled_from(self.serving.versions()))
        if version in self.pins:
            self.serving.unpin(version)
        else:
            self.serving.pin(version)
        self.pins ^= {version}

    @rule(keep=st.integers(0, 3))
    def remove_old(self, keep):
        before, production = self.serving.versions(), self.serving.production()
        removed = self.serving.remove_old(keep)
        assert self.serving.versions() == [version for version in before if version not in removed]
        assert not {*removed} & {production, *self.pins}
        assert len(self.serving.versions()) <= keep + len(self.pins | {production})

    @invariant()
    def all_is_well(self):
        assert self.serving.production() == max(self.contents, default=None)
        assert self.serving.pinned() == sorted(self.pins)
        assert [entry.version for entry in self.serving.history()] == sorted(self.contents)
        assert_whole(self.serving)
        for version in self.serving.versions():
            assert self.serving.manifest(version).labels == ["cat", self.contents[version]]

    def teardown(self):
        shutil.rmtree(self.base, ignore_errors=True)


def test_any_order_of_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("SERVING_FOLDER_TESTS", str(tmp_path))
    # To the disk itself is what the other tests write.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    machine = AnyOrder.TestCase
    machine.settings = settings(
        max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
    )
    machine().runTest()


@pytest.fixture
def damaged(serving, push):
    """Versions of the models a, b and, by a rollback, a, whose last one is damaged."""
    versions = [push("a"), push("b"), serving.rollback()]
    (serving.folder / str(versions[-1]) / "saved_model.pb").write_bytes(b"half")
    return versions


def test_a_damaged_model_in_production_is_pushed_anew(serving, push, damaged):
    assert serving.identity(damaged[-1]) is None
    assert serving.identity(damaged[0]) is not None
    version = push("a")
    assert serving.production() == version
    assert serving.identity(version) == serving.identity(damaged[0])


def test_a_file_that_is_gone_or_new_is_damage_too(serving, push):
    version = push("a")
    (serving.folder / str(version) / "another").touch()
    assert serving.identity(version) is None
    (serving.folder / str(version) / "another").unlink()
    assert serving.identity(version) is not None
    (serving.folder / str(version) / "saved_model.pb").unlink()
    assert serving.identity(version) is None
    (serving.folder / str(version) / MANIFEST).write_text("{")
    shutil.rmtree(serving.folder.with_name(serving.folder.name + "-manifests"))
    assert serving.identity(version) is None


def test_a_damaged_model_in_production_is_rolled_back_to_a_whole_copy_of_it_first(serving, push, model, damaged):
    version = serving.rollback()
    assert serving.manifest(version).restores == damaged[0]
    assert serving.identity(version) == serving.identity(damaged[0])
    push("c")
    result = serving.push(model("a"), model_identity(model("a")), RELEASE, serving.production())
    assert result.outcome == "pushed", "nobody rolled back from this model because of what it answered"


def test_a_damaged_model_in_production_may_be_rolled_back_to_any_other_version(serving, damaged):
    with pytest.raises(BadInput) as error:
        serving.rollback(damaged[-1])
    assert str(error.value) == (
        f"the content of version {damaged[-1]} is in production but damaged; choose one of {damaged[0]}, {damaged[1]}"
    )
    assert serving.identity(serving.rollback(damaged[1])) == serving.identity(damaged[1])


def test_the_same_model_with_an_export_more_is_pushed_and_with_one_less_is_not(serving, push, model):
    first = push("a")
    identity = model_identity(model("a"))
    more = model("a")
    (more / "assets.extra" / "model.tflite").write_bytes(b"tflite")
    result = serving.push(more, identity, RELEASE, first)
    assert result.outcome == "pushed"
    assert serving.identity(result.version) == identity
    (more / "assets.extra" / "model.tflite").unlink()
    assert serving.push(more, identity, RELEASE, result.version).outcome == "already_in_production"
