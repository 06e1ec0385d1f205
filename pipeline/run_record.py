"""What ML Metadata knows about a run: the state, time and outputs of each node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.types import Artifact, artifact_utils

from pipeline import executions

# Property of an execution: the peak memory of the process that ran it.
PEAK_MEGABYTES = "peak_megabytes"

_STATES = metadata_store_pb2.Execution.State
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
        told = {**executions.maker(store, execution).custom_properties, **properties}
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
    kinds = {kind.id for kind in store.get_artifact_types() if kind.name == "PushedModel"}
    pushed = [
        artifact
        for artifact in (store.get_artifacts_by_context(context.id) if context and kinds else ())
        if artifact.type_id in kinds
        and artifact.custom_properties["pushed"].int_value == 1
        and artifact.state == metadata_store_pb2.Artifact.LIVE
    ]
    latest = max(pushed, key=lambda artifact: artifact.id, default=None)
    return latest.custom_properties["pushed_version"].string_value if latest else ""
