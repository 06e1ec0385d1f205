"""`import warmstart`: quick, typed, and with the command line's own sentences for wrong input."""

from __future__ import annotations

import dataclasses
import inspect
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from click.testing import CliRunner

import warmstart
from deploy import cli, local
from deploy.display import ConsoleDisplay
from deploy.root import Root
from pipeline.config import Config
from samples.sample_photos import write_sample_photos
from schemas.run_end import Step
from schemas.summary import ProductionSummary, Summary

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """Drawn cats and dogs in the working directory."""
    write_sample_photos(tmp_path / "drawn", photos=24, seed=1)
    monkeypatch.chdir(tmp_path)
    return Path("drawn/cats_vs_dogs")


@pytest.fixture
def seen(monkeypatch) -> list[tuple]:
    """What reaches the runner, which runs nothing."""
    given = []

    def run(config, root, display, from_node, to_node, force_push):
        given.append((config, root, from_node, to_node, force_push))
        display.note("a sentence")
        summary = Summary(
            run_id="r", status="pushed", reason="it is better", nodes=[Step(id="Pusher", state="complete")],
            production=ProductionSummary(after="17", folder=str(root.serving)),
        )  # fmt: skip
        return local.RunResult(summary, root.reports / "r", 0, ("the server is down",))

    monkeypatch.setattr(local, "run", run)
    return given


def imported_by(code: str) -> set[str]:
    """Every module that a process has imported after some code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


def test_the_import_brings_nothing_slow():
    slow = {"tensorflow", "tfx", "apache_beam", "numpy", "pydantic", "click", "rich", "PIL"}
    assert imported_by("import warmstart") & slow == set()
    assert imported_by("import warmstart.training, deploy.session") & slow != set()  # it would be noticed


@pytest.mark.parametrize("call", ["warmstart.run('absent')", "warmstart.load('absent')"])
def test_a_mistake_is_answered_without_tensorflow(call):
    code = f"import warmstart\ntry: {call}\nexcept warmstart.BadInput: print('refused')"
    found = imported_by(code)
    assert "refused" in found
    assert "tensorflow" not in found


def refused_by_the_command(*arguments: str) -> str:
    result = CliRunner().invoke(cli.main, ["--quiet", *arguments])
    assert result.exit_code == 2, result.output
    return result.stderr.removeprefix("error: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (lambda: warmstart.run("absent"), ["run", "absent"]),
        (
            lambda: warmstart.run("p", settings={"image.sise": 3, "training.batch_size": 0}),
            ["run", "p", "--set", "image.sise=3", "--set", "training.batch_size=0"],
        ),
        (lambda: warmstart.run("p", config="spezies"), ["run", "p", "--config", "spezies"]),
        (
            lambda: warmstart.run({"cat_vs_dogs": "p"}, config="species"),
            ["run", "--config", "species", "--data", "cat_vs_dogs=p"],
        ),
        (lambda: warmstart.run("p", force_push=" "), ["run", "p", "--force-push", " "]),
        (lambda: warmstart.load(), ["predict", "cat.jpg"]),
        (lambda: warmstart.load("absent"), ["predict", "cat.jpg", "--root", "absent"]),
        (lambda: warmstart.load("r", model="m"), ["predict", "cat.jpg", "--root", "r", "--model", "m"]),
    ],
)
def test_wrong_input_is_refused_with_the_sentence_of_the_command(tmp_path, monkeypatch, call, arguments):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(warmstart.BadInput) as raised:
        call()
    assert str(raised.value) == refused_by_the_command(*arguments)


def test_what_is_given_reaches_the_run(photos, seen):
    settings = {
        "image.size": 160,
        "training.feature_extraction.learning_rate": 1e-5,
        "serving.exports": ["onnx"],
        "data.labels": "folders",
        "training.calibrate": False,
        "serving.maximum_megabytes": None,
    }
    warmstart.run(photos, root=Path("r"), settings=settings, from_step="Transform", to_step="Pusher", force_push=" so ")
    warmstart.run({"cats_vs_dogs": photos, "oxford_iiit_pet": Path("drawn/oxford_iiit_pet")}, config="species")
    config, root, *rest = seen[0]
    assert isinstance(config, Config)
    assert config.name == "cats_vs_dogs"  # by the photos
    found = config.model_dump()
    for key, value in settings.items():
        section, name = key.rsplit(".", 1)
        at = found
        for part in section.split("."):
            at = at[part]
        assert at[name] == value, key
    assert isinstance(root, Root)
    assert (root.folder, rest) == (Path("r").absolute(), ["Transform", "Pusher", "so"])
    config, root, *rest = seen[1]
    assert list(config.data.sources.values()) == [os.path.abspath(f"drawn/{d}") for d in config.data.sources]
    assert (root.folder.parent.name, rest) == ("runs", [None, None, ""])


def test_the_run_says_how_it_ended_and_prints_what_the_command_prints(photos, seen, capsys):
    run = warmstart.run(photos, root="r")
    assert (run.status, run.reason, run.pushed) == ("pushed", "it is better", True)
    assert (run.root, run.page) == (Path("r").absolute(), Path("r").absolute() / "reports/r/index.html")
    assert run.summary.production.after == "17"
    assert run.notes == ("the server is down",)
    assert "summary" not in repr(run)
    printed = capsys.readouterr().out
    for line in ("cats_vs_dogs", "  a sentence", "status: pushed  it is better", "model    r/serving/17"):
        assert line in printed
    assert warmstart.run(photos, root="r", progress=False).pushed
    assert capsys.readouterr() == ("", "")


def test_the_command_says_what_did_not_work_beside_the_run(photos, seen):
    result = CliRunner().invoke(cli.main, ["run", str(photos), "--root", "r"])
    assert (result.exit_code, result.stderr) == (0, "note: the server is down\n")


def test_in_a_process_of_its_own_it_prints_to_the_standard_output_of_the_start(photos):
    code = "import warmstart\ntry: warmstart.run('drawn/cats_vs_dogs', root='drawn')\nexcept warmstart.BadInput: pass"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0].endswith("  cats_vs_dogs")
    assert done.stderr == ""


def test_python_m_warmstart_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "warmstart", "--version"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert "version" in done.stdout


def test_everything_public_is_typed_and_described():
    for folder in ("warmstart", "deploy", "schemas"):  # whose types the calls give
        assert (REPOSITORY / folder / "py.typed").is_file()
    for name in warmstart.__all__:
        assert inspect.getdoc(getattr(warmstart, name)), name
    for call in (warmstart.run, warmstart.load, warmstart.Model.predict):
        signature = inspect.signature(call)
        assert signature.return_annotation is not inspect.Signature.empty
        for parameter in list(signature.parameters.values()):
            assert parameter.name == "self" or parameter.annotation is not inspect.Parameter.empty, parameter
    for result in (warmstart.Run, warmstart.Model, warmstart.Answer):
        assert dataclasses.is_dataclass(result)
        assert result.__dataclass_params__.frozen
    assert typing.get_type_hints(warmstart.Answer)["probabilities"] == dict[str, float] | None


def test_the_printing_goes_to_an_output_that_is_no_file(photos, seen, monkeypatch):
    """As in a notebook."""

    class Output:
        encoding, text = "utf-8", ""

        def write(self, text):
            self.text += text

        def flush(self):
            pass

        def isatty(self):
            return False

    output = Output()
    monkeypatch.setattr(sys, "stdout", output)
    warmstart.run(photos, root="r")
    assert "status: pushed" in output.text


def test_a_run_without_progress_shows_nothing_on_any_display(photos, seen, monkeypatch):
    shown = []
    monkeypatch.setattr(ConsoleDisplay, "note", lambda self, text: shown.append(self._quiet))
    warmstart.run(photos, root="r", progress=False)
    assert shown
    assert all(shown)
