"""A program in a process of its own: what it sees, and how its end is told."""

import json
import multiprocessing
import os
import signal
import time
import types
from pathlib import Path

import pytest

from components.servable_check import fresh_process


@pytest.fixture
def program(tmp_path):
    """Makes a module out of a program's text."""

    def make(text):
        module = types.ModuleType("program")
        module.__file__ = str(tmp_path / "program.py")
        (tmp_path / "program.py").write_text(text, encoding="utf-8")
        return module

    return make


def test_it_gets_its_arguments_and_sees_nothing_of_ours(program, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    text = "import json, sys\nwith open(sys.argv[1], 'w') as file:\n    json.dump([sys.argv[2:], sys.path], file)\n"
    fresh_process.run(program(text), str(tmp_path / "seen.json"), "--a b", "c")
    arguments, path = json.loads((tmp_path / "seen.json").read_text())
    assert arguments == ["--a b", "c"]
    assert not {"", str(tmp_path), str(tmp_path / "elsewhere")} & set(path)


def test_an_error_is_the_last_line_of_the_process(program):
    with pytest.raises(fresh_process.ProcessFailed, match=r"^ü$"):
        fresh_process.run(program("print('much')\nraise OSError('no such model:\\n  ü ')\n"))


def test_a_process_without_a_word(program):
    with pytest.raises(fresh_process.ProcessFailed, match=r"^no message$"):
        fresh_process.run(program("raise SystemExit(3)\n"))


def test_a_process_that_is_aborted_does_not_take_this_one_along(program):
    with pytest.raises(fresh_process.ProcessFailed, match=r"^ended by SIGABRT: check failed$"):
        fresh_process.run(program("import os, sys\nprint('check failed', file=sys.stderr, flush=True)\nos.abort()\n"))


def test_a_process_that_hangs_is_ended(program, monkeypatch):
    monkeypatch.setattr(fresh_process, "TIMEOUT_SECONDS", 1)
    with pytest.raises(fresh_process.ProcessHangs, match=r"^did not answer within 1 s$"):
        fresh_process.run(program("import time\ntime.sleep(600)\n"))


def test_a_process_ends_with_its_parent_even_if_that_is_killed(program, tmp_path):
    """What a run that was killed had started must not go on, holding memory and files."""
    told = tmp_path / "told"
    text = "import os, sys, time\nopen(sys.argv[1], 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    parent = multiprocessing.get_context("fork").Process(target=fresh_process.run, args=(program(text), str(told)))
    parent.start()
    _wait_until(lambda: told.exists() and told.read_text())
    child = int(told.read_text())
    assert _runs(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    _wait_until(lambda: not _runs(child))


def test_a_process_that_was_prepared_is_the_next_one_alone(program, tmp_path):
    text = "import os, sys\nprint('colorsys' in sys.modules, os.getpid(), file=open(sys.argv[1], 'w'))\n"
    fresh_process.prepare("colorsys")
    [waiting] = fresh_process._waiting
    fresh_process.prepare("colorsys")
    assert fresh_process._waiting == [waiting]
    for name, is_that_one in (("first", True), ("second", False)):
        fresh_process.run(program(text), str(tmp_path / name))
        imported, number = (tmp_path / name).read_text().split()
        assert (imported, number == str(waiting.pid)) == (str(is_that_one), is_that_one)


def test_it_takes_the_name_of_the_program(program, tmp_path):
    fresh_process.prepare()
    text = "import sys\nname = open('/proc/self/comm').read().strip()\nopen(sys.argv[1], 'w').write(name)\n"
    fresh_process.run(program(text), str(tmp_path / "name"))
    assert (tmp_path / "name").read_text() == "program.py"


def test_a_prepared_process_that_was_killed_is_replaced(program, tmp_path):
    fresh_process.prepare()
    [waiting] = fresh_process._waiting
    waiting.kill()
    waiting.wait()
    fresh_process.run(program("import sys\nopen(sys.argv[1], 'w').close()\n"), str(tmp_path / "ran"))
    assert (tmp_path / "ran").exists()
    assert not fresh_process._waiting


def test_a_prepared_process_that_nobody_needs_ends():
    fresh_process.prepare()
    [waiting] = fresh_process._waiting
    fresh_process.forget()
    assert not _runs(waiting.pid)
    assert not fresh_process._waiting
    fresh_process.forget()


def _runs(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def _wait_until(true):
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
