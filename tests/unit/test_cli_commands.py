"""The commands as modules: imported when they are called, one document for programs, one sentence for an error."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from components.serving_folder.folder import ServingFolder
from deploy import production
from deploy.cli import LazyCommand, LazyGroup, main
from deploy.commands import report as report_module
from deploy.commands import session
from deploy.root import Root

REPOSITORY = Path(__file__).parents[2]


def warmstart(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.fixture
def root(tmp_path, monkeypatch) -> Root:
    monkeypatch.chdir(tmp_path)
    root = Root("runs/photos")
    root.prepare("image_folder")
    return root


# ---- imported when they are called


def test_every_command_is_a_module_of_ours_and_is_named_as_it_is_called():
    context = click.Context(main)
    assert isinstance(main, LazyGroup)
    for name in main.list_commands(context):
        assert main.lazy[name].target.startswith("deploy.")
        command = main.get_command(context, name)
        assert isinstance(command, click.Command)
        assert command.name == name
        assert command.callback is not None
        assert command.callback.__module__ == main.lazy[name].target.partition(":")[0]
    modules = {file.stem for file in (REPOSITORY / "deploy" / "commands").glob("*.py")}
    assert modules - {"__init__", "options", "session"} == set(main.list_commands(context)) - {"kubeflow"}


@pytest.mark.parametrize("words", [["--help"], ["no-such-command"], ["--version"]])
def test_the_group_s_own_words_import_no_command(words):
    code = f"import sys\nfrom deploy.cli import main\ntry: main({words})\nexcept SystemExit: print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "'deploy.commands" not in done.stdout.splitlines()[-1]


def test_completing_a_command_s_name_imports_none():
    code = (
        "import sys\nfrom deploy.cli import main\ntry: main([], prog_name='warmstart')\n"
        "except SystemExit: print('deploy.commands' in sys.modules)"
    )
    environment = {
        **os.environ,
        "_WARMSTART_COMPLETE": "bash_complete",
        "COMP_WORDS": "warmstart re",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["plain,retrain", "plain,report", "plain,repair", "False"]


def test_the_short_help_of_every_command_fits_a_line_of_eighty_columns():
    with CliRunner().isolation(env={"COLUMNS": "80"}):
        text = main.get_help(click.Context(main, info_name="warmstart", terminal_width=80))
    listed = text.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == main.list_commands(click.Context(main))


def test_a_command_that_is_not_there_is_a_plain_error():
    group = LazyGroup("group", lazy={"gone": LazyCommand("deploy.no_such_module:gone", "Is not there.")})
    context = click.Context(group)
    assert group.get_command(context, "other") is None
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        group.get_command(context, "gone")


# ---- for programs


def document_of(result: Result) -> dict:
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return json.loads(result.stdout)


def test_rollback_and_pin_give_a_document(root, monkeypatch):
    monkeypatch.setattr(production, "rollback", lambda root, version, reason: f"back to {version}: {reason}")
    monkeypatch.setattr(ServingFolder, "production", lambda self: 7)
    assert document_of(warmstart("rollback", "5", "--reason", "snow", "--json")) == {
        "production": 7,
        "text": "back to 5: snow",
    }
    monkeypatch.setattr(production, "pin", lambda root, version, remove: "said")
    assert document_of(warmstart("pin", "7", "--json")) == {"version": 7, "pinned": True, "text": "said"}
    assert document_of(warmstart("pin", "7", "--remove", "--json"))["pinned"] is False


def test_report_gives_a_document_and_opens_nothing(root, monkeypatch):
    monkeypatch.setattr(report_module, "open_page", lambda *given: pytest.fail("it was opened"))
    for name in ("2026-11-01", "2026-11-02"):
        folder = root.reports / name
        folder.mkdir()
        (folder / "config.yaml").touch()
        (folder / "index.html").touch()
    os.utime(root.reports / "2026-11-01" / "config.yaml", (1, 1))
    page = "runs/photos/reports/2026-11-02/index.html"
    assert document_of(warmstart("report", "--json")) == {"page": page, "runs": ["2026-11-02"]}


def test_sample_gives_a_document(root):
    drawn = document_of(warmstart("sample", "drawn", "--photos", "24", "--json"))
    assert drawn["cats_vs_dogs"] == {"folder": "drawn/cats_vs_dogs", "photos": 24}
    assert drawn["oxford_iiit_pet"] == {"folder": "drawn/oxford_iiit_pet", "photos": 12}
    assert drawn["odd_or_broken_files"] > 0


def test_every_command_that_says_something_has_json():
    context = click.Context(main)
    without = {"completion"}  # a script for a shell
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        if isinstance(command, click.Command) and not isinstance(command, click.Group):
            flags = {flag for parameter in command.params for flag in parameter.opts}
            assert ("--json" in flags) is (name not in without), name


# ---- errors


def failing(error: OSError):
    def fail(*given, **more):
        raise error

    return fail


@pytest.mark.parametrize("command", ["run", "retrain"])
def test_a_full_disk_is_one_sentence_with_the_root(root, monkeypatch, command):
    Path("photos").mkdir()
    monkeypatch.setattr(session.local, "run", failing(OSError(errno.ENOSPC, "No space left on device")))
    monkeypatch.setattr("deploy.retrain.retrain", failing(OSError(errno.ENOSPC, "No space left on device")))
    result = warmstart(command, "photos", "--config", "image_folder", "--root", "mine")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"error: no space is left on the disk of the root ({Path('mine').absolute()}); free"
    )
    assert len(result.stderr.splitlines()) == 1


def test_an_error_of_the_system_is_one_sentence_in_any_command(root, monkeypatch):
    monkeypatch.setattr(production, "history", failing(PermissionError(errno.EACCES, "Permission denied", "a/b")))
    result = warmstart("history")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: PermissionError: [Errno 13] Permission denied: 'a/b'\n"


def test_nothing_is_said_to_a_reader_that_went_away():
    """As of `warmstart ... | head -1`."""
    code = "from deploy.cli import main\nmain(['completion', 'bash'])"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
