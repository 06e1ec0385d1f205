"""What a pipeline was last trained on, read from ML Metadata without TFX, in a fraction of a second."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from pipeline import executions


def last_trained(store: metadata_store.MetadataStore, pipeline_name: str) -> list[str] | None:
    """The data of the newest run that reached a decision: pushed, already in production, or refused.

    A run that was stopped, failed or was killed before its decision does not count: its data is still new.

    Returns:
      with `data.window`, the plan of the window (`deploy.window.planned`); otherwise the fingerprint that the driver of
      ImageExampleGen writes; None: no run got that far.
    """
    for run_id, windowed, data in _trained_on(store, pipeline_name):
        if _came_to_a_decision(store, pipeline_name, run_id):
            return json.loads(data) if windowed else [data]
    return None


def has_pushed(store: metadata_store.MetadataStore, pipeline_name: str) -> bool:
    """Whether any run got as far as pushing a model."""
    return any(each.last_known_state in executions.DONE for each in executions.of_node(store, pipeline_name, "Pusher"))


def _trained_on(store: metadata_store.MetadataStore, pipeline_name: str) -> Iterator[tuple[str, bool, str]]:
    """Runs, newest first: id, whether there was a window, and the plan of the window or the fingerprint of the photos.

    Windows of older versions have no plan, so their runs do not count.
    """
    windows = executions.of_node(store, pipeline_name, "Window")
    of_window = {execution.id for execution in windows}
    judged = executions.of_node(store, pipeline_name, "ReleaseGate")
    for execution in sorted([*windows, *judged], key=lambda e: -e.id):
        runs = [c.name for c in store.get_contexts_by_execution(execution.id) if c.type == "pipeline_run"]
        if execution.last_known_state not in executions.DONE or not runs:
            continue
        if execution.id in of_window:
            if planned := execution.custom_properties["planned"].string_value:
                yield runs[0], True, planned
        else:
            ingested = executions.of_node_in_run(store, pipeline_name, "ImageExampleGen", runs[0])
            if ingested and not executions.of_node_in_run(store, pipeline_name, "Window", runs[0]):
                ingested = executions.maker(store, ingested)
                yield runs[0], False, ingested.custom_properties["input_fingerprint"].string_value


def _came_to_a_decision(store: metadata_store.MetadataStore, pipeline_name: str, run_id: str) -> bool:
    """Whether a model was judged, and pushed if the gates released it."""
    pusher = executions.of_node_in_run(store, pipeline_name, "Pusher", run_id)
    if pusher is not None:
        return pusher.last_known_state in executions.DONE
    gates = [executions.of_node_in_run(store, pipeline_name, node, run_id) for node in ("ReleaseGate", "ServableCheck")]
    done = [gate for gate in gates if gate is not None and gate.last_known_state in executions.DONE]
    return len(done) == len(gates) and not all(_is_blessed(store, gate.id) for gate in done)


def _is_blessed(store: metadata_store.MetadataStore, execution_id: int) -> bool:
    events = store.get_events_by_execution_ids([execution_id])
    blessings = [
        event.artifact_id
        for event in events
        if event.type == metadata_store_pb2.Event.OUTPUT and event.path.steps[0].key == "blessing"
    ]
    return any(a.custom_properties["blessed"].int_value == 1 for a in store.get_artifacts_by_id(blessings))
