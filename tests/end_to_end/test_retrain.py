"""`warmstart retrain` night after night: what is trained on, what is not, and why."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.metadata_address import connect
from tests.end_to_end.commands import REPOSITORY, served, start, warmstart

pytestmark = [pytest.mark.slow, pytest.mark.release]


class Nights:
    """Spans of photos, a root, and one call a night."""

    def __init__(self, folder: Path, sample: Path, backbone: str):
        self.data, self.root = folder / "photos", folder / "root"
        self.photos = sorted((sample / "cats_vs_dogs").glob("*/*.jpg"))
        self._settings = [
            "data.window=2",
            "data.test_spans=[1]",
            "data.settle_seconds=86400",
            f"backbone.handle={backbone}",
            "image.size=32",
            "training.feature_extraction.epochs=10",
            "training.fine_tuning.epochs=1",
            "serving.golden_photos=4",
            "release.minimum_accuracy=0",
            "release.minimum_test_photos=0",
        ]

    def add(self, span: int, part: slice, complete: bool = True) -> None:
        for photo in self.photos[part]:
            target = self.data / f"span-{span}" / photo.parent.name / photo.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, target)
        if complete:
            (self.data / f"span-{span}" / "_SUCCESS").touch()

    def arguments(self, *more: str) -> list[str]:
        settings = [f"--set={setting}" for setting in [*self._settings, *more]]
        return [
            "retrain",
            "--config=cats_vs_dogs",
            f"--data={self.data}/span-{{SPAN}}",
            f"--root={self.root}",
            *settings,
        ]

    def night(self, *more: str) -> tuple[int, str, dict]:
        """Exit code, output, and what was noted down."""
        code, output = warmstart(*self.arguments(*more))
        return code, output, self.notes()[-1]

    def notes(self) -> list[dict]:
        return [json.loads(line) for line in (self.root / "retrain.jsonl").read_text().splitlines()]

    def judged(self) -> int:
        """How often DriftGate really compared."""
        store = connect(f"sqlite://{self.root}/metadata.sqlite")
        context = store.get_context_by_type_and_name("node", "cats_vs_dogs.DriftGate")
        executions = store.get_executions_by_context(context.id)
        return sum(execution.last_known_state == execution.COMPLETE for execution in executions)

    def summary(self) -> dict:
        return json.loads(max((self.root / "reports").glob("*/summary.json")).read_text())


@pytest.fixture(scope="module")
def nights(sample, tiny_backbone, tmp_path_factory) -> Nights:
    return Nights(tmp_path_factory.mktemp("nights"), sample, tiny_backbone)


def test_nights_one_after_another(nights):
    # Classes lie one after the other in the list of photos: every other photo makes a span of both.
    nights.add(1, slice(0, None, 2))
    code, output, noted = nights.night()
    assert (code, noted["status"]) == (0, "pushed"), output
    assert nights.summary()["window"]["spans"] == ["1"]

    runs = sorted((nights.root / "reports").iterdir())
    code, output, noted = nights.night()
    assert (code, noted["status"]) == (0, "skipped"), output
    assert noted["reason"].startswith("nothing is new: ")
    assert "spans" in noted["reason"]
    assert noted["run_id"] is None
    assert sorted((nights.root / "reports").iterdir()) == runs

    nights.add(3, slice(1, None, 8), complete=False)
    code, output, noted = nights.night()
    assert (code, noted["status"]) == (0, "skipped"), output
    assert f"{nights.data}/span-3 is not read" in noted["reason"]
    (nights.data / "span-3" / "_SUCCESS").touch()
    code, output, noted = nights.night("serving.maximum_megabytes=0.001")
    assert (code, noted["status"]) == (3, "not_pushed"), output
    assert nights.summary()["window"]["spans"] == ["1", "3"]
    # A model that was refused changes nothing, and its data are not trained on again.
    code, output, noted = nights.night()
    assert (code, noted["status"]) == (0, "skipped"), output


def test_spans_that_come_late_or_go_away(nights):
    nights.add(2, slice(3, None, 8))  # late
    nights.add(4, slice(5, None, 8))
    code, output, _ = nights.night("serving.maximum_megabytes=0.001", "notify.alert_after_refusals=2")
    assert code == 4, output
    assert "alert: cats_vs_dogs: 2 models in a row were refused" in output
    summary = nights.summary()
    # Two spans to learn from, and the first one to test on.
    assert summary["window"]["spans"] == ["1", "3", "4"]
    spans = summary["window"]["data"]["accepted"]
    assert spans["train"] > 0
    assert len(served(nights.root)) == 1

    shutil.rmtree(nights.data / "span-4")  # withdrawn: the window ends with span 3 again, and has the late one in it
    code, output, _ = nights.night()
    assert code in (0, 3), output
    assert nights.summary()["window"]["spans"] == ["1", "2", "3"]


def test_a_span_of_another_kind_is_stopped_while_it_is_the_newest_and_then_left_out(nights):
    photos = len(nights.photos)
    nights.add(5, slice(0, photos // 2))  # of one class
    before = served(nights.root)
    stops = "drift.label_distribution.stop=0.3"
    code, output, noted = nights.night(stops)
    assert (code, noted["status"]) == (2, "stopped"), output
    assert "the drift gate stopped" in noted["reason"]
    drift = nights.summary()["drift"]
    assert drift["action"] == "stop"
    assert drift["checks"]["label_distribution"]["vanished_classes"] == ["dog"]
    assert served(nights.root) == before
    judged = nights.judged()

    nights.add(6, slice(3, None, 16))
    code, output, noted = nights.night(stops)
    assert code in (0, 3), output
    summary = nights.summary()
    assert summary["window"]["spans"] == ["1", "6"]
    [(span, reason)] = summary["window"]["left_out"].items()
    assert span == "5"
    assert "the drift gate stopped" in reason
    # The stopped one is known, and only the new one is judged, by those that are left.
    assert nights.judged() == judged + 1
    assert summary["drift"]["action"] in ("go", "note")
    shutil.rmtree(nights.data / "span-5")


def test_of_two_calls_at_once_one_trains(nights):
    nights.add(7, slice(7, None, 8))
    calls = [start(*nights.arguments()) for _ in range(2)]
    outputs = [call.communicate()[0] for call in calls]
    noted = nights.notes()[-2:]
    assert sorted(note["status"] == "skipped" for note in noted) == [False, True], outputs
    [skipped] = [note for note in noted if note["status"] == "skipped"]
    assert "another run is active" in skipped["reason"]


def test_a_night_with_wrong_input_is_one_sentence_and_is_noted_down(nights):
    code, output = warmstart(*nights.arguments("data.test_spans=[77]"))
    assert code == 2, output
    noted = nights.notes()[-1]
    assert (noted["status"], noted["exit_code"]) == ("stopped", 2)
    assert noted["reason"] in (nights.root / "reports" / noted["run_id"] / "summary.json").read_text()
    assert "data.test_spans asks for span 77, which is not there" in noted["reason"]
    assert f"error: {noted['reason']}" in output


def test_help_and_a_night_without_work_import_no_tensorflow(nights):
    program = (
        "import sys\nfrom deploy.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('tensorflow', 'tfx', 'apache_beam') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *nights.arguments()], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert "status: skipped" in done.stdout, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
