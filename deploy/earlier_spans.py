"""The earlier spans of a window: their artifacts, made now where they are not there yet.

A pipeline run ingests one span, the newest of the window. The earlier ones are taken up here before it: TFX's cache
knows those that were ingested before, at the cost of asking it; one that is new, since it came late or since nobody ran
for some nights, is ingested, checked and passed through the backbone now. What a gate stops is left out, and said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ml_metadata.metadata_store import metadata_store

from components.example_gen import spans
from components.example_gen.spans import SpanFolders
from deploy.local_runner import LocalRunner
from deploy.window import find_window, planned
from pipeline import run_record
from pipeline.config import Config
from pipeline.graph import EarlierSpans
from schemas.errors import BadInput

INGESTED = "FeatureVectorGen"


@dataclass(frozen=True)
class WindowPlan:
    """config: with the newest span asked for by number. earlier: what the graph needs. spans: those trained or tested
    on, as a person writes them. left_out: span -> why.
    """

    config: Config
    earlier: EarlierSpans
    spans: list[str]
    left_out: dict[str, str] = field(default_factory=dict)


class _Silent:
    """A display for steps that are taken from the cache, as a rule."""

    def node_started(self, node_id: str) -> None: ...

    def node_ended(self, node_id: str, state: str, seconds: float) -> None: ...


def prepare_window(
    config: Config,
    store: metadata_store.MetadataStore,
    run_id: str,
    assemble: Callable[[Config, EarlierSpans], Any],
    connection_config: Any = None,
    said: Callable[[str], None] = lambda _: None,
) -> WindowPlan:
    """Plans the window, and ingests what is not ingested yet but the newest span.

    Args:
      config: with `data.window`.
      store: ML Metadata.
      run_id: of the run that this is for; the ingestion of span 7 is the run `<run_id>-span-7`.
      assemble: makes the pipeline of a configuration.
      connection_config: of ML Metadata, where the pipeline does not say.
      said: told of every span that is ingested or left out.

    Raises:
      BadInput: as `find_window`.
    """
    window, further, found = find_window(config)
    for waiting in found.unfinished:
        said(f"{waiting.folder} is not read yet: it {waiting.reason}")
    *before, newest = window
    trained = {one.number for one in window}
    asked = [spans.span_number(span) for span in config.data.test_spans or ()]
    earlier = EarlierSpans(planned=planned(window, further, config.data.success_file))
    left_out: dict[str, str] = {}
    taken = []
    for one in sorted([*before, *further], key=lambda one: one.number):
        try:
            _take_up(config, one, store, f"{run_id}-span-{one.number}", assemble, earlier, connection_config, said)
            taken.append(one)
        except BadInput as error:
            left_out[one.shown] = str(error)
            said(f"span {one.shown} is left out: {error}")
    numbers = [one.number for one in [*taken, newest]]
    earlier.trained.extend(number for number in numbers if number in trained)
    earlier.tested.extend(number for number in numbers if number in (asked or trained))
    if not earlier.tested:
        raise BadInput(
            "every span of data.test_spans was stopped at a gate, so nothing is left to test on: "
            + "; ".join(f"span {span}: {reason}" for span, reason in left_out.items())
        )
    return WindowPlan(_of_span(config, newest), earlier, [one.shown for one in [*taken, newest]], left_out)


def _take_up(
    config: Config,
    one: SpanFolders,
    store: metadata_store.MetadataStore,
    run_id: str,
    assemble: Callable[[Config, EarlierSpans], Any],
    earlier: EarlierSpans,
    connection_config: Any,
    said: Callable[[str], None],
) -> None:
    """Runs the pipeline for one span as far as its vectors, and adds what it made to `earlier`.

    Raises:
      BadInput: a gate stopped the span.
    """
    pipeline = assemble(_of_span(config, one), earlier)
    LocalRunner(run_id, _Silent(), connection_config).run_nodes(pipeline, to_node=INGESTED)
    nodes = run_record.read_run(store, config.name, run_id)
    if any(node.state == run_record.COMPLETE for node in nodes.values()):
        said(f"span {one.shown} was ingested")
    earlier.photos.append(nodes["ImageExampleGen"].outputs["examples"][0].id)
    earlier.reports.append(nodes["ImageExampleGen"].outputs["ingest_report"][0].id)
    earlier.vectors.append(nodes[INGESTED].outputs["feature_vectors"][0].id)


def _of_span(config: Config, one: SpanFolders) -> Config:
    """The configuration for one span."""
    return config.model_copy(update={"data": config.data.model_copy(update={"span": one.span})})
