"""The pipeline as a job for Vertex AI Pipelines, by TFX's own KubeflowV2DagRunner, if every step can run there.

TFX compiles more than Vertex AI runs: no driver runs but TFX's own of FileBasedExampleGen, artifacts lie at gs://
addresses, and a container sees no folder of this machine. Steps that need more are named with the reason, and nothing
is written. What is checked comes from tfx/orchestration/kubeflow/v2 of TFX 1.16 (step_builder.py, compiler_utils.py,
container/kubeflow_v2_entrypoint_utils.py). No job was ever run on Vertex AI.

The image must hold this project, and `TF_USE_LEGACY_KERAS=1` in its environment: TFX's entry point imports TensorFlow
before anything of ours.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.components.example_gen.driver import FileBasedDriver
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.base_driver import BaseDriver
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common import resolver
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.orchestration.kubeflow.v2 import compiler_utils, parameter_utils, step_builder
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.pipeline import Pipeline
from tfx.types.channel import Channel, UnionChannel

from components.pusher.executor import AtomicPusherExecutor
from components.release_gate.production import ProductionPredictions
from components.whole_file import write_whole
from schemas.errors import BadInput

# `{{$}}`, every value a step is given, is one argument of its command; Linux's MAX_ARG_STRLEN limits it.
_ARGUMENT_BYTES = 32 * 4096
# Keys whose values are addresses, whatever they look like.
_ADDRESSES = ("input_base", "base_directory", "schema_file", "artifact_uri")
# Executors that open files by the operating system's calls.
_LOCAL_FILES = {
    AtomicPusherExecutor: "it renames folders under a file lock; a bucket has neither",
    ProductionPredictions.EXECUTOR_SPEC.executor_class: "it reads models as local files, not at gs:// addresses",
}


@dataclass(frozen=True)
class VertexResult:
    """file: the job as JSON, for `aiplatform.PipelineJob(template_path=...)`. name: of the pipeline there. tasks: their
    names; a resolver of the latest blessed model is two, every other step one of its own name.
    """

    file: Path
    name: str
    tasks: list[str]


def compile_for_vertex(pipeline: Pipeline, image: str, output: Path) -> VertexResult:
    """Writes the job, whole or not at all.

    Args:
      pipeline: every step of it must run on Vertex AI.
      image: of every step.
      output: file to write, `.json`.

    Raises:
      BadInput: with every step that cannot run there and why, one a line; nothing is written.
    """
    info = pipeline.pipeline_info
    name = re.sub(r"[^a-z0-9]+", "-", info.pipeline_name.lower()).strip("-")
    problems = []
    if not str(info.pipeline_root).startswith("gs://"):
        problems.append(f"the pipeline root is {info.pipeline_root}; expected a gs:// address")
    if output.suffix != ".json":  # TFX writes YAML without the pipeline root
        problems.append(f"the file is to be called {output.name}; expected .json at its end")
    problems += [f"{node_id}: {reason}" for node_id, reason in refused_nodes(pipeline).items()]
    if problems:
        title = f"Vertex AI cannot run the pipeline {info.pipeline_name}, and nothing was written: "
        if len(problems) == 1:
            raise BadInput(title + problems[0])
        raise BadInput(title + f"{len(problems)} problems\n" + "\n".join(f"  - {problem}" for problem in problems))
    config = KubeflowV2DagRunnerConfig(default_image=image, use_pipeline_spec_2_1=True)
    given, info.pipeline_name = info.pipeline_name, name
    try:
        job = KubeflowV2DagRunner(config).run(pipeline, write_out=False)
    finally:
        info.pipeline_name = given
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, json.dumps(job, indent=2, sort_keys=True).encode())
    except OSError as error:
        raise BadInput(f"{output} cannot be written ({error.strerror}); give another file") from None
    return VertexResult(output, name, sorted(job["pipelineSpec"]["root"]["dag"]["tasks"]))


def refused_nodes(pipeline: Pipeline) -> dict[str, str]:
    """Node -> why it cannot run on Vertex AI, one sentence; in the order of the graph, without those that can."""
    checks = (_driver, _artifact_types, _inputs, _strategy, _module_file, _addresses, _local_files, _size)
    found = {node.id: [reason for check in checks for reason in check(node)] for node in pipeline.components}
    for node_id, reason in _compiler_errors(pipeline).items():
        found[node_id] = found[node_id] or [reason]
    return {node_id: "; ".join(reasons) for node_id, reasons in found.items() if reasons}


def _driver(node: BaseNode) -> Iterator[str]:
    """The step builder compiles one driver, FileBasedExampleGen's own, for all its subclasses, and no other."""
    name = node.driver_class.__name__
    if isinstance(node, FileBasedExampleGen):
        if node.driver_class is not FileBasedDriver:
            yield f"in place of its driver {name} Vertex AI runs TFX's FileBasedDriver"
    elif isinstance(node, BaseComponent) and node.driver_class is not BaseDriver:
        yield f"Vertex AI never runs its driver {name}"


def _artifact_types(node: BaseNode) -> Iterator[str]:
    """Of a type that is not TFX's own, the name alone reaches the container, which imports the class by it."""
    names = set()
    for kind in {channel.type for channel in [*node.inputs.values(), *node.outputs.values()] if channel.type}:
        module, _, title = kind.TYPE_NAME.rpartition(".")
        known = f"tfx.{kind.__qualname__}" in compiler_utils.TITLE_TO_CLASS_PATH
        if not known and ("." in module or getattr(sys.modules.get(module), title, None) is not kind):
            names.add(kind.TYPE_NAME)
    if names:
        yield (
            f"its artifacts are of type {' and '.join(sorted(names))}; on Vertex AI the name of a type must be "
            "<module>.<class>, by which the container imports it"
        )


def _inputs(node: BaseNode) -> Iterator[str]:
    """ "Only single Channel is supported"."""
    if isinstance(node, resolver.Resolver):
        return
    for key, channel in node.inputs.items():
        if isinstance(channel, UnionChannel):
            joined = [f"{each.output_key} of {each.producer_component_id}" for each in channel.channels]
            yield f"its input {key} joins {' and '.join(joined)}; on Vertex AI an input is one output of one step"
        elif not isinstance(channel, Channel):
            yield f"its input {key} is a {type(channel).__name__}; on Vertex AI an input is one output of one step"


def _strategy(node: BaseNode) -> Iterator[str]:
    """A resolver becomes a query of metadata, which knows two strategies."""
    if not isinstance(node, resolver.Resolver):
        return
    strategy = node.exec_properties.get(resolver.RESOLVER_STRATEGY_CLASS)
    settings = node.exec_properties.get(resolver.RESOLVER_CONFIG) or {}
    if strategy not in (LatestArtifactStrategy, LatestBlessedModelStrategy):
        yield (
            f"it resolves by {getattr(strategy, '__name__', 'a function')}; Vertex AI knows LatestArtifactStrategy and "
            "LatestBlessedModelStrategy only"
        )
    elif strategy is LatestArtifactStrategy and settings.get("desired_num_of_artifacts", 1) > 1:
        yield f"it resolves {settings['desired_num_of_artifacts']} artifacts; Vertex AI gives the latest one only"


def _module_file(node: BaseNode) -> Iterator[str]:
    """The runner packages such a file with pip and puts it into the pipeline root while it compiles."""
    if node.exec_properties.get("module_file"):
        yield "its module_file would be packaged into the bucket while compiling; expected a dotted name of a function"


def _addresses(node: BaseNode) -> Iterator[str]:
    """A container of Vertex AI reads buckets, by gs:// or where they are mounted, below /gcs/."""
    for key, text in _texts("", dict(node.exec_properties)):
        if key == "module_file":
            continue  # of `_module_file`
        local = text.startswith(("/", "file:")) or (key in _ADDRESSES and text and "://" not in text)
        if local and not text.startswith("/gcs/"):
            yield f"its {key} is {text}, on this machine; expected a gs:// address"


def _texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """(key, text) of every text in a value, also inside JSON."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _texts(str(name), each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(key, each)
    elif isinstance(value, str):
        try:
            inner = json.loads(value)
        except ValueError:
            inner = None
        if isinstance(inner, dict | list):
            yield from _texts(key, inner)
        else:
            yield key, value


def _local_files(node: BaseNode) -> Iterator[str]:
    """What TensorFlow's file system does not open for them."""
    if reason := _LOCAL_FILES.get(getattr(node.executor_spec, "executor_class", None)):
        yield reason


def _size(node: BaseNode) -> Iterator[str]:
    length = sum(len(key) + len(str(value).encode()) for key, value in node.exec_properties.items())
    if length >= _ARGUMENT_BYTES:
        yield f"its parameters have {length:,} bytes; Linux takes fewer than {_ARGUMENT_BYTES:,} in one argument"


def _compiler_errors(pipeline: Pipeline) -> dict[str, str]:
    """Node -> what TFX's compiler says against it; compiling the whole pipeline stops at the first.

    Also parameters that come from another step: TFX 1.16 names its task `<node>_task`, and there is none of that name.
    """
    found: dict[str, str] = {}
    deployment = pipeline_spec_pb2.PipelineDeploymentConfig()
    components: dict[str, Any] = {}
    redirected: dict[tuple[str, str], tuple[str, str]] = {}
    nodes = {node.id for node in pipeline.components}
    pipeline.finalize()
    with parameter_utils.ParameterContext():
        for node in pipeline.components:
            try:
                tasks = step_builder.StepBuilder(
                    node=node,
                    deployment_config=deployment,
                    component_defs=components,
                    dsl_context_reg=pipeline.dsl_context_registry,
                    image="image",
                    pipeline_info=pipeline.pipeline_info,
                    channel_redirect_map=redirected,
                    use_pipeline_spec_2_1=True,
                ).build()
            except Exception as error:  # it refuses by many types, and by assertions
                text = " ".join(str(error).split()) or type(error).__name__
                found[node.id] = f"TFX does not compile it for Vertex AI: {text}"
                continue
            for task in tasks.values():
                for key, source in task.inputs.parameters.items():
                    producer = source.task_output_parameter.producer_task
                    if producer and producer not in nodes:
                        found[node.id] = f"its parameter {key} is another step's output, for which TFX names no task"
    return found
