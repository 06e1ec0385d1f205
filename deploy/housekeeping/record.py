"""What ML Metadata knows about a pipeline: executions, artifacts, and when each was last used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from components.drift_gate import VECTORS_PROPERTY
from pipeline.run_record import DONE

DELETED = metadata_store_pb2.Artifact.DELETED
# Size of one call to ML Metadata; a server accepts 4 MB.
_CHUNK = 500


class Record:
    """The executions of a pipeline, their outputs, and when those were last used.

    Attributes:
      outputs: execution -> key -> numbers of artifacts, for cached executions too.
      inputs: execution -> numbers of artifacts.
      maker: artifact -> the execution that made it.
      runs: name of a run -> context.
    """

    def __init__(self, store: metadata_store.MetadataStore, pipeline_name: str):
        self._store, self._pipeline_name = store, pipeline_name
        context = store.get_context_by_type_and_name("pipeline", pipeline_name)
        executions = store.get_executions_by_context(context.id) if context else []
        artifacts = store.get_artifacts_by_context(context.id) if context else []
        children = store.get_children_contexts_by_context(context.id) if context else []
        self.runs = {child.name: child for child in children if child.type == "pipeline_run"}
        self.executions = {execution.id: execution for execution in executions}
        self.artifacts = {artifact.id: artifact for artifact in artifacts}
        self.outputs: dict[int, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        self.inputs: dict[int, set[int]] = defaultdict(set)
        self.maker: dict[int, int] = {}
        self._users: dict[int, set[int]] = defaultdict(set)
        events = metadata_store_pb2.Event
        for event in self._events():
            self._users[event.artifact_id].add(event.execution_id)
            if event.type in (events.OUTPUT, events.PENDING_OUTPUT):
                key = next((step.key for step in event.path.steps if step.key), "")
                self.outputs[event.execution_id][key].add(event.artifact_id)
                first = self.maker.get(event.artifact_id, event.execution_id)
                self.maker[event.artifact_id] = min(first, event.execution_id)
            else:
                self.inputs[event.execution_id].add(event.artifact_id)
        by_address = {artifact.uri: artifact.id for artifact in artifacts}
        self._judged = {
            artifact.id: by_address.get(artifact.custom_properties[VECTORS_PROPERTY].string_value)
            for artifact in artifacts
            if VECTORS_PROPERTY in artifact.custom_properties
        }
        self._times = {e.id: e.last_update_time_since_epoch / 1000 for e in [*executions, *self._foreign()]}

    def _events(self) -> Iterator[metadata_store_pb2.Event]:
        for some in chunks(list(self.artifacts)):
            yield from self._store.get_events_by_artifact_ids(some)

    def _foreign(self) -> Iterator[metadata_store_pb2.Execution]:
        """Executions of other pipelines that used what this one made."""
        foreign = {user for users in self._users.values() for user in users} - self.executions.keys()
        for some in chunks(sorted(foreign)):
            yield from self._store.get_executions_by_id(some)

    def newest_successes(self, steps: set[str] | None) -> set[str]:
        """Names of the runs in which each of these steps last succeeded; None: every step there ever was."""
        found = set()
        for context in self._store.get_contexts_by_type("node"):
            pipeline, _, step = context.name.partition(".")
            if pipeline != self._pipeline_name or (steps is not None and step not in steps):
                continue
            done = [e.id for e in self._store.get_executions_by_context(context.id) if e.last_known_state in DONE]
            if done:
                found |= {c.name for c in self._store.get_contexts_by_execution(max(done)) if c.name in self.runs}
        return found

    def used_by_runs(self, names: Iterable[str]) -> set[int]:
        """The artifacts that runs read and made."""
        used: set[int] = set()
        for name in names:
            for execution in self._store.get_executions_by_context(self.runs[name].id):
                used.update(self.inputs[execution.id], *self.outputs[execution.id].values())
        return used

    def last_use(self, execution: int) -> float:
        """When any output of an execution was last used, in seconds since 1970."""
        made = set().union(*self.outputs[execution].values())
        users = {execution}.union(*(self._users[artifact] for artifact in made))
        return max(self._times[user] for user in users if user in self._times)

    def judged(self, execution: int) -> set[int]:
        """The executions that made the vectors that this execution judged."""
        made = set().union(*self.outputs[execution].values())
        return {self.maker[vectors] for a in made if (vectors := self._judged.get(a)) in self.maker}

    def known_elsewhere(self, numbers: Iterable[int]) -> set[int]:
        """Those of the numbers that are executions of other pipelines."""
        unknown = sorted({*numbers} - self.executions.keys())
        return {e.id for some in chunks(unknown) for e in self._store.get_executions_by_id(some)}


def chunks(numbers: list[int]) -> Iterator[list[int]]:
    for first in range(0, len(numbers), _CHUNK):
        yield numbers[first : first + _CHUNK]
