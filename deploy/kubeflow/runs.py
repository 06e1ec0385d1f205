"""Starts and follows runs of a compiled pipeline on Kubeflow Pipelines."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deploy.kubeflow import pipelines
from deploy.kubeflow.connection import PAGE_SIZE, ApiError, Connection, message_of
from deploy.kubeflow.package_file import Package
from schemas.errors import BadInput

SUCCEEDED = "SUCCEEDED"
FINAL_STATES = frozenset({SUCCEEDED, "FAILED", "CANCELED", "SKIPPED", "ERROR"})


@dataclass(frozen=True)
class SubmittedRun:
    """A run that was started."""

    run_id: str
    run_url: str
    pipeline_id: str
    version_id: str
    new_version: bool
    """Whether the package was uploaded; otherwise the pipeline already had its content."""


def submit(
    connection: Connection,
    package: Package,
    pipeline_name: str,
    experiment: str,
    run_name: str,
    service_account: str | None = None,
) -> SubmittedRun:
    """Uploads the package, unless the pipeline has a version with its content, and starts a run.

    KFP's caching is off: the package turns it off for every task (`read_package`), and a run cannot change that.

    Args:
      pipeline_name: name of the pipeline in KFP, which is created if it does not exist.
      experiment: name of the experiment that shows the run, which is created if it does not exist.
      run_name: name in Kubeflow's web interface; need not be unique.
      service_account: service account of the run's pods; None: the cluster's default.

    Raises:
      BadInput: another pipeline has the name, or the server failed; nothing is left behind.
    """
    client = connection.client
    with pipelines.all_or_nothing(connection) as transaction:
        pipeline = pipelines.find_pipeline(connection, pipeline_name)
        pipeline_id, version_id, new_version = pipelines.ensure_version(
            connection, package, pipeline_name, pipeline, transaction
        )
        experiment_id = pipelines.ensure_experiment(connection, experiment, transaction)

        def run_ids() -> dict[str, Any]:
            answer = client.list_runs(
                experiment_id=experiment_id,
                page_size=PAGE_SIZE,
                sort_by="created_at desc",
                filter=pipelines.name_filter(run_name),
            )
            return {run.run_id: run for run in answer.runs or ()}

        before = connection.ask("list the runs", run_ids)
        run = transaction.create(
            f"the run {run_name!r}",
            lambda: client.run_pipeline(
                experiment_id,
                run_name,
                params=dict(package.parameters),
                pipeline_id=pipeline_id,
                version_id=version_id,
                enable_caching=False,
                service_account=service_account,
            ),
            lambda: next((run for run_id, run in run_ids().items() if run_id not in before), None),
            lambda created: client.delete_run(created.run_id),
        )
    return SubmittedRun(run.run_id, connection.run_url(run.run_id), pipeline_id, version_id, new_version)


@dataclass(frozen=True)
class TaskChange:
    """A task whose state changed."""

    name: str
    state: str
    seconds: float | None
    """How long the task took; None: it has not finished."""
    error: str


@dataclass(frozen=True)
class RunOutcome:
    """The state of a run."""

    state: str
    failed: tuple[TaskChange, ...]
    error: str
    stopped: bool = False
    """Whether the user stopped following; the run continues."""


def follow(
    connection: Connection,
    run_id: str,
    on_change: Callable[[TaskChange], None],
    tasks: Mapping[str, str] | None = None,
    poll_seconds: float = 5.0,
    patience_seconds: float = 180.0,
) -> RunOutcome:
    """Waits until a run ends and reports changes; Ctrl-C stops the waiting, not the run.

    Up to 2.18 the server lists all of Argo's nodes under the names of their tasks, including drivers, pods and the
    pipeline itself, and the end of an unfinished task is in 1970. From 3.0 on tasks are asked for on their own.

    Args:
      on_change: called for every task that is new or whose state has changed.
      tasks: tasks to report -> names to show (`Package.tasks`); None: everything that looks like a task.

    Raises:
      BadInput: the run does not exist, the server refused the token or stayed unavailable; the run continues.
    """
    seen: dict[str, TaskChange] = {}
    state, away_since, shows_tasks = "", 0.0, True
    try:
        while True:
            try:
                run = connection.ask("show the run", connection.client.get_run, run_id)
                details = list((run.run_details.task_details if run.run_details else None) or ())
                if not details and shows_tasks:
                    listed = _list_tasks(connection, run_id)
                    details, shows_tasks = listed or [], listed is not None
            except ApiError as error:
                now = time.monotonic()
                away_since = away_since or now
                if not (error.may_be_done or error.status == 429) or now - away_since > patience_seconds:
                    goes_on = "" if error.status == 404 else f"; the run continues: {connection.run_url(run_id)}"
                    raise BadInput(connection.refusal(error) + goes_on) from None
                time.sleep(poll_seconds)
                continue
            away_since = 0.0
            for change in _task_changes(details, tasks):
                if change.state and (change.name not in seen or seen[change.name].state != change.state):
                    on_change(change)
                seen[change.name] = change
            state = str(run.state or "")
            if state.upper() in FINAL_STATES:
                return _outcome(state, seen, _error(run))
            time.sleep(poll_seconds)
    except KeyboardInterrupt:
        return dataclasses.replace(_outcome(state, seen, ""), stopped=True)


def _outcome(state: str, seen: Mapping[str, TaskChange], error: str) -> RunOutcome:
    return RunOutcome(state, tuple(change for change in seen.values() if change.state == "FAILED"), error)


@dataclass(frozen=True)
class _Problem:
    message: str


@dataclass(frozen=True)
class _Task:
    """A task of a server without task details, with the fields of the SDK's model that `_task_changes` reads."""

    display_name: str
    state: str
    start_time: datetime | None
    end_time: datetime | None
    error: _Problem | None
    state_history: tuple[()] = ()


def _list_tasks(connection: Connection, run_id: str) -> list[_Task] | None:
    """The tasks of a run from `GET runs/{id}/tasks` of 3.0 (kubeflow/pipelines#13986); None: the server has no such
    list.

    Driver, executor and nested pipelines are no tasks of their own there. The design (proposals/12147-mlmd-removal)
    calls the state `status`.
    """
    found: list[_Task] = []
    token = ""
    while True:
        query = {"page_size": str(PAGE_SIZE)} | ({"page_token": token} if token else {})
        try:
            answer = connection.ask("list the run's tasks", connection.call, "GET", f"runs/{run_id}/tasks", query)
        except ApiError as error:
            if error.status in (404, 405, 501):
                return None
            raise
        for one in answer.get("tasks") or ():
            message = (one.get("error") or {}).get("message")
            found.append(
                _Task(
                    str(one.get("name") or one.get("display_name") or ""),
                    str(one.get("state") or one.get("status") or ""),
                    _time(one.get("start_time")),
                    _time(one.get("end_time")),
                    _Problem(message) if message else None,
                )
            )
        token = str(answer.get("next_page_token") or "")
        if not token:
            return found


def _time(text: str | None) -> datetime | None:
    """A time in the JSON of protocol buffers, to the second."""
    return datetime.fromisoformat(re.sub(r"(\.\d+)?Z$", "+00:00", text)) if text else None


def _task_changes(details: list[Any], tasks: Mapping[str, str] | None) -> Iterator[TaskChange]:
    """The states of the tasks to report, in the order in which they started."""
    names = {detail.display_name for detail in details}
    shown_names = set((tasks or {}).values())
    details.sort(key=lambda detail: detail.start_time.timestamp() if detail.start_time else 0.0)
    for detail in details:
        name = detail.display_name or ""
        if tasks is not None:
            if name not in tasks and name not in shown_names:
                continue
            name = tasks.get(name, name)
        elif name == "root" or (f"{name}-driver" not in names and not isinstance(detail, _Task)):
            continue
        started, ended = detail.start_time, detail.end_time
        finished = started is not None and ended is not None and ended >= started and ended.year > 1970
        seconds = (ended - started).total_seconds() if finished else None
        yield TaskChange(name, str(detail.state or ""), seconds, _error(detail))


def _error(told: Any) -> str:
    """The error of a run or a task, or of the last of its states that has one."""
    history = [state.error for state in reversed(told.state_history or ())]
    messages = [error.message for error in (told.error, *history) if error is not None and error.message]
    return message_of(messages[0]) if messages else ""
