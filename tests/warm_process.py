"""Processes that need not import TFX: forked from one that has, and that has started none of its threads.

A command run so has a process of its own, with its own modules, files and exit code; only the imports, half of what a
run of an unchanged pipeline takes, were done once before. That a process can do its imports itself is for those tests
to show that start a plain one.

As a program, this file is the process that forks: `python -m tests.warm_process SOCKET`, until its input ends.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NoReturn

REPOSITORY = Path(__file__).parents[1]
_ONE_STARTS_IT = threading.Lock()
# What nodes import when they run, besides what a run of every node imports before.
_OF_NODES = (
    "tensorflow_data_validation",
    "tensorflow_hub",
    "tensorflow_model_analysis",
    "tensorflow_serving.apis.prediction_log_pb2",
    "tensorflow_transform.beam",
    "tfx.components.evaluator.executor",
    "tfx.components.statistics_gen.executor",
    "tfx.components.example_validator.executor",
    "tfx.components.trainer.executor",
    "tfx.components.transform.executor",
)


def run_warm(
    module: str,
    arguments: Sequence[str],
    output: Path,
    folder: Path = REPOSITORY,
    environment: Mapping[str, str] | None = None,
    timeout: float = 900,
) -> int:
    """Runs `python -m MODULE ARGUMENTS` to its end.

    Args:
      module: its name.
      arguments: of the command line.
      output: file for everything a person sees.
      folder: where it runs.
      environment: all of it; None: this process's own.
      timeout: in seconds; the process is killed then.

    Returns:
      its exit code, as `subprocess` has it: negative for a signal.
    """
    with _ONE_STARTS_IT:
        address = _forking_process()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.settimeout(timeout)
        given = {
            "module": module,
            "arguments": list(arguments),
            "output": str(output),
            "folder": str(folder),
            "environment": dict(os.environ if environment is None else environment),
        }
        answers = connection.makefile("rw")
        answers.write(json.dumps(given) + "\n")
        answers.flush()
        process = int(answers.readline())
        try:
            return int(answers.readline())
        except TimeoutError:
            os.killpg(process, signal.SIGKILL)
            raise


@cache
def _forking_process() -> str:
    """Starts it, and ends it with this process.

    Returns:
      the address where it listens.
    """
    folder = Path(tempfile.mkdtemp(prefix="warm"))
    address, log = folder / "socket", folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm_process", str(address)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
        )

    atexit.register(process.communicate)  # which ends its input; where this process is killed, so does the system
    assert process.stdout is not None
    assert process.stdout.readline(), log.read_text(errors="replace")
    return str(address)


def _serve(address: str) -> None:
    before = set(os.environ)
    _import_everything()
    assert threading.active_count() == 1  # others would be missing in what is forked
    set_by_imports = {name: value for name, value in os.environ.items() if name not in before}
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listening, 0], [], [], 1.0)
            _reap()
            if 0 in ready:
                return
            if listening in ready:
                connection, _ = listening.accept()
                if os.fork() == 0:
                    try:
                        listening.close()
                        _wait_for_command(connection, set_by_imports)
                    finally:  # whatever happened: what comes after the loop is for the parent
                        os._exit(1)
                connection.close()


def _import_everything() -> None:
    from deploy import quick_start

    with quick_start.importing():
        import components
        import deploy.assembly
        import deploy.earlier_spans
        import deploy.local_runner
        import deploy.run_summary  # noqa: F401
        import pipeline.graph  # noqa: F401

        for name in _OF_NODES:
            importlib.import_module(name)
        for about in pkgutil.walk_packages(components.__path__, "components."):
            importlib.import_module(about.name)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _wait_for_command(connection: socket.socket, set_by_imports: Mapping[str, str]) -> NoReturn:
    """Runs one command in a process below this one, and tells its id, and its exit code at the end."""
    answers = connection.makefile("rw")
    given = json.loads(answers.readline())
    process = os.fork()
    if process == 0:
        connection.detach()
        _run(given, set_by_imports)
    answers.write(f"{process}\n")
    answers.flush()
    _, status = os.waitpid(process, 0)
    answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
    answers.flush()
    os._exit(0)


def _run(given: dict, set_by_imports: Mapping[str, str]) -> NoReturn:
    """What `python -m` does, in a process that has everything imported."""
    from deploy import quick_start

    os.setsid()
    output = os.open(given["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(given["folder"])
    os.environ.clear()
    os.environ.update({**set_by_imports, **given["environment"]})
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    module = given["module"]
    command = [sys.argv[0], *given["arguments"]]
    sys.argv[:] = command
    sys.modules.pop(module, None)
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        code = error.code if isinstance(error.code, int) else 1 if error.code else 0
    except BaseException:
        traceback.print_exc()
        code = 1
    quick_start.finish(code)


if __name__ == "__main__":
    try:
        _serve(sys.argv[1])
    finally:
        shutil.rmtree(Path(sys.argv[1]).parent)
