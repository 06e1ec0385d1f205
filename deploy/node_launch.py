"""Launches one node of a compiled pipeline, exactly as TFX's LocalDagRunner does, and reports how it ended.

The core is `tfx.orchestration.portable.launcher.Launcher`. The code around it is for nodes that each run in their own
process: TFX swallows errors while it resolves inputs, keeps the half-written outputs of a killed process, and loses
the inputs of a node that could not resolve them in its first try.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from absl import logging
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.io import fileio
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import inputs_utils, launcher
from tfx.orchestration.portable.input_resolution import exceptions
from tfx.orchestration.portable.mlmd import event_lib
from tfx.proto.orchestration import pipeline_pb2

import components.artifacts  # noqa: F401  (TFX finds artifact types among the classes that were imported)
from deploy import peak_memory
from pipeline.run_record import CACHED, COMPLETE, PEAK_MEGABYTES, executions_in_run

SKIPPED = "skipped"
_STATES = metadata_store_pb2.Execution.State
_SUCCESS = {_STATES.COMPLETE: COMPLETE, _STATES.CACHED: CACHED}


class NodeFailed(RuntimeError):
    """A node did not succeed, although it raised no error."""


def find_node(pipeline: pipeline_pb2.Pipeline, node_id: str) -> pipeline_pb2.PipelineNode:
    """The node of that id.

    Raises:
      LookupError: there is none.
    """
    for node in pipeline.nodes:
        if node.pipeline_node.node_info.id == node_id:
            return node.pipeline_node
    raise LookupError(f"the pipeline {pipeline.pipeline_info.id} has no node {node_id}")


def launch_node(
    pipeline: pipeline_pb2.Pipeline, node_id: str, connection_config: Any, operators: Mapping[str, Any] | None = None
) -> str:
    """Runs a node, takes its result from the cache, or skips it.

    Args:
      pipeline: compiled pipeline with the run id.
      connection_config: connection to ML Metadata; the one in `pipeline` is ignored.
      operators: keyword arguments for `Launcher`, such as `quick_start.late_operators()`; None: TFX's own.

    The peak memory of a node that completes is recorded in ML Metadata, if the system reports it.

    Returns:
      `complete`, `cached`, or `skipped` if the condition of the node is not met.

    Raises:
      NodeFailed: the inputs of the node could not be resolved.
      Exception: the error of the node.
    """
    node = find_node(pipeline, node_id)
    deployment_config = runner_utils.extract_local_deployment_config(pipeline)
    store = metadata_store.MetadataStore(connection_config)
    earlier_tries = unfinished_executions(pipeline, node, store)
    remove_outputs(pipeline.runtime_spec.pipeline_root.field_value.string_value, earlier_tries, node_id)
    if earlier_tries:
        _record_inputs(node, store, earlier_tries, connection_config)
    logging.info("Component %s is running.", node_id)
    counts = peak_memory.reset()
    launched = launcher.Launcher(
        pipeline_node=node,
        mlmd_connection=metadata.Metadata(connection_config),
        pipeline_info=pipeline.pipeline_info,
        pipeline_runtime_spec=pipeline.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(deployment_config, node_id),
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment_config, node_id),
        **(operators or {}),
    ).launch()
    if launched is None or not launched.execution_id:
        return SKIPPED
    [execution] = store.get_executions_by_id([launched.execution_id])
    if execution.last_known_state not in _SUCCESS:
        raise NodeFailed(f"the inputs of {node_id} could not be resolved; see TFX's messages in the log")
    peak = peak_memory.megabytes() if counts else None
    if peak is not None and _SUCCESS[execution.last_known_state] == COMPLETE:
        execution.custom_properties[PEAK_MEGABYTES].double_value = peak
        store.put_executions([execution])
    return _SUCCESS[execution.last_known_state]


def unfinished_executions(
    pipeline: pipeline_pb2.Pipeline, node: pipeline_pb2.PipelineNode, store: metadata_store.MetadataStore
) -> list[int]:
    """Numbers of the executions of this node in this run that failed or were killed."""
    run_id = pipeline.runtime_spec.pipeline_run_id.field_value.string_value
    found = executions_in_run(store, pipeline.pipeline_info.id, node.node_info.id, run_id)
    return [execution.id for execution in found if execution.last_known_state not in _SUCCESS]


def remove_outputs(pipeline_root: str, executions: Iterable[int], node_id: str = "*") -> None:
    """Removes half-written outputs of executions.

    TFX reuses the execution of a killed or failed try in the same run, with its number and so its output folders.
    Without this, the next try would find files in them.
    """
    for number in executions:
        for kind in ("*", os.path.join(".system", "*")):
            for folder in fileio.glob(os.path.join(pipeline_root, node_id, kind, str(number))):
                fileio.rmtree(folder)


def _record_inputs(
    node: pipeline_pb2.PipelineNode, store: metadata_store.MetadataStore, executions: list[int], connection_config: Any
) -> None:
    """Adds missing input events to executions.

    If the inputs cannot be resolved, an execution is registered without them. TFX's next try reuses and completes it
    without adding them, so its lineage would be lost.
    """
    given = metadata_store_pb2.Event.INPUT
    recorded = {event.execution_id for event in store.get_events_by_execution_ids(executions) if event.type == given}
    lacking = [number for number in executions if number not in recorded]
    if not lacking:
        return
    try:
        with metadata.Metadata(connection_config) as handle:
            resolved = inputs_utils.resolve_input_artifacts(pipeline_node=node, metadata_handle=handle)
    except exceptions.InputResolutionError:
        return  # the launcher meets it too, and reports it
    if isinstance(resolved, inputs_utils.Skip) or len(resolved) != 1:
        return
    events: dict[tuple[int, int], metadata_store_pb2.Event] = {}
    for number in lacking:
        for key, artifacts in resolved[0].items():
            for index, artifact in enumerate(artifacts):
                if event := events.get((number, artifact.id)):  # one event, however many inputs the artifact is
                    event_lib.add_event_path(event, key, index)
                else:
                    events[number, artifact.id] = event_lib.generate_event(given, key, index, artifact.id, number)
    if events:
        store.put_events(list(events.values()))
