"""From what the nodes of a run left to the findings of its page."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
from tfx.types import artifact_utils, standard_artifacts

from components.artifacts import Verdict
from components.report import findings
from components.report.page import PAGE_FILE
from components.verdict import write_verdict
from deploy import run_summary
from deploy.root import SUMMARY_FILE, Root
from pipeline.config import Config, load_config
from pipeline.run_record import CACHED, COMPLETE, FAILED, NodeRun
from schemas import schema_files
from schemas.findings import FINDINGS_CSV, read_findings, read_findings_csv
from schemas.summary import CorrectedPhoto, CorrectionsSummary, DataSummary, RejectedFile, Summary
from schemas.verdicts import ProductionStanding


@pytest.fixture
def config() -> Config:
    return load_config("cats_vs_dogs", data=["photos"])


@pytest.fixture
def left(tmp_path, curated_schema):
    """A function from node, key and kind of artifact to a NodeRun with it."""

    def left(node: str, *outputs: tuple[str, Any], state: str = COMPLETE, **more: Any) -> NodeRun:
        made = {}
        for key, kind in outputs:
            artifact = kind()
            artifact.uri = str(tmp_path / node / key)
            if kind is standard_artifacts.Examples:
                artifact.split_names = artifact_utils.encode_split_names(["train", "eval", "test"])
            if kind is standard_artifacts.Schema:
                os.makedirs(artifact.uri)
                shutil.copy(curated_schema, os.path.join(artifact.uri, schema_files.SCHEMA_FILE))
            made[key] = [artifact]
        return NodeRun(state, 1.0, made, **more)

    return left


def summarised(config: Config, nodes: dict[str, NodeRun], root: Root, reason: str = "a test") -> Summary:
    ended = run_summary.Run("run", root, config, {}, dict.fromkeys(nodes, ()))
    return replace(run_summary.summarise(ended, "failed", reason), duration_seconds=1.0)


def test_each_output_is_found_at_its_node(config, left, tmp_path):
    examples, model, schema = standard_artifacts.Examples, standard_artifacts.Model, standard_artifacts.Schema
    told = json.dumps({"sources": {"cats_vs_dogs": "/photos"}})
    nodes = {
        "ImageExampleGen": left(
            "ImageExampleGen", ("examples", examples), parameters={"photos": told}, peak_megabytes=900.5
        ),
        "DataGate": left("DataGate", ("schema", schema), state=CACHED),
        "FeatureVectorGen": left("FeatureVectorGen", ("feature_vectors", examples)),
        "FeatureExtraction": left(
            "FeatureExtraction", ("model", model), ("model_run", standard_artifacts.ModelRun), peak_megabytes=1200.0
        ),
        "FineTuning": left("FineTuning", ("model", model), state=FAILED),
    }
    summary = summarised(config, nodes, Root(tmp_path / "root"))
    rejected = [RejectedFile(dataset="cats_vs_dogs", file_name="x", reason="empty", detail="x is empty")]
    summary = replace(summary, data=DataSummary(rejected_files=rejected))
    found = run_summary.outputs_of(config, nodes, summary)
    assert found.photos.uri == str(tmp_path / "ImageExampleGen" / "examples")
    assert found.vectors.uri == str(tmp_path / "FeatureVectorGen" / "feature_vectors")
    assert found.labels == ["cat", "dog"]
    assert found.sources == {"cats_vs_dogs": "/photos"}
    assert found.rejected == rejected
    assert found.rules == config.photo_rules
    assert found.histories == {"feature_extraction": str(tmp_path / "FeatureExtraction" / "model_run")}
    assert found.models == {"feature_extraction": str(tmp_path / "FeatureExtraction" / "model" / "Format-Serving")}
    assert found.peaks["ImageExampleGen"] == 900.5
    assert found.peaks["FineTuning"] is None
    assert (found.predictions, found.production_predictions, found.production_labels) == (None, None, ())


def test_a_window_takes_the_place_of_its_newest_span(config, left, tmp_path):
    examples = standard_artifacts.Examples
    nodes = {
        "ImageExampleGen": left("ImageExampleGen", ("examples", examples)),
        "DataGate": left("DataGate", ("schema", standard_artifacts.Schema)),
        "FeatureVectorGen": left("FeatureVectorGen", ("feature_vectors", examples)),
        "Window": left(
            "Window",
            ("window_photos", examples),
            ("window_vectors", examples),
            ("window_schema", standard_artifacts.Schema),
        ),
    }
    found = run_summary.outputs_of(config, nodes, summarised(config, nodes, Root(tmp_path / "root")))
    assert found.photos.uri == str(tmp_path / "Window" / "window_photos")
    assert found.vectors.uri == str(tmp_path / "Window" / "window_vectors")


@pytest.mark.parametrize("comparable", [True, False])
def test_production_is_compared_where_it_can_be(config, left, tmp_path, comparable):
    node = left("ProductionPredictions", ("predictions", standard_artifacts.Examples), ("standing", Verdict))
    standing = {"state": "comparable", "labels": ["bird", "cat"]} if comparable else {"state": "none"}
    write_verdict(node.outputs["standing"][0].uri, ProductionStanding(**standing, text="so it is"))
    nodes = {"ProductionPredictions": node}
    found = run_summary.outputs_of(config, nodes, summarised(config, nodes, Root(tmp_path / "root")))
    assert (found.production_predictions is not None) is comparable
    assert list(found.production_labels) == (["bird", "cat"] if comparable else [])


def written(folder: Path) -> set[str]:
    assert json.loads((folder / SUMMARY_FILE).read_text())["status"] == "failed"
    assert (folder / PAGE_FILE).read_text().startswith("<!doctype html>")
    return {file.name for file in folder.iterdir()}


def test_artifacts_that_are_gone_leave_a_page_with_the_problems(config, left, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(run_summary, "write_page", lambda summary, folder, found: given.append(found))
    nodes = {"ImageExampleGen": left("ImageExampleGen", ("examples", standard_artifacts.Examples))}
    shutil.rmtree(tmp_path / "ImageExampleGen", ignore_errors=True)
    run_summary.write_results(summarised(config, nodes, Root(tmp_path / "root")), tmp_path, config, nodes)
    assert given[0]["data"]["near_duplicates"] is None or given[0]["data"]["near_duplicates"]["found"] == 0
    assert json.loads((tmp_path / SUMMARY_FILE).read_text())["status"] == "failed"


@pytest.mark.parametrize("error", [RuntimeError("no such thing"), KeyboardInterrupt(), MemoryError()])
def test_whatever_goes_wrong_with_the_findings_the_run_has_its_page(config, left, tmp_path, monkeypatch, error):
    def fails(*_: Any) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(findings, "find", fails)
    nodes = {"ImageExampleGen": left("ImageExampleGen", ("examples", standard_artifacts.Examples))}
    run_summary.write_results(summarised(config, nodes, Root(tmp_path / "root")), tmp_path, config, nodes)
    assert {SUMMARY_FILE, PAGE_FILE} <= written(tmp_path)


def test_a_page_that_cannot_be_made_fails_no_run(config, tmp_path, monkeypatch):
    def fails(*_: Any) -> None:
        raise TypeError("<b>no such thing</b>")

    monkeypatch.setattr(run_summary, "write_page", fails)
    reason = "the data <are> wrong"
    run_summary.write_results(summarised(config, {}, Root(tmp_path / "root"), reason), tmp_path)
    assert {SUMMARY_FILE, PAGE_FILE} <= written(tmp_path)
    page = (tmp_path / PAGE_FILE).read_text()
    assert "the data &lt;are&gt; wrong" in page
    assert (
        "the full page could not be written: TypeError: &lt;b&gt;no such thing&lt;/b&gt;; the details are in summary"
        in page
    )


def test_a_full_disk_is_told_to_whoever_called(config, tmp_path, monkeypatch):
    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_summary, "write_page", fails)
    with pytest.raises(OSError, match="No space left"):
        run_summary.write_results(summarised(config, {}, Root(tmp_path / "root")), tmp_path)


def test_a_run_without_nodes_has_its_page(config, tmp_path):
    run_summary.write_results(summarised(config, {}, Root(tmp_path / "root")), tmp_path)
    assert {SUMMARY_FILE, PAGE_FILE} <= written(tmp_path)


def test_a_summary_says_what_it_takes_to_repeat_the_run(config, left, tmp_path):
    ingested = left(
        "ImageExampleGen", ("examples", standard_artifacts.Examples), parameters={"input_fingerprint": "3f1c"}
    )
    ingested.outputs["examples"][0].id = 7
    nodes = {"ImageExampleGen": ingested, "FineTuning": left("FineTuning", state=FAILED)}
    root = Root(tmp_path / "root")
    ended = run_summary.Run("run", root, config, nodes, dict.fromkeys(nodes, ()))
    summary = run_summary.summarise(ended, "failed", "a test")
    assert summary.data_fingerprint == "3f1c"
    assert summary.lineage == {"ImageExampleGen": {"examples": [7]}}
    assert summary.versions["tfx"] == "1.16.0" or sys.version_info >= (3, 11)
    assert summary.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    nothing = summarised(config, {}, root)
    assert (nothing.data_fingerprint, nothing.lineage) == (None, {})


def test_a_run_has_its_findings_in_files_beside_the_page(config, left, tmp_path, monkeypatch):
    def found(outputs: Any, seed: int, listed: Any) -> dict[str, Any]:
        listed.add_rejected([RejectedFile(dataset="cats_vs_dogs", file_name="=x", reason="empty")], "17")
        answered = replace(outputs.corrected[0], answer="dog", probability=0.75)
        return {"problems": [], "data": {}, "corrected": [answered]}

    monkeypatch.setattr(findings, "find", found)
    nodes = {"ImageExampleGen": left("ImageExampleGen", ("examples", standard_artifacts.Examples))}
    corrections = CorrectionsSummary(changed=1, photos=[CorrectedPhoto(old_label="cat", new_label="dog")])
    summary = replace(summarised(config, nodes, Root(tmp_path / "root")), data=DataSummary(corrections=corrections))
    run_summary.write_results(summary, tmp_path, config, nodes)
    [finding] = read_findings(tmp_path).findings
    assert (finding.path, finding.span, finding.kind) == ("=x", "17", "rejected")
    assert read_findings_csv(tmp_path / FINDINGS_CSV) == [finding]
    [corrected] = json.loads((tmp_path / SUMMARY_FILE).read_text())["data"]["corrections"]["photos"]
    assert (corrected["answer"], corrected["probability"]) == ("dog", 0.75)
    assert "1 label was changed and 0 photos were dropped" in (tmp_path / PAGE_FILE).read_text()
