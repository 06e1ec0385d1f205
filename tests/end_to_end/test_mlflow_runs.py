"""A whole run that an MLflow server hears of, and one that it does not."""

from __future__ import annotations

import pytest

from tests.end_to_end.commands import run, served
from tests.mlflow_server import mlflow_server

pytestmark = [pytest.mark.slow, pytest.mark.release]


def test_a_run_is_told_and_one_without_a_server_goes_on(shaded, small, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    root = tmp_path / "root"
    (tmp_path / "server").mkdir()
    with mlflow_server(tmp_path / "server") as address:
        code, output, summary = run(shaded, root, *small, f"--set=tracking.mlflow={address}")
        assert (code, summary["status"]) == (0, "pushed"), output
        assert "note:" not in output
        mlflow.set_tracking_uri(address)
        client = mlflow.MlflowClient()
        alias = client.get_model_version_by_alias("cats_vs_dogs", "production")
        [version] = served(root)
        assert alias.tags == {"warmstart.version": version, "warmstart.run_id": summary["run_id"]}
        told = client.get_run(alias.run_id)
        accuracy = summary["models"]["fine_tuned"]["accuracy"]["value"]
        assert told.data.metrics["fine_tuned_accuracy"] == pytest.approx(accuracy)
        card = (root / "serving-manifests" / version / "README.md").read_text()
        assert f"version {version}" in card
    code, output, summary = run(shaded, root, *small, f"--set=tracking.mlflow={address}")
    assert (code, summary["status"]) == (0, "skipped"), output
    [note] = [line for line in output.splitlines() if line.startswith("note: ")]
    assert note.startswith(f"note: MLflow was not told about the run: {address} does not answer as an MLflow server")
