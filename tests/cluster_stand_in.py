"""What stands in for a cluster: the stub of KFP's API, whose runs the conformance runner executes, and its pods.

A run that is created is executed in a thread, from the package that was uploaded, a process a task; its state and those
of its tasks follow the execution. A recurring run starts as soon as its previous run has ended, not by the minute. A
pod is a try of a task. FineTuning's first one can be deleted, which kills its process.

The stub was written from KFP's published API. Nothing here was compared with a running cluster.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.kubeflow.runs import FINAL_STATES
from tests import conformance, stand_in_kubectl
from tests.cluster import TOOLBOX
from tests.kfp_api_stub import KfpApiStub, Request, task
from tests.metadata_service import metadata_service

REPOSITORY = Path(__file__).parents[1]
_CLOCK_SECONDS = 1.0
_CAN_BE_DELETED = "FineTuning"


class ClusterStandIn(KfpApiStub):
    """KFP's API, and the pods of Kubernetes' API.

    Args:
      folder: for the tasks' outputs and working directories.
    """

    def __init__(self, folder: Path):
        super().__init__(version="2.17.0")
        # Tasks import this tree, also where the environment was installed from another one.
        self._kubeflow = conformance.Cluster(folder, {"PYTHONPATH": str(REPOSITORY)}, warm=True)
        self._packages: dict[str, str] = {}
        self._tasks: dict[str, dict[str, conformance.TaskRun]] = {}
        self._deleted: set[str] = set()
        self._runs: list[threading.Thread] = []
        self._closing = threading.Event()
        self._clock = threading.Thread(target=self._start_by_clock)
        self._routes += [
            ("GET", "/api/v1/namespaces/[^/]+/pods", self._list_pods),
            ("DELETE", "/api/v1/namespaces/[^/]+/pods/([^/]+)", self._delete_pod),
        ]

    def __enter__(self) -> ClusterStandIn:
        super().__enter__()
        self._clock.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        self._clock.join()
        for run in self._runs:
            run.join()
        super().__exit__(*exception)

    def _upload_version(self, request: Request) -> dict[str, Any]:
        version = super()._upload_version(request)
        self._packages[version["pipeline_version_id"]] = request.body["uploadfile"]["content"].decode()
        return version

    def _create_run(self, request: Request) -> dict[str, Any]:
        self._require_source(request.body)
        return self._start(request.body)

    def _start(self, body: dict[str, Any]) -> dict[str, Any]:
        run = self.add_run({**body, "state": "RUNNING"})
        self._tasks[run["run_id"]] = {}
        package = self._packages[body["pipeline_version_reference"]["pipeline_version_id"]]
        parameters = body.get("runtime_config", {}).get("parameters", {})
        thread = threading.Thread(target=self._execute, args=(run, package, parameters))
        self._runs.append(thread)
        thread.start()
        return run

    def _execute(self, run: dict[str, Any], package: str, parameters: Mapping[str, str]) -> None:
        run_id = run["run_id"]
        first_pod = _pod_name(run_id, _CAN_BE_DELETED, 0)
        kill = {_CAN_BE_DELETED: lambda: first_pod in self._deleted}
        try:
            done = self._kubeflow.run(package, parameters, kill, run_id, self._tasks[run_id])
            run["state"] = done.state.upper()
        except Exception as error:
            run |= {"state": "FAILED", "error": {"code": 2, "message": f"the stand-in failed: {error!r}"}}
            raise

    def _start_by_clock(self) -> None:
        while not self._closing.wait(_CLOCK_SECONDS):
            with self._lock:
                active = {run.get("recurring_run_id") for run in self.state.runs.values() if not _ended(run)}
                for recurring_run_id, about in self.state.recurring_runs.items():
                    if about["status"] == "ENABLED" and recurring_run_id not in active:
                        parts = ("experiment_id", "pipeline_version_reference", "runtime_config", "display_name")
                        self._start({part: about[part] for part in parts} | {"recurring_run_id": recurring_run_id})

    def _get_run(self, request: Request, run_id: str) -> dict[str, Any]:
        run = self._get(self.state.runs, run_id)
        details = [
            task(one.name, _state(one, _ended(run)), None if one.state == "not_reached" else round(one.seconds))
            for one in list(self._tasks[run_id].values())
        ]
        return {**run, "run_details": {"task_details": details}}

    def _list_pods(self, request: Request) -> dict[str, Any]:
        pods = [_pod(stand_in_kubectl.TOOLBOX_POD, "Running", dict([TOOLBOX.split("=")]), ["sleep", "infinity"])]
        for run_id, tasks in self._tasks.items():
            for one in list(tasks.values()):
                for number in range(one.started):
                    ended = one.tries[number : number + 1]
                    phase = "Running" if not ended else "Succeeded" if ended[0][0] == 0 else "Failed"
                    labels = {"pipeline/runid": run_id}
                    pods.append(_pod(_pod_name(run_id, one.name, number), phase, labels, one.command))
        key, _, value = request.query.get("labelSelector", "").partition("=")
        return {"items": [pod for pod in pods if not key or pod["metadata"]["labels"].get(key) == value]}

    def _delete_pod(self, request: Request, name: str) -> dict[str, Any]:
        [run_id] = [run_id for run_id in self._tasks if name == _pod_name(run_id, _CAN_BE_DELETED, 0)]
        self._deleted.add(name)
        return {"metadata": {"name": name, "labels": {"pipeline/runid": run_id}}}


def _ended(run: dict[str, Any]) -> bool:
    return run["state"] in FINAL_STATES


def _state(one: conformance.TaskRun, run_ended: bool) -> str:
    """As KFP shows it: a task whose first try failed goes on."""
    if one.state == "succeeded":
        return "SUCCEEDED"
    return "FAILED" if one.state == "failed" and run_ended else "RUNNING"


def _pod_name(run_id: str, task_name: str, number: int) -> str:
    return f"{task_name.lower()}-{run_id}-{number}"


def _pod(name: str, phase: str, labels: dict[str, str], command: list[str]) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "main", "command": command}]},
        "status": {"phase": phase},
    }


@contextlib.contextmanager
def cluster_stand_in(folder: Path) -> Iterator[ClusterStandIn]:
    """A stand-in that the environment names, as it would name a cluster, as long as the block lasts.

    Args:
      folder: of its own, for the volume and everything else.
    """
    volume, programs = folder / "volume", folder / "bin"
    volume.mkdir()
    programs.mkdir()
    with (
        metadata_service(folder / "metadata.sqlite") as metadata,
        ClusterStandIn(folder / "kubeflow") as server,
        pytest.MonkeyPatch.context() as environment,
    ):
        program = shlex.join([sys.executable, stand_in_kubectl.__file__, server.address])
        kubectl = programs / "kubectl"
        kubectl.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        kubectl.chmod(0o755)
        for variable in ("KFP_NAMESPACE", "KFP_TOKEN", "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT"):
            environment.delenv(variable, raising=False)
        environment.setenv("PATH", str(programs), prepend=":")
        environment.setenv("KFP_ENDPOINT", server.address)
        environment.setenv("NO_PROXY", "127.0.0.1,localhost")
        environment.setenv("WARMSTART_IMAGE", "registry.example/warmstart:1")
        environment.setenv("CLUSTER_MOUNT", str(volume))
        environment.setenv("CLUSTER_ARGS", f"--mount={volume} --metadata={metadata}")
        yield server
