"""Has the MLflow server told about a run, and about a rollback. Nothing here raises, whatever the server does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from components.whole_file import write_whole
from deploy.root import Root
from schemas.errors import BadInput
from schemas.json_records import from_json, to_json

RECORD_FILE = "mlflow.json"


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """What the server is told, and where."""

    uri: str
    experiment: str
    model: str
    alias: str
    waiting: list[str] = field(default_factory=list)
    """Runs that the server has not heard of, the oldest first."""


def read_tracking(root: Path) -> Tracking | None:
    """The record of a root folder; None: there is none that can be read, so nothing is tracked."""
    try:
        return from_json(Tracking, json.loads((root / RECORD_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def write_tracking(root: Path, tracking: Tracking) -> None:
    """Writes the record of a root folder.

    Raises:
      OSError: the disk does not take it.
    """
    write_whole(root / RECORD_FILE, json.dumps(to_json(tracking), indent=2).encode() + b"\n")


if TYPE_CHECKING:
    from pipeline.config import Config

URI_VARIABLE = "MLFLOW_TRACKING_URI"
_INSTALL = "pip install 'warmstart[mlflow]'"
# A model of some hundred megabytes has to fit in, and a server that does not answer must not hold up the night.
_RUN_SECONDS, _ALIAS_SECONDS = 900.0, 120.0
# MLflow's own settings, for whoever set none: its defaults try for many minutes, and report usage to its makers.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


def require_package(config: Config) -> None:
    """Makes sure that a configuration that names a server can reach it.

    Raises:
      BadInput: it does, and mlflow is not installed.
    """
    if config.tracking.mlflow and find_spec("mlflow") is None:
        raise BadInput(
            f"tracking.mlflow is {config.tracking.mlflow}, but mlflow is not installed: {_INSTALL}, or leave out "
            "tracking.mlflow"
        )


def track_run(config: Config, root: Root, run_id: str, seconds: float = _RUN_SECONDS) -> str:
    """Tells the server about a run that has ended, and about earlier ones that it has not heard of.

    Args:
      config: of the run; without `tracking.mlflow`, the variable MLFLOW_TRACKING_URI names the server.
      seconds: after which the attempt is given up.

    Returns:
      what went wrong, as a sentence; empty: nothing, or nothing is tracked. The next run tries again.
    """
    uri = config.tracking.mlflow or os.environ.get(URI_VARIABLE, "")
    if not uri:
        return ""
    before = read_tracking(root.folder)
    waiting = before.waiting if before else []
    tracking = Tracking(
        uri=uri,
        experiment=config.tracking.experiment or config.name,
        model=config.tracking.registered_model or config.name,
        alias=config.tracking.alias,
        waiting=[*(run for run in waiting if run != run_id), run_id],
    )
    try:
        write_tracking(root.folder, tracking)
    except OSError as error:
        return f"MLflow was not told about the run: {root.folder} cannot be written ({error.strerror})"
    problem = _ask(root, seconds, logged=True)
    return f"MLflow was not told about the run: {problem}; the next run tries again" if problem else ""


def follow_production(root: Root, seconds: float = _ALIAS_SECONDS) -> str:
    """Moves the alias to the version in production, after a rollback or a repair.

    Args:
      root: root folder; nothing happens if none of its runs was tracked.
      seconds: after which the attempt is given up.

    Returns:
      what went wrong, as a sentence; empty: nothing.
    """
    tracking = read_tracking(root.folder)
    if tracking is None:
        return ""
    problem = _ask(root, seconds, logged=False)
    moves = f"MLflow's alias {tracking.alias} of {tracking.model} was not moved"
    return f"{moves}: {problem}; the next run, rollback or repair tries again" if problem else ""


def _ask(root: Root, seconds: float, logged: bool) -> str:
    """Has the other process do everything that is recorded; gives what went wrong, as the rest of a sentence.

    Args:
      logged: what the process says goes to standard error, which is the log of a run.
    """
    if find_spec("mlflow") is None:
        return f"mlflow is not installed ({_INSTALL})"
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.tracking.client", str(root.folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if logged else subprocess.DEVNULL,
            text=True,
            errors="replace",
            env={**_SETTINGS, **os.environ},
            start_new_session=True,
        )
    except OSError as error:
        return f"no process can be started ({error.strerror})"
    try:
        printed, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"the server did not take everything within {seconds:.0f} s"
    finally:
        if process.poll() is None:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    try:
        return str(json.loads(printed.splitlines()[-1])["problem"])
    except (ValueError, IndexError, KeyError, TypeError):
        return f"the process that speaks to it ended with exit code {process.returncode}"
