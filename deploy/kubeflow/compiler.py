"""Compiles the graph to a package for Kubeflow Pipelines 2.x: schema 2.1.0, one container task for each TFX node.

The package is made with the `kfp` SDK, 2.5 or newer, and `kfp-kubernetes`. TFX is not imported: the graph is passed as
data, node -> the nodes before it. Two tasks are not TFX nodes: `Prepare` comes first, checks the input and makes the
plan that all others follow. `Report` is the exit task, which always runs and writes the page and the metrics.

Kubeflow's caching is off for every task: its key does not include the photos, and TFX has its own cache.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.kubeflow import METADATA_SERVICE, MOUNT, VOLUME_CLAIM
from deploy.kubeflow.package_file import SAFE_LOADER
from deploy.kubeflow.plan import PREPARE, REPORT
from deploy.metadata_address import PASSWORD_VARIABLE
from pipeline.config import StepResources
from schemas.errors import BadInput

# Placeholder for the run id, which the backend replaces if the input of a task is exactly this.
RUN_ID = "{{$.pipeline_job_uuid}}"
# Separate the values in one parameter of a run.
SEPARATORS = re.compile(r"[;\n]")
# Argo counts from the start of the first try: with the SDK's limit of an hour, a longer step would get no retry.
_RETRIES_END_AFTER = f"{30 * 24 * 3600}s"


@dataclass(frozen=True)
class Cluster:
    """Settings of the cluster in a package."""

    image: str
    volume_claim: str = VOLUME_CLAIM
    """PersistentVolumeClaim with the photos and the root."""
    mount: str = MOUNT
    metadata: str = METADATA_SERVICE
    metadata_secret: str = ""
    """Secret whose key `password` is the password of the store; empty: none."""
    sub_path: str = ""
    """Folder of the claim that is mounted; empty: all of it."""
    run_as: str = ""
    """`USER:GROUP`, numbers, that every task runs as; empty: those of the image."""


@dataclass(frozen=True)
class Defaults:
    """Parameters of a run, and their defaults."""

    config: str
    """Name, file on the volume or YAML text."""
    data: str = ""
    """`[DATASET=]DIR`; several are separated by `;` or line breaks."""
    span: str = ""
    """Number or date; empty: the latest."""
    overrides: str = ""
    """`key=value`; several are separated in the same way."""
    root: str = ""
    tfx_pipeline_root: str = ""
    """Where artifacts go; empty: the root folder."""
    force_push: str = ""
    """Why to override ReleaseGate; empty: do not."""


def task_name(node_id: str) -> str:
    """The name of a node for Argo: lower-case letters, digits and hyphens, starting with a letter."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", node_id)
    name = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    return name if name[:1].isalpha() else f"step-{name}".rstrip("-")


def compile_package(
    pipeline_name: str,
    graph: Mapping[str, Sequence[str]],
    resources: Mapping[str, StepResources],
    cluster: Cluster,
    defaults: Defaults,
    of_run: Mapping[str, int] | None = None,
) -> str:
    """The package as YAML text: the pipeline, and a second document on volumes and secrets.

    Args:
      graph: node -> the nodes that it waits for, in the order of the graph.
      of_run: `PipelineConfig` of the platform document, in its JSON names; None: empty.

    Raises:
      BadInput: the SDK is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings that Python is old, which the user cannot change
            from kfp import compiler, dsl, kubernetes
    except ImportError:
        raise BadInput("the packages kfp and kfp-kubernetes are not installed; install warmstart[kubeflow]") from None

    def component(node_id: str, more: dict[str, Any], inputs: Sequence[str], outputs: bool = False) -> Any:
        return _component(dsl, node_id, cluster, resources[node_id], more, inputs, outputs)

    parameters = [field.name for field in dataclasses.fields(Defaults)]
    follows = ["root", "run_id"]
    prepare = component(PREPARE, {"nodes": ",".join(graph)}, [*parameters, "run_id"])
    report = component(REPORT, {}, follows, outputs=True)
    nodes = {node_id: component(node_id, {}, follows) for node_id in graph}

    def settle(task: Any, node_id: str) -> Any:
        return _settle(kubernetes, task, node_id, cluster, resources[node_id])

    def kubeflow_pipeline(*values: Any) -> None:
        given = dict(zip(parameters, values, strict=True))
        at_the_end = settle(report(root=given["root"], run_id=RUN_ID), REPORT)
        with dsl.ExitHandler(at_the_end, name=task_name(pipeline_name)):
            tasks = {PREPARE: settle(prepare(**given, run_id=RUN_ID), PREPARE)}
            for node_id, before in graph.items():
                task = settle(nodes[node_id](root=given["root"], run_id=RUN_ID), node_id)
                task.after(*(tasks[name] for name in before or (PREPARE,)))
                tasks[node_id] = task

    _give_signature(kubeflow_pipeline, dict.fromkeys(parameters, str), dict.fromkeys(parameters, ""))
    describe = dsl.pipeline(name=task_name(pipeline_name), description=f"warmstart: the pipeline {pipeline_name}")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(folder, "package.yaml")
        compiler.Compiler().compile(describe(kubeflow_pipeline), str(file))
        spec, platform = yaml.load_all(file.read_text(encoding="utf-8"), SAFE_LOADER)
    _complete(spec, defaults)
    _complete_platform(platform["platforms"]["kubernetes"], cluster, of_run or {})
    head = f"# The pipeline {pipeline_name} for Kubeflow Pipelines, made by `warmstart kubeflow compile`.\n"
    return head + yaml.safe_dump_all([spec, platform])


def _complete(spec: dict[str, Any], defaults: Defaults) -> None:
    """Adds what the SDK cannot express.

    The SDK repeats defaults in comments at the top of its file, where a default with several lines is not valid YAML.
    It also ends all retries after an hour.
    """
    for name, value in dataclasses.asdict(defaults).items():
        spec["root"]["inputDefinitions"]["parameters"][name]["defaultValue"] = value
    for holder in (spec["root"], *spec["components"].values()):
        for task in holder.get("dag", {}).get("tasks", {}).values():
            if policy := task.get("retryPolicy"):
                policy["backoffMaxDuration"] = _RETRIES_END_AFTER


def _complete_platform(kubernetes: dict[str, Any], cluster: Cluster, of_run: Mapping[str, int]) -> None:
    """Adds settings of the platform that older versions of the SDK lack (kubernetes_executor_config.proto)."""
    if of_run:
        kubernetes["pipelineConfig"] = dict(of_run)
    for executor in kubernetes["deploymentSpec"]["executors"].values():
        if cluster.sub_path:
            for mount in executor["pvcMount"]:
                mount["subPath"] = cluster.sub_path
        if cluster.run_as:
            # 64-bit numbers are texts in the JSON of protocol buffers.
            user, group = cluster.run_as.split(":")
            executor["securityContext"] = {"runAsUser": user, "runAsGroup": group}


def _component(
    dsl: Any,
    node_id: str,
    cluster: Cluster,
    resources: StepResources,
    more: Mapping[str, Any],
    inputs: Sequence[str],
    outputs: bool,
) -> Any:
    """A container component that runs one node: flags with constant values, then one flag for each input."""
    constant = {"node": node_id, "metadata": cluster.metadata, **more}
    if resources.timeout_minutes is not None:
        constant["timeout-minutes"] = resources.timeout_minutes
    annotations = dict.fromkeys(inputs, str)
    if outputs:
        annotations |= {"page": dsl.Output[dsl.HTML], "metrics": dsl.Output[dsl.Metrics]}

    def container(*values: Any) -> Any:
        given = dict(zip(annotations, values, strict=True))
        arguments: list[Any] = [text for key, value in constant.items() for text in (f"--{key}", str(value))]
        for key in inputs:
            arguments += [f"--{key.replace('_', '-')}", given[key]]
        if outputs:
            # Metrics are metadata of their artifact. The launcher reads them from a file named in its input.
            arguments += ["--page", given["page"].path, "--executor-input", "{{$}}"]
        return dsl.ContainerSpec(image=cluster.image, command=["python", "-m", "deploy.kubeflow.node"], args=arguments)

    container.__name__ = task_name(node_id)
    _give_signature(container, annotations)
    return dsl.container_component(container)


def _give_signature(function: Any, annotations: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
    """Sets the names, types and defaults of a function's parameters where the SDK reads them."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    absent = inspect.Parameter.empty
    function.__annotations__ = dict(annotations)
    function.__signature__ = inspect.Signature(
        [
            inspect.Parameter(key, kind, annotation=value, default=(defaults or {}).get(key, absent))
            for key, value in annotations.items()
        ]
    )


def _settle(kubernetes: Any, task: Any, node_id: str, cluster: Cluster, resources: StepResources) -> Any:
    task.set_display_name(node_id)
    task.set_caching_options(False)
    if resources.retries:
        task.set_retry(num_retries=resources.retries, backoff_duration="30s", backoff_factor=2.0)
    if resources.cpu:
        task.set_cpu_request(resources.cpu).set_cpu_limit(resources.cpu)
    if resources.memory:
        task.set_memory_request(resources.memory).set_memory_limit(resources.memory)
    if resources.accelerator:
        task.set_accelerator_type(resources.accelerator).set_accelerator_limit(resources.accelerators)
    kubernetes.mount_pvc(task, pvc_name=cluster.volume_claim, mount_path=cluster.mount)
    if cluster.metadata_secret:
        kubernetes.use_secret_as_env(task, cluster.metadata_secret, {"password": PASSWORD_VARIABLE})
    return task
