"""Running one of our programs in a process of its own, which sees the installed packages and nothing of ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import ModuleType

TIMEOUT_SECONDS = 600
# Ends with its parent (prctl's PR_SET_PDEATHSIG is 1), which may have died by now; then is the program.
_START = """
import os, runpy, signal, sys
parent = int(sys.argv[1])
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != parent:
    sys.exit("the process that started this one has ended")
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class ProcessFailed(RuntimeError):
    """The process ended badly; the message says how, in one line."""


class ProcessHangs(ProcessFailed):
    """The process did not end within `TIMEOUT_SECONDS`."""


def run(program: ModuleType, *arguments: str) -> None:
    """Runs a module that is written as a program, without the working folder and PYTHONPATH.

    On Linux the program is killed when the thread that called this ends, however it ends.

    Args:
      program: the module; its file is run.
      arguments: of its command line.

    Raises:
      ProcessHangs: it took too long and was ended.
      ProcessFailed: with the last line that it wrote to its standard error, or the signal that ended it.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _START, str(os.getpid()), str(program.__file__), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProcessHangs(f"did not answer within {TIMEOUT_SECONDS} s") from None
    last = (done.stderr.strip().splitlines() or ["no message"])[-1].strip()
    if done.returncode < 0:
        raise ProcessFailed(f"ended by {signal.Signals(-done.returncode).name}: {last}")
    if done.returncode:
        raise ProcessFailed(last)
