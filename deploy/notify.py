"""Tells a person how a run ended, by mail, chat or pager, through the program in `notify.command`.

The program gets the summary of the run as JSON on standard input, the environment of the run, and

    WARMSTART_STATUS    pushed, not_pushed, stopped, failed or skipped
    WARMSTART_RUN       name of the run; empty if it did not start
    WARMSTART_REASON    why, as a sentence
    WARMSTART_SUMMARY   path of the run's `summary.json`, which does not exist if it did not start

For example: `[sh, -c, 'echo "$WARMSTART_REASON" | mail -s "warmstart: $WARMSTART_STATUS" ann@example.org']`.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, Any

from deploy.root import SUMMARY_FILE
from pipeline.config import NotifyConfig

_PIPE_BYTES = 65_536
_SHOWN_BYTES = 400  # of the end of a failed program's output
_LOOK_EVERY_SECONDS = 0.05
_KILLED_WITHIN_SECONDS = 5.0
_LONGEST_REASON = 4000  # Linux takes 128 KiB for one variable


def notify(section: NotifyConfig, summary: dict[str, Any], folder: Path) -> str | None:
    """Runs the notifier if there is one for a run that ended this way; it never raises.

    The notifier is killed after `timeout_seconds`, together with its process group. A process that it leaves behind
    when it succeeds keeps running.

    Args:
      summary: summary of the run: `status`, and `run_id` and `reason` if there are any.

    Returns:
      what went wrong, as a sentence; None: nothing, or nobody was to be notified.
    """
    if section.command is None or summary["status"] not in section.when:
        return None
    try:
        problem = _run(section.command, section.timeout_seconds, summary, folder)
    except (OSError, ValueError, TypeError, subprocess.SubprocessError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problem = f"cannot be run ({' '.join(reason.split())})"
    return f"nobody was notified: notify.command {section.command[0]} {problem}" if problem else None


def _run(command: list[str], timeout_seconds: float, summary: dict[str, Any], folder: Path) -> str | None:
    """Runs the program; returns what went wrong, in words that follow its name."""
    environment = {
        **os.environ,
        "WARMSTART_STATUS": str(summary["status"]),
        "WARMSTART_RUN": str(summary.get("run_id") or ""),
        "WARMSTART_REASON": _for_environment(str(summary.get("reason") or "")),
        "WARMSTART_SUMMARY": str(folder / SUMMARY_FILE),
    }
    # In memory, as the disk may be full. A pipe would block if nobody read it.
    with os.fdopen(os.memfd_create("summary"), "w+b") as given:
        given.write(json.dumps(summary, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        given.seek(0)
        process = subprocess.Popen(
            command,
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            bufsize=0,
        )
    assert process.stdout is not None
    try:
        printed = _wait(process, process.stdout, time.monotonic() + timeout_seconds)
        code = process.poll()
    finally:
        if process.returncode is None:
            # A program of another user, started with sudo for example, cannot be killed and is not waited for.
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(_KILLED_WITHIN_SECONDS)
        process.stdout.close()
    if code == 0:
        return None
    last = " ".join(printed.decode("utf-8", "replace").split())
    if code is None:
        ended = f"did not end within {timeout_seconds:g} s and was killed"
    else:
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return ended + (f": {last}" if last else "")


def _wait(process: subprocess.Popen[bytes], output: IO[bytes], deadline: float) -> bytes:
    """Waits until the process ends or the deadline passes, and reads its output meanwhile.

    The end of the process counts, not the end of its output: processes that it started may keep that open.

    Returns:
      the last bytes of the output.
    """
    printed = b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            ended = process.poll() is not None
            if selector.select(0 if ended else _LOOK_EVERY_SECONDS):
                # Once it has ended, all of its output is in the pipe, and one read takes it.
                read = os.read(output.fileno(), _PIPE_BYTES)
                printed = (printed + read)[-_SHOWN_BYTES:]
                if not read:  # it closed its output
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(max(0.0, deadline - time.monotonic()))
                    break
            if ended:
                break
    return printed


def _for_environment(text: str) -> str:
    return text[:_LONGEST_REASON].replace("\0", " ").encode("utf-8", "replace").decode("utf-8")
