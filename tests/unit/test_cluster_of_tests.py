"""What `make test-cluster` does before it meets a cluster, and how it finds the pods of a task."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cluster import Pod, Toolbox, wait_for

REPOSITORY = Path(__file__).parents[2]
COMMAND = ["python", "-m", "deploy.kubeflow.node", "--node", "FineTuning", "--root", "{{$.inputs.parameters['root']}}"]


def pod(name: str, run_id: str, command: list[str], arguments: list[str], phase: str = "Running") -> dict:
    return {
        "metadata": {"name": name, "labels": {"pipeline/runid": run_id}},
        "spec": {"containers": [{"name": "wait"}, {"name": "main", "command": command, "args": arguments}]},
        "status": {"phase": phase},
    }


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    """A function that has `kubectl` print a text and end with a code."""

    def prints(text: str, code: int = 0) -> None:
        (tmp_path / "printed").write_text(text)
        program = tmp_path / "kubectl"
        program.write_text(f'#!/bin/sh\necho "$@" >"{tmp_path}/asked"\ncat "{tmp_path}/printed"\nexit {code}\n')
        program.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return prints


def test_make_refuses_without_an_image(monkeypatch):
    monkeypatch.delenv("WARMSTART_IMAGE", raising=False)
    monkeypatch.delenv("TEST_CLUSTER", raising=False)
    command = ["make", "--no-print-directory", "test-cluster"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "WARMSTART_IMAGE" in done.stderr
    assert done.stdout == ""


def test_the_pods_of_a_task_are_those_that_run_its_command_in_this_run(kubectl, tmp_path):
    launcher = ["/kfp-launcher/launch", "--run_id", "run-1", "--"]
    driver = ["driver", "--run_id", "run-1", "--container", json.dumps({"args": COMMAND})]
    pods = [
        pod("driver", "run-1", [], driver),
        pod("another-run", "run-2", ["launch", "--", *COMMAND], []),
        pod("another-task", "run-1", launcher, ["--node", "Evaluator"]),
        pod("first-try", "run-1", [*launcher, *COMMAND[:3]], COMMAND[3:], "Failed"),
        pod("second-try", "run-1", [*launcher, *COMMAND], []),
    ]
    kubectl(json.dumps({"items": pods}))
    assert Toolbox("team-a").pods_of("run-1", "FineTuning") == [
        Pod("first-try", "Failed"),
        Pod("second-try", "Running"),
    ]
    assert (tmp_path / "asked").read_text() == "--namespace team-a get pods -o json\n"


def test_what_kubectl_refuses_fails_with_the_command(kubectl):
    kubectl("", code=1)
    with pytest.raises(AssertionError, match="kubectl --namespace team-a delete pod gone --wait=false"):
        Toolbox("team-a").delete_pod("gone")


def test_a_missing_toolbox_is_told(kubectl):
    kubectl("")
    with pytest.raises(AssertionError, match=r"expected one pod .*warmstart-toolbox in team-a, found \[\]"):
        _ = Toolbox("team-a").pod


def test_waiting_ends_with_what_is_found_or_fails():
    answers = iter([0, 0, 7])
    assert wait_for("an answer", lambda: next(answers), 60, every=0.01) == 7
    with pytest.raises(AssertionError, match="waited 0 s for nothing"):
        wait_for("nothing", lambda: None, 0.02, every=0.01)
