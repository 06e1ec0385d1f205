"""How a call of `retrain` ends that no whole run stands behind: what is written down, who is told, the exit code."""

from __future__ import annotations

import errno
import json
import shutil
import sys
from pathlib import Path

import pytest

from components.serving_folder.files import model_identity
from deploy import retrain as night
from deploy.root import Root
from pipeline.config import load_config
from samples.sample_photos import write_sample_photos
from schemas.errors import BadInput
from schemas.release import Release
from schemas.summary import ProductionSummary, Summary
from tests.end_to_end.commands import fill, small_disk

NOTHING_NEW = "nothing is new: the model has already been trained on these photos"
TELL = "import os, sys; open(sys.argv[1], 'a').write(os.environ['WARMSTART_STATUS'] + ': ' + sys.stdin.read() + '\\0')"


class Night:
    """A root with one version in production, whose model lies among the artifacts too; nothing is new."""

    def __init__(self, folder: Path, photos: Path, monkeypatch):
        self.root, self.told = Root(folder / "root"), folder / "told"
        self.settings = [f"notify.command=[{sys.executable},-c,{json.dumps(TELL)},{json.dumps(str(self.told))}]"]
        self.data = [str(photos)]
        self.root.prepare("cats_vs_dogs")
        self.copy = self.root.artifacts / "Pusher" / "pushed_model" / "7"
        (self.copy / "variables").mkdir(parents=True)
        (self.copy / "saved_model.pb").write_text("graph")
        (self.copy / "variables" / "variables.index").write_text("values")
        pushed = self.root.serving_folder().push(
            self.copy, model_identity(self.copy), Release(winner="fine_tuned"), None, "r"
        )
        self.version = pushed.version
        self.why_not = NOTHING_NEW
        monkeypatch.setattr(night, "_nothing_to_do", lambda config, root: self.why_not)

    def retrain(self, *settings: str) -> night.RetrainResult:
        config = load_config("cats_vs_dogs", [*self.settings, *settings], self.data)
        return night.retrain(config, self.root, None)

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in (self.root.folder / "retrain.jsonl").read_text().splitlines()]

    @property
    def notified(self) -> list[str]:
        return self.told.read_text().split("\0")[:-1] if self.told.exists() else []

    @property
    def served(self) -> Path:
        return self.root.serving / str(self.version)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample_photos(folder / "photos", photos=24, seed=1)
    return folder / "photos" / "cats_vs_dogs"


@pytest.fixture
def nights(photos, tmp_path, monkeypatch) -> Night:
    return Night(tmp_path, photos, monkeypatch)


def test_with_production_as_it_was_pushed_nothing_is_said(nights):
    (nights.served / "variables" / ".nfs0001").touch()  # as network file systems make
    done = nights.retrain()
    assert (done.status, done.reason, done.exit_code, done.alert) == ("skipped", NOTHING_NEW, 0, "")
    assert nights.notified == []
    assert [path.name for path in nights.root.serving.iterdir() if path.name.isdecimal()] == [str(nights.version)]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda n: shutil.rmtree(n.served), "is gone, so nothing is in production"),
        (lambda n: shutil.rmtree(n.root.serving), "is gone, so nothing is in production"),
        (lambda n: (n.served / "saved_model.pb").unlink(), "is damaged: saved_model.pb is missing"),
        (lambda n: (n.served / "saved_model.pb").write_text("GRAPH"), "is damaged: saved_model.pb was changed"),
        (lambda n: shutil.rmtree(n.served / "variables"), "is damaged: variables/variables.index is missing"),
        (lambda n: (n.served / "more.txt").touch(), "is damaged: more.txt was added"),
    ],
    ids=["version_deleted", "serving_deleted", "file_deleted", "file_changed", "half_copied", "file_added"],
)
def test_production_that_was_damaged_is_restored_and_somebody_hears_of_it(nights, damage, said):
    damage(nights)
    done = nights.retrain()
    assert (done.status, done.exit_code) == ("restored", 0)
    assert done.reason.startswith(f"version {nights.version} {said}; its content is in production again, as version ")
    assert done.reason.endswith(f"; {NOTHING_NEW}")
    assert done.alert.startswith(f"cats_vs_dogs: version {nights.version} {said}")
    assert nights.lines[-1]["status"] == "restored"
    [told] = nights.notified
    assert told.startswith("restored: ")
    serving = nights.root.serving_folder()
    standing = serving.standing()
    assert (standing.version, standing.problem) == (serving.production(), "")
    assert serving.production() > nights.version
    served = nights.root.serving / str(serving.production())
    assert (served / "saved_model.pb").read_text() == "graph"
    assert serving.manifest(serving.production()).kind == "restoration"
    # What is known of the version outlives its loss, and the morning after is a quiet one.
    assert serving.manifest(nights.version).winner == "fine_tuned"
    assert nights.retrain().status == "skipped"


def test_without_a_whole_copy_somebody_is_called_every_night(nights):
    shutil.rmtree(nights.served)
    (nights.copy / "saved_model.pb").write_text("another")
    for _ in range(2):
        done = nights.retrain()
        assert (done.status, done.exit_code) == ("failed", 4)
        assert "; no intact copy is left" in done.alert
    assert [line["exit_code"] for line in nights.lines] == [4, 4]
    assert len(nights.notified) == 2


def test_who_goes_back_to_what_is_left_is_left_alone(nights):
    first, model = nights.version, nights.copy.parent / "9"
    shutil.copytree(nights.copy, model)
    (model / "saved_model.pb").write_text("a better one")
    serving = nights.root.serving_folder()
    second = serving.push(model, model_identity(model), Release(), first, "s").version
    shutil.rmtree(nights.root.serving / str(second))
    shutil.rmtree(model)
    assert nights.retrain().exit_code == 4
    third = serving.rollback(reason="the better one is lost")
    assert (serving.production(), serving.manifest(third).restores) == (third, first)
    assert nights.retrain().exit_code == 0


def raising(error):
    def run(config, root, display):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EIO, "Input/output error"), "OSError: [Errno 5] Input/output error"),
        (OSError(errno.ENOSPC, "No space left on device"), "no space is left"),
        (RuntimeError("nobody\nthought of it"), "RuntimeError: nobody thought of it"),
        (MemoryError(), "MemoryError: MemoryError"),
    ],
)
def test_whatever_goes_wrong_is_written_down_and_told(nights, monkeypatch, error, said):
    nights.why_not = ""
    monkeypatch.setattr(night.local, "run", raising(error))
    done = nights.retrain()
    assert (done.status, done.exit_code) == ("failed", 1)
    assert done.reason.startswith(said)
    assert done.alert == f"cats_vs_dogs: retrain failed: {done.reason}"
    [line], [told] = nights.lines, nights.notified
    assert (line["status"], line["reason"], line["exit_code"]) == ("failed", done.reason, 1)
    summary = json.loads(told.removeprefix("failed: "))
    assert (summary["status"], summary["alert"]) == ("failed", done.alert)
    [report] = nights.root.reports.iterdir()
    assert json.loads((report / "summary.json").read_text())["reason"] == done.reason
    assert said.split(":")[0] in (report / "index.html").read_text()


def test_wrong_input_has_a_page_too(nights, monkeypatch):
    nights.why_not = ""
    monkeypatch.setattr(night.local, "run", raising(BadInput("the photos are gone; give others")))
    with pytest.raises(BadInput, match=r"^the photos are gone; give others$"):
        nights.retrain()
    [line], [told] = nights.lines, nights.notified
    assert (line["status"], line["exit_code"]) == ("stopped", 2)
    assert told.startswith("stopped: ")
    [report] = nights.root.reports.iterdir()
    assert line["run_id"] == report.name
    assert "the photos are gone" in (report / "index.html").read_text()


def test_a_disk_that_takes_nothing_does_not_keep_the_notifier_from_being_called(nights, monkeypatch):
    nights.why_not = ""
    monkeypatch.setattr(night.local, "run", raising(OSError(errno.ENOSPC, "No space left on device")))
    shutil.rmtree(nights.root.reports)
    nights.root.reports.write_text("no folder can be made here")
    (nights.root.folder / "retrain.jsonl").mkdir()
    monkeypatch.setattr(Root, "prepare", lambda self, name: None)
    done = nights.retrain()
    assert (done.status, done.exit_code) == ("failed", 1)
    assert len(nights.notified) == 1
    assert any("retrain.jsonl cannot be written" in note for note in done.notes)


def test_a_disk_that_was_filled_to_the_last_byte_still_takes_the_line_of_the_call(photos, tmp_path, monkeypatch):
    with small_disk(tmp_path / "disk", 8) as disk:
        nights = Night(disk, photos, monkeypatch)
        nights.told = tmp_path / "told"
        nights.why_not = ""

        def run(config, root, display):
            fill(disk)
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(night.local, "run", run)
        done = nights.retrain()
        assert (done.status, done.exit_code, done.notes) == ("failed", 1, ())
        [line] = nights.lines
        assert "no space is left" in line["reason"]
        assert not (nights.root.folder / ".reserve").exists()


def test_a_second_call_leaves_the_room_for_the_line_of_the_first(nights, monkeypatch):
    kept = nights.root.folder / ".reserve"
    nights.why_not = ""

    def run(config, root, display):
        monkeypatch.setattr(Root, "is_active", lambda self: True)
        assert nights.retrain().status == "skipped"
        assert kept.stat().st_size > 0
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(night.local, "run", run)
    assert nights.retrain().status == "failed"
    assert [line["status"] for line in nights.lines] == ["skipped", "failed"]
    assert not kept.exists()


def test_a_notifier_that_fails_is_a_note(nights):
    (nights.served / "saved_model.pb").unlink()
    nights.settings = ["notify.command=[sh, -c, 'echo no mail today; exit 3']"]
    done = nights.retrain()
    assert (done.status, done.exit_code) == ("restored", 0)
    [note] = done.notes
    assert note.endswith("exit code 3: no mail today")


def test_damaged_metadata_are_one_sentence(nights, monkeypatch):
    monkeypatch.undo()
    nights.root.metadata.write_bytes(b"photos of cats\n" * 100)
    with pytest.raises(BadInput) as error:
        nights.retrain()
    assert str(error.value).startswith(
        f"the ML Metadata file {nights.root.metadata} cannot be read (file is not a database)"
    )
    assert nights.lines[-1]["status"] == "stopped"
    assert len(nights.notified) == 1


# ---- runs that could not write their own end


def test_a_run_that_was_killed_before_it_wrote_anything_is_closed(nights):
    from deploy import run_summary

    folder = nights.root.reports / "2026-11-01T03-00-00Z"
    folder.mkdir()
    (nights.root.reports / "a file").touch()
    assert nights.root.runs_without_summary(except_for="another") == [folder]
    run_summary.write_summary_of_killed_run(folder, None, nights.root)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["reason"]) == (
        "failed",
        "the run was killed; the next run continued after its last finished step",
    )
    assert "the run was killed" in (folder / "index.html").read_text()
    assert nights.root.runs_without_summary(except_for="another") == []


def test_a_run_that_had_pushed_is_pushed_however_it_ended(nights):
    from deploy import run_summary

    told = run_summary.summarise(run_summary.Run("r", nights.root), "failed", "no space is left")
    assert (told.status, told.reason) == (
        "pushed",
        f"a model is in production as version {nights.version}, but the run failed after the push: no space is left",
    )
    assert run_summary.summarise(run_summary.Run("other", nights.root), "failed", "no").status == "failed"


def test_of_a_run_that_was_killed_the_next_one_tells(nights, monkeypatch):
    nights.why_not = ""
    (nights.root.reports / "2026-11-01T03-00-00Z").mkdir()
    production = ProductionSummary(before=None, after="7", folder="serving")
    summary = Summary(run_id="x", status="pushed", reason="a model is in production", production=production)
    monkeypatch.setattr(
        night.local, "run", lambda config, root, display: night.local.RunResult(summary, root.reports / "x", 0)
    )
    done = nights.retrain()
    assert (done.status, done.exit_code) == ("pushed", 0)
    assert done.alert == "cats_vs_dogs: 2026-11-01T03-00-00Z was killed"
    [told] = nights.notified
    assert json.loads(told.removeprefix("pushed: "))["alert"] == done.alert
