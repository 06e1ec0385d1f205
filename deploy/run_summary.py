"""What a run did, put together from what its nodes left: `summary.json`, the page, and the exit code."""

from __future__ import annotations

import functools
import json
import platform
import traceback
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from tfx.utils import path_utils

from components.example_gen.report import read_keys
from components.report import findings
from components.report import summary as report
from components.report.page import write_page, write_plain_page
from components.verdict import read_verdict
from deploy.root import CONFIG_FILE, Root
from pipeline import run_record
from pipeline.config import Config, read_dumped_config
from pipeline.run_record import NodeRun

_TRAINERS = {"feature_extraction": "FeatureExtraction", "fine_tuned": "FineTuning"}
# What asks ML Metadata or production anew, though everything else is cached.
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
# What ImageExampleGen was told: `components.example_gen.executor.PHOTOS_KEY`, whose import takes Beam and its seconds.
PHOTOS_PARAMETER = "photos"


def summarise(
    config: Config | None,
    run_id: str,
    nodes: Mapping[str, NodeRun],
    graph: Mapping[str, Sequence[str]],
    root: Root,
    before: str | None,
    status: str = "",
    reason: str = "",
    skipped: Collection[str] = (),
    window: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a run did: the content of `summary.json`, without `duration_seconds`.

    Args:
      config: of the run; None: none could be read, and no node ran.
      run_id: its name.
      nodes: what ML Metadata knows of it.
      graph: node -> the nodes that it waits for (`pipeline.graph.upstream`), in the order of the graph.
      root: where it ran.
      before: the version in production before it.
      status, reason: of a run that was stopped or failed; empty: they are read from what the nodes left.
      skipped: nodes whose condition was not met.
      window: with `data.window`: `spans` and `left_out`, as `assemble_with_window` gives them.

    Returns:
      among others `versions` of what ran, `data_fingerprint` of the photos, and `lineage`: node -> output -> numbers of
      its artifacts in ML Metadata.
    """

    output = functools.partial(run_record.output_of, nodes)
    data = vectors = drift = models = further = selection = release = servable = None
    if ingest_report := output("ImageExampleGen", "ingest_report"):
        data = report.describe_data(ingest_report.uri, whole=window is None)
    if window_report := output("Window", "window_report"):
        window = {"data": report.describe_data(window_report.uri), **(window or {})}
    if feature_vectors := output("FeatureVectorGen", "feature_vectors"):
        vectors = report.describe_vectors(feature_vectors.uri)
    if verdict := output("DriftGate", "verdict"):
        drift = read_verdict(verdict.uri)
    if (
        config
        and (predictions := output("Predictions", "predictions"))
        and (schema := output("Window", "window_schema") or output("DataGate", "schema"))
    ):
        evaluate = functools.partial(
            report.describe_models,
            labels=report.labels(schema.uri),
            confidence=config.selection.confidence,
            samples=config.selection.bootstrap_samples,
            seed=config.training.seed,
            minimum_slice_examples=config.evaluation.minimum_slice_examples,
            abstain_below=config.serving.abstain_below,
        )
        models = evaluate(predictions)
        for model, node_id in _TRAINERS.items():
            if model_run := output(node_id, "model_run"):
                models[model]["training"] = report.describe_training(model_run.uri)
        if predictions := output("FurtherPredictions", "predictions"):
            further = {"models": evaluate(predictions)}
            if ingest_report := output("FurtherExampleGen", "ingest_report"):
                answered = next(iter(further["models"].values()))["examples"]
                further["data"] = report.describe_data(ingest_report.uri, whole=False)
                # Copies of a photo are answered as one.
                further["left_out_as_learnt_from"] = (
                    len({k.content_hash for k in read_keys(ingest_report.uri)}) - answered
                )
    if verdict := output("ModelSelector", "verdict"):
        selection = read_verdict(verdict.uri)
    if verdict := output("ReleaseGate", "verdict"):
        release = read_verdict(verdict.uri)
    if verdict := output("ServableCheck", "verdict"):
        servable = read_verdict(verdict.uri)
    pushed_model = output("Pusher", "pushed_model")
    after = root.production_version()
    if status == "failed" and (version := root.serving_folder().pushed_by(run_id)):
        status = "pushed"
        reason = f"a model is in production as version {version}; after that the run did not end as it should: {reason}"

    if not status:
        refusals = [v["text"] for v in (release, servable) if v and not v.get("released", v.get("servable"))]
        if "Pusher" in skipped:
            status, reason = "not_pushed", "; ".join(refusals)
        elif pushed_model is None:
            status, reason = "skipped", "only a part of the pipeline was asked for, without Pusher"
        elif not pushed_model.get_int_custom_property("pushed"):
            outcome = pushed_model.get_string_custom_property("outcome")
            status = "skipped" if outcome == "already_in_production" else "not_pushed"
            reason = "; ".join(refusals) or pushed_model.get_string_custom_property("reason")
            worked = {node_id for node_id, node in nodes.items() if node.state != "cached"}
            if status == "skipped" and worked <= _LOOK_EACH_TIME:
                reason = f"photos, configuration and code are those of an earlier run: {reason}"
        elif nodes["Pusher"].state == "cached":
            status = "skipped"
            reason = (
                "photos, configuration and code are those of an earlier run, whose model was pushed as version "
                + pushed_model.get_string_custom_property("pushed_version")
            )
        else:
            assert selection is not None  # without it there is no Pusher
            status = "pushed"
            reason = f"{selection['winner'].replace('_', ' ')} is in production as version {after}"
            if release and release["forced"]:
                reason += f", by force: {release['forced']}"
    return {
        "schema_version": report.SCHEMA_VERSION,
        "run_id": run_id,
        "config": config.model_dump(mode="json") if config else None,
        "status": status,
        "reason": reason,
        "nodes": [
            {
                "id": node_id,
                "state": nodes[node_id].state
                if node_id in nodes
                else "skipped"
                if node_id in skipped
                else "not_reached",
                "seconds": round(nodes[node_id].seconds, 1) if node_id in nodes else 0.0,
                "upstream": list(upstream),
            }
            for node_id, upstream in graph.items()
        ],
        "data": data,
        "window": window,
        "vectors": vectors,
        "drift": drift,
        "models": models,
        "further": further,
        "winner": selection["winner"] if selection else None,
        "verdict": {
            "text": selection["text"],
            "difference": selection["difference"],
            "interval": [selection["low"], selection["high"]],
            "p_value": selection["p_value"],
            **{key: selection[key] for key in ("ensemble", "photos_to_show") if key in selection},
        }
        if selection
        else None,
        "release": release,
        "servable": servable,
        "production": {"before": before, "after": after, "folder": str(root.serving)},
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}},
        "data_fingerprint": nodes["ImageExampleGen"].parameters.get("input_fingerprint")
        if "ImageExampleGen" in nodes
        else None,
        "lineage": {
            node_id: {key: [artifact.id for artifact in made] for key, made in sorted(node.outputs.items())}
            for node_id, node in nodes.items()
            if node.outputs
        },
    }


def write_results(
    summary: dict[str, Any], folder: Path, config: Config | None = None, nodes: Mapping[str, NodeRun] | None = None
) -> None:
    """Writes `summary.json` and the page into the run's folder.

    Args:
      summary: what `summarise` found, and `duration_seconds`.
      folder: of the run.
      config: of the run; None: none could be read.
      nodes: what ML Metadata knows of it; None: nothing. From these come the page's photos, curves and findings.
    """
    report.write_summary(summary, folder)
    found: dict[str, Any] = {}
    if config and nodes:
        try:
            found = findings.find(outputs_of(config, nodes, summary), config.training.seed)
        except (Exception, KeyboardInterrupt) as error:  # the run has ended, and is to have its page
            traceback.print_exc()
            found = {"problems": [f"the findings could not be made: {findings.told(error)}"]}
    try:
        write_page(summary, folder, found)
    except OSError:
        raise
    except Exception as error:
        traceback.print_exc()
        write_plain_page(summary, folder, f"the page could not be made: {findings.told(error)}")


def outputs_of(config: Config, nodes: Mapping[str, NodeRun], summary: Mapping[str, Any]) -> findings.RunOutputs:
    """What the nodes of a run left, for the findings."""

    output = functools.partial(run_record.output_of, nodes)
    schema = output("Window", "window_schema") or output("DataGate", "schema")
    standing = output("ProductionPredictions", "standing")
    standing = read_verdict(standing.uri) if standing else {}
    comparable = "labels" in standing
    models = {model: output(node_id, "model") for model, node_id in {**_TRAINERS, "ensemble": "Ensemble"}.items()}
    example_gen = nodes.get("ImageExampleGen")
    told = example_gen.parameters.get(PHOTOS_PARAMETER, "") if example_gen else ""
    return findings.RunOutputs(
        photos=output("Window", "window_photos") or output("ImageExampleGen", "examples"),
        vectors=output("Window", "window_vectors") or output("FeatureVectorGen", "feature_vectors"),
        predictions=output("Predictions", "predictions"),
        production_predictions=output("ProductionPredictions", "predictions") if comparable else None,
        labels=report.labels(schema.uri) if schema else (),
        production_labels=standing["labels"] if comparable else (),
        measured=summary["models"] or {},
        intervals={
            "confidence": config.selection.confidence,
            "samples": config.selection.bootstrap_samples,
            "seed": config.training.seed,
        },
        histories={
            model: model_run.uri for model, node_id in _TRAINERS.items() if (model_run := output(node_id, "model_run"))
        },
        rejected=summary["data"]["rejected_files"] if summary["data"] else (),
        sources=json.loads(told)["sources"] if told else {},
        rules=config.photo_rules,
        models={model: path_utils.serving_model_path(artifact.uri) for model, artifact in models.items() if artifact},
        winner=summary["winner"],
        servable=summary["servable"],
        peaks={node_id: node.peak_megabytes for node_id, node in nodes.items()},
    )


def write_summary_of_killed_run(folder: Path, store: Any, root: Root) -> None:
    """A killed run cannot write its summary; the next one does."""
    config, nodes = None, {}
    try:  # the configuration may be of another version, or not have been written any more
        config = read_dumped_config(folder / CONFIG_FILE)
        nodes = run_record.read_run(store, config.name, folder.name)
    except Exception:  # pydantic, YAML and ML Metadata have each their own
        traceback.print_exc()
    reason = "the run was killed; the next run went on from its last finished step"
    summary = summarise(
        config, folder.name, nodes, dict.fromkeys(nodes, ()), root, root.production_version(), "failed", reason
    )
    summary["duration_seconds"] = round(sum(node.seconds for node in nodes.values()), 1)
    write_results(summary, folder, config, nodes)
