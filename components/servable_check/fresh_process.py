"""Running one of our programs in a process of its own, which sees the installed packages and nothing of ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from types import ModuleType

TIMEOUT_SECONDS = 600
# Ends with its parent (PR_SET_PDEATHSIG of prctl is 1), which may have died by now. Imports, waits for a program and
# its arguments, takes its name (PR_SET_NAME is 15), and is that program.
_START = """
import json, os, runpy, signal, sys
parent, *modules = sys.argv[1:]
tell = lambda *what: None
if sys.platform == "linux":
    import ctypes
    tell = ctypes.CDLL(None).prctl
tell(1, signal.SIGKILL)
if os.getppid() != int(parent):
    sys.exit("the process that started this one has ended")
for module in modules:
    exec('import ' + module)
sys.argv = json.loads(sys.stdin.readline())
tell(15, os.path.basename(sys.argv[0]).encode())
runpy.run_path(sys.argv[0], run_name="__main__")
"""
_waiting: list[subprocess.Popen] = []


class ProcessFailed(RuntimeError):
    """The process ended badly; the message says how, in one line."""


class ProcessHangs(ProcessFailed):
    """The process did not end within `TIMEOUT_SECONDS`."""


def _start(*modules: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-I", "-c", _START, str(os.getpid()), *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def prepare(*modules: str) -> None:
    """Starts the process of the next `run`, which imports these modules meanwhile; unless one is waiting already.

    On Linux it is killed when the thread that called this ends.
    """
    if not any(process.poll() is None for process in _waiting):
        _waiting[:] = [_start(*modules)]


def forget() -> None:
    """Ends the process that `prepare` started, if `run` did not need it."""
    while _waiting:
        process = _waiting.pop()
        process.kill()
        process.communicate()


def run(program: ModuleType, *arguments: str) -> None:
    """Runs a module that is written as a program, without the working folder and PYTHONPATH.

    On Linux the program is killed when the thread that called this ends, however it ends.

    Raises:
      ProcessHangs: it took too long and was ended.
      ProcessFailed: with the last line that it wrote to its standard error, or the signal that ended it.
    """
    ready = [process for process in _waiting if process.poll() is None]
    if not ready:
        forget()
    process = _waiting.pop() if ready else _start()
    with process:
        try:
            _, errors = process.communicate(json.dumps([str(program.__file__), *arguments]) + "\n", TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise ProcessHangs(f"did not answer within {TIMEOUT_SECONDS} s") from None
        finally:
            process.kill()  # nothing happens to one that has ended
    last = (errors.strip().splitlines() or ["no message"])[-1].strip()
    if process.returncode < 0:
        raise ProcessFailed(f"ended by {signal.Signals(-process.returncode).name}: {last}")
    if process.returncode:
        raise ProcessFailed(last)
