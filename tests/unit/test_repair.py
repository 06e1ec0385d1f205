"""What was damaged while nobody ran: ML Metadata's file, production, folders that nobody knows any more."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.serving_folder.files import model_identity
from components.serving_folder.folder import ServingFolder
from deploy import cli, disks, metadata_file
from deploy.local import folder_of_run
from deploy.repair import repair_all, set_aside_unknown
from deploy.root import Root, failure
from schemas.errors import BadInput
from schemas.release import Release


@pytest.fixture
def root(tmp_path):
    root = Root(tmp_path / "root")
    root.prepare("cats_vs_dogs")
    return root


def make_metadata(file: Path, executions: int) -> None:
    """A database with the table that is asked for."""
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS Execution (id INTEGER PRIMARY KEY, note TEXT)")
        database.executemany("INSERT INTO Execution (note) VALUES (?)", [("x" * 500,)] * executions)


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4096:12288] = b"\xa5" * 8192
    file.write_bytes(content)


# ---- ML Metadata's file


def test_a_whole_file_is_copied_and_a_damaged_one_leaves_the_copy(root):
    metadata_file.make_copy(root.metadata)
    assert not metadata_file.copy_of(root.metadata).exists(), "there is nothing to copy yet"
    make_metadata(root.metadata, 60)
    metadata_file.make_copy(root.metadata)
    copy = metadata_file.copy_of(root.metadata)
    assert metadata_file.last_execution(copy) == 60
    damage(root.metadata)
    before = copy.read_bytes()
    metadata_file.make_copy(root.metadata)
    assert copy.read_bytes() == before
    assert sorted(path.name for path in root.folder.glob("metadata*")) == ["metadata.sqlite", "metadata.sqlite.copy"]


def test_a_damaged_file_is_refused_and_repaired_by_its_copy(root):
    make_metadata(root.metadata, 60)
    metadata_file.refuse_damaged(root.metadata)
    metadata_file.make_copy(root.metadata)
    damage(root.metadata)
    damaged = root.metadata.read_bytes()
    with pytest.raises(
        BadInput,
        match=r"metadata\.sqlite (is damaged|cannot be read) .*run `warmstart repair`, which restores the copy",
    ):
        metadata_file.refuse_damaged(root.metadata)
    [repair] = repair_all(root)
    assert repair.done
    assert "the copy of 20" in repair.text
    metadata_file.refuse_damaged(root.metadata)
    assert metadata_file.last_execution(root.metadata) == 60
    [aside] = root.folder.glob("metadata.sqlite.damaged-*")
    assert aside.read_bytes() == damaged
    assert list(repair_all(root)) == []


def test_without_a_copy_the_sentence_says_what_to_do(root):
    root.metadata.write_bytes(b"no database " * 50)
    with pytest.raises(
        BadInput, match="there is no intact copy, so move the file away: the next run starts from scratch"
    ):
        metadata_file.refuse_damaged(root.metadata)
    [repair] = repair_all(root)
    assert not repair.done
    assert root.metadata.exists()


def test_a_file_that_was_being_made_is_no_damaged_one(root):
    root.metadata.touch()  # killed in the very first run
    metadata_file.refuse_damaged(root.metadata)
    assert metadata_file.last_execution(root.metadata) == 0


def test_a_file_that_somebody_writes_to_at_this_moment_is_no_damaged_one(root, monkeypatch):
    make_metadata(root.metadata, 3)
    opened = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **more: opened(*given, **more, timeout=0.1))
    with contextlib.closing(opened(root.metadata)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        metadata_file.refuse_damaged(root.metadata)


# ---- what nobody knows any more


def test_what_a_lost_store_knew_is_set_aside(root):
    for name in (
        "Trainer/model/3",
        "Trainer/model/12",
        "Trainer/.system/executor_execution/12",
        "Pusher/pushed_model/9",
    ):
        (root.artifacts / name).mkdir(parents=True)
        (root.artifacts / name / "file").write_text(name)
    (root.artifacts / "Trainer" / "model" / "no number").mkdir()
    make_metadata(root.metadata, 9)
    set_aside_unknown(root, "run")
    assert sorted(p.parent.relative_to(root.artifacts).as_posix() for p in root.artifacts.rglob("file")) == [
        "Pusher/pushed_model/9",
        "Trainer/model/3",
    ]
    assert (root.set_aside / "run" / "Trainer" / "model" / "12" / "file").read_text() == "Trainer/model/12"
    root.metadata.unlink()
    set_aside_unknown(root, "later")
    assert list(root.artifacts.rglob("file")) == []
    assert len(list(root.set_aside.rglob("file"))) == 4, "nothing is lost"


def test_production_is_restored_from_what_was_set_aside(root):
    model = root.artifacts / "Pusher" / "pushed_model" / "4"
    model.mkdir(parents=True)
    (model / "saved_model.pb").write_text("graph")
    version = root.serving_folder().push(model, model_identity(model), Release(), None).version
    set_aside_unknown(root, "run")
    (root.serving / str(version) / "saved_model.pb").unlink()
    [repair] = repair_all(root)
    assert repair.done
    assert root.serving_folder().standing().problem == ""


# ---- the command


def test_the_command_says_what_it_did(root):
    def said(*words):
        result = CliRunner().invoke(cli.main, ["repair", "--root", str(root.folder), *words])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout

    assert said() == (0, f"nothing is wrong in {root.folder}\n")
    make_metadata(root.metadata, 60)
    metadata_file.make_copy(root.metadata)
    damage(root.metadata)
    code, output = said("--json")
    [repair] = json.loads(output)
    assert (code, repair["done"]) == (0, True)
    metadata_file.copy_of(root.metadata).unlink()
    damage(root.metadata)
    code, output = said()
    assert code == 2
    assert "there is no intact copy" in output


def test_an_error_names_the_repairs_that_were_made_before_it(root, monkeypatch):
    def full(self, places):
        raise OSError(28, "No space left on device")

    model = root.artifacts / "Pusher" / "pushed_model" / "4"
    model.mkdir(parents=True)
    (model / "saved_model.pb").write_text("graph")
    version = root.serving_folder().push(model, model_identity(model), Release(), None).version
    (root.serving / str(version) / "saved_model.pb").unlink()
    monkeypatch.setattr(ServingFolder, "restore", full)
    result = CliRunner().invoke(cli.main, ["repair", "--root", str(root.folder)])
    assert result.exit_code == 2
    assert "(No space left on device); nothing was changed" in result.stderr
    make_metadata(root.metadata, 60)
    metadata_file.make_copy(root.metadata)
    damage(root.metadata)
    result = CliRunner().invoke(cli.main, ["repair", "--root", str(root.folder)])
    assert result.exit_code == 2
    assert "(No space left on device); done before that: the ML Metadata file " in result.stderr
    assert "nothing was changed" not in result.stderr
    metadata_file.refuse_damaged(root.metadata)


# ---- temporary files


def test_temporary_files_go_with_the_run_and_those_of_killed_runs_with_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("TFHUB_CACHE_DIR", raising=False)
    one, other = Path("/roots/one"), Path("/roots/other")
    killed = folder_of_run(one, "killed")
    of_killed = killed.__enter__()
    (of_killed / "left").write_text("behind")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with folder_of_run(other, "run"):
        assert of_killed.exists(), "it is another root's"
    with folder_of_run(one, "run") as folder:
        assert not of_killed.exists()
        with tempfile.NamedTemporaryFile() as file:
            assert Path(file.name).parent == folder
        assert os.environ["TMPDIR"] == str(folder)
        assert os.environ["TFHUB_CACHE_DIR"] == str(tmp_path / "tfhub_modules"), "what was downloaded stays"
    assert os.environ["TMPDIR"] == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---- disks


def free(monkeypatch, **bytes_free):
    """Disks that are as free as that, by the first word of what they are for; the others are empty."""
    monkeypatch.setattr(
        disks.Disk, "free", property(lambda disk: bytes_free.get(disk.what.split()[-1], 500_000_000_000))
    )


@pytest.mark.parametrize(
    ("full", "said"),
    [
        ("root", "no space is left on the disk of the root ("),
        ("files", "no space is left on the disk of temporary files ("),
        ("backbones", "no space is left on the disk of the cache of backbones ("),
    ],
)
def test_the_disk_that_is_full_is_named(root, monkeypatch, full, said):
    free(monkeypatch, **{full: 4096})
    assert failure(OSError(28, "No space left on device"), root).startswith(said)


@pytest.mark.parametrize(
    ("bytes_free", "sentence"),
    [
        (
            {"root": 400_000_000},
            r"the disk of the root \(.*\) has 400 MB free, and this run needs about 1\.2 GB there; free some "
            r"space, for example with `warmstart clean`, or choose another root with --root",
        ),
        (
            {"files": 4096},
            r"the disk of temporary files \(.*\) has 0 MB free, .*, or set TMPDIR to another folder",
        ),
    ],
)
def test_a_run_that_finds_no_room_does_not_begin(root, monkeypatch, bytes_free, sentence):
    free(monkeypatch, **bytes_free)
    with pytest.raises(BadInput, match=f"^{sentence}$"):
        disks.refuse_too_full(root.folder, photos=10_000, photo_bytes=500_000_000)


def test_a_run_that_finds_room_begins(root, monkeypatch):
    free(monkeypatch, root=2_000_000_000, files=100_000_000)
    disks.refuse_too_full(root.folder, photos=10_000, photo_bytes=500_000_000)
