"""The pipeline of one run: the configuration, the root's places, and what is in production now."""

from __future__ import annotations

from typing import Any

from ml_metadata.metadata_store import metadata_store
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from deploy.root import Root
from pipeline import run_record
from pipeline.config import Config
from pipeline.graph import make_pipeline
from pipeline.places import EarlierSpans, Places

# In this process and in memory. The setup file is never opened by this runner; without the argument TFX would
# build a source distribution at each Beam step.
_LOCAL_BEAM_ARGS = ["--runner=FnApiRunner", "--direct_running_mode=in_memory", "--setup_file=unused"]


def assemble(
    config: Config,
    root: Root,
    sources: tuple[dict[str, str], dict[str, str]],
    store: metadata_store.MetadataStore,
    connection_config: Any = None,
    artifacts: str = "",
    force_push: str = "",
    earlier: EarlierSpans | None = None,
) -> Pipeline:
    """The pipeline as it has to run now.

    Args:
      config: the resolved configuration.
      root: where it runs.
      sources: data set -> folder, of those to learn from and of those to evaluate on only.
      store: ML Metadata; it knows which version was pushed last.
      connection_config: becomes a part of the pipeline; None keeps it, and a password in it, out.
      artifacts: TFX's pipeline root; empty: the root's own folder.
      force_push: why ReleaseGate is overridden; empty: it is not.
      earlier: with `data.window`: the earlier spans.
    """
    last_pushed = run_record.last_pushed_version(store, config.name)
    places = Places(
        artifacts=artifacts or str(root.artifacts),
        serving=str(root.serving),
        vectors=str(root.vectors),
        resume=str(root.resume),
        production_model=root.production_model(),
        production_identity=root.production_identity(),
        lost_version=last_pushed if last_pushed and not (root.serving / last_pushed).is_dir() else "",
    )
    beam_args = config.runtime.beam_pipeline_args or _LOCAL_BEAM_ARGS
    return make_pipeline(config, places, *sources, connection_config, beam_args, force_push, earlier)


def compile_pipeline(pipeline: Pipeline, run_id: str) -> pipeline_pb2.Pipeline:
    """TFX's compiled form of a pipeline, with the run id put in."""
    compiled = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(compiled, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id})
    return compiled
