"""Mornings after: what whoever is on call finds when a night went wrong, and what the next night does."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from components.example_gen.photo_folder import OUTPUT_MARK
from deploy.root import Root
from tests.end_to_end.commands import fill, served, small_disk, start_until, warmstart

pytestmark = [pytest.mark.slow, pytest.mark.release]

TELL = "import os, sys; open(sys.argv[1], 'a').write(os.environ['WARMSTART_STATUS'] + '\\n')"


class Mornings:
    """Spans of dark cats and bright dogs, a root, a notifier that keeps a list, and one call a night."""

    def __init__(self, folder: Path, photos: Path, settings: list[str], root: Path):
        self.data, self.root, self.told = folder / "photos", root, folder / "told"
        self._photos = sorted(path for path in photos.glob("*/*.jpg") if path.stat().st_size > 500)
        self.settings = [
            *settings,
            "--set=data.window=2",
            "--set=data.settle_seconds=86400",
            "--set=data.splits={train: 6, eval: 2, test: 2}",
            "--set=training.feature_extraction.epochs=20",
            "--set=training.fine_tuning.epochs=1",
            "--set=serving.golden_photos=4",
            "--set=release.minimum_test_photos=0",
            "--set=drift.label_distribution.stop=null",
            "--set=drift.feature_distance.stop=null",
            "--set=drift.class_feature_distance.stop=null",
        ]
        self.notifier = ["--set=notify.command=" + json.dumps([sys.executable, "-c", TELL, str(self.told)])]

    def add(self, span: str, part: slice, broken: int = 0) -> Path:
        folder = self.data / span
        for i, photo in enumerate(self._photos[part]):
            target = folder / photo.parent.name / photo.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if i < broken:
                target.write_bytes(b"")
            else:
                shutil.copy(photo, target)
        (folder / "_SUCCESS").touch()
        return folder

    @property
    def arguments(self) -> list[str]:
        data = f"--data={self.data}/span-{{SPAN}}/version-{{VERSION}}"
        return ["retrain", "--config=cats_vs_dogs", data, f"--root={self.root}", *self.settings, *self.notifier]

    def night(self) -> Morning:
        code, output = warmstart(*self.arguments)
        return self.after(code, output)

    def after(self, code: int, output: str) -> Morning:
        lines = [json.loads(line) for line in (self.root / "retrain.jsonl").read_text().splitlines()]
        told = self.told.read_text().split() if self.told.exists() else []
        self.told.unlink(missing_ok=True)
        assert lines[-1]["exit_code"] == code, output
        return Morning(code, lines[-1], told, output, self.root)

    def history(self) -> dict:
        return json.loads(warmstart("history", f"--root={self.root}", "--json")[1])


class Morning:
    def __init__(self, code: int, line: dict, told: list[str], output: str, root: Path):
        self.code, self.line, self.told, self.output = code, line, told, output
        self.status, self.reason = line["status"], line["reason"]
        self.report = root / "reports" / line["run_id"] if line["run_id"] else None

    def is_quiet(self) -> bool:
        return (self.code, self.status, self.told) == (0, "skipped", [])

    def called(self, status: str, code: int) -> bool:
        """Somebody was, and there is a page to look at."""
        assert self.report is not None, self.output
        assert (self.report / "index.html").stat().st_size > 500
        summary = json.loads((self.report / "summary.json").read_text())
        assert summary["reason"] == self.reason
        return (self.status, self.code, self.told) == (status, code, [status])


@pytest.fixture
def mornings(shaded, small, tmp_path) -> Mornings:
    nights = Mornings(tmp_path, shaded, small, tmp_path / "root")
    # Cats come before dogs in the list: every third photo makes a span of both.
    nights.add("span-1/version-1", slice(0, None, 3))
    first = nights.night()
    assert first.called("pushed", 0), first.output
    return nights


def version(nights: Mornings) -> Path:
    return nights.root / "serving" / served(nights.root)[-1]


def test_mornings(mornings):
    nights = mornings
    assert nights.night().is_quiet()
    assert (nights.root / OUTPUT_MARK).exists()

    # A third of the new span is broken: it is named, with the way out, every night until somebody does something.
    span = nights.add("span-2/version-1", slice(1, None, 6), broken=12)
    for _ in range(2):
        morning = nights.night()
        assert morning.called("stopped", 2), morning.output
        assert "files were rejected" in morning.reason
        assert f"; it is span 2 in {span}, " in morning.reason
    (nights.data / "span-2").rename(nights.data / "left-out-2")
    assert nights.night().is_quiet()

    # Production is deleted, changed, half copied.
    for damage in (
        lambda: shutil.rmtree(nights.root / "serving"),
        lambda: (version(nights) / "saved_model.pb").write_bytes(b"no graph"),
        lambda: shutil.rmtree(version(nights) / "variables"),
    ):
        damage()
        problem = nights.history()["problem"]
        assert problem.startswith("version ")
        morning = nights.night()
        assert (morning.status, morning.code, morning.told) == ("restored", 0, ["restored"]), morning.output
        assert problem in morning.reason
        assert nights.history()["problem"] == ""
        assert nights.night().is_quiet()
    code, output = warmstart("predict", f"--root={nights.root}", str(nights.data / "span-1"))
    assert code == 0, output

    # ML Metadata is damaged; `repair` puts it right, and nothing is trained again.
    content = bytearray((nights.root / "metadata.sqlite").read_bytes())
    content[4096:20480] = os.urandom(16384)
    (nights.root / "metadata.sqlite").write_bytes(content)
    morning = nights.night()
    assert morning.called("stopped", 2), morning.output
    assert "run `warmstart repair`" in morning.reason
    assert warmstart("doctor", f"--root={nights.root}", "--no-start")[0] == 2
    code, output = warmstart("repair", f"--root={nights.root}")
    assert code == 0, output
    assert nights.night().is_quiet()

    # It is deleted: everything is done anew, without an error, and production is what it is compared with.
    before = served(nights.root)
    for file in nights.root.glob("metadata.sqlite*"):
        file.unlink()
    morning = nights.night()
    assert morning.code in (0, 3), morning.output
    assert list((nights.root / "set-aside").glob("*/Pusher/pushed_model/*"))
    assert before[-1] in served(nights.root)
    assert nights.night().is_quiet()

    # A later version of the span, then a span that is withdrawn: both are other data.
    nights.add("span-1/version-2", slice(0, None, 2))
    morning = nights.night()
    assert morning.status in ("pushed", "not_pushed", "skipped"), morning.output
    assert morning.report is not None
    shutil.rmtree(nights.data / "span-1" / "version-2")
    morning = nights.night()
    assert morning.report is not None, morning.output
    assert nights.night().is_quiet()

    # The notifier fails: that is said, and nothing else goes wrong.
    (version(nights) / "saved_model.pb").unlink()
    nights.notifier = ["--set=notify.command=[sh, -c, exit 7]"]
    morning = nights.night()
    assert (morning.status, morning.code) == ("restored", 0), morning.output
    assert "exit code 7" in morning.output

    # A clock that was ahead once: what comes later is higher all the same.
    ahead = int(time.time()) + 10**6
    serving = Root(nights.root).serving_folder()
    version(nights).rename(nights.root / "serving" / str(ahead))
    whole = next(number for number in reversed(serving.versions()[:-1]) if serving.identity(number))
    assert serving.rollback(whole) == ahead + 1
    assert nights.night().is_quiet() or nights.history()["problem"] == ""


def kill_the_probe(root: Path, ended: threading.Event) -> None:
    """Kills the first fresh process that asks a model of this root."""
    # The process gets its name when it is asked, and has the temporary folder of the run.
    of_root = f"warmstart-{hashlib.sha256(os.fsencode(root)).hexdigest()[:10]}-".encode()
    while not ended.is_set():
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                name = (process / "comm").read_text().strip()
                if name == "probe.py" and of_root in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
                    return
        time.sleep(0.05)


def test_a_probe_that_is_killed_is_no_verdict(mornings):
    nights = mornings
    nights.add("span-2/version-1", slice(1, None, 3))
    ended = threading.Event()
    killer = threading.Thread(target=kill_the_probe, args=(nights.root, ended))
    killer.start()
    morning = nights.night()
    ended.set()
    killer.join()
    assert morning.called("failed", 1), morning.output
    assert "ended by SIGKILL" in morning.reason
    assert len(served(nights.root)) == 1
    morning = nights.night()
    assert morning.status in ("pushed", "not_pushed"), morning.output
    summary = json.loads((morning.report / "summary.json").read_text())
    states = {node["id"]: node["state"] for node in summary["nodes"]}
    assert (states["FineTuning"], states["ServableCheck"]) == ("cached", "complete")
    assert nights.night().is_quiet()


@pytest.mark.parametrize("step", ["ImageExampleGen", "Transform", "FeatureExtraction", "Predictions", "ServableCheck"])
def test_a_disk_that_fills_up_in_the_night(shaded, small, tmp_path, step):
    with small_disk(tmp_path / "disk", 700) as disk:
        nights = Mornings(tmp_path, shaded, small, disk / "root")
        nights.add("span-1/version-1", slice(0, None, 3))
        process, seen = start_until(f"{step} ", *nights.arguments)
        filled = fill(disk)
        output = seen + process.communicate(timeout=600)[0]
        morning = nights.after(process.returncode, output)
        assert morning.called("failed", 1), output
        assert "no space is left" in morning.reason
        filled.unlink()
        morning = nights.night()
        assert morning.called("pushed", 0), morning.output
        states = [run["status"] for run in nights.history()["runs"]]
        assert states == ["failed", "pushed"]
