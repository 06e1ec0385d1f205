"""A real MLflow server on loopback, from an environment of its own (`make mlflow`)."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

# Its environment may lie elsewhere.
PROGRAM = Path(os.environ.get("WARMSTART_TEST_MLFLOW", Path(__file__).parents[1] / ".tools/mlflow/bin/mlflow"))
_START_SECONDS = 900


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Gives its address; skips the test where the server or the client is not installed."""
    if not PROGRAM.is_file():
        pytest.skip("no MLflow server; `make mlflow` installs one")
    if find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed here: pip install 'warmstart[mlflow]'")
    address = f"http://127.0.0.1:{(port := free_port())}"
    where = [f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/artifacts"]
    # Modules of this environment are not those of the server's.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "server", "--host=127.0.0.1", f"--port={port}", "--workers=1", *where],
            stdout=log, stderr=log, env=environment, cwd=folder,
        )  # fmt: skip
    try:
        ends = time.monotonic() + _START_SECONDS
        while not _answers(address):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < ends, (folder / "log").read_text()
            time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
