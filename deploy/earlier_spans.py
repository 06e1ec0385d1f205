"""The earlier spans of a window: their artifacts, made now where they are not there yet.

A pipeline run ingests one span, the newest of the window. The earlier ones are taken up here before it: TFX's cache
knows those that were ingested before, at the cost of asking it; one that is new, since it came late or since nobody ran
for some nights, is ingested, checked and passed through the backbone now. What a gate stops is left out, and said.

DriftGate judges a span once, by those it came after: when these have left the window, a wrong one would be the measure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.pipeline import Pipeline

from components.artifacts import Verdict
from components.drift_gate import THRESHOLDS_PROPERTY, VECTORS_PROPERTY
from components.drift_gate.drift import stop_if_told
from components.example_gen.spans import SpanFolders, span_number
from components.verdict import read_verdict
from deploy.local_runner import LocalRunner
from deploy.window import find_window, planned
from pipeline import run_record
from pipeline.config import Config
from pipeline.places import EarlierSpans
from schemas.errors import BadInput
from schemas.summary import WindowSummary
from schemas.verdicts import DriftVerdict

INGESTED, JUDGED = "FeatureVectorGen", "DriftGate"


class _Silent:
    """A display for steps that are taken from the cache, as a rule."""

    def node_started(self, node_id: str) -> None: ...

    def node_ended(self, node_id: str, state: str, seconds: float) -> None: ...


def assemble_with_window(
    config: Config,
    store: metadata_store.MetadataStore,
    run_id: str,
    assemble: Callable[..., Pipeline],
    connection_config: Any,
    said: Callable[[str], None],
) -> tuple[Pipeline, WindowSummary | None]:
    """The pipeline of a run; with `data.window` after everything is ingested that is not yet, but the newest span.

    Args:
      config: of the run.
      store: ML Metadata.
      run_id: of the run; the ingestion of span 7 for it is the run `<run_id>-span-7`.
      assemble: makes a pipeline of a configuration, and of the keyword `earlier`.
      connection_config: of ML Metadata.
      said: told of every span that is ingested, left out or not complete.

    Returns:
      the pipeline; and with `data.window` what the summary says of it, without the photos; None without.

    Raises:
      BadInput: as `find_window`, or nothing is left to test on.
    """
    if config.data.window is None:
        return assemble(config), None
    window, further, found = find_window(config)
    for waiting in found.unfinished:
        said(f"{waiting.folder} is not read yet: it {waiting.reason}")
    *before, newest = window
    left_out: dict[str, str] = {}
    taken: list[tuple[SpanFolders, dict[str, run_record.NodeRun]]] = []
    for one in sorted([*before, *further], key=lambda one: one.number):
        try:
            pipeline = assemble(_of_span(config, one), earlier=_artifacts(taken))
            runner = LocalRunner(f"{run_id}-span-{one.number}", _Silent(), connection_config)
            nodes = _ingest(pipeline, runner, store, config.drift.model_dump_json())
        except BadInput as error:
            left_out[one.shown] = str(error)
            said(f"span {one.shown} is left out: {error}")
            continue
        taken.append((one, nodes))
        if any(node.state == run_record.COMPLETE for node in nodes.values()):
            said(f"span {one.shown} was ingested")
    spans_in_it = [*(one for one, _ in taken), newest]
    trained = {one.number for one in window}
    tested = {span_number(span) for span in config.data.test_spans or ()} or trained
    earlier = dataclasses.replace(
        _artifacts(taken),
        trained=[one.number for one in spans_in_it if one.number in trained],
        tested=[one.number for one in spans_in_it if one.number in tested],
        planned=planned(window, further, config.data.success_file),
    )
    if not earlier.tested:
        raise BadInput(
            "every span of data.test_spans was stopped at a gate, so nothing is left to test on: "
            + "; ".join(f"span {span}: {reason}" for span, reason in left_out.items())
        )
    about = WindowSummary(spans=[one.shown for one in spans_in_it], left_out=left_out)
    return assemble(_of_span(config, newest), earlier=earlier), about


def _ingest(
    pipeline: Pipeline, runner: LocalRunner, store: metadata_store.MetadataStore, thresholds: str
) -> dict[str, run_record.NodeRun]:
    """Runs a pipeline as far as the span's vectors, and as far as DriftGate where that has not judged them yet.

    Raises:
      BadInput: a gate stopped the span.
    """
    runner.run_nodes(pipeline, to_node=INGESTED)
    nodes = run_record.read_run(store, pipeline.pipeline_info.pipeline_name, runner.run_id)
    vectors = nodes[INGESTED].outputs["feature_vectors"][0].uri
    if not (verdict := _judged(store, vectors, thresholds)):
        runner.run_nodes(pipeline, to_node=JUDGED)
        verdict = _judged(store, vectors, thresholds)
    stop_if_told(read_verdict(DriftVerdict, verdict))
    return nodes


def _judged(store: metadata_store.MetadataStore, vectors: str, thresholds: str) -> str:
    """Where DriftGate's latest verdict on these vectors by these thresholds is, or an empty string."""
    found = [
        each
        for each in store.get_artifacts_by_type(Verdict.TYPE_NAME)
        if each.state == metadata_store_pb2.Artifact.LIVE
        and each.custom_properties[VECTORS_PROPERTY].string_value == vectors
        and each.custom_properties[THRESHOLDS_PROPERTY].string_value == thresholds
    ]
    return max(found, key=lambda each: each.id).uri if found else ""


def _artifacts(taken: list[tuple[SpanFolders, dict[str, run_record.NodeRun]]]) -> EarlierSpans:
    """Of the spans that were taken up, in their order."""

    def numbers(node_id: str, output: str) -> list[int]:
        return [nodes[node_id].outputs[output][0].id for _, nodes in taken]

    return EarlierSpans(
        photos=numbers("ImageExampleGen", "examples"),
        vectors=numbers(INGESTED, "feature_vectors"),
        reports=numbers("ImageExampleGen", "ingest_report"),
    )


def _of_span(config: Config, one: SpanFolders) -> Config:
    """The configuration for one span."""
    return config.model_copy(update={"data": config.data.model_copy(update={"span": one.span})})
