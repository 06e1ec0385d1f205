"""What the commands of `warmstart kubeflow` tell a program: one JSON document on standard output."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from deploy.cli import main
from tests.kfp_api_stub import KfpApiStub

PACKAGE = ["--config", "cats_vs_dogs", "--image", "localhost:1/warmstart:1"]


def told(*words: str) -> Any:
    result = CliRunner().invoke(main, ["kubeflow", *words, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_every_command_gives_one_document(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    compiled = told("compile", *PACKAGE)
    assert (compiled["file"], compiled["pipeline"]) == ("cats_vs_dogs.yaml", "cats-vs-dogs")
    assert compiled["bytes"] == (tmp_path / "cats_vs_dogs.yaml").stat().st_size
    with KfpApiStub() as server:
        monkeypatch.setenv("KFP_ENDPOINT", server.address)
        submitted = told("submit", *PACKAGE)
        assert (submitted["pipeline"], submitted["new_version"], submitted["exit_code"]) == ("cats-vs-dogs", True, None)
        assert submitted["run_id"] in submitted["run_url"]
        assert told("submit", *PACKAGE)["new_version"] is False
        made = told("schedule", "set", "nightly", "--cron", "0 3 * * *", *PACKAGE)
        assert (made["name"], made["done"], made["cron"], len(made["next"])) == ("nightly", "created", "0 3 * * *", 3)
        assert [one["name"] for one in told("schedule", "list")] == ["nightly"]
        assert told("schedule", "delete", "nightly") == {"name": "nightly", "done": "deleted"}
