"""What ML Metadata knows about a pipeline: the nodes of its runs, what it was last trained on, what it pushed last.

Everything but `read_run` answers without TFX, in a fraction of a second.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

if TYPE_CHECKING:
    from tfx.types import Artifact

# Property of an execution: the peak memory of the process that ran it.
PEAK_MEGABYTES = "peak_megabytes"

_STATES = metadata_store_pb2.Execution.State
DONE = (_STATES.COMPLETE, _STATES.CACHED)
COMPLETE, CACHED, FAILED, RUNNING = "complete", "cached", "failed", "running"
_NAMES = {
    _STATES.COMPLETE: COMPLETE,
    _STATES.CACHED: CACHED,
    _STATES.FAILED: FAILED,
    _STATES.RUNNING: RUNNING,
    _STATES.NEW: RUNNING,
    _STATES.CANCELED: "canceled",
}


@dataclass(frozen=True)
class NodeRun:
    """A node of a run."""

    state: str
    """Such as `complete`, `cached` or `failed`."""
    seconds: float
    outputs: dict[str, list[Artifact]] = field(default_factory=dict)
    """Key -> artifacts, for a complete or cached node."""
    parameters: dict[str, str] = field(default_factory=dict)
    """Name -> value of the parameters that are text."""
    peak_megabytes: float | None = None
    """Peak memory of its process, in millions of bytes; None: unknown, as for a cached node."""

    @property
    def succeeded(self) -> bool:
        return self.state in (COMPLETE, CACHED)


def output_of(nodes: Mapping[str, NodeRun], node_id: str, key: str) -> Artifact | None:
    """The artifact of an output of a node that succeeded; None: there is none."""
    node = nodes.get(node_id)
    return node.outputs[key][0] if node and node.succeeded and key in node.outputs else None


def read_run(store: metadata_store.MetadataStore, pipeline_name: str, run_id: str) -> dict[str, NodeRun]:
    """Node id -> the node in the run; nodes that were not reached are absent."""
    from tfx.types import artifact_utils  # takes seconds

    context = store.get_context_by_type_and_name("pipeline_run", run_id)
    if context is None:
        return {}
    found = sorted(store.get_executions_by_context(context.id), key=lambda e: e.id)
    events = store.get_events_by_execution_ids([e.id for e in found]) if found else []
    outputs = [e for e in events if e.type == metadata_store_pb2.Event.OUTPUT]
    artifacts = {a.id: a for a in store.get_artifacts_by_id([e.artifact_id for e in outputs])} if outputs else {}
    types = {t.id: t for t in store.get_artifact_types()}
    record = {}
    for execution in found:  # a later execution of the same node replaces an earlier one
        node_id = _node_id(store, execution.id, pipeline_name)
        by_key: dict[str, list[Artifact]] = {}
        for event in outputs:
            if event.execution_id == execution.id:
                artifact = artifacts[event.artifact_id]
                tfx_artifact = artifact_utils.deserialize_artifact(types[artifact.type_id], artifact)
                by_key.setdefault(event.path.steps[0].key, []).append(tfx_artifact)
        milliseconds = execution.last_update_time_since_epoch - execution.create_time_since_epoch
        state = _NAMES.get(execution.last_known_state, "unknown")
        properties = dict(execution.custom_properties)
        told = {**_maker(store, execution).custom_properties, **properties}
        texts = {name: value.string_value for name, value in told.items() if value.HasField("string_value")}
        peak = properties[PEAK_MEGABYTES].double_value if PEAK_MEGABYTES in properties else None
        record[node_id] = NodeRun(state, milliseconds / 1000, by_key, texts, peak)
    return record


def _node_id(store: metadata_store.MetadataStore, execution_id: int, pipeline_name: str) -> str:
    for context in store.get_contexts_by_execution(execution_id):
        if context.name.startswith(f"{pipeline_name}.") and context.name != pipeline_name:
            return context.name.removeprefix(f"{pipeline_name}.")
    raise LookupError(f"execution {execution_id} belongs to no node of pipeline {pipeline_name}")


def abandon_unfinished(store: metadata_store.MetadataStore, pipeline_name: str, run_id: str | None = None) -> list[int]:
    """Marks executions that killed runs left running as failed; call it only while no such run is active.

    Args:
      store: ML Metadata, which other pipelines may share.

    Returns:
      ids of the executions; their outputs are in folders of these names below the pipeline root.
    """
    pipeline = store.get_context_by_type_and_name("pipeline", pipeline_name)
    context = pipeline if run_id is None else store.get_context_by_type_and_name("pipeline_run", run_id)
    unfinished = [
        e
        for e in (store.get_executions_by_context(context.id) if pipeline and context else ())
        if e.last_known_state in (_STATES.RUNNING, _STATES.NEW)
        and pipeline.id in {c.id for c in store.get_contexts_by_execution(e.id)}
    ]
    for execution in unfinished:
        execution.last_known_state = _STATES.FAILED
    if unfinished:
        store.put_executions(unfinished)
    return [e.id for e in unfinished]


def last_pushed_version(store: metadata_store.MetadataStore, pipeline_name: str) -> str:
    """The version that the Pusher of this pipeline pushed last; empty: there is none."""
    context = store.get_context_by_type_and_name("pipeline", pipeline_name)
    latest = last_pushed(store.get_artifacts_by_context(context.id) if context else ())
    return latest.custom_properties["pushed_version"].string_value if latest else ""


def last_pushed(artifacts: Iterable[metadata_store_pb2.Artifact]) -> metadata_store_pb2.Artifact | None:
    """Of the artifacts of a pipeline the newest that says that a version was pushed; None: there is none."""
    pushed = [
        artifact
        for artifact in artifacts
        if artifact.type == "PushedModel"
        and artifact.custom_properties["pushed"].int_value == 1
        and artifact.state == metadata_store_pb2.Artifact.LIVE
    ]
    return max(pushed, key=lambda artifact: artifact.id, default=None)


def last_trained(store: metadata_store.MetadataStore, pipeline_name: str) -> list[str] | None:
    """The data of the newest run that reached a decision: pushed, already in production, or refused.

    A run that was stopped, failed or was killed before its decision does not count: its data is still new.

    Returns:
      with `data.window`, the plan of the window (`deploy.data_folders.planned`); otherwise the fingerprint that the
      driver of ImageExampleGen writes; None: no run got that far.
    """
    for run_id, windowed, data in _trained_on(store, pipeline_name):
        if _came_to_a_decision(store, pipeline_name, run_id):
            return json.loads(data) if windowed else [data]
    return None


def has_pushed(store: metadata_store.MetadataStore, pipeline_name: str) -> bool:
    """Whether any run got as far as pushing a model."""
    return any(each.last_known_state in DONE for each in executions_of(store, pipeline_name, "Pusher"))


def _trained_on(store: metadata_store.MetadataStore, pipeline_name: str) -> Iterator[tuple[str, bool, str]]:
    """Runs, newest first: id, whether there was a window, and the plan of the window or the fingerprint of the photos.

    Windows of older versions have no plan, so their runs do not count.
    """
    windows = executions_of(store, pipeline_name, "Window")
    of_window = {execution.id for execution in windows}
    judged = executions_of(store, pipeline_name, "ReleaseGate")
    for execution in sorted([*windows, *judged], key=lambda e: -e.id):
        runs = [c.name for c in store.get_contexts_by_execution(execution.id) if c.type == "pipeline_run"]
        if execution.last_known_state not in DONE or not runs:
            continue
        if execution.id in of_window:
            if planned := execution.custom_properties["planned"].string_value:
                yield runs[0], True, planned
        else:
            ingested = execution_in_run(store, pipeline_name, "ImageExampleGen", runs[0])
            if ingested and not execution_in_run(store, pipeline_name, "Window", runs[0]):
                ingested = _maker(store, ingested)
                yield runs[0], False, ingested.custom_properties["input_fingerprint"].string_value


def _came_to_a_decision(store: metadata_store.MetadataStore, pipeline_name: str, run_id: str) -> bool:
    """Whether a model was judged, and pushed if the gates released it."""
    pusher = execution_in_run(store, pipeline_name, "Pusher", run_id)
    if pusher is not None:
        return pusher.last_known_state in DONE
    gates = [execution_in_run(store, pipeline_name, node, run_id) for node in ("ReleaseGate", "ServableCheck")]
    done = [gate for gate in gates if gate is not None and gate.last_known_state in DONE]
    return len(done) == len(gates) and not all(_is_blessed(store, gate.id) for gate in done)


def _is_blessed(store: metadata_store.MetadataStore, execution_id: int) -> bool:
    events = store.get_events_by_execution_ids([execution_id])
    blessings = [
        event.artifact_id
        for event in events
        if event.type == metadata_store_pb2.Event.OUTPUT and event.path.steps[0].key == "blessing"
    ]
    return any(a.custom_properties["blessed"].int_value == 1 for a in store.get_artifacts_by_id(blessings))


def executions_of(
    store: metadata_store.MetadataStore, pipeline_name: str, node_id: str
) -> list[metadata_store_pb2.Execution]:
    """All executions of a node of a pipeline."""
    context = store.get_context_by_type_and_name("node", f"{pipeline_name}.{node_id}")
    return store.get_executions_by_context(context.id) if context else []


def execution_in_run(
    store: metadata_store.MetadataStore, pipeline_name: str, node_id: str, run_id: str
) -> metadata_store_pb2.Execution | None:
    """The newest execution of a node in a run; None: the run did not reach it."""
    found = executions_in_run(store, pipeline_name, node_id, run_id)
    return max(found, key=lambda execution: execution.id, default=None)


def executions_in_run(
    store: metadata_store.MetadataStore, pipeline_name: str, node_id: str, run_id: str
) -> list[metadata_store_pb2.Execution]:
    """All executions of a node in a run, of which those that failed may be several."""
    run = store.get_context_by_type_and_name("pipeline_run", run_id)
    of_run = {execution.id for execution in store.get_executions_by_context(run.id)} if run else set()
    return [execution for execution in executions_of(store, pipeline_name, node_id) if execution.id in of_run]


def _maker(
    store: metadata_store.MetadataStore, execution: metadata_store_pb2.Execution
) -> metadata_store_pb2.Execution:
    """The execution that made the outputs of a cached execution; any other execution itself.

    TFX registers a cached execution before its driver runs. So it lacks what drivers and executors record, such as the
    fingerprint of the photos.
    """
    if execution.last_known_state != _STATES.CACHED:
        return execution
    made = metadata_store_pb2.Event.OUTPUT
    outputs = [e.artifact_id for e in store.get_events_by_execution_ids([execution.id]) if e.type == made]
    events = store.get_events_by_artifact_ids(outputs) if outputs else []
    makers = store.get_executions_by_id(sorted({event.execution_id for event in events if event.type == made}))
    first = [each for each in makers if each.last_known_state == _STATES.COMPLETE]
    return min(first, key=lambda each: each.id, default=execution)
