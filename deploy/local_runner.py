"""LocalDagRunner with a given run id, the states of nodes, and a display of each step."""

from __future__ import annotations

import logging as std_logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.local import local_dag_runner, runner_utils
from tfx.orchestration.portable import partial_run_utils, runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from components.servable_check import fresh_process
from deploy import memory, quick_start
from deploy.beam_arguments import LOCAL
from deploy.beam_operator import executor_operators
from deploy.node_launch import SKIPPED, launch_node
from schemas.errors import BadInput
from schemas.words import did_you_mean

# The step that asks a fresh process about the model, and steps before it during which that process can get ready.
_CHECK, _BEFORE_CHECK = "ServableCheck", ("FeatureExtraction", "FineTuning", "Predictions")
# Available memory that a process with TensorFlow leaves enough of.
_ENOUGH_BYTES = 2e9


class LocalRunner(local_dag_runner.LocalDagRunner):
    """Runs the nodes one after another in this process.

    TFX's own runner chooses the run id, does not report the state of a node, and returns normally if the inputs of a
    node could not be resolved.

    Attributes:
      skipped: nodes so far whose condition was not met.
    """

    def __init__(
        self,
        run_id: str,
        display: Any,
        connection_config: Any = None,
        beam_args: Mapping[str, Sequence[str]] | None = None,
    ):
        """
        Args:
          connection_config: connection to ML Metadata; None: that of the pipeline.
          beam_args: Beam step -> its arguments (`beam_arguments.of_steps`); others run in this process.
        """
        super().__init__()
        self.run_id, self._display, self._connection_config = run_id, display, connection_config
        self.skipped: set[str] = set()
        self._beam_args = beam_args or {}

    def run_nodes(
        self, pipeline: pipeline_pb2.Pipeline, from_node: str | None = None, to_node: str | None = None
    ) -> None:
        """Runs a compiled pipeline, or the part from one node to another.

        Raises:
          BadInput: there is no such node, or no earlier run that has the outputs of the skipped nodes.
          NodeFailed: the inputs of a node could not be resolved.
          Exception: the error of a node.
        """
        known = [node.pipeline_node.node_info.id for node in pipeline.nodes]
        for node in (from_node, to_node):
            if node is not None and node not in known:
                raise BadInput(f"unknown step {node!r}{did_you_mean(node, known)}; the steps are {', '.join(known)}")
        logging.set_verbosity(std_logging.INFO)
        options = None
        if from_node or to_node:
            options = pipeline_pb2.RunOptions()
            options.partial_run.from_nodes.extend([from_node] if from_node else [])
            options.partial_run.to_nodes.extend([to_node] if to_node else [])
            options.partial_run.snapshot_settings.latest_pipeline_run_strategy.SetInParent()
        of_this_run = pipeline_pb2.Pipeline()
        of_this_run.CopyFrom(pipeline)
        self.run_with_ir(of_this_run, options)

    def run_with_ir(self, pipeline: pipeline_pb2.Pipeline, run_options: pipeline_pb2.RunOptions | None = None) -> None:
        """Overrides LocalDagRunner.run_with_ir()."""
        runtime_parameter_utils.substitute_runtime_parameter(
            pipeline, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: self.run_id}
        )
        connection_config = self._connection_config
        if connection_config is None:
            of_pipeline = runner_utils.extract_local_deployment_config(pipeline).metadata_connection_config
            connection_config = getattr(of_pipeline, of_pipeline.WhichOneof("connection_config"))
        if run_options:
            partial_run = run_options.partial_run
            try:
                partial_run_utils.mark_pipeline(
                    pipeline,
                    from_nodes=partial_run.from_nodes or None,
                    to_nodes=partial_run.to_nodes or None,
                    snapshot_settings=partial_run.snapshot_settings,
                )
            except (LookupError, ValueError) as error:
                raise BadInput(f"this part of the pipeline cannot run on its own: {error}") from error
        nodes = [node.pipeline_node for node in pipeline.nodes]
        wanted = [node for node in nodes if not node.execution_options.HasField("skip")]
        checks = any(node.node_info.id == _CHECK for node in wanted)
        try:
            for node in wanted:
                self._launch(pipeline, node, connection_config, checks and node.node_info.id in _BEFORE_CHECK)
        finally:
            fresh_process.forget()

    def _launch(self, pipeline, pipeline_node, connection_config, prepares_check) -> None:
        node_id = pipeline_node.node_info.id
        self._display.node_started(node_id)
        start = time.time()
        state = "failed"
        try:
            if pipeline_node.execution_options.run.perform_snapshot:
                with metadata.Metadata(connection_config) as handle:
                    try:
                        partial_run_utils.snapshot(handle, pipeline)
                    except LookupError as error:
                        raise BadInput(
                            "no earlier run has the results of the skipped steps; run the whole pipeline first"
                        ) from error
            operators = quick_start.late_operators(
                executor_operators(self._beam_args.get(node_id, LOCAL)),
                _prepare_check if prepares_check else lambda: None,
            )
            state = launch_node(pipeline, node_id, connection_config, operators)
            if state == SKIPPED:
                self.skipped.add(node_id)
        except BadInput:
            state = "stopped"
            raise
        finally:
            self._display.node_ended(node_id, state, time.time() - start)


def _prepare_check() -> None:
    """Starts ServableCheck's process, which imports TensorFlow on another core while this one trains."""
    if (memory.available() or 0) >= _ENOUGH_BYTES:
        fresh_process.prepare("numpy", "tensorflow")
