"""Manages the recurring runs of Kubeflow Pipelines that warmstart creates."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from deploy.kubeflow import pipelines, runs
from deploy.kubeflow.connection import PAGE_SIZE, ApiError, Connection
from deploy.kubeflow.package_file import Package
from deploy.kubeflow.pipelines import MARK, Transaction
from deploy.kubeflow.server_versions import keeps_runs_of_deleted_schedules
from deploy.timetable import Timetable
from schemas.errors import BadInput


@dataclass(frozen=True)
class Schedule:
    """A recurring run that warmstart created."""

    id: str
    name: str
    kfp_cron: str
    """Six fields, seconds first, in the cluster's time zone."""
    described: str
    """Cron expression and time zone as they were given."""
    enabled: bool
    pipeline_id: str
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class ScheduleResult:
    """What `schedule` did."""

    action: str
    """`created`, `replaced` or `unchanged`."""
    id: str
    pipeline_id: str
    version_id: str


def schedule(
    connection: Connection,
    package: Package,
    pipeline_name: str,
    name: str,
    when: Timetable,
    experiment: str,
    service_account: str | None = None,
) -> ScheduleResult:
    """Creates or replaces the schedule of that name: one run at a time, and none for missed times.

    KFP cannot change a recurring run. So the new one is created before the old one is deleted, and a failure leaves the
    old one in place. Names are not unique in KFP: several of warmstart's recurring runs with the name become one.

    KFP fills in values such as `[[ScheduledTime]]` at each run.

    Args:
      package: from `read_package`, with the parameters of every run.
      service_account: service account of the runs' pods; None: the cluster's default.

    Raises:
      BadInput: another pipeline has a name, a run of the old schedule is in progress, or the server failed; the old
        schedule stays as it is.
    """
    with pipelines.all_or_nothing(connection) as transaction:
        pipeline = pipelines.find_pipeline(connection, pipeline_name)
        old = _recurring_runs(connection, name)
        if any(pipeline is None or _pipeline_ids(run)[0] != pipeline.pipeline_id for run in old):
            raise BadInput(f"the name {name!r} is taken by a schedule of another pipeline; choose another name")
        pipeline_id, version_id, _ = pipelines.ensure_version(connection, package, pipeline_name, pipeline, transaction)
        wanted = _RecurringRun(
            name=name,
            description=f"{MARK}: {when.cron} in {when.time_zone}",
            kfp_cron=when.kfp_cron,
            pipeline_id=pipeline_id,
            version_id=version_id,
            experiment_id=pipelines.ensure_experiment(connection, experiment, transaction),
            parameters=dict(package.parameters),
            service_account=service_account,
        )
        kept = next((run for run in old if wanted.is_like(run)), None)
        leaving = [run for run in old if run is not kept]
        for run in leaving:
            _require_idle(connection, run, name)
        action = "replaced" if leaving else "unchanged" if kept else "created"
        if kept is None:
            kept = _create(connection, wanted, old, transaction)
        for run in leaving:
            _delete_recurring_run(connection, run, "delete the old schedule")
    return ScheduleResult(action, kept.recurring_run_id, pipeline_id, version_id)


@dataclass(frozen=True)
class _RecurringRun:
    """A recurring run to create."""

    name: str
    description: str
    kfp_cron: str
    pipeline_id: str
    version_id: str
    experiment_id: str
    parameters: dict[str, str]
    service_account: str | None

    def is_like(self, found: Any) -> bool:
        """Whether a recurring run on the server is the same."""
        return (
            _cron(found) == self.kfp_cron
            and _pipeline_ids(found) == (self.pipeline_id, self.version_id)
            and _parameters(found) == self.parameters
            and found.description == self.description
            and found.experiment_id == self.experiment_id
            and _is_enabled(found)
            and int(found.max_concurrency or 0) == 1
            and bool(found.no_catchup)
            # The server fills in its default if none was given.
            and self.service_account in (None, found.service_account)
        )


def _create(connection: Connection, wanted: _RecurringRun, old: list[Any], transaction: Transaction) -> Any:
    client, known = connection.client, {run.recurring_run_id for run in old}

    def find() -> Any | None:
        new = (run for run in _recurring_runs(connection, wanted.name) if run.recurring_run_id not in known)
        return next(new, None)

    return transaction.create(
        f"the schedule {wanted.name!r}",
        lambda: client.create_recurring_run(
            wanted.experiment_id,
            wanted.name,
            description=wanted.description,
            cron_expression=wanted.kfp_cron,
            max_concurrency=1,
            no_catchup=True,
            params=wanted.parameters,
            pipeline_id=wanted.pipeline_id,
            version_id=wanted.version_id,
            enable_caching=False,
            service_account=wanted.service_account,
        ),
        find,
        lambda created: client.delete_recurring_run(created.recurring_run_id),
    )


def list_schedules(connection: Connection) -> list[Schedule]:
    """All schedules that warmstart created, sorted by name.

    Raises:
      BadInput: the server failed.
    """
    try:
        found = _recurring_runs(connection, None)
    except ApiError as error:
        raise BadInput(connection.refusal(error)) from None
    schedules = [
        Schedule(
            id=run.recurring_run_id,
            name=run.display_name,
            kfp_cron=_cron(run),
            described=run.description.removeprefix(f"{MARK}: "),
            enabled=_is_enabled(run),
            pipeline_id=_pipeline_ids(run)[0],
            parameters=_parameters(run),
        )
        for run in found
        if (run.description or "").startswith(MARK)
    ]
    return sorted(schedules, key=lambda run: (run.name, run.id))


def delete_schedule(connection: Connection, name: str) -> None:
    """Deletes the schedule of that name, and none of its runs.

    Raises:
      BadInput: it does not exist, warmstart did not create it, a run of it is in progress and the server would delete
        that too, or the server failed.
    """
    try:
        found = _recurring_runs(connection, name)
        if not found:
            known = sorted({run.display_name for run in _recurring_runs(connection, None)})
            raise BadInput(
                f"there is no schedule {name!r} at {connection.endpoint.shown()}; known schedules: "
                f"{', '.join(known) or 'none'}"
            )
        if any(not (run.description or "").startswith(MARK) for run in found):
            raise BadInput(f"the schedule {name!r} was not created by warmstart; delete it in Kubeflow's web interface")
        if not keeps_runs_of_deleted_schedules(connection):
            for run in found:
                _require_idle(connection, run, name)
        for run in found:
            _delete_recurring_run(connection, run, "delete the schedule")
    except ApiError as error:
        raise BadInput(connection.refusal(error)) from None


def _recurring_runs(connection: Connection, name: str | None) -> list[Any]:
    found: list[Any] = []
    token = ""
    while True:
        answer = connection.ask(
            "list the schedules",
            connection.client.list_recurring_runs,
            page_token=token,
            page_size=PAGE_SIZE,
            namespace=connection.namespace or None,
        )
        found += [run for run in answer.recurring_runs or () if name is None or run.display_name == name]
        token = answer.next_page_token or ""
        if not token:
            return found


def _require_idle(connection: Connection, run: Any, name: str) -> None:
    """Refuses to delete a recurring run while one of its runs is in progress.

    Kubernetes would delete that run too (kubeflow/pipelines#12573), unless the server has an option against it
    (`keeps_runs_of_deleted_schedules`). With or without it, two schedules of one root must not run at once.
    """
    answer = connection.ask(
        "list the schedule's runs",
        connection.client.list_runs,
        experiment_id=run.experiment_id,
        page_size=PAGE_SIZE,
        sort_by="created_at desc",
    )
    for started in answer.runs or ():
        if (
            started.recurring_run_id == run.recurring_run_id
            and str(started.state or "").upper() not in runs.FINAL_STATES
        ):
            raise BadInput(
                f"a run of the schedule {name!r} is in progress and would be deleted with it: "
                f"{connection.run_url(started.run_id)}; wait for it to end, or terminate it first"
            )


def _delete_recurring_run(connection: Connection, run: Any, what: str) -> None:
    """Deletes a recurring run; if the answer is lost but the run is gone, it counts as deleted."""
    recurring_run_id = run.recurring_run_id
    delete: Callable[[str], Any] = connection.client.delete_recurring_run
    if keeps_runs_of_deleted_schedules(connection):
        delete = functools.partial(_delete_alone, connection)
    try:
        connection.ask(what, delete, recurring_run_id)
    except ApiError as error:
        if error.status == 404:
            return
        if error.may_be_done:
            try:
                connection.ask(what, connection.client.get_recurring_run, recurring_run_id)
            except ApiError as second:
                if second.status == 404:
                    return
        raise


def _delete_alone(connection: Connection, recurring_run_id: str) -> None:
    """Deletes a recurring run, and leaves its runs to themselves; older generated clients lack the parameter."""
    connection.call("DELETE", f"recurringruns/{quote(recurring_run_id)}", {"propagation_policy": "ORPHAN"})


def _pipeline_ids(run: Any) -> tuple[str, str]:
    """Ids of the pipeline and version of a recurring run; empty: it contains its pipeline itself."""
    reference = run.pipeline_version_reference
    if reference is None:
        return "", ""
    return reference.pipeline_id or "", reference.pipeline_version_id or ""


def _parameters(run: Any) -> dict[str, str]:
    return dict(run.runtime_config.parameters or {} if run.runtime_config else {})


def _cron(run: Any) -> str:
    cron = run.trigger.cron_schedule if run.trigger else None
    return (cron.cron or "") if cron else ""


def _is_enabled(run: Any) -> bool:
    """Whether a recurring run is enabled. `mode` is the setting and `status` the state; not every server has both."""
    return run.mode == "ENABLE" if run.mode in ("ENABLE", "DISABLE") else run.status == "ENABLED"
