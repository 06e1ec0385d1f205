"""Reads executions from ML Metadata without TFX, which takes seconds to import."""

from __future__ import annotations

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

_STATES = metadata_store_pb2.Execution.State
DONE = (_STATES.COMPLETE, _STATES.CACHED)


def of_node(
    store: metadata_store.MetadataStore, pipeline_name: str, node_id: str
) -> list[metadata_store_pb2.Execution]:
    """All executions of a node of a pipeline."""
    context = store.get_context_by_type_and_name("node", f"{pipeline_name}.{node_id}")
    return store.get_executions_by_context(context.id) if context else []


def of_node_in_run(
    store: metadata_store.MetadataStore, pipeline_name: str, node_id: str, run_id: str
) -> metadata_store_pb2.Execution | None:
    """The newest execution of a node in a run; None: the run did not reach it."""
    found = all_of_node_in_run(store, pipeline_name, node_id, run_id)
    return max(found, key=lambda execution: execution.id, default=None)


def all_of_node_in_run(
    store: metadata_store.MetadataStore, pipeline_name: str, node_id: str, run_id: str
) -> list[metadata_store_pb2.Execution]:
    """All executions of a node in a run, of which those that failed may be several."""
    run = store.get_context_by_type_and_name("pipeline_run", run_id)
    of_run = {execution.id for execution in store.get_executions_by_context(run.id)} if run else set()
    return [execution for execution in of_node(store, pipeline_name, node_id) if execution.id in of_run]


def maker(store: metadata_store.MetadataStore, execution: metadata_store_pb2.Execution) -> metadata_store_pb2.Execution:
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
