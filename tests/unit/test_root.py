"""The root folder: one run at a time, one pipeline a root, and the version production reads."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.serving_folder.files import model_identity
from deploy.root import Root, find_root
from schemas.errors import BadInput
from schemas.release import Release

REPOSITORY = Path(__file__).parents[2]
HOLD = """
import sys
from components.serving_folder.files import model_identity
from deploy.root import Root, find_root
with Root(sys.argv[1]).lock("2024-02-29T12-00-00Z"):
    print("held", flush=True)
    sys.stdin.read()
"""

# Does what it is told, a line at a time, and answers with a line.
OBEY = """
import sys
from deploy.root import Root, RunActiveError
root, held = Root(sys.argv[1]), None
for line in sys.stdin:
    order = line.strip()
    if order == "lock":
        held = root.lock("run")
        try:
            held.__enter__()
            print("held", flush=True)
        except RunActiveError:
            held = None
            print("refused", flush=True)
    elif order == "release":
        held.__exit__(None, None, None)
        print("released", flush=True)
    elif order == "ask":
        print("active" if root.is_active() else "free", flush=True)
"""


@pytest.fixture
def root(tmp_path):
    root = Root(tmp_path / "root")
    root.prepare("cats_vs_dogs")
    return root


@pytest.fixture
def holder(root):
    """Another process, which holds the lock of `root`."""
    command = [sys.executable, "-c", HOLD, str(root.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_is_refused_and_told_of_the_first(root, holder):
    with pytest.raises(BadInput) as error, root.lock("mine"):
        pytest.fail("two runs in one root")
    assert str(error.value) == (
        f"another run is active in {root.folder} (2024-02-29T12-00-00Z, process {holder.pid}); wait for it to "
        "end, or choose another --root"
    )


def test_another_root_is_free(root, holder, tmp_path):
    other = Root(tmp_path / "other")
    other.prepare("cats_vs_dogs")
    with other.lock("mine"):
        assert holder.poll() is None


def test_a_killed_run_frees_the_lock(root, holder):
    os.kill(holder.pid, signal.SIGKILL)
    assert holder.wait(10) == -signal.SIGKILL
    with root.lock("mine"):
        assert json.loads((root.folder / ".owner.json").read_text()) == {"run_id": "mine", "pid": os.getpid()}


def test_a_run_that_ended_or_failed_frees_the_lock(root, holder):
    holder.communicate("")
    with pytest.raises(ZeroDivisionError), root.lock("first"):
        raise ZeroDivisionError
    with root.lock("second"):
        pass


class Process:
    def __init__(self, root: Root):
        self._process = subprocess.Popen(
            [sys.executable, "-c", OBEY, str(root.folder)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def told(self, order: str) -> str:
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["lock", "release", "ask", "kill"])), max_size=12))
def test_whatever_processes_do_one_holds_the_lock_at_most_and_a_killed_one_holds_none(root, deeds):
    processes = [Process(root), Process(root)]
    holder = None
    try:
        for one, deed in deeds:
            if deed == "kill":
                processes[one].kill()
                processes[one] = Process(root)
                holder = None if holder == one else holder
            elif deed == "ask":
                # A process that asks whether anybody works here is told of itself, too.
                assert processes[one].told("ask") == ("free" if holder is None else "active")
            elif deed == "lock" and holder != one:
                assert processes[one].told("lock") == ("held" if holder is None else "refused")
                holder = one if holder is None else holder
            elif deed == "release" and holder == one:
                assert processes[one].told("release") == "released"
                holder = None
    finally:
        for process in processes:
            process.kill()


def test_somebody_who_only_asks_keeps_nobody_from_working(root):
    asking = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time\nfrom deploy.root import Root\nprint('asks', flush=True)\n"
            "while True:\n    Root(sys.argv[1]).is_active()\n    time.sleep(0.001)",
            str(root.folder),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    try:
        asking.stdout.readline()
        for _ in range(200):
            with root.lock("mine"):
                pass
    finally:
        asking.kill()
        asking.communicate()


@pytest.mark.parametrize("owner", [None, "", "{", "[]", '{"run_id": "x"}'])
def test_the_refusal_needs_no_readable_owner(root, holder, owner):
    (root.folder / ".owner.json").unlink()
    if owner is not None:
        (root.folder / ".owner.json").write_text(owner)
    with pytest.raises(BadInput, match=f"another run is active in {root.folder}; wait for it"), root.lock("mine"):
        pytest.fail("two runs in one root")


def test_a_root_is_prepared_again_by_its_own_pipeline_only(root):
    (root.serving / "1").mkdir()
    root.prepare("cats_vs_dogs")
    assert root.production_version() == "1"
    with pytest.raises(BadInput) as error:
        root.prepare("species")
    assert str(error.value) == (
        f"the root folder {root.folder} belongs to the pipeline 'cats_vs_dogs', and a run of 'species' would replace "
        "its model in production; choose another folder with --root"
    )


def test_a_root_whose_first_run_was_killed_before_it_named_the_pipeline(tmp_path):
    (tmp_path / ".pipeline").touch()
    Root(tmp_path).prepare("species")
    with pytest.raises(BadInput, match="belongs to the pipeline 'species'"):
        Root(tmp_path).prepare("cats_vs_dogs")


@pytest.mark.parametrize("below", ["", "deeper", "reports"])
def test_a_root_that_cannot_be_written(tmp_path, below):
    (tmp_path / "file").write_text("x")
    folder = tmp_path / "file" / below
    if below == "reports":  # the folder is there, but not what goes into it
        folder = tmp_path / "root"
        folder.mkdir()
        (folder / "reports").write_text("x")
    with pytest.raises(BadInput, match=rf"root folder {folder} cannot be written \(.+\); choose another with --root"):
        Root(folder).prepare("species")


def test_a_root_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Root("runs/x").reports == tmp_path / "runs" / "x" / "reports"
    assert Root("~/x").metadata == tmp_path / "x" / "metadata.sqlite"


def test_run_ids_are_unique_and_sort_by_time(root):
    first = root.new_run_id()
    (root.reports / first).mkdir()
    second = root.new_run_id()
    assert first < second


@pytest.mark.parametrize(
    ("names", "version"),
    [
        ([], None),
        (["9", "10"], "10"),
        (["1709200000", "1709200001", ".incoming-1709200002"], "1709200001"),
        ([".incoming-3"], None),
        (["2", "latest", "3.5", "-4", "5x", "\u00b2"], "2"),
    ],
)
def test_production_reads_the_highest_number(root, names, version):
    for name in names:
        (root.serving / name).mkdir()
    assert root.production_version() == version


def test_production_reads_no_file(root):
    (root.serving / "7").write_text("x")
    assert root.production_version() is None


def test_nothing_is_in_production_before_anything_was_made(tmp_path):
    assert Root(tmp_path / "absent").production_version() is None


def test_the_identity_of_production_is_that_of_its_manifest_or_else_of_its_files(root, tmp_path):
    assert root.production_identity() == ""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"graph")
    identity = model_identity(tmp_path / "model")
    (root.serving / "3").mkdir()  # of an older warmstart
    (root.serving / "3" / "saved_model.pb").write_bytes(b"graph")
    assert root.production_identity() == identity
    version = root.serving_folder().push(tmp_path / "model", "of the trained model", Release(), 3).version
    assert root.production_identity() == "of the trained model"
    (root.serving / str(version) / "saved_model.pb").write_bytes(b"gra")
    assert root.production_identity() == "", "nobody knows what a damaged model is"


def test_the_only_root_is_found_and_of_several_none_is_guessed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as error:
        find_root(None)
    assert str(error.value) == f"there is no root folder below {tmp_path}/runs; name one with --root"
    (tmp_path / "runs" / "notes").mkdir(parents=True)
    Root("runs/cats_vs_dogs").prepare("cats_vs_dogs")
    assert find_root(None).folder == tmp_path / "runs" / "cats_vs_dogs"
    Root("runs/b").prepare("species")
    with pytest.raises(BadInput) as error:
        find_root(None)
    assert str(error.value) == "there are several root folders: runs/b, runs/cats_vs_dogs; choose one with --root"
    assert find_root("runs/b").folder == tmp_path / "runs" / "b"


def test_runs_itself_may_be_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Root("runs").prepare("species")
    assert find_root(None).folder == tmp_path / "runs"


@pytest.mark.parametrize("name", ["absent", "folder", "file"])
def test_a_folder_that_is_no_root_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(BadInput) as error:
        find_root(str(tmp_path / name))
    assert str(error.value) == (
        f"{tmp_path / name} is not a root folder of warmstart (it has no file .pipeline); give the folder "
        "that `warmstart run` used"
    )
