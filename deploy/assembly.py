"""Assembles the pipeline of a run from the configuration, the folders of the root and the version in production.

Assembling it imports every component, and so TensorFlow and Beam. So `KeptPipelines` keeps what it has compiled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ml_metadata.metadata_store import metadata_store
from tfx.dsl.compiler import constants
from tfx.orchestration.portable import runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from components.backbone import registry
from components.sealed import seal, unseal
from components.whole_file import write_whole
from deploy import quick_start
from deploy.root import Root
from pipeline import run_record
from pipeline.config import Config
from pipeline.fingerprint import fingerprint_of_everything
from pipeline.places import EarlierSpans, Places

if TYPE_CHECKING:
    from tfx.orchestration.pipeline import Pipeline


# Compiled pipelines that a root keeps: those of a window's spans among them.
_MOST_KEPT = 16


@dataclass(frozen=True)
class _Given:
    """Everything that a pipeline follows from, besides our code and the installed libraries."""

    config: Config
    places: Places
    sources: tuple[dict[str, str], dict[str, str]]
    connection_config: Any
    force_push: str
    earlier: EarlierSpans | None

    def key(self) -> str:
        """A hash of all of it."""
        decides = [
            self.config.model_dump_json(),
            registry.fingerprint(self.config.backbone.handle),
            asdict(self.places),
            self.sources,
            str(self.connection_config),
            self.force_push,
            self.earlier and asdict(self.earlier),
            fingerprint_of_everything(),
        ]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def assemble(self) -> Pipeline:
        """The pipeline, for which every component is imported."""
        from pipeline.graph import make_pipeline

        return make_pipeline(
            self.config,
            self.places,
            *self.sources,
            self.connection_config,
            [],  # Beam's arguments come at the launch (`beam_arguments`)
            self.force_push,
            self.earlier,
        )


def _given(
    config: Config,
    root: Root,
    sources: tuple[dict[str, str], dict[str, str]],
    store: metadata_store.MetadataStore,
    connection_config: Any,
    artifacts: str,
    force_push: str,
    earlier: EarlierSpans | None,
) -> _Given:
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
    return _Given(config, places, sources, connection_config, force_push, earlier)


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
      sources: data set -> folder, for those to train on and for those to evaluate on only.
      store: ML Metadata, which knows the version that was pushed last.
      connection_config: connection to ML Metadata to store in the pipeline; None: store neither it nor its password.
      artifacts: TFX's pipeline root; empty: the folder in the root.
      force_push: why to override ReleaseGate; empty: do not.
    """
    return _given(config, root, sources, store, connection_config, artifacts, force_push, earlier).assemble()


class KeptPipelines:
    """Compiled pipelines of one root.

    Each is kept by everything that it follows from. So a run with the photos, configuration and code of an earlier one
    imports only those components that have something to do.
    """

    def __init__(
        self,
        root: Root,
        sources: tuple[dict[str, str], dict[str, str]],
        store: metadata_store.MetadataStore,
        connection_config: Any,
        force_push: str,
    ):
        self._root, self._always = root, (sources, store, connection_config, "", force_push)
        self._last: tuple[Config, EarlierSpans | None] | None = None

    def __call__(self, config: Config, earlier: EarlierSpans | None = None) -> pipeline_pb2.Pipeline:
        """The compiled pipeline for the current state of the root, without a run id."""
        self._last = config, earlier
        given = _given(config, self._root, *self._always, earlier)
        key = given.key()
        folder = self._root.compiled
        file = folder / f"{key[:16]}.pb"
        if file.is_file() and (content := unseal(file.read_bytes(), key)) is not None:
            return pipeline_pb2.Pipeline.FromString(content)
        with quick_start.importing():
            pipeline = compile_pipeline(given.assemble())
        with contextlib.suppress(OSError):  # such as a full disk: then it is compiled again
            folder.mkdir(exist_ok=True)
            for old in sorted(folder.glob("*.pb"), key=lambda path: path.stat().st_mtime)[: 1 - _MOST_KEPT]:
                old.unlink()
            write_whole(file, seal(pipeline.SerializeToString(deterministic=True), key))
        return pipeline

    def prepare_next(self) -> None:
        """Compiles the last pipeline again if production has changed since: the next run will ask for it."""
        if self._last is not None:
            self(*self._last)


def compile_pipeline(pipeline: Pipeline, run_id: str = "") -> pipeline_pb2.Pipeline:
    """Compiles a pipeline with TFX, and fills in the run id if it is given."""
    from tfx.dsl.compiler import compiler

    compiled = compiler.Compiler().compile(pipeline)
    if run_id:
        fill_in(compiled, run_id)
    return compiled


def fill_in(pipeline: pipeline_pb2.Pipeline, run_id: str) -> None:
    """Fills the run id into a compiled pipeline."""
    runtime_parameter_utils.substitute_runtime_parameter(pipeline, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id})


def upstream(pipeline: pipeline_pb2.Pipeline) -> dict[str, list[str]]:
    """Id of a node -> ids of the nodes that it waits for, in the order of the graph."""
    nodes = [node.pipeline_node for node in pipeline.nodes]
    return {node.node_info.id: sorted(node.upstream_nodes) for node in nodes}
