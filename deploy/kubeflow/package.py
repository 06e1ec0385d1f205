"""From what a person asks for to a package: the configuration as the cluster sees it, its graph, and the checks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.kubeflow.compiler import Cluster, Defaults, compile_package, task_name
from deploy.kubeflow.plan import PREPARE, REPORT
from deploy.metadata_address import check_address
from pipeline.config import Config, StepResources, known_configs, load_config
from schemas.errors import BadInput


@dataclass(frozen=True)
class Wanted:
    """A configuration for a cluster.

    config: name or file. data: `[DATASET=]DIR` each, as the cluster sees them; none: below `cluster.mount`. overrides:
    `key=value` each. span: number or date; empty: the latest. root, tfx_pipeline_root: as in `Defaults`; an empty root
    is below `cluster.mount`. force_push: why ReleaseGate is overridden; empty: it is not.
    """

    config: str
    cluster: Cluster
    data: Sequence[str] = ()
    overrides: Sequence[str] = ()
    span: str = ""
    root: str = ""
    tfx_pipeline_root: str = ""
    force_push: str = ""


@dataclass(frozen=True)
class Resolved:
    """config: as the cluster will resolve it. defaults: of the run's parameters."""

    config: Config
    defaults: Defaults


def resolve(wanted: Wanted) -> Resolved:
    """Checks everything that can be checked without TFX and without the cluster.

    Raises:
      BadInput: the configuration is wrong, or names a folder that the cluster does not see.
    """
    cluster = wanted.cluster
    check_address(cluster.metadata)
    if not re.fullmatch(r"/[^\s:]*[^\s:/]", cluster.mount):
        raise BadInput(
            f"--mount {cluster.mount!r} is no folder that a volume can be mounted at; expected such as /warmstart"
        )
    for text in (*wanted.data, *wanted.overrides):
        if re.search(r"[;\n]", text):
            raise BadInput(
                f"{text!r} has a semicolon or a line break in it, which separate values in a run's parameters; write "
                "it into a configuration file"
            )
    overrides = [*wanted.overrides, *([f"data.span={wanted.span}"] if wanted.span else [])]
    config = load_config(wanted.config, overrides, list(wanted.data), default_folder=f"{cluster.mount}/photos")
    for folder in (*config.data.sources.values(), *config.evaluation.further.values()):
        _require_visible(f"the data folder {folder}", folder or "", cluster.mount)
    root = wanted.root or f"{cluster.mount}/runs/{config.name}"
    if not _below(root, cluster.mount):
        raise BadInput(
            f"the root {root} is not below {cluster.mount}, where the cluster finds the volume; production is read "
            "from there, so it has to be on it"
        )
    if wanted.tfx_pipeline_root:
        _require_visible(f"the pipeline root {wanted.tfx_pipeline_root}", wanted.tfx_pipeline_root, cluster.mount)
    defaults = Defaults(
        config=wanted.config if wanted.config in known_configs() else Path(wanted.config).read_text(encoding="utf-8"),
        data="; ".join(f"{dataset}={folder}" for dataset, folder in config.data.sources.items()),
        span=wanted.span,
        overrides="; ".join(wanted.overrides),
        root=root,
        tfx_pipeline_root=wanted.tfx_pipeline_root,
        force_push=wanted.force_push,
    )
    return Resolved(config, defaults)


def make_package(wanted: Wanted) -> tuple[str, str]:
    """The pipeline's name in Kubeflow, and the package as YAML text.

    Raises:
      BadInput: as `resolve`; or `runtime.steps` names a step that is not there.
    """
    resolved = resolve(wanted)
    _, graph = make_graph(resolved)
    resources = step_resources(resolved.config, list(graph))
    text = compile_package(resolved.config.name, graph, resources, wanted.cluster, resolved.defaults)

    from deploy.kubeflow.lint import problems

    if found := problems(text):
        raise AssertionError("the package breaks rules of Kubeflow's backend: " + "; ".join(found))
    return task_name(resolved.config.name), text


def make_graph(resolved: Resolved) -> tuple[Any, dict[str, tuple[str, ...]]]:
    """The TFX pipeline of a configuration, and its graph: node -> the nodes before it, in the order of TFX.

    Nothing is read but the backbone's files; data folders are looked at when the pipeline runs.
    """
    from tfx.dsl.compiler import compiler

    from pipeline.graph import Places, make_pipeline

    def given(sources: Any) -> dict[str, str]:
        return {dataset: folder or "" for dataset, folder in sources.items()}

    config, root = resolved.config, resolved.defaults.root
    artifacts = resolved.defaults.tfx_pipeline_root or f"{root}/artifacts"
    places = Places(artifacts, f"{root}/serving", f"{root}/vectors", f"{root}/resume")
    pipeline = make_pipeline(config, places, given(config.data.sources), given(config.evaluation.further), None, [])
    nodes = [node.pipeline_node for node in compiler.Compiler().compile(pipeline).nodes]
    return pipeline, {node.node_info.id: tuple(node.upstream_nodes) for node in nodes}


def step_resources(config: Config, nodes: Sequence[str]) -> dict[str, StepResources]:
    """Resources of every step, `Prepare` and `Report` among them.

    Raises:
      BadInput: the configuration names a step that is not there.
    """
    steps = [PREPARE, *nodes, REPORT]
    if unknown := sorted(set(config.runtime.steps) - set(steps)):
        raise BadInput(f"runtime.steps names {', '.join(unknown)}, but the steps are {', '.join(steps)}")
    return {step: config.runtime.resources(step) for step in steps}


def _require_visible(what: str, folder: str, mount: str) -> None:
    if "://" in folder or folder.startswith("tfds:") or _below(folder, mount):
        return
    raise BadInput(
        f"{what} is not below {mount}, and the cluster sees nothing else of this kind; copy it to the volume, or give "
        "an address such as gs://bucket/folder"
    )


def _below(folder: str, mount: str) -> bool:
    return folder == mount or folder.startswith(mount + "/")
