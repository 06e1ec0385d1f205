"""Pipelines, versions and experiments on the server, which are created completely or not at all.

If a call cannot finish, it deletes what it has created on the server. KFP has no transactions, so if an answer is lost
(time-out, 500), the call looks up whether the object was created.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from deploy.kubeflow.connection import PAGE_SIZE, ApiError, Connection
from deploy.kubeflow.package_file import Package
from schemas.errors import BadInput

# The description of every pipeline and recurring run that warmstart creates starts with this.
MARK = "made by warmstart"


class Transaction:
    """What one call creates on the server, and deletes again in reverse order when `undo` is closed."""

    def __init__(self, connection: Connection):
        self.undo = contextlib.ExitStack()
        self._connection = connection
        self._created: list[str] = []
        self._left: list[str] = []
        self._uncertain: list[str] = []

    def create(
        self, what: str, create: Callable[[], Any], find: Callable[[], Any], delete: Callable[[Any], Any]
    ) -> Any:
        """Creates an object.

        Args:
          what: name of the object, such as `the pipeline 'a'`.
          find: looks for one that was created although the answer was lost; None: there is none.

        Raises:
          ApiError: the server did not create it, or the answer was lost.
        """
        try:
            created = self._connection.ask(f"create {what}", create)
        except ApiError as error:
            if error.may_be_done:
                self._look_for(what, find, delete)
            raise
        self._delete_at_the_end(what, delete, created)
        return created

    def _look_for(self, what: str, find: Callable[[], Any], delete: Callable[[Any], Any]) -> None:
        try:
            lost = self._connection.ask(f"look for {what}", find)
        except ApiError:
            self._uncertain.append(what)
            return
        if lost is not None:
            self._delete_at_the_end(what, delete, lost)

    def _delete_at_the_end(self, what: str, delete: Callable[[Any], Any], created: Any) -> None:
        self._created.append(what)
        self.undo.callback(self._delete, what, delete, created)

    def _delete(self, what: str, delete: Callable[[Any], Any], created: Any) -> None:
        try:
            self._connection.ask(f"delete {what}", delete, created)
        except ApiError as error:
            if error.status != 404:
                self._left.append(what)

    def ending(self) -> str:
        """The end of a sentence on a failed call: what became of the objects it had created."""
        end = "; what had been created was deleted again" if self._created else ""
        if self._left:
            end = f"; {' and '.join(self._left)} could not be deleted again: delete by hand"
        if self._uncertain:
            end += f"; check whether {' and '.join(self._uncertain)} was created anyway"
        return end


@contextlib.contextmanager
def all_or_nothing(connection: Connection) -> Iterator[Transaction]:
    """Deletes what was created if anything fails or the user interrupts.

    Raises:
      BadInput: the server failed to do something, or the body raised it; the message says what became of the rest.
    """
    transaction = Transaction(connection)
    try:
        with transaction.undo:
            yield transaction
            transaction.undo.pop_all()
    except ApiError as error:
        raise BadInput(connection.refusal(error) + transaction.ending()) from None
    except BadInput as error:
        raise BadInput(f"{error}{transaction.ending()}") from None


def name_filter(name: str) -> str:
    """A filter by name in the server's format (backend/api/v2beta1/filter.proto)."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def find_pipeline(connection: Connection, name: str) -> Any | None:
    """The pipeline of that name that warmstart created; None: there is none.

    Raises:
      BadInput: another pipeline has the name.
    """
    client = connection.client
    answer = connection.ask(
        "list the pipelines",
        client.list_pipelines,
        page_size=PAGE_SIZE,
        filter=name_filter(name),
        namespace=connection.namespace,
    )
    found = [pipeline for pipeline in answer.pipelines or () if pipeline.display_name == name]
    if any(not (pipeline.description or "").startswith(MARK) for pipeline in found) or len(found) > 1:
        raise BadInput(
            f"the name {name!r} is taken by a pipeline at {connection.endpoint.shown()} that warmstart did not create; "
            "choose another name"
        )
    return found[0] if found else None


def ensure_version(
    connection: Connection, package: Package, pipeline_name: str, pipeline: Any | None, transaction: Transaction
) -> tuple[str, str, bool]:
    """Makes sure that the pipeline has a version with the content of the package; a missing pipeline is created.

    Returns:
      ids of the pipeline and the version, and whether the version is new.
    """
    client = connection.client
    if pipeline is None:
        import kfp_server_api

        body = kfp_server_api.V2beta1Pipeline(
            display_name=pipeline_name,
            description=f"{MARK}: each version is named by its content",
            namespace=connection.namespace or None,
        )
        # Of the generated client, in kfp-server-api 2.17.3 and 2.0.5: the SDK's own has no such method.
        calls = client.pipelines
        create = getattr(calls, "pipeline_service_create_pipeline", None) or calls.create_pipeline
        pipeline = transaction.create(
            f"the pipeline {pipeline_name!r}",
            lambda: create(body),
            lambda: find_pipeline(connection, pipeline_name),
            lambda created: client.delete_pipeline(created.pipeline_id),
        )
    pipeline_id, version_name = pipeline.pipeline_id, package.version_name(pipeline_name)

    def find() -> Any | None:
        answer = client.list_pipeline_versions(pipeline_id, page_size=PAGE_SIZE, filter=name_filter(version_name))
        return next((one for one in answer.pipeline_versions or () if one.display_name == version_name), None)

    version = connection.ask("list the pipeline's versions", find)
    if version is not None:
        return pipeline_id, version.pipeline_version_id, False
    version = transaction.create(
        f"the version {version_name!r}",
        lambda: client.upload_pipeline_version(
            str(package.path), version_name, pipeline_id=pipeline_id, description=f"{MARK}: sha256 {package.digest}"
        ),
        find,
        lambda created: client.delete_pipeline_version(pipeline_id, created.pipeline_version_id),
    )
    return pipeline_id, version.pipeline_version_id, True


def _find_experiment(connection: Connection, name: str) -> Any | None:
    answer = connection.client.list_experiments(
        page_size=PAGE_SIZE, filter=name_filter(name), namespace=connection.namespace
    )
    return next((one for one in answer.experiments or () if one.display_name == name), None)


def ensure_experiment(connection: Connection, name: str, transaction: Transaction) -> str:
    """Id of the experiment of that name, which is created if it does not exist."""
    client = connection.client
    experiment = connection.ask("list the experiments", _find_experiment, connection, name)
    if experiment is None:
        experiment = transaction.create(
            f"the experiment {name!r}",
            lambda: client.create_experiment(name, namespace=connection.namespace or None),
            lambda: _find_experiment(connection, name),
            lambda created: client.delete_experiment(created.experiment_id),
        )
    return experiment.experiment_id
