"""The artifacts of the earlier spans of a window, which are made first if they do not exist yet.

A run of the pipeline ingests one span, the newest of the window. The earlier ones are handled here before it. Spans
that were ingested before come from TFX's cache. A new one, which arrived late or after some nights without a run, is
ingested, checked and passed through the backbone now. If a gate stops a span, it is left out with a note.

DriftGate judges a span only once, against the spans before it: when those have left the window, it would be judged
against the wrong ones.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection
from typing import Any

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.proto.orchestration import pipeline_pb2

from components.artifacts import Verdict
from components.drift_gate import THRESHOLDS_PROPERTY, VECTORS_PROPERTY
from components.drift_gate.drift import stop_if_told
from components.example_gen.spans import SpanFolders, span_number
from components.feature_vector_gen import PHOTOS_PROPERTY
from components.verdict import read_verdict
from deploy import corrections
from deploy.beam_arguments import of_steps
from deploy.data_folders import find_window, planned
from deploy.local_runner import LocalRunner
from pipeline import run_record
from pipeline.config import Config
from pipeline.places import EarlierSpans
from schemas.corrections import without_corrections
from schemas.errors import BadInput
from schemas.summary import WindowSummary
from schemas.verdicts import DriftVerdict

INGESTED, JUDGED = "FeatureVectorGen", "DriftGate"


class _SilentDisplay:
    """A display for steps that mostly come from the cache."""

    def node_started(self, node_id: str) -> None: ...

    def node_ended(self, node_id: str, state: str, seconds: float) -> None: ...


def assemble_with_window(
    config: Config,
    store: metadata_store.MetadataStore,
    run_id: str,
    assemble: Callable[..., pipeline_pb2.Pipeline],
    connection_config: Any,
    said: Callable[[str], None],
) -> tuple[pipeline_pb2.Pipeline, WindowSummary | None]:
    """Assembles the pipeline of a run; with `data.window`, first ingests the earlier spans that are not ingested yet.

    Args:
      run_id: name of the run; span 7 is ingested for it in the run `<run_id>-span-7`.
      assemble: makes a compiled pipeline from a configuration and the keyword `earlier`.
      said: called with a sentence on every span that is ingested, left out or not complete.

    Returns:
      the pipeline, and the window for the summary, without its photos; None: there is no window.

    Raises:
      BadInput: as `find_window`, or no span is left to test on.
    """
    if config.data.window is None:
        return assemble(config), None
    window, further, found = find_window(config)
    for waiting in found.unfinished:
        said(f"{waiting.folder} is not read yet: it {waiting.reason}")
    *before, newest = window
    left_out: dict[str, str] = {}
    beam_args = of_steps(config.runtime)
    taken: list[tuple[SpanFolders, dict[str, run_record.NodeRun]]] = []
    for one in sorted([*before, *further], key=lambda one: one.number):
        try:
            pipeline = assemble(_of_span(config, one), earlier=_artifacts(taken))
            runner = LocalRunner(f"{run_id}-span-{one.number}", _SilentDisplay(), connection_config, beam_args)
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
        planned=planned(window, further, config.data.success_file, corrections.fingerprint(config)),
    )
    if not earlier.tested:
        raise BadInput(
            "a gate stopped every span of data.test_spans, so nothing is left to test on; choose other spans: "
            + "; ".join(f"span {span}: {reason}" for span, reason in left_out.items())
        )
    about = WindowSummary(spans=[one.shown for one in spans_in_it], left_out=left_out)
    return assemble(_of_span(config, newest), earlier=earlier), about


def _ingest(
    pipeline: pipeline_pb2.Pipeline, runner: LocalRunner, store: metadata_store.MetadataStore, thresholds: str
) -> dict[str, run_record.NodeRun]:
    """Runs a pipeline up to the vectors of the span, and up to DriftGate unless that has judged them before.

    Raises:
      BadInput: a gate stopped the span.
    """
    runner.run_nodes(pipeline, to_node=INGESTED)
    nodes = run_record.read_run(store, pipeline.pipeline_info.id, runner.run_id)
    vectors = nodes[INGESTED].outputs["feature_vectors"][0].uri
    same = [vectors, *_of_same_photos(store, nodes["ImageExampleGen"].outputs["examples"][0].id)]
    if not (verdict := _judged(store, same, thresholds)):
        runner.run_nodes(pipeline, to_node=JUDGED)
        verdict = _judged(store, [vectors], thresholds)
    stop_if_told(read_verdict(DriftVerdict, verdict))
    return nodes


def _of_same_photos(store: metadata_store.MetadataStore, photos_id: int) -> list[str]:
    """Folders of the vectors of the same files of the same span, ingested with other corrections.

    Corrections change no vector. A span whose labels were corrected is not judged again, for the same reason.
    """
    every = store.get_artifacts_by_type("Examples")
    mine = next(each for each in every if each.id == photos_id)
    photos = {each.uri for each in every if _files_of(each) == _files_of(mine)}
    return [each.uri for each in every if each.custom_properties[PHOTOS_PROPERTY].string_value in photos]


def _files_of(photos: metadata_store_pb2.Artifact) -> tuple[str, ...]:
    """What identifies the files that photos were read from, and the step that read them."""
    known = photos.custom_properties
    fingerprint = without_corrections(known["input_fingerprint"].string_value)
    span = known["span"].string_value or str(known["span"].int_value)
    return os.path.dirname(photos.uri), fingerprint, span


def _judged(store: metadata_store.MetadataStore, vectors: Collection[str], thresholds: str) -> str:
    """Path of DriftGate's latest verdict on any of these vectors with these thresholds; empty: there is none."""
    found = [
        each
        for each in store.get_artifacts_by_type(Verdict.TYPE_NAME)
        if each.state == metadata_store_pb2.Artifact.LIVE
        and each.custom_properties[VECTORS_PROPERTY].string_value in vectors
        and each.custom_properties[THRESHOLDS_PROPERTY].string_value == thresholds
    ]
    return max(found, key=lambda each: each.id).uri if found else ""


def _artifacts(taken: list[tuple[SpanFolders, dict[str, run_record.NodeRun]]]) -> EarlierSpans:
    def numbers(node_id: str, output: str) -> list[int]:
        return [nodes[node_id].outputs[output][0].id for _, nodes in taken]

    return EarlierSpans(
        photos=numbers("ImageExampleGen", "examples"),
        vectors=numbers(INGESTED, "feature_vectors"),
        reports=numbers("ImageExampleGen", "ingest_report"),
    )


def _of_span(config: Config, one: SpanFolders) -> Config:
    return config.model_copy(update={"data": config.data.model_copy(update={"span": one.span})})
