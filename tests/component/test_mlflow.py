"""A real MLflow server is told about runs, models and production; one that fails costs a sentence and nothing else."""

from __future__ import annotations

import copy
import json
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from components.serving_folder.files import model_identity
from deploy import cli, run_summary
from deploy.root import Root
from deploy.tracking import tracker
from deploy.tracking.tracker import read_tracking
from pipeline.config import Config, dump_config, load_config
from schemas.json_records import from_json
from schemas.release import Release
from schemas.summary import Summary
from tests.mlflow_server import free_port, mlflow_server
from tests.report_runs import whole_run


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


@pytest.fixture
def client(server, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow.set_tracking_uri(server)
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(None)


def configured(tmp_path: Path, name: str, **keys: str) -> Config:
    settings = [f"tracking.{key}={value}" for key, value in keys.items()]
    settings += [f"tracking.experiment={name}", f"tracking.registered_model={name}", "release.license=apache-2.0"]
    return load_config("cats_vs_dogs", settings, [str(tmp_path)])


class Past:
    """A root folder, and runs in it that have ended."""

    def __init__(self, folder: Path, config: Config):
        self.root, self.config = Root(folder), config
        self.root.prepare(config.name)

    def run(self, run_id: str, model: str | None = None, **change: Any) -> Summary:
        """A run that pushed a model, or none."""
        folder, serving = self.root.reports / run_id, self.root.serving_folder()
        folder.mkdir()
        (folder / "config.yaml").write_text(dump_config(self.config))
        if model:
            serving.push(model, model_identity(model), Release(), serving.production(), run_id, force_push="test")
        told, _ = whole_run(["cat", "dog"])
        production = {"before": None, "after": self.root.production_version(), "folder": str(self.root.serving)}
        told |= {"run_id": run_id, "config": self.config.model_dump(mode="json"), "production": production, **change}
        return run_summary.write_results(from_json(Summary, copy.deepcopy(told)), folder)

    def track(self, run_id: str, **keywords: float) -> str:
        return tracker.track_run(self.config, self.root, run_id, **keywords)


@pytest.fixture
def other_model(tmp_path, exported_model) -> str:
    """The same model with other bytes."""
    folder = tmp_path / "other_model"
    shutil.copytree(exported_model, folder)
    (folder / "assets.extra" / "other").write_text("x")
    return str(folder)


def test_runs_models_and_production_are_told(tmp_path, server, client, exported_model, other_model, drawn_photos):
    import mlflow

    past = Past(tmp_path / "root", configured(tmp_path, "told", mlflow=server))
    past.run("2026-12-01T00-00-00Z", exported_model)
    assert past.track("2026-12-01T00-00-00Z") == ""
    [run] = client.search_runs([client.get_experiment_by_name("told").experiment_id])
    assert (run.info.run_name, run.info.status) == ("2026-12-01T00-00-00Z", "FINISHED")
    assert run.info.end_time - run.info.start_time == 83_200
    assert run.data.params["image.size"] == "224"
    assert run.data.params["training.fine_tuning.strategy"] == past.config.training.fine_tuning.strategy
    assert run.data.metrics["feature_extraction_accuracy"] == pytest.approx(0.907)
    assert run.data.metrics["feature_extraction_accuracy_low"] == pytest.approx(0.807)
    assert run.data.metrics["pushed"] == 1
    assert run.data.tags["warmstart.status"] == "pushed"
    [first] = past.root.serving_folder().versions()
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files >= {"index.html", "summary.json", "config.yaml", "README.md"}
    page = Path(client.download_artifacts(run.info.run_id, "index.html", str(tmp_path)))
    assert page.read_bytes() == (past.root.reports / "2026-12-01T00-00-00Z" / "index.html").read_bytes()

    [registered] = client.search_model_versions("name = 'told'")
    assert registered.tags["warmstart.version"] == str(first)
    assert registered.run_id == run.info.run_id
    assert client.get_model_version_by_alias("told", "production").version == registered.version
    loaded = mlflow.pyfunc.load_model("models:/told@production")
    assert [column.name for column in loaded.metadata.signature.inputs] == ["image_bytes"]
    assert [column.name for column in loaded.metadata.signature.outputs] == [
        "label", "probability", "probabilities", "abstains",
    ]  # fmt: skip
    import pandas as pd
    import tensorflow as tf

    photos = [photo.photo_bytes for photo in drawn_photos[:6]]
    answered = loaded.predict(pd.DataFrame({"image_bytes": photos}))
    assert list(answered.columns) == [column.name for column in loaded.metadata.signature.outputs]
    expected = tf.saved_model.load(exported_model).signatures["serving_default"](image_bytes=tf.constant(photos))
    assert list(answered["label"]) == [label.decode() for label in expected["label"].numpy()]
    np.testing.assert_allclose(np.stack(answered["probabilities"]), expected["probabilities"].numpy(), atol=1e-6)

    # The next push moves the alias, a rollback moves it back, and so on.
    past.run("2026-12-02T00-00-00Z", other_model)
    assert past.track("2026-12-02T00-00-00Z") == ""
    second = past.root.serving_folder().production()
    in_production = client.get_model_version_by_alias("told", "production")
    assert in_production.tags["warmstart.version"] == str(second) != str(first)
    result = CliRunner().invoke(cli.main, ["rollback", "--root", str(past.root.folder)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert client.get_model_version_by_alias("told", "production").version == registered.version
    past.run("2026-12-03T00-00-00Z", status="skipped", reason="nothing is new")
    assert past.track("2026-12-03T00-00-00Z") == ""
    assert past.track("2026-12-03T00-00-00Z") == ""  # again
    assert client.get_model_version_by_alias("told", "production").version == registered.version
    assert len(client.search_runs([run.info.experiment_id])) == 3
    assert len(client.search_model_versions("name = 'told'")) == 2


def test_what_a_server_did_not_hear_it_hears_next_time(tmp_path, server, client, exported_model, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    gone = f"http://127.0.0.1:{free_port()}"
    past = Past(tmp_path / "root", configured(tmp_path, "later", mlflow=gone))
    past.run("2026-12-01T00-00-00Z", exported_model)
    said = past.track("2026-12-01T00-00-00Z")
    assert said.startswith(f"MLflow was not told about the run: {gone} does not answer as an MLflow server does (")
    assert said.endswith("; the next run tries again")
    assert len(said.splitlines()) == 1
    past.config = configured(tmp_path, "later", mlflow=server)
    past.run("2026-12-02T00-00-00Z", status="failed", reason="FineTuning was killed")
    forgotten = {"uri": server, "run_id": "0" * 32}  # of a server that was made anew
    (past.root.reports / "2026-12-02T00-00-00Z" / "mlflow.json").write_text(json.dumps(forgotten))
    assert past.track("2026-12-02T00-00-00Z") == ""
    runs = client.search_runs([client.get_experiment_by_name("later").experiment_id])
    assert {run.info.run_name: run.info.status for run in runs} == {
        "2026-12-01T00-00-00Z": "FINISHED",
        "2026-12-02T00-00-00Z": "FAILED",
    }
    assert client.get_model_version_by_alias("later", "production").tags["warmstart.run_id"] == "2026-12-01T00-00-00Z"
    assert read_tracking(past.root.folder).waiting == []


def test_masks_have_a_signature_of_their_own(tmp_path, server, client, exported_segmenter, drawn_photos):
    import io

    import mlflow
    import pandas as pd
    from PIL import Image

    past = Past(tmp_path / "root", configured(tmp_path, "masks", mlflow=server))
    config = {**past.config.model_dump(mode="json"), "task": {"kind": "segmentation"}}
    past.run("2026-12-01T00-00-00Z", exported_segmenter, config=config)
    assert past.track("2026-12-01T00-00-00Z") == ""
    loaded = mlflow.pyfunc.load_model("models:/masks@production")
    [row] = loaded.predict(pd.DataFrame({"image_bytes": [drawn_photos[0].photo_bytes]})).to_dict("records")
    assert [column.name for column in loaded.metadata.signature.outputs] == list(row)
    size = Image.open(io.BytesIO(drawn_photos[0].photo_bytes)).size
    assert Image.open(io.BytesIO(row["mask_png_bytes"])).size == size
    assert sum(row["class_shares"]) == pytest.approx(1, abs=1e-5)


# ---- without a server


def test_without_a_server_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    past = Past(tmp_path / "root", load_config("cats_vs_dogs", [], [str(tmp_path)]))
    assert past.track("2026-12-01T00-00-00Z") == ""
    assert not (past.root.folder / "mlflow.json").exists()
    assert tracker.follow_production(past.root) == ""


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("import time; time.sleep(60)", "the server did not take everything within 3 s"),
        ("import os; os.abort()", "the process that speaks to it ended with exit code -6"),
        ('print(\'{"problem": "no such thing"}\')', "no such thing"),
        ("print('words')", "the process that speaks to it ended with exit code 0"),
    ],
)
def test_a_process_that_fails_costs_a_sentence(tmp_path, monkeypatch, said, sentence):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setattr(tracker, "find_spec", lambda name: object())
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nexec /usr/bin/env python3 -c {json.dumps(said)}\n")
    program.chmod(0o755)
    monkeypatch.setattr(tracker.sys, "executable", str(program))
    past = Past(tmp_path / "root", load_config("cats_vs_dogs", [], [str(tmp_path)]))
    told = past.track("2026-12-01T00-00-00Z", seconds=3)
    assert told == f"MLflow was not told about the run: {sentence}; the next run tries again"
    assert read_tracking(past.root.folder).waiting == ["2026-12-01T00-00-00Z"]
    past.track("2026-12-02T00-00-00Z", seconds=3)
    assert read_tracking(past.root.folder).waiting == ["2026-12-01T00-00-00Z", "2026-12-02T00-00-00Z"]
    moved = tracker.follow_production(past.root, seconds=3)
    assert moved.startswith(f"MLflow's alias production of cats_vs_dogs was not moved: {sentence}; the next run")


def test_without_the_package_a_run_that_asks_for_it_is_refused_and_one_that_does_not_goes_on(tmp_path, monkeypatch):
    from schemas.errors import BadInput

    monkeypatch.setattr(tracker, "find_spec", lambda name: None)
    config = configured(tmp_path, "x", mlflow="http://127.0.0.1:1")
    with pytest.raises(BadInput, match=r"mlflow is not installed: pip install 'warmstart\[mlflow\]', or leave out"):
        tracker.require_package(config)
    plain = load_config("cats_vs_dogs", [], [str(tmp_path)])
    tracker.require_package(plain)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    told = Past(tmp_path / "root", plain).track("2026-12-01T00-00-00Z")
    assert "mlflow is not installed (pip install 'warmstart[mlflow]')" in told


def test_a_server_that_takes_a_connection_and_says_nothing_is_given_up(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        kept = []
        threading.Thread(target=lambda: kept.append(listening.accept()), daemon=True).start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        past = Past(tmp_path / "root", configured(tmp_path, "silent", mlflow=address))
        past.run("2026-12-01T00-00-00Z")
        assert "does not answer as an MLflow server does" in past.track("2026-12-01T00-00-00Z")


@pytest.mark.parametrize("uri", ["mlruns", "file:/tmp/x", "http://", "sqlite:///x.db"])
def test_an_address_that_is_none_is_refused(tmp_path, uri):
    from schemas.errors import BadInput

    with pytest.raises(BadInput, match=r"tracking\.mlflow"):
        configured(tmp_path, "x", mlflow=uri)


def test_a_rollback_succeeds_whatever_the_server_does(tmp_path, monkeypatch, exported_model, other_model):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setattr(tracker, "find_spec", lambda name: None)
    past = Past(tmp_path / "root", load_config("cats_vs_dogs", [], [str(tmp_path)]))
    past.run("2026-12-01T00-00-00Z", exported_model)
    past.run("2026-12-02T00-00-00Z", other_model)
    past.track("2026-12-02T00-00-00Z")
    result = CliRunner().invoke(cli.main, ["rollback", "--root", str(past.root.folder)])
    assert result.exit_code == 0
    assert result.stderr == (
        "note: MLflow's alias production of cats_vs_dogs was not moved: mlflow is not installed "
        "(pip install 'warmstart[mlflow]'); the next run, rollback or repair tries again\n"
    )
    assert len(past.root.serving_folder().versions()) == 3


def test_a_run_on_kubeflow_is_told_too(tmp_path, monkeypatch, capsys):
    from deploy.kubeflow import report_task

    told = []

    def track_run(config, root, run_id):
        told.append((config.tracking.mlflow, (root.reports / run_id / "summary.json").is_file()))
        return "the server is down"

    monkeypatch.setattr(report_task.tracker, "track_run", track_run)
    past = Past(tmp_path / "root", configured(tmp_path, "x", mlflow="http://mlflow:5000"))
    folder = past.root.reports / "r"
    folder.mkdir()
    (folder / "config.yaml").write_text(dump_config(past.config))
    report_task.report(past.root, "r", "", None, {})
    assert told == [("http://mlflow:5000", True)]
    assert "note: the server is down" in capsys.readouterr().out
