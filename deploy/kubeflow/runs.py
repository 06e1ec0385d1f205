"""Starts runs of a compiled pipeline on Kubeflow Pipelines, and follows them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.kubeflow import pipelines
from deploy.kubeflow.connection import PAGE_SIZE, ApiError, Connection, message_of
from deploy.kubeflow.package_file import Package
from schemas.errors import BadInput

SUCCEEDED = "SUCCEEDED"
FINAL_STATES = frozenset({SUCCEEDED, "FAILED", "CANCELED", "SKIPPED", "ERROR"})


@dataclass(frozen=True)
class SubmittedRun:
    """A run that was started. new_version: False where the content was there already."""

    run_id: str
    run_url: str
    pipeline_id: str
    version_id: str
    new_version: bool


def submit(
    connection: Connection,
    package: Package,
    pipeline_name: str,
    experiment: str,
    run_name: str,
    service_account: str | None = None,
) -> SubmittedRun:
    """Uploads the package, unless the pipeline has a version with its content, and starts a run.

    KFP's caching is off: the package says so for every task (`read_package`), and a run of a version has no say in it.

    Args:
      connection: from `connect`.
      package: from `read_package`, with the run's parameters.
      pipeline_name: of the pipeline in KFP; it is made where there is none.
      experiment: of that name, in which the run is shown; it is made where there is none.
      run_name: shown in Kubeflow's pages; need not be unique.
      service_account: of the run's pods; None: the cluster's default.

    Raises:
      BadInput: the name is taken by another pipeline, or the server did not do it; nothing is left behind then.
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
    """A task whose state changed. seconds: how long it took; None: it is not finished. error: of a failed one, where
    the server tells.
    """

    name: str
    state: str
    seconds: float | None
    error: str


@dataclass(frozen=True)
class RunOutcome:
    """How a run stands. state: KFP's, such as SUCCEEDED or FAILED. failed: its failed tasks. error: of the run.
    stopped: the user stopped following; the run goes on.
    """

    state: str
    failed: tuple[TaskChange, ...]
    error: str
    stopped: bool = False


def follow(
    connection: Connection,
    run_id: str,
    on_change: Callable[[TaskChange], None],
    tasks: Mapping[str, str] | None = None,
    poll_seconds: float = 5.0,
    patience_seconds: float = 180.0,
) -> RunOutcome:
    """Waits for a run's end and tells what changes; Ctrl-C stops the following, not the run.

    The server lists all of Argo's nodes by the names of their tasks: drivers, pods and the pipeline itself too. A task
    that is not finished has an end in 1970.

    Args:
      connection: from `connect`.
      run_id: of the run.
      on_change: called for every task that is new or whose state changed.
      tasks: names to tell of -> names to show (`Package.tasks`); None: tell of all that look like tasks.
      poll_seconds: between two questions.
      patience_seconds: for how long the server may be away.

    Raises:
      BadInput: the run is not there, the token was refused, or the server stayed away; the run goes on.
    """
    seen: dict[str, TaskChange] = {}
    state, away_since = "", 0.0
    try:
        while True:
            try:
                run = connection.ask("show the run", connection.client.get_run, run_id)
            except ApiError as error:
                now = time.monotonic()
                away_since = away_since or now
                if not (error.may_be_done or error.status == 429) or now - away_since > patience_seconds:
                    goes_on = "" if error.status == 404 else f"; the run goes on: {connection.run_url(run_id)}"
                    raise BadInput(connection.refusal(error) + goes_on) from None
                time.sleep(poll_seconds)
                continue
            away_since = 0.0
            for change in _task_changes(run, tasks):
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


def _task_changes(run: Any, tasks: Mapping[str, str] | None) -> Iterator[TaskChange]:
    """How the tasks to be told of stand, in the order they began."""
    details = list((run.run_details.task_details if run.run_details else None) or ())
    names = {detail.display_name for detail in details}
    shown_names = set((tasks or {}).values())
    details.sort(key=lambda detail: detail.start_time.timestamp() if detail.start_time else 0.0)
    for detail in details:
        name = detail.display_name or ""
        if tasks is not None:
            if name not in tasks and name not in shown_names:
                continue
            name = tasks.get(name, name)
        elif name == "root" or f"{name}-driver" not in names:
            continue
        started, ended = detail.start_time, detail.end_time
        finished = started is not None and ended is not None and ended >= started and ended.year > 1970
        seconds = (ended - started).total_seconds() if finished else None
        yield TaskChange(name, str(detail.state or ""), seconds, _error(detail))


def _error(told: Any) -> str:
    """The error of a run or a task: its own, or that of the last state it went through."""
    history = [state.error for state in reversed(told.state_history or ())]
    messages = [error.message for error in (told.error, *history) if error is not None and error.message]
    return message_of(messages[0]) if messages else ""
