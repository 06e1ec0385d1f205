"""What the tests of Kubeflow's client do: connect to a stub of KFP's API, submit, schedule, and look at the answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.kubeflow import runs, schedules
from deploy.kubeflow.connection import Connection, connect, find_endpoint
from deploy.kubeflow.package_file import Package
from deploy.kubeflow.runs import SubmittedRun
from deploy.kubeflow.schedules import ScheduleResult
from deploy.timetable import timetable
from schemas.errors import BadInput
from tests.kfp_api_stub import KfpApiStub, Request

PIPELINE, EXPERIMENT, RUN, NIGHTLY = "warmstart-cats-vs-dogs", "cats", "cats at noon", "nightly"
RUNS, RECURRING = "/apis/v2beta1/runs", "/apis/v2beta1/recurringruns"
UPLOAD = "/apis/v2beta1/pipelines/upload_version"
NOTHING = (0, 0, 0, 0, 0)


def connected(server: KfpApiStub, namespace: str | None = None, token: str | None = None) -> Connection:
    return connect(find_endpoint(server.address, namespace, token))


def submitted(connection: Connection, package: Package, **options: Any) -> SubmittedRun:
    return runs.submit(connection, package, PIPELINE, EXPERIMENT, RUN, **options)


def scheduled(
    connection: Connection, package: Package, cron: str = "0 3 * * *", zone: str = "UTC", **options: Any
) -> ScheduleResult:
    return schedules.schedule(connection, package, PIPELINE, NIGHTLY, timetable(cron, zone), EXPERIMENT, **options)


def sentence(error: pytest.ExceptionInfo[BadInput]) -> str:
    """The message, which must be one line without a trace of Python."""
    text = str(error.value)
    assert "\n" not in text
    assert "Traceback" not in text
    assert "HTTPConnectionPool" not in text
    return text


def edited(package_file: Path, tmp_path: Path, old: str, new: str) -> Path:
    text = package_file.read_text()
    assert old in text
    changed = tmp_path / "changed.yaml"
    changed.write_text(text.replace(old, new))
    return changed


def only(requests: list[Request]) -> Request:
    assert len(requests) == 1
    return requests[0]
