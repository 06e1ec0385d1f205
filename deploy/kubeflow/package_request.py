"""Requests for a package: checks them, resolves them as the cluster will, and compiles them."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.backbone.registry import BACKBONES
from components.example_gen.spans import parse_pattern
from deploy.kubeflow.compiler import SEPARATORS, Cluster, Defaults, compile_package, task_name
from deploy.kubeflow.plan import PREPARE, REPORT
from deploy.metadata_address import check_address
from deploy.overlap import refuse_pattern
from pipeline.config import Config, StepResources, known_configs, load_config
from schemas.errors import BadInput

# Kubeflow passes all parameters of a run to a driver in one argument, together with an outline of the graph. Linux
# allows less than 131,072 bytes for an argument.
_MAX_PARAMETER_BYTES = 100_000


@dataclass(frozen=True)
class PackageRequest:
    """A configuration to run on a cluster."""

    config: str
    cluster: Cluster
    data: Sequence[str] = ()
    """`[DATASET=]DIR` each, as the cluster sees them; empty: folders below `cluster.mount`."""
    overrides: Sequence[str] = ()
    span: str = ""
    """Number or date; empty: the latest."""
    root: str = ""
    """Root folder; empty: a folder below `cluster.mount`."""
    tfx_pipeline_root: str = ""
    """Where artifacts go; empty: the root folder."""


@dataclass(frozen=True)
class ResolvedRequest:
    """A request that was checked."""

    config: Config
    cluster: Cluster
    defaults: Defaults


def resolve(request: PackageRequest) -> ResolvedRequest:
    """Checks everything that can be checked without TFX and without the cluster.

    Raises:
      BadInput: the configuration is wrong, names a folder that the cluster cannot see, or does not fit into the
        parameters of a run.
    """
    cluster = request.cluster
    _check_cluster(cluster)
    for text in (*request.data, *request.overrides):
        if SEPARATORS.search(text):
            raise BadInput(
                f"{text!r} contains a semicolon or a line break, which separate values in the parameters of a run; "
                "move it to a configuration file"
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
            f"the root {root} is not below {cluster.mount}, where the volume is mounted; choose a folder below it, "
            "since production is read from the volume"
        )
    artifacts = request.tfx_pipeline_root
    if artifacts and not (_is_address(artifacts) or _below(artifacts, cluster.mount)):
        raise BadInput(
            f"the pipeline root {artifacts} is neither below {cluster.mount}, where the volume is mounted, nor an "
            "address such as gs://bucket/folder; choose one of these"
        )
    known = request.config in known_configs()
    defaults = Defaults(
        config=request.config if known else Path(request.config).read_text(encoding="utf-8"),
        # A folder with a separator in its name can only come from the configuration file, which contains it anyway.
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
      BadInput: `runtime.steps` names an unknown step.
    """
    graph = make_graph(resolved)
    resources = step_resources(resolved.config, list(graph))
    of_run = _pipeline_config(resolved.config)
    text = compile_package(resolved.config.name, graph, resources, resolved.cluster, resolved.defaults, of_run)
    return task_name(resolved.config.name), text


def _pipeline_config(config: Config) -> dict[str, int]:
    """`PipelineConfig` of the platform document: how long a run may take, and how long Kubernetes keeps it."""
    runtime, given = config.runtime, {}
    if runtime.deadline_hours is not None:
        given["activeDeadlineSeconds"] = math.ceil(runtime.deadline_hours * 3600)
    if runtime.workflow_days is not None:
        given["resourceTtlOnCompletion"] = math.ceil(runtime.workflow_days * 86400)
    return given


def scheduled_parameters(config: Config) -> dict[str, str]:
    """Parameters that Kubeflow fills in for each run of a schedule.

    A window of days ends on the day of the scheduled time, so that repeating last night's run trains on last night's
    window. The format of the time is Go's (backend/src/crd/controller/scheduledworkflow/util/parameter_formatter.go).
    """
    patterns = [parse_pattern(folder) for folder in config.data.sources.values() if folder]
    dated = any(pattern is not None and pattern.dated for pattern in patterns)
    return {"span": "[[ScheduledTime.2006-01-02]]"} if config.data.window is not None and dated else {}


def make_graph(resolved: ResolvedRequest) -> dict[str, tuple[str, ...]]:
    """The graph of a configuration: node -> the nodes before it, in TFX's order.

    Only the files of the backbone are read; data folders are checked when the pipeline runs.
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
    """Resources of every step, including `Prepare` and `Report`.

    Raises:
      BadInput: the configuration names an unknown step.
    """
    steps = [PREPARE, *nodes, REPORT]
    if unknown := sorted(set(config.runtime.steps) - set(steps)):
        raise BadInput(f"runtime.steps names {', '.join(unknown)}; the steps are {', '.join(steps)}")
    return {step: config.runtime.resources(step) for step in steps}


def _check_cluster(cluster: Cluster) -> None:
    """Checks the settings of the cluster."""
    check_reference(cluster.image)
    check_address(cluster.metadata)
    # Kubernetes mounts nothing at a path with a colon.
    if not re.fullmatch(r"(/[^\s:;/]+)+", cluster.mount) or cluster.mount != os.path.normpath(cluster.mount):
        raise BadInput(
            f"--mount {cluster.mount!r} is not a folder that a volume can be mounted at; use one such as /warmstart"
        )
    # The claim also gives its name to a volume.
    for option, name, pattern in (
        ("--volume-claim", cluster.volume_claim, r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"),
        ("--metadata-secret", cluster.metadata_secret, r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?"),
    ):
        if not re.fullmatch(pattern, name):
            raise BadInput(
                f"{option} {name!r} is not a valid name in Kubernetes; expected lower-case letters, digits and hyphens"
            )
    parts = cluster.sub_path.split("/")
    if cluster.sub_path and any(part in ("", ".", "..") for part in parts):
        raise BadInput(
            f"--sub-path {cluster.sub_path!r} is not a folder inside the claim; expected a relative path such as team-a"
        )
    # The largest number that Kubernetes accepts for a user or a group.
    if cluster.run_as and (
        not re.fullmatch(r"\d{1,10}:\d{1,10}", cluster.run_as)
        or max(map(int, cluster.run_as.split(":"))) > 2**31 - 1
        or cluster.run_as.startswith("0:")
    ):
        raise BadInput(
            f"--run-as {cluster.run_as!r} is not a user and a group; expected two numbers such as 1000:1000, the first "
            "not 0"
        )


def _check_defaults(defaults: Defaults) -> None:
    """Checks that Kubeflow accepts the values as parameters of a run."""
    values = dataclasses.asdict(defaults)
    for name, value in values.items():
        if "{{$" in value:
            raise BadInput(
                f"the run's parameter {name} would contain {{{{$, which starts a placeholder of Kubeflow; remove it "
                "from the options and the configuration file"
            )
    length = sum(len(value.encode()) for value in values.values())
    if length > _MAX_PARAMETER_BYTES:
        raise BadInput(
            f"the run's parameters have {length:,} bytes, {len(defaults.config.encode()):,} of them from the "
            f"configuration file; Kubeflow accepts {_MAX_PARAMETER_BYTES:,}: shorten the file"
        )


def _require_visible(what: str, folder: str, mount: str) -> None:
    if _is_address(folder) or folder.startswith("tfds:") or _below(folder, mount):
        return
    raise BadInput(
        f"{what} is not below {mount}, so the cluster cannot see it; copy it to the volume, or give an address such as "
        "gs://bucket/folder"
    )


def _is_address(folder: str) -> bool:
    return "://" in folder and not folder.startswith("file:")


def _below(folder: str, mount: str) -> bool:
    folder = os.path.normpath(folder)
    return folder == mount or folder.startswith(mount + "/")


_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REGISTRY = r"(?:localhost|[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9-]+(?=:\d))(?::\d+)?"
_DIGEST = r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"
_IMAGE = re.compile(
    rf"(?:{_REGISTRY}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::\w[\w.-]{{0,127}})?(?:@(?:{_DIGEST}))?", re.ASCII
)


def check_reference(image: str) -> None:
    """Checks the form of a reference, but not whether the image exists.

    Raises:
      BadInput: it is not an image reference.
    """
    if not _IMAGE.fullmatch(image):
        raise BadInput(
            f"{image!r} is not an image reference; expected [registry/]name[:tag], such as ghcr.io/me/warmstart:1.0"
        )
