"""Assembles the pipeline of a run from the configuration, the folders of the root and the version in production."""

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
    """The pipeline for the current state of the root.

    Args:
      config: the resolved configuration.
      root: root folder.
      sources: data set -> folder, for those to train on and for those to evaluate on only.
      store: ML Metadata, which knows the version that was pushed last.
      connection_config: connection to ML Metadata to store in the pipeline; None: store neither it nor its password.
      artifacts: TFX's pipeline root; empty: the folder in the root.
      force_push: why to override ReleaseGate; empty: do not.
      earlier: with `data.window`, the earlier spans.
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
    # Beam's arguments come at the launch (`beam_arguments`).
    return make_pipeline(config, places, *sources, connection_config, [], force_push, earlier)


def compile_pipeline(pipeline: Pipeline, run_id: str) -> pipeline_pb2.Pipeline:
    """Compiles a pipeline with TFX, and fills in the run id."""
    compiled = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(compiled, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id})
    return compiled
