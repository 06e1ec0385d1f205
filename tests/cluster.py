"""A cluster with Kubeflow Pipelines as the story of `make test-cluster` sees it: kubectl, and the runs in KFP's API."""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from deploy.kubeflow import MOUNT, pipelines, runs
from deploy.kubeflow.connection import Connection, connect, find_endpoint

TOOLBOX = "app.kubernetes.io/name=warmstart-toolbox"
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Pod:
    """A try of a task."""

    name: str
    phase: str


@dataclass(frozen=True)
class Toolbox:
    """The pod of deploy/kubernetes/base that has the volume, and the namespace around it, through kubectl."""

    namespace: str

    @functools.cached_property
    def pod(self) -> str:
        found = self.kubectl("get", "pods", "-l", TOOLBOX, "-o", "name").split()
        assert len(found) == 1, f"expected one pod {TOOLBOX} in {self.namespace}, found {found}; see deploy/README.md"
        return found[0].removeprefix("pod/")

    def kubectl(self, *arguments: str) -> str:
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def inside(self, *command: str) -> str:
        """What a command in the toolbox prints."""
        return self.kubectl("exec", self.pod, "--", *command)

    def bring(self, folder: Path, to: str) -> None:
        """Copies a folder to the volume, where it appears at once and whole."""
        arriving = f"{os.path.dirname(to)}/.arriving"
        self.inside("mkdir", "-p", os.path.dirname(to))
        self.kubectl("cp", str(folder), f"{self.pod}:{arriving}")
        self.inside("mv", arriving, to)

    def read(self, file: str) -> str:
        return self.inside("cat", file)

    def names_in(self, folder: str) -> list[str]:
        """Names in a folder, sorted; none: it is empty or missing."""
        return self.inside("sh", "-c", 'ls -1 "$0" 2>/dev/null || true', folder).split()

    def remove(self, folder: str) -> None:
        self.inside("rm", "-rf", folder)

    def pods_of(self, run_id: str, task: str) -> list[Pod]:
        """The pods of a task's tries; those of drivers, which have the command in one argument, are none of them."""
        pods = json.loads(self.kubectl("get", "pods", "-o", "json"))["items"]
        return [
            Pod(pod["metadata"]["name"], pod["status"]["phase"])
            for pod in pods
            if run_id in json.dumps(pod) and any(_runs(container, task) for container in pod["spec"]["containers"])
        ]

    def delete_pod(self, name: str) -> None:
        self.kubectl("delete", "pod", name, "--wait=false")


def _runs(container: dict[str, Any], task: str) -> bool:
    words = [*container.get("command", []), *container.get("args", [])]
    return ("--node", task) in itertools.pairwise(words)


@dataclass(frozen=True)
class Cluster:
    """A cluster.

    Attributes:
      mount: where the volume is mounted in the toolbox and in every task.
      arguments: of `submit` and `schedule set`, besides what the story gives.
    """

    toolbox: Toolbox
    connection: Connection
    mount: str
    arguments: tuple[str, ...]

    @classmethod
    def of_environment(cls) -> Cluster:
        """The cluster of KFP_ENDPOINT, KFP_NAMESPACE and KFP_TOKEN, or of the kubeconfig."""
        endpoint = find_endpoint(None, None, None)
        return cls(
            Toolbox(endpoint.namespace),
            connect(endpoint),
            os.environ.get("CLUSTER_MOUNT") or MOUNT,
            tuple(os.environ.get("CLUSTER_ARGS", "").split()),
        )

    def state(self, run_id: str) -> str:
        return str(self.connection.ask("show the run", self.connection.client.get_run, run_id).state)

    def runs_of(self, pipeline: str) -> dict[str, tuple[str, bool]]:
        """The runs of a pipeline, oldest first: id -> its state, and whether a schedule started it."""
        client, namespace = self.connection.client, self.connection.namespace or None
        ask = self.connection.ask
        try:
            experiment = ask(
                "find the experiment", client.get_experiment, experiment_name=pipeline, namespace=namespace
            )
        except ValueError:  # of the SDK: there is none, because nothing was submitted
            return {}
        answer = ask(
            "list the runs",
            client.list_runs,
            experiment_id=experiment.experiment_id,
            page_size=100,
            sort_by="created_at desc",
        )
        return {run.run_id: (str(run.state), bool(run.recurring_run_id)) for run in reversed(answer.runs or ())}

    def ended_runs_of_schedule(self, pipeline: str) -> dict[str, str]:
        """The ended runs that a schedule started, oldest first: id -> state."""
        found = self.runs_of(pipeline).items()
        return {run_id: state for run_id, (state, by_clock) in found if by_clock and state in runs.FINAL_STATES}

    def remove_pipeline(self, pipeline: str) -> None:
        """Deletes a pipeline with its versions; its experiment and its runs stay."""
        found = pipelines.find_pipeline(self.connection, pipeline)
        if found is None:
            return
        ask, client = self.connection.ask, self.connection.client
        answer = ask("list the versions", client.list_pipeline_versions, found.pipeline_id, page_size=100)
        for version in answer.pipeline_versions or ():
            ask("delete a version", client.delete_pipeline_version, found.pipeline_id, version.pipeline_version_id)
        ask("delete the pipeline", client.delete_pipeline, found.pipeline_id)


def wait_for(what: str, find: Callable[[], _Found], seconds: float, every: float = 2.0) -> _Found:
    """What `find` finds, as soon as it is something; an assertion fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(every)
    return found
