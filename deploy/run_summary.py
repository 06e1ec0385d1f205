"""What a run did, from the outputs of its nodes: `summary.json`, the page, and the exit code."""

from __future__ import annotations

import functools
import json
import platform
import shlex
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from tfx.types import Artifact
from tfx.utils import path_utils

from components.example_gen.report import read_keys
from components.example_gen.settings import PHOTOS_KEY
from components.example_gen.span_pattern import parse_pattern
from components.report import findings
from components.report import summary as report
from components.report.finding_list import SpanOfRun
from components.report.model_card import model_card
from components.report.page import write_page, write_plain_page
from components.serving_folder.folder import ServingFolder
from components.verdict import read_verdict
from components.whole_file import write_whole
from deploy import corrections, kept_findings
from deploy.next_steps import next_steps
from deploy.root import CONFIG_FILE, Root, shown
from pipeline import run_record
from pipeline.config import Config, read_dumped_config
from pipeline.run_record import NodeRun
from schemas.errors import BadInput
from schemas.findings import FINDINGS_CSV, FINDINGS_JSON, Findings, findings_csv, findings_json
from schemas.json_records import Record
from schemas.run_end import Step
from schemas.summary import (
    Choice,
    CorrectedPhoto,
    DataSummary,
    FurtherSummary,
    ModelSummary,
    ProductionSummary,
    Summary,
    WindowSummary,
)
from schemas.verdicts import DriftVerdict, ProductionStanding, ReleaseVerdict, SelectionVerdict, ServableVerdict
from schemas.words import spelled, with_kind

_TRAINERS = {"feature_extraction": "FeatureExtraction", "fine_tuned": "FineTuning"}
# Nodes that look at ML Metadata or production in every run, even if everything else is cached.
_LOOK_EACH_TIME = {"EarlierSpans", "ProductionPredictions", "ReleaseGate", "Pusher"}
_PACKAGES = (
    "warmstart",
    "tfx",
    "tensorflow",
    "tf-keras",
    "tensorflow-hub",
    "tensorflow-transform",
    "tensorflow-model-analysis",
    "apache-beam",
    "ml-metadata",
    "numpy",
    "pillow",
)


@dataclass(frozen=True)
class Run:
    """A run that has ended, and what is known about it."""

    run_id: str
    root: Root
    config: Config | None = None
    """None: it cannot be read, and no node ran."""
    nodes: Mapping[str, NodeRun] = field(default_factory=dict)
    graph: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Node -> the nodes that it waits for (`deploy.assembly.upstream`), in the order of the graph."""
    before: str | None = None
    """Version in production before the run; None: there was none."""
    skipped: Collection[str] = ()
    window: WindowSummary | None = None
    """With `data.window`, the window from `assemble_with_window`."""

    def output(self, node_id: str, key: str) -> Artifact | None:
        """An output of a node; None: there is none."""
        return run_record.output_of(self.nodes, node_id, key)

    def verdict(self, kind: type[Record], node_id: str) -> Record | None:
        """The verdict of a gate; None: it did not reach one."""
        verdict = self.output(node_id, "verdict")
        return read_verdict(kind, verdict.uri) if verdict else None

    def schema(self) -> Artifact | None:
        """The schema of the whole window if there is one, otherwise of the span."""
        return self.output("Window", "window_schema") or self.output("DataGate", "schema")


def summarise(run: Run, status: str = "", reason: str = "") -> Summary:
    """Summarises a run, without its duration.

    Args:
      status: status of a run that was stopped or failed; empty: it follows from the outputs of the nodes.
    """
    selection = run.verdict(SelectionVerdict, "ModelSelector")
    release, servable = run.verdict(ReleaseVerdict, "ReleaseGate"), run.verdict(ServableVerdict, "ServableCheck")
    after = run.root.production_version()
    if status == "failed" and (version := run.root.serving_folder().pushed_by(run.run_id)):
        status = "pushed"
        reason = f"a model is in production as version {version}, but the run failed after the push: {reason}"
    elif not status:
        status, reason = _outcome(run, selection, release, servable, after)
    vectors = run.output("FeatureVectorGen", "feature_vectors")
    example_gen = run.nodes.get("ImageExampleGen")
    return Summary(
        run_id=run.run_id,
        config=run.config.model_dump(mode="json") if run.config else None,
        status=status,
        reason=reason,
        nodes=[_step(run, node_id) for node_id in run.graph],
        data=_data(run, "ImageExampleGen", "ingest_report", whole=run.window is None),
        window=_window(run),
        vectors=report.describe_vectors(vectors.uri) if vectors else None,
        drift=run.verdict(DriftVerdict, "DriftGate"),
        models=_models(run),
        further=_further(run),
        winner=selection.winner if selection else None,
        verdict=_choice(selection) if selection else None,
        release=release,
        servable=servable,
        production=ProductionSummary(before=run.before, after=after, folder=str(run.root.serving)),
        versions={"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}},
        data_fingerprint=example_gen.parameters.get("input_fingerprint") if example_gen else None,
        lineage={
            node_id: {key: [artifact.id for artifact in made] for key, made in sorted(node.outputs.items())}
            for node_id, node in run.nodes.items()
            if node.outputs
        },
    )


def _outcome(
    run: Run,
    selection: SelectionVerdict | None,
    release: ReleaseVerdict | None,
    servable: ServableVerdict | None,
    after: str | None,
) -> tuple[str, str]:
    refusals = [release.text] if release and not release.released else []
    refusals += [servable.text] if servable and not servable.servable else []
    pushed_model = run.output("Pusher", "pushed_model")
    if "Pusher" in run.skipped:
        return "not_pushed", "; ".join(refusals)
    if pushed_model is None:
        return "skipped", "only a part of the pipeline ran, without Pusher"
    if not pushed_model.get_int_custom_property("pushed"):
        reason = "; ".join(refusals) or pushed_model.get_string_custom_property("reason")
        if pushed_model.get_string_custom_property("outcome") != "already_in_production":
            return "not_pushed", reason
        worked = {node_id for node_id, node in run.nodes.items() if node.state != "cached"}
        if worked <= _LOOK_EACH_TIME:
            reason = f"photos, configuration and code are the same as in an earlier run: {reason}"
        return "skipped", reason
    if run.nodes["Pusher"].state == "cached":
        return "skipped", (
            "photos, configuration and code are the same as in an earlier run, whose model was pushed as version "
            + pushed_model.get_string_custom_property("pushed_version")
        )
    assert selection is not None  # Pusher runs only after it
    reason = f"{spelled(selection.winner)} is in production as version {after}"
    if release and release.forced:
        reason += f", forced: {release.forced}"
    return "pushed", reason


def _step(run: Run, node_id: str) -> Step:
    upstream = list(run.graph[node_id])
    if node := run.nodes.get(node_id):
        return Step(id=node_id, state=node.state, seconds=round(node.seconds, 1), upstream=upstream)
    return Step(id=node_id, state="skipped" if node_id in run.skipped else "not_reached", upstream=upstream)


def _data(run: Run, node_id: str, key: str, whole: bool = True) -> DataSummary | None:
    ingest_report = run.output(node_id, key)
    return report.describe_data(ingest_report.uri, whole) if ingest_report else None


def _window(run: Run) -> WindowSummary | None:
    data = _data(run, "Window", "window_report")
    return replace(run.window or WindowSummary(), data=data) if data else run.window


def _models(run: Run) -> dict[str, ModelSummary] | None:
    predictions = run.output("Predictions", "predictions")
    models = _measured(run, predictions) if predictions else None
    if models is None:
        return None
    for model, node_id in _TRAINERS.items():
        if model_run := run.output(node_id, "model_run"):
            models[model] = replace(models[model], training=report.describe_training(model_run.uri))
    return models


def _further(run: Run) -> FurtherSummary | None:
    predictions = run.output("FurtherPredictions", "predictions")
    models = _measured(run, predictions) if predictions and run.output("Predictions", "predictions") else None
    if models is None:
        return None
    further = FurtherSummary(models=models)
    ingest_report = run.output("FurtherExampleGen", "ingest_report")
    if ingest_report is None:
        return further
    answered = next(iter(models.values())).examples or 0
    return replace(
        further,
        data=report.describe_data(ingest_report.uri, whole=False),
        # Copies of a photo count once.
        left_out_as_learnt_from=len({k.content_hash for k in read_keys(ingest_report.uri)}) - answered,
    )


def _measured(run: Run, predictions: Artifact) -> dict[str, ModelSummary] | None:
    schema = run.schema()
    if run.config is None or schema is None:
        return None
    return report.describe_models(
        predictions,
        labels=report.labels(schema.uri),
        confidence=run.config.selection.confidence,
        samples=run.config.selection.bootstrap_samples,
        seed=run.config.training.seed,
        minimum_slice_examples=run.config.evaluation.minimum_slice_examples,
        abstain_below=run.config.serving.abstain_below,
    )


def _choice(selection: SelectionVerdict) -> Choice:
    return Choice(
        text=selection.text,
        difference=selection.difference,
        interval=[selection.low, selection.high],
        p_value=selection.p_value,
        ensemble=selection.ensemble,
        photos_to_show=selection.photos_to_show,
        identical=selection.identical,
        loss=selection.loss,
    )


def write_results(
    summary: Summary,
    folder: Path,
    config: Config | None = None,
    nodes: Mapping[str, NodeRun] | None = None,
    again: str = "",
    kept: Path | None = None,
) -> Summary:
    """Writes `summary.json`, the findings and the page into the run's folder; returns the summary with the next steps.

    Args:
      config: configuration of the run; None: it cannot be read.
      nodes: what ML Metadata knows about the run, from which the page gets photos, curves and findings; None: nothing.
      again: a command that does this run again; empty if none is known.
      kept: file that keeps the findings for a run with the same outputs; None: they are not kept.
    """
    report.write_summary(summary, folder)
    found: dict[str, Any] = {}
    if config and nodes:
        try:
            outputs = outputs_of(config, nodes, summary)
            found, listed = kept_findings.find(outputs, config.training.seed, summary.run_id, kept)
            _write_findings(listed, folder, found["problems"])
        except (Exception, KeyboardInterrupt) as error:  # the run has ended, and still gets a page
            traceback.print_exc()
            found = {"problems": [f"the findings could not be computed: {with_kind(error)}"]}
    summary = _with_answers(summary, found.pop("corrected", None))
    if config:
        suspects = (found.get("data") or {}).get("suspected_labels") or {}
        place = shown(folder.parent.parent)
        serve = shlex.join(["warmstart", "serve", "--root", place]) if again else ""
        review = shlex.join(["warmstart", "serve", "--review", folder.name, "--root", place]) if again else ""
        suspected = suspects.get("found", 0) or (found.get("masks") or {}).get("suspects", 0)
        summary = replace(summary, next_steps=next_steps(summary, config, again, suspected, review, serve))
        report.write_summary(summary, folder)
    _write_model_card(summary)
    try:
        write_page(summary, folder, found)
    except OSError:
        raise
    except Exception as error:
        traceback.print_exc()
        write_plain_page(summary, folder, f"the full page could not be written: {with_kind(error)}")
    return summary


def _write_model_card(summary: Summary) -> None:
    if not summary.models or summary.winner not in summary.models:
        return
    try:
        serving = ServingFolder(summary.production.folder)
        version = serving.pushed_by(summary.run_id)
        if version is not None:
            file = serving.card_file(version)
            file.parent.mkdir(exist_ok=True)
            write_whole(file, model_card(summary, version).encode())
    except Exception:  # the model is in production, with or without a card
        traceback.print_exc()


def _write_findings(found: Findings, folder: Path, problems: list[str]) -> None:
    """Writes `findings.json` and `findings.csv`; what goes wrong is added to the problems that the page names."""
    try:
        write_whole(folder / FINDINGS_JSON, findings_json(found))
        write_whole(folder / FINDINGS_CSV, findings_csv(found))
    except OSError as error:
        traceback.print_exc()
        problems.append(f"{FINDINGS_JSON} and {FINDINGS_CSV} could not be written: {with_kind(error)}")


def _with_answers(summary: Summary, corrected: list[CorrectedPhoto] | None) -> Summary:
    """The summary with what the winner answers now for the photos that were corrected."""
    window, data = summary.window, summary.data
    if corrected and window and window.data and window.data.corrections:
        of_window = replace(window.data, corrections=replace(window.data.corrections, photos=corrected))
        return replace(summary, window=replace(window, data=of_window))
    if corrected and data and data.corrections:
        return replace(summary, data=replace(data, corrections=replace(data.corrections, photos=corrected)))
    return summary


def _span_of(config: Config, examples: Artifact | None) -> SpanOfRun | None:
    """The span that a run read, from its photos; None: there are no spans."""
    pattern = next(filter(None, map(parse_pattern, config.data.folders.values())), None)
    if pattern is None or examples is None:
        return None
    number = examples.get_string_custom_property("span") or examples.get_int_custom_property("span")
    return SpanOfRun(int(number or 0), pattern.dated)


def _confirmed(config: Config) -> set[str]:
    """Photos whose labels were confirmed; none if the file cannot be read any more, now that the run has ended."""
    try:
        return corrections.confirmed(config)
    except BadInput:
        traceback.print_exc()
        return set()


def outputs_of(config: Config, nodes: Mapping[str, NodeRun], summary: Summary) -> findings.RunOutputs:
    """The outputs of a run that the findings need."""
    output = functools.partial(run_record.output_of, nodes)
    schema = output("Window", "window_schema") or output("DataGate", "schema")
    standing = output("ProductionPredictions", "standing")
    production_labels = read_verdict(ProductionStanding, standing.uri).labels if standing else None
    models = {model: output(node_id, "model") for model, node_id in {**_TRAINERS, "ensemble": "Ensemble"}.items()}
    example_gen = nodes.get("ImageExampleGen")
    of_all = summary.window.data if summary.window and summary.window.data else summary.data
    told = example_gen.parameters.get(PHOTOS_KEY, "") if example_gen else ""
    return findings.RunOutputs(
        photos=output("Window", "window_photos") or output("ImageExampleGen", "examples"),
        of_masks=config.mask_size > 0,
        vectors=output("Window", "window_vectors") or output("FeatureVectorGen", "feature_vectors"),
        predictions=output("Predictions", "predictions"),
        production_predictions=output("ProductionPredictions", "predictions") if production_labels else None,
        labels=report.labels(schema.uri) if schema else (),
        production_labels=production_labels or (),
        measured=summary.models or {},
        intervals={
            "confidence": config.selection.confidence,
            "samples": config.selection.bootstrap_samples,
            "seed": config.training.seed,
        },
        histories={
            model: model_run.uri for model, node_id in _TRAINERS.items() if (model_run := output(node_id, "model_run"))
        },
        rejected=summary.data.rejected_files if summary.data else (),
        sources=json.loads(told)["sources"] if told else {},
        rules=config.photo_rules,
        models={model: path_utils.serving_model_path(artifact.uri) for model, artifact in models.items() if artifact},
        winner=summary.winner,
        servable=summary.servable,
        peaks={node_id: node.peak_megabytes for node_id, node in nodes.items()},
        drift=summary.drift,
        span=_span_of(config, output("ImageExampleGen", "examples")),
        abstain_below=config.serving.abstain_below,
        corrected=of_all.corrections.photos if of_all and of_all.corrections else (),
        confirmed=_confirmed(config),
    )


def write_summary_of_killed_run(folder: Path, store: Any, root: Root) -> None:
    """Writes the summary of a killed run, which could not do so itself."""
    config, nodes = None, {}
    try:  # the configuration may be missing, or from another version
        config = read_dumped_config(folder / CONFIG_FILE)
        nodes = run_record.read_run(store, config.name, folder.name)
    except Exception:  # pydantic, YAML and ML Metadata each raise their own
        traceback.print_exc()
    run = Run(folder.name, root, config, nodes, dict.fromkeys(nodes, ()), root.production_version())
    summary = summarise(run, "failed", "the run was killed; the next run continued after its last finished step")
    seconds = round(sum(node.seconds for node in nodes.values()), 1)
    write_results(replace(summary, duration_seconds=seconds), folder, config, nodes)
