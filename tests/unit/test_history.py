"""The commands history, rollback and pin: what a person and a program are told, and what then is in production."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.serving_folder.files import model_identity
from deploy import cli
from deploy.root import Root
from schemas.release import Interval, Release

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = Root("runs/cats_vs_dogs")
    root.prepare("cats_vs_dogs")
    return root


@pytest.fixture
def push(root, tmp_path):
    """A function that pushes a model of one file; gives its version."""

    def do(name: str, **release) -> int:
        folder = tmp_path / f"model_{name}"
        folder.mkdir(exist_ok=True)
        (folder / "saved_model.pb").write_text(name)
        told = {
            "winner": "fine_tuned",
            "reason": f"{name} is better",
            "metrics": {"accuracy": Interval(value=0.9712, low=0.95, high=0.9888)},
            **release,
        }
        serving = root.serving_folder()
        return serving.push(folder, model_identity(folder), Release(**told), serving.production(), "run").version

    return do


def write_summary(root: Root, run_id: str, **changes) -> None:
    """A summary with the keys that `history` reads."""
    summary = {
        "schema_version": 1,
        "run_id": run_id,
        "status": "pushed",
        "reason": "fine-tuned is in production as version 7",
        "winner": "fine_tuned",
        "verdict": {"text": "fine-tuned wins", "difference": 0.023, "interval": [0.006, 0.04], "p_value": 0.01},
        "models": {"fine_tuned": {"accuracy": {"value": 0.97, "low": 0.95, "high": 0.98}}},
        "production": {"before": None, "after": "7", "folder": "somewhere"},
        "duration_seconds": 12.5,
        **changes,
    }
    (root.reports / run_id).mkdir()
    (root.reports / run_id / "summary.json").write_text(json.dumps(summary))


def warmstart(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.main, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def told(output: str) -> list[list[str]]:
    """The words of each line."""
    return [line.split() for line in output.splitlines()]


def test_history_before_anything_ran(root):
    code, output, _ = warmstart("history")
    assert code == 0
    assert output == (
        "versions in runs/cats_vs_dogs/serving\n  none yet\n\nruns in runs/cats_vs_dogs/reports\n  none yet\n\n"
        "nothing is in production\n"
    )
    code, output, _ = warmstart("history", "--json")
    assert json.loads(output) == {"production": None, "problem": "", "versions": [], "runs": []}
    shutil.rmtree(root.reports)
    assert warmstart("history")[0] == 0


def test_history_shows_each_version_with_its_reason(root, push):
    first = push("a")
    second = push("b", forced="the customer waits", reason="pushed by force", metrics=None)
    third = root.serving_folder().rollback(reason="dogs became cats")
    warmstart("pin", second)
    code, output, _ = warmstart("history")
    assert code == 0
    lines = output.splitlines()
    day = root.serving_folder().manifest(first).pushed_at[:10]
    words = [line.split() for line in lines]
    assert words[1] == ["version", "UTC", "what", "winner", "accuracy", "on", "test", "state"]
    accuracy = ["97.1%", "(95.0", "to", "98.9)"]
    assert words[2][:2] == [str(first), day]
    assert words[2][3:] == ["push", "fine-tuned", *accuracy, "kept"]
    assert lines[3] == "      a is better"
    assert words[4][3:] == ["forced", "push", "fine-tuned", "kept,", "pinned"]
    assert lines[5] == "      pushed by force"
    assert words[6][3:] == ["rollback", "to", str(first), "fine-tuned", *accuracy, "production"]
    assert lines[7] == "      dogs became cats"
    assert lines[-1] == f"in production: runs/cats_vs_dogs/serving/{third}"


def test_history_shows_removed_and_unreadable_versions(root, push):
    first, second = push("a"), push("b")
    root.serving_folder().remove_old(0)
    (root.serving / str(second) / "assets.extra/manifest.json").write_text("{")
    (root.folder / "serving-manifests" / f"{second}.json").unlink()
    output = told(warmstart("history")[1])
    assert [output[2][0], output[2][-1]] == [str(first), "removed"]
    assert output[4] == [str(second), "unreadable", "damaged"]


def test_history_shows_each_run(root):
    write_summary(root, "2026-01-01T00-00-00Z")
    unchanged = {"before": "7", "after": "7"}
    write_summary(
        root,
        "2026-01-02T00-00-00Z",
        status="not_pushed",
        reason="it is worse",
        winner="feature_extraction",
        verdict={"text": "no gain", "difference": -0.01, "interval": [-0.05, 0.02]},
        production=unchanged,
    )
    write_summary(
        root,
        "2026-01-03T00-00-00Z",
        status="stopped",
        reason="two classes expected",
        winner=None,
        verdict=None,
        models=None,
        production=unchanged,
    )
    write_summary(root, "2026-01-04T00-00-00Z", production={"before": "7", "after": "9"})
    lines = warmstart("history")[1].splitlines()
    start = lines.index("runs in runs/cats_vs_dogs/reports") + 2
    assert [" ".join(line.split()) for line in lines[start : start + 8 : 2]] == [
        "2026-01-01T00-00-00Z pushed fine-tuned +2.3 points (0.6 to 4.0) none -> 7",
        "2026-01-02T00-00-00Z not_pushed feature extraction -1.0 points (-5.0 to 2.0) 7 stays",
        "2026-01-03T00-00-00Z stopped 7 stays",
        "2026-01-04T00-00-00Z pushed fine-tuned +2.3 points (0.6 to 4.0) 7 -> 9",
    ]
    assert lines[start + 1 : start + 8 : 2] == [
        "      fine-tuned is in production as version 7",
        "      it is worse",
        "      two classes expected",
        "      fine-tuned is in production as version 7",
    ]


def test_history_for_programs(root, push):
    first, second = push("a"), push("b")
    write_summary(root, "2026-01-01T00-00-00Z")
    code, output, _ = warmstart("history", "--json")
    assert code == 0
    found = json.loads(output)
    assert set(found) == {"production", "problem", "versions", "runs"}
    assert found["production"] == second
    assert [(v["version"], v["state"], v["pinned"]) for v in found["versions"]] == [
        (first, "kept", False),
        (second, "production", False),
    ]
    assert found["versions"][0]["model_sha256"] == root.serving_folder().manifest(first).model_sha256
    assert found["runs"] == [
        {
            "run_id": "2026-01-01T00-00-00Z",
            "status": "pushed",
            "reason": "fine-tuned is in production as version 7",
            "winner": "fine_tuned",
            "accuracy": {"value": 0.97, "low": 0.95, "high": 0.98},
            "difference": 0.023,
            "interval": [0.006, 0.04],
            "verdict": "fine-tuned wins",
            "production_before": None,
            "production_after": 7,
            "duration_seconds": 12.5,
        }
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run_id": "x"}', '{"winner": 1, "verdict": [], "production": 3}'])
def test_a_damaged_summary_is_named_and_harms_no_other(root, text):
    write_summary(root, "2026-01-01T00-00-00Z")
    damaged = root.reports / "2026-01-02T00-00-00Z"
    damaged.mkdir()
    (damaged / "summary.json").write_text(text)
    (root.reports / "2026-01-03T00-00-00Z").mkdir()
    (root.reports / "a file").touch()
    code, output, _ = warmstart("history", "--json")
    assert code == 0
    runs = json.loads(output)["runs"]
    assert [run["status"] for run in runs] == ["pushed", "unreadable", "unfinished"]
    assert runs[1]["reason"].startswith(f"{damaged / 'summary.json'} cannot be read (")
    assert runs[2]["reason"] == "it was killed; the next run reports how far it got"
    assert "summary.json cannot be read" in warmstart("history")[1]


@pytest.mark.parametrize("command", ["history", "rollback", "pin"])
def test_going_back_waits_for_no_slow_import(root, push, command):
    push("a")
    last = push("b")
    program = (
        "import json, sys\nfrom deploy.cli import main\nmain(sys.argv[1:], standalone_mode=False)\n"
        "print(json.dumps(list(sys.modules)))"
    )
    arguments = [command, *([str(last)] if command == "pin" else []), "--root", str(root.folder)]
    output = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    loaded = set(json.loads(output.splitlines()[-1]))
    assert "components.serving_folder.folder" in loaded
    assert not loaded & {"tensorflow", "tfx", "apache_beam", "numpy", "pydantic", "ml_metadata", "google.protobuf"}


def test_rollback_says_what_it_did_and_how_servers_learn_of_it(root, push):
    first, second = push("a"), push("b")
    code, output, _ = warmstart("rollback", "--reason", "dogs became cats")
    third = root.serving_folder().production()
    assert code == 0
    assert third > second
    assert output.startswith(
        f"version {third}, a copy of version {first}, replaces version {second} in production: "
        f"runs/cats_vs_dogs/serving/{third}\n"
    )
    assert "TensorFlow Serving picks up the highest version" in output
    assert root.serving_folder().manifest(third).reason == "dogs became cats"
    code, _, _ = warmstart("rollback", second)
    assert code == 0
    assert root.serving_folder().manifest(root.serving_folder().production()).restores == second


def test_rollback_while_a_run_is_active(root, push):
    push("a"), push("b")
    with root.lock("a run that trains"):
        assert warmstart("rollback")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rollback", "17"], "error: version 17 is unknown; choose one of "),
        (["pin", "17"], "error: version 17 does not exist; choose one of "),
        (["pin", "17", "--remove"], "error: version 17 is not pinned; there is no other version to choose"),
        (["history", "--root", "absent"], "is not a root folder of warmstart"),
        (["predict", "x.jpg", "--version", "17"], "error: there is no version 17 in "),
        (["predict", "x.jpg", "--model", "x", "--version", "17"], "error: --model was given with --root or --version"),
        (["predict", "x.jpg", "--model", "x", "--root", "y"], "error: --model was given with --root or --version"),
        (["predict", "empty"], "error: no photos found in empty; expected files such as cat.jpg"),
        (["run", "--config", "cats_vs_dogs", "--force-push", " "], "error: --force-push was given without a reason"),
        (["run", "--config", "cats_vs_dogs", "--force-push", ""], "error: --force-push was given without a reason"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(root, push, tmp_path, arguments, said):
    push("a"), push("b")
    (tmp_path / "empty").mkdir()
    code, output, errors = warmstart(*arguments)
    assert (code, output) == (2, "")
    assert said in errors
    assert len(errors.splitlines()) == 1
    assert len(root.serving_folder().versions()) == 2


def test_nothing_in_production_is_said(root):
    assert "nothing is in production" in warmstart("predict", "x.jpg")[2]
    code, _, errors = warmstart("rollback")
    assert code == 2
    assert "there is nothing to roll back" in errors


def test_a_disk_that_cannot_be_written_is_said(root, push, monkeypatch):
    push("a")
    last = push("b")
    (root.serving / ".pinned").write_text("in the way")
    code, _, errors = warmstart("pin", last)
    assert code == 2
    assert errors == f"error: {root.serving} cannot be written (File exists); production stays as it is\n"


def test_pins_are_set_and_taken_off(root, push):
    first = push("a")
    code, output, _ = warmstart("pin", first)
    assert (code, output) == (0, f"version {first} is pinned; no push will remove it\n")
    assert root.serving_folder().pinned() == [first]
    code, output, _ = warmstart("pin", first, "--remove")
    assert (code, output) == (
        0,
        f"version {first} is no longer pinned; a later push removes it once it is old enough\n",
    )
    assert root.serving_folder().pinned() == []


def test_the_reason_for_a_forced_push_reaches_the_run(root, monkeypatch, tmp_path):
    from deploy import local

    seen = {}

    class EndedHereError(Exception):
        pass

    def run(config, place, display, from_node, to_node, force_push):
        seen["force_push"] = force_push
        raise EndedHereError

    monkeypatch.setattr(local, "run", run)
    for given, expected in ((["--force-push", " the customer waits "], "the customer waits"), ([], "")):
        arguments = ["run", "--config", "cats_vs_dogs", "--data", str(tmp_path), *given]
        result = CliRunner().invoke(cli.main, arguments)
        assert isinstance(result.exception, EndedHereError), result.output
        assert seen.pop("force_push") == expected


def test_the_history_of_masks_tells_the_mean_iou(root, push, tmp_path):
    (tmp_path / "model_a" / "assets.extra").mkdir(parents=True)
    (tmp_path / "model_a" / "assets.extra" / "labels.txt").write_text("pet\nbackground\nborder\n")
    mean_iou = Interval(value=0.734, low=0.71, high=0.76)
    accuracy = Interval(value=0.9, low=0.8, high=0.95)
    push("a", metrics={"mean_iou": mean_iou, "accuracy": accuracy})
    measured = {"value": 0.734, "low": 0.71, "high": 0.76}
    models = {"fine_tuned": {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}, "mean_iou": measured}}
    write_summary(root, "2026-12-01T00-00-00", models=models)
    _, output, _ = warmstart("history")
    assert "mean IoU on test" in output
    assert "73.4% (71.0 to 76.0) of 3 classes" in output
    _, output, _ = warmstart("history", "--json")
    found = json.loads(output)
    assert found["versions"][0]["metrics"]["mean_iou"] == measured
    assert found["runs"][0]["mean_iou"] == measured
