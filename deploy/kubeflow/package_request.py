"""What a person asks of a package: checked, resolved as the cluster will see it, and compiled."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.backbone.registry import BACKBONES
from components.example_gen.spans import parse_pattern
from deploy.kubeflow.compiler import SEPARATORS, Cluster, Defaults, compile_package, task_name
from deploy.kubeflow.image import check_reference
from deploy.kubeflow.plan import PREPARE, REPORT
from deploy.metadata_address import check_address
from deploy.overlap import refuse_pattern
from pipeline.config import Config, StepResources, known_configs, load_config
from schemas.errors import BadInput

# Kubeflow hands all of a run's parameters to a driver in one argument, together with the graph's outline; Linux takes
# fewer than 131,072 bytes in one.
_MAX_PARAMETER_BYTES = 100_000


@dataclass(frozen=True)
class PackageRequest:
    """A configuration for a cluster.

    config: name or file. data: `[DATASET=]DIR` each, as the cluster sees them; none: below `cluster.mount`. overrides:
    `key=value` each. span: number or date; empty: the latest. root, tfx_pipeline_root: as in `Defaults`; an empty root
    is below `cluster.mount`.
    """

    config: str
    cluster: Cluster
    data: Sequence[str] = ()
    overrides: Sequence[str] = ()
    span: str = ""
    root: str = ""
    tfx_pipeline_root: str = ""


@dataclass(frozen=True)
class ResolvedRequest:
    """A request that was checked. config: as the cluster will resolve it. defaults: of the run's parameters."""

    config: Config
    cluster: Cluster
    defaults: Defaults


def resolve(request: PackageRequest) -> ResolvedRequest:
    """Checks everything that can be checked without TFX and without the cluster.

    Raises:
      BadInput: the configuration is wrong, names a folder that the cluster does not see, or does not fit into a run's
        parameters.
    """
    cluster = request.cluster
    _check_cluster(cluster)
    for text in (*request.data, *request.overrides):
        if SEPARATORS.search(text):
            raise BadInput(
                f"{text!r} has a semicolon or a line break in it, which separate values in a run's parameters; write "
                "it into a configuration file"
            )
    overrides = [*request.overrides, *([f"data.span={request.span}"] if request.span else [])]
    config = load_config(request.config, overrides, list(request.data), default_folder=f"{cluster.mount}/photos")
    for folder in (*config.data.sources.values(), *config.evaluation.further.values()):
        _require_visible(f"the data folder {folder}", folder or "", cluster.mount)
    if config.backbone.handle not in BACKBONES:
        _require_visible(f"the backbone {config.backbone.handle}", config.backbone.handle, cluster.mount)
    if os.path.isabs(source := config.training.warm_start.source):
        _require_visible(f"the model to start from, {source},", source, cluster.mount)
    root = request.root or f"{cluster.mount}/runs/{config.name}"
    for what, folder in (("the root", root), ("the pipeline root", request.tfx_pipeline_root)):
        refuse_pattern(what, folder)
    if not _below(root, cluster.mount):
        raise BadInput(
            f"the root {root} is not below {cluster.mount}, where the cluster finds the volume; production is read "
            "from there, so it has to be on it"
        )
    artifacts = request.tfx_pipeline_root
    if artifacts and not (_is_address(artifacts) or _below(artifacts, cluster.mount)):
        raise BadInput(
            f"the pipeline root {artifacts} is neither below {cluster.mount}, where the cluster finds the volume, nor "
            "an address such as gs://bucket/folder"
        )
    known = request.config in known_configs()
    defaults = Defaults(
        config=request.config if known else Path(request.config).read_text(encoding="utf-8"),
        # A folder with a separator in its name can only come from a configuration file, which says it by itself.
        data="; ".join(
            f"{dataset}={folder}"
            for dataset, folder in config.data.sources.items()
            if not SEPARATORS.search(folder or "")
        ),
        span=request.span,
        overrides="; ".join(request.overrides),
        root=root,
        tfx_pipeline_root=request.tfx_pipeline_root,
    )
    _check_defaults(defaults)
    return ResolvedRequest(config, cluster, defaults)


def make_package(resolved: ResolvedRequest) -> tuple[str, str]:
    """The pipeline's name in Kubeflow, and the package as YAML text.

    Raises:
      BadInput: `runtime.steps` names a step that is not there.
    """
    graph = make_graph(resolved)
    resources = step_resources(resolved.config, list(graph))
    text = compile_package(resolved.config.name, graph, resources, resolved.cluster, resolved.defaults)
    return task_name(resolved.config.name), text


def scheduled_parameters(config: Config) -> dict[str, str]:
    """Parameters that a recurring run gets anew each time.

    A window of days ends with the day of the scheduled time, so last night's run, done again, trains on last night's
    window. Kubeflow puts the time in, in Go's notation for formats (backend/src/crd/controller/scheduledworkflow/util/
    parameter_formatter.go).
    """
    patterns = [parse_pattern(folder) for folder in config.data.sources.values() if folder]
    dated = any(pattern is not None and pattern.dated for pattern in patterns)
    return {"span": "[[ScheduledTime.2006-01-02]]"} if config.data.window is not None and dated else {}


def make_graph(resolved: ResolvedRequest) -> dict[str, tuple[str, ...]]:
    """The graph of a configuration: node -> the nodes before it, in the order of TFX.

    Nothing is read but the backbone's files; data folders are looked at when the pipeline runs.
    """
    from tfx.dsl.compiler import compiler

    from pipeline.graph import make_pipeline
    from pipeline.places import Places

    def given(sources: Any) -> dict[str, str]:
        return {dataset: folder or "" for dataset, folder in sources.items()}

    config, root = resolved.config, resolved.defaults.root
    artifacts = resolved.defaults.tfx_pipeline_root or f"{root}/artifacts"
    places = Places(artifacts, f"{root}/serving", f"{root}/vectors", f"{root}/resume")
    pipeline = make_pipeline(config, places, given(config.data.sources), given(config.evaluation.further), None, [])
    nodes = [node.pipeline_node for node in compiler.Compiler().compile(pipeline).nodes]
    return {node.node_info.id: tuple(node.upstream_nodes) for node in nodes}


def step_resources(config: Config, nodes: Sequence[str]) -> dict[str, StepResources]:
    """Resources of every step, `Prepare` and `Report` among them.

    Raises:
      BadInput: the configuration names a step that is not there.
    """
    steps = [PREPARE, *nodes, REPORT]
    if unknown := sorted(set(config.runtime.steps) - set(steps)):
        raise BadInput(f"runtime.steps names {', '.join(unknown)}, but the steps are {', '.join(steps)}")
    return {step: config.runtime.resources(step) for step in steps}


def _check_cluster(cluster: Cluster) -> None:
    """Says what is wrong with what the package says about the cluster.

    Raises:
      BadInput: image, claim, secret, mount or address of ML Metadata cannot be what they are called.
    """
    check_reference(cluster.image)
    check_address(cluster.metadata)
    # Kubernetes mounts nothing at a path with a colon.
    if not re.fullmatch(r"(/[^\s:;/]+)+", cluster.mount) or cluster.mount != os.path.normpath(cluster.mount):
        raise BadInput(
            f"--mount {cluster.mount!r} is no folder that a volume can be mounted at; expected such as /warmstart"
        )
    # The claim's name becomes that of a volume, too.
    for option, name, pattern in (
        ("--volume-claim", cluster.volume_claim, r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"),
        ("--metadata-secret", cluster.metadata_secret, r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?"),
    ):
        if not re.fullmatch(pattern, name):
            raise BadInput(
                f"{option} {name!r} is no name that Kubernetes takes; expected lower-case letters, digits and hyphens"
            )


def _check_defaults(defaults: Defaults) -> None:
    """Says what a run's parameters cannot carry.

    Raises:
      BadInput: a value has Kubeflow's mark of a placeholder in it, or all of them are too long together.
    """
    values = dataclasses.asdict(defaults)
    for name, value in values.items():
        if "{{$" in value:
            raise BadInput(
                f"the run's parameter {name} would contain {{{{$, which begins a placeholder of Kubeflow; remove "
                "it from the options and from the configuration file"
            )
    length = sum(len(value.encode()) for value in values.values())
    if length > _MAX_PARAMETER_BYTES:
        raise BadInput(
            f"the run's parameters have {length:,} bytes, of which the configuration file has "
            f"{len(defaults.config.encode()):,}; Kubeflow takes {_MAX_PARAMETER_BYTES:,}: shorten the file"
        )


def _require_visible(what: str, folder: str, mount: str) -> None:
    if _is_address(folder) or folder.startswith("tfds:") or _below(folder, mount):
        return
    raise BadInput(
        f"{what} is not below {mount}, and the cluster sees nothing else of this kind; copy it to the volume, or give "
        "an address such as gs://bucket/folder"
    )


def _is_address(folder: str) -> bool:
    return "://" in folder and not folder.startswith("file:")


def _below(folder: str, mount: str) -> bool:
    folder = os.path.normpath(folder)
    return folder == mount or folder.startswith(mount + "/")
