"""The task Prepare: checks the input and makes the plan that all other tasks follow."""

from __future__ import annotations

import json
import re
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.servable_check.packages import require_packages
from components.whole_file import write_whole
from deploy import beam_arguments, corrections
from deploy.data_folders import check_places, check_sources
from deploy.kubeflow import METADATA_SERVICE
from deploy.kubeflow.compiler import SEPARATORS
from deploy.kubeflow.plan import PREPARE, Plan, read_plan, write_plan
from deploy.kubeflow.server_versions import is_kubeflows_metadata
from deploy.metadata_address import connect, connection_config
from deploy.overlap import refuse_pattern
from deploy.root import CONFIG_FILE, Root
from pipeline.config import Config, dump_config, load_config
from schemas.errors import BadInput

if TYPE_CHECKING:
    from tfx.proto.orchestration import pipeline_pb2

_BINDING = "warmstart_root"
_WAIT_FOR_OTHERS_SECONDS = 600.0


def read_config(config: str, data: str, span: str, overrides: str) -> Config:
    """The configuration from the parameters of a run.

    Args:
      config: name, file or YAML text.
      data: `[DATASET=]DIR`; several are separated by `;` or line breaks.
      span: number or date; empty: the latest.
      overrides: `key=value`; several are separated in the same way.

    Raises:
      BadInput: as `load_config`.
    """
    given = _several(overrides)
    if span.strip():
        given.append(f"data.span={span.strip()}")
    text = config.strip()
    if not ("\n" in text or ": " in text or text.startswith("{")):
        return load_config(text, given, _several(data))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "given.yaml")
        file.write_text(config, encoding="utf-8")
        try:
            return load_config(str(file), given, _several(data))
        except BadInput as error:
            raise BadInput(re.sub(f"(file )?{re.escape(str(file))}", "as given", str(error))) from None


def _several(text: str) -> list[str]:
    return [part.strip() for part in SEPARATORS.split(text) if part.strip()]


def prepare(
    config: Config,
    root: Root,
    run_id: str,
    metadata: str,
    expected_nodes: Sequence[str],
    artifacts: str = "",
    force_push: str = "",
) -> Plan:
    """Makes the plan of a run; a second call for the same run changes nothing.

    Args:
      artifacts: TFX's pipeline root; empty: the folder in the root.

    Raises:
      BadInput: the data, root, metadata store or backbone are wrong, or the configuration does not have the nodes of
        the package.
    """
    folder = root.reports / run_id
    if plan := read_plan(folder):
        return plan
    require_packages(config.serving.exports)
    beam_arguments.refuse_wrong(config.runtime)
    check_places(config, root)
    if artifacts:
        refuse_pattern("the folder of the artifacts", artifacts)
    sources = check_sources(config, print)
    root.prepare(config.name)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / CONFIG_FILE, dump_config(config).encode())
    store = _connect(metadata)
    # Two simultaneous first runs would each name the root: one name in the store, the other in the root.
    with root.node_lock(PREPARE, _WAIT_FOR_OTHERS_SECONDS):
        bind(root, config.name, store, metadata)

    from deploy.assembly import assemble, compile_pipeline, fill_in, upstream
    from deploy.earlier_spans import assemble_with_window
    from pipeline.places import EarlierSpans

    began, before = time.time(), root.production_version()

    def compiled(config: Config, earlier: EarlierSpans | None = None) -> pipeline_pb2.Pipeline:
        return compile_pipeline(
            assemble(config, root, sources, store, artifacts=artifacts, force_push=force_push, earlier=earlier)
        )

    pinned = corrections.pin(config, root)
    pipeline, window = assemble_with_window(pinned, store, run_id, compiled, connection_config(metadata), print)
    fill_in(pipeline, run_id)
    nodes = upstream(pipeline)
    if sorted(nodes) != sorted(expected_nodes):
        more, fewer = sorted({*nodes} - {*expected_nodes}), sorted({*expected_nodes} - {*nodes})
        raise BadInput(
            "the steps of this configuration differ from those that the package was compiled with ("
            + "; ".join(
                f"{what} {', '.join(names)}" for what, names in (("it adds", more), ("it lacks", fewer)) if names
            )
            + "); compile the package with this configuration: warmstart kubeflow compile"
        )
    beam_args = {step: given for step, given in beam_arguments.of_steps(config.runtime).items() if step in nodes}
    plan = Plan(config.name, nodes, began, before, artifacts or str(root.artifacts), window, beam_args)
    write_plan(folder, plan, pipeline.SerializeToString(deterministic=True))
    return plan


def _connect(metadata: str) -> Any:
    try:
        return connect(metadata)
    except BadInput as error:
        if is_kubeflows_metadata(metadata):
            raise BadInput(
                f"{error}; Kubeflow Pipelines 3.0 and newer have no such service: compile the package again with "
                f"--metadata {METADATA_SERVICE} (deploy/kubernetes/components/metadata) or your own mysql:// server"
            ) from error
        raise


def bind(root: Root, pipeline_name: str, store: Any, address: str) -> None:
    """Ties a root folder to its metadata store.

    The folders of artifacts have numbers from the store, and the cache knows pipelines by name. With another store, a
    root would overwrite its own artifacts; two roots with the same name would use each other's results.

    Raises:
      BadInput: the root belongs to another store, the store has another root of this name, or the root has been used
        with its own metadata.
    """
    from ml_metadata.proto import metadata_store_pb2

    mark = root.store_mark()
    known = store.get_context_by_type_and_name(_BINDING, pipeline_name)
    its_root = known.custom_properties["root"].string_value if known else None
    mine = json.loads(mark.read_text(encoding="utf-8"))["root"] if mark.exists() else None
    other_name = "give this configuration another name (`name:` in its file) or another root"
    if known and its_root != mine:
        raise BadInput(
            f"ML Metadata at {address} has a pipeline {pipeline_name!r} with another root than {root.folder}; "
            + other_name
        )
    if known:
        return
    if mine is None:
        if root.metadata.exists() or any(root.artifacts.iterdir()):
            raise BadInput(
                f"the root folder {root.folder} has results whose metadata is not at {address}; choose another root"
            )
        if store.get_context_by_type_and_name("pipeline", pipeline_name):
            raise BadInput(
                f"ML Metadata at {address} has a pipeline {pipeline_name!r} that warmstart did not run; {other_name}"
            )
        mine = uuid.uuid4().hex
        write_whole(mark, json.dumps({"root": mine, "pipeline": pipeline_name}).encode())
    elif any(root.artifacts.iterdir()):
        raise BadInput(
            f"the root folder {root.folder} belongs to another metadata store than {address}; give the address of that "
            "store, or choose another root"
        )
    kind = metadata_store_pb2.ContextType(name=_BINDING)
    context = metadata_store_pb2.Context(type_id=store.put_context_type(kind), name=pipeline_name)
    context.custom_properties["root"].string_value = mine
    store.put_contexts([context])
