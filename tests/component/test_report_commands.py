"""The commands `report` and `history --html`: which page a person gets, and what is said when there is none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy import cli
from deploy.commands import report as report_commands
from deploy.root import Root
from tests.report_runs import PUSHED, STOPPED, whole_run


@pytest.fixture
def root(tmp_path, monkeypatch) -> Root:
    monkeypatch.chdir(tmp_path)
    root = Root("runs/cats_vs_dogs")
    root.prepare("cats_vs_dogs")
    return root


def add_run(root: Root, name: str, began: float, summary=PUSHED, page: str | None = "the page") -> Path:
    folder = root.reports / name
    folder.mkdir()
    (folder / "config.yaml").write_text("name: cats_vs_dogs\n")
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps({**summary, "run_id": name}))
    if page is not None:
        (folder / "index.html").write_text(page)
    for file in folder.iterdir():
        os.utime(file, (began, began))
    return folder


@pytest.fixture
def runs(root) -> Root:
    """Three runs; the newest is not the last by name, as on Kubeflow."""
    add_run(root, "2026-11-01", 1000)
    add_run(root, "b7e1", 3000)
    add_run(root, "c0de", 2000)
    (root.reports / "history.html").write_text("no run")
    return root


def warmstart(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_newest_run_is_the_one_that_began_last(runs):
    assert warmstart("report") == (0, "runs/cats_vs_dogs/reports/b7e1/index.html\n", "")


@pytest.mark.parametrize(("name", "found"), [("c0de", "c0de"), ("2026", "2026-11-01"), ("b", "b7e1")])
def test_a_run_is_found_by_its_name_or_the_beginning_of_it(runs, name, found):
    assert warmstart("report", name)[:2] == (0, f"runs/cats_vs_dogs/reports/{found}/index.html\n")


def test_a_whole_name_is_no_beginning_of_others(runs):
    add_run(runs, "c0de-2", 500)
    assert warmstart("report", "c0de")[:2] == (0, "runs/cats_vs_dogs/reports/c0de/index.html\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "there is no run 'nowhere' in runs/cats_vs_dogs/reports; choose one, such as b7e1, c0de, 2026-"),
        (["2026"], "such as 2026-11-02, 2026-11-01"),
        ([""], "there is no run '' in"),
        (["../serving"], "there is no run '../serving' in"),
        (["c0de", "--compare", "c0de", "b7e1"], "the run 'c0de' was given in addition to --compare"),
        (["--compare", "c0de", "x"], "there is no run 'x' in"),
        (["--root", "elsewhere"], "is not a root folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_found_is_said_in_one_sentence(runs, arguments, said):
    add_run(runs, "2026-11-02", 1500)
    code, output, error = warmstart("report", *arguments)
    assert (code, output) == (2, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error


def test_before_anything_ran_there_is_no_page(root):
    code, _, error = warmstart("report")
    assert code == 2
    assert "there are no runs" in error


@pytest.mark.parametrize("summary", [PUSHED, STOPPED])
def test_a_lost_page_is_made_anew(root, summary):
    folder = add_run(root, "lost", 1000, summary, page=None)
    assert warmstart("report")[0] == 0
    assert summary["reason"] in (folder / "index.html").read_text(encoding="utf-8")


def test_a_page_that_is_there_stays_as_it_is(runs):
    warmstart("report", "b7e1")
    assert (runs.reports / "b7e1" / "index.html").read_text() == "the page"


def test_a_run_that_was_killed_has_neither_page_nor_summary(root):
    add_run(root, "killed", 1000, summary=None, page=None)
    code, _, error = warmstart("report")
    assert code == 2
    assert (
        "the run killed has no runs/cats_vs_dogs/reports/killed/summary.json: it is still running, or it was killed"
        in error
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read (Expecting property name"),
        ("[]", "is not the summary of a run (it has no schema_version)"),
        ('{"schema_version": 1}', "was written by another version"),
        (b"\xff\xfe", "cannot be read ("),
    ],
)
def test_a_summary_that_is_none_is_no_traceback(root, content, said):
    folder = add_run(root, "odd", 1000, page=None)
    (folder / "summary.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    code, _, error = warmstart("report")
    assert code == 2
    assert said in error
    assert not (folder / "index.html").exists()


def test_two_runs_stand_side_by_side(root):
    summary, _ = whole_run(["cat", "dog"])
    summary["config"] = {"name": "cats_vs_dogs", "training": {"seed": 43, "epochs": 5}}
    summary["models"]["fine_tuned"]["accuracy"]["value"] = 0.964
    add_run(root, "first", 1000, {**PUSHED, "config": {"name": "cats_vs_dogs", "training": {"seed": 42, "epochs": 5}}})
    add_run(root, "second", 2000, summary)
    code, output, _ = warmstart("report", "--compare", "first", "second")
    assert (code, output) == (0, "runs/cats_vs_dogs/reports/compare-first-second.html\n")
    page = Path(output.strip()).read_text(encoding="utf-8")
    for text in ("training.seed", ">42<", ">43<", "+2.0 points", "2 other settings are the same"):
        assert text in page, text
    assert "training.epochs" not in page
    # A page of several runs is no run.
    assert warmstart("report")[1] == "runs/cats_vs_dogs/reports/second/index.html\n"


def test_a_run_that_was_stopped_can_be_compared_too(root):
    add_run(root, "first", 1000, STOPPED)
    add_run(root, "second", 2000)
    assert warmstart("report", "--compare", "first", "second")[0] == 0
    page = (root.reports / "compare-first-second.html").read_text(encoding="utf-8")
    assert STOPPED["reason"] in page


def test_history_as_a_page_names_every_run(runs):
    add_run(runs, "<b>bold", 4000)
    add_run(runs, "killed", 5000, summary=None, page=None)
    code, output, _ = warmstart("history", "--html")
    assert (code, output) == (0, "runs/cats_vs_dogs/reports/history.html\n")
    page = Path(output.strip()).read_text(encoding="utf-8")
    for run in ("2026-11-01", "b7e1", "c0de", "&lt;b&gt;bold", "killed"):
        assert f"<bdi>{run}</bdi>" in page
    assert "it was killed" in page
    assert "Accuracy of the winner on the test split" in page
    # It is not taken for a run.
    assert len(json.loads(warmstart("history", "--json")[1])["runs"]) == 5


def test_history_as_a_page_before_anything_ran(root):
    assert warmstart("history", "--html")[0] == 0
    page = (root.reports / "history.html").read_text(encoding="utf-8")
    assert "Nothing is in production." in page
    assert "No run has measured a model yet." in page


def test_history_is_either_a_page_or_json(root):
    code, _, error = warmstart("history", "--html", "--json")
    assert code == 2
    assert "--json and --html were both given" in error


@pytest.mark.parametrize(
    ("platform", "display", "terminal", "opens"),
    [
        ("linux", ":0", True, True),
        ("linux", "", True, False),
        ("linux", ":0", False, False),
        ("darwin", "", True, True),
        ("darwin", "", False, False),
    ],
)
def test_a_page_opens_on_a_desktop_only(monkeypatch, tmp_path, platform, display, terminal, opens):
    class Terminal:
        def isatty(self) -> bool:
            return terminal

        def write(self, text: str) -> None:
            pass

        def flush(self) -> None:
            pass

    launched = []
    monkeypatch.setattr(report_commands.click, "launch", launched.append)
    monkeypatch.setattr(report_commands.click, "echo", lambda text: None)
    monkeypatch.setattr(report_commands.sys, "platform", platform)
    monkeypatch.setattr(report_commands.sys, "stdout", Terminal())
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    report_commands.open_page(tmp_path / "index.html")
    report_commands.open_page(tmp_path / "index.html", opens=False)
    assert launched == ([(tmp_path / "index.html").as_uri()] if opens else [])
