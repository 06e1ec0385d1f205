"""Runs a compiled Kubeflow package without Kubeflow: the YAML and nothing else, a process a task.

It does what the backend of Kubeflow Pipelines 2.x does with the parts of a package that warmstart uses: parameters and
their defaults, nested graphs, `dependentTasks`, exit tasks (`ALL_UPSTREAM_TASKS_COMPLETED`), retries, the run's id
where a task's input is exactly `{{$.pipeline_job_uuid}}`, placeholders in arguments, output artifacts and the
launcher's output file. Anything else in a package is an error, so that nothing passes that was not understood.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.warm_process import run_warm

JOB_ID = "{{$.pipeline_job_uuid}}"
_INPUT = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")
_ARTIFACT = re.compile(r"\{\{\$\.outputs\.artifacts\['([^']+)'\]\.(path|uri)\}\}")
_TASK_KEYS = {
    "cachingOptions", "componentRef", "dependentTasks", "inputs", "retryPolicy", "taskInfo", "triggerPolicy",
}  # fmt: skip
_CONTAINER_KEYS = {"args", "command", "image", "resources", "env"}


@dataclass
class TaskRun:
    """One task. state: `succeeded`, `failed` or `not_reached`. tries: exit code and output of each process that ended,
    of those that were started.
    """

    name: str
    state: str = "not_reached"
    started: int = 0
    tries: list[tuple[int, str]] = field(default_factory=list)
    seconds: float = 0.0
    artifacts: dict[str, Path] = field(default_factory=dict)
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)

    @property
    def output(self) -> str:
        return "\n".join(text for _, text in self.tries)


@dataclass
class Run:
    """state: as Kubeflow 2.5 shows it: the exit task does not count."""

    run_id: str
    state: str
    tasks: dict[str, TaskRun]

    def told(self) -> str:
        """Everything the tasks printed, for a failing assertion."""
        return "\n".join(f"--- {task.name}: {task.state}\n{task.output}" for task in self.tasks.values())


class Cluster:
    """What stands in for Kubeflow.

    Args:
      folder: for output artifacts and working directories.
      environment: of every task, besides PATH, HOME and the locale; as a Pod has what its image and secrets say.
      parallel: how many tasks run at once.
      warm: a task's process is forked from one that has TFX imported, unless it is to be killed.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str] | None = None, parallel: int = 2, warm: bool = False
    ):
        self._folder, self._parallel, self._warm = folder, parallel, warm
        home = folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            **(environment or {}),
        }

    def run(
        self,
        package: str,
        parameters: Mapping[str, str] | None = None,
        kill: Mapping[str, Callable[[], bool]] | None = None,
        run_id: str = "",
        tasks: dict[str, TaskRun] | None = None,
    ) -> Run:
        """Runs a package to its end.

        Args:
          package: the YAML text.
          parameters: of the run; the others have their defaults.
          kill: task -> when its first try is killed hard: as soon as this is true.
          run_id: of the job; empty: a new one.
          tasks: filled in as tasks start, for who looks on; None: nobody does.
        """
        spec = next(yaml.safe_load_all(package))
        run_id = run_id or str(uuid.uuid4())
        given = {
            name: about.get("defaultValue") for name, about in spec["root"]["inputDefinitions"]["parameters"].items()
        }
        unknown = set(parameters or {}) - set(given)
        assert not unknown, f"the pipeline has no parameters {unknown}"
        given |= parameters or {}
        assert None not in given.values(), f"parameters without a value: {given}"
        tasks = {} if tasks is None else tasks
        job = _Job(spec, run_id, self._folder / run_id, self._environment, dict(kill or {}), tasks, self._warm)
        with ThreadPoolExecutor(self._parallel) as pool:
            succeeded = job.run_graph(spec["root"]["dag"], given, pool)
        return Run(run_id, "succeeded" if succeeded else "failed", tasks)


class _Job:
    def __init__(self, spec, run_id, folder, environment, kill, tasks, warm):
        self._spec, self._run_id, self._folder = spec, run_id, folder
        self._environment, self._kill, self._tasks, self._warm = environment, kill, tasks, warm
        self._lock = threading.Lock()

    def run_graph(self, graph: dict[str, Any], given: Mapping[str, Any], pool: ThreadPoolExecutor) -> bool:
        """Runs tasks as soon as what they wait for has succeeded; exit tasks at the end, whatever happened."""
        waiting = dict(graph["tasks"])
        done: dict[str, bool] = {}
        running: dict[Future, str] = {}
        while True:
            for name, task in list(waiting.items()):
                assert not set(task) - _TASK_KEYS, f"{name}: {set(task) - _TASK_KEYS} is not understood"
                before = task.get("dependentTasks", [])
                always = task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
                if all(other in done if always else done.get(other) for other in before):
                    del waiting[name]
                    running[self._start(name, task, given, pool)] = name
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                done[running.pop(future)] = future.result()
        counted = [name for name, task in graph["tasks"].items() if "triggerPolicy" not in task]
        return all(done.get(name, False) for name in counted)

    def _start(self, name: str, task: dict[str, Any], given: Mapping[str, Any], pool: ThreadPoolExecutor) -> Future:
        component = self._spec["components"][task["componentRef"]["name"]]
        inputs = {}
        for key, value in task.get("inputs", {}).get("parameters", {}).items():
            if "componentInputParameter" in value:
                inputs[key] = given[value["componentInputParameter"]]
            else:
                constant = value["runtimeValue"]["constant"]
                inputs[key] = self._run_id if constant == JOB_ID else constant
        declared = component.get("inputDefinitions", {}).get("parameters", {})
        assert set(inputs) == set(declared), f"{name}: inputs {set(inputs)}, declared {set(declared)}"
        if "dag" in component:
            future: Future = Future()
            with ThreadPoolExecutor(1) as alone:  # a graph in a graph: its tasks share the pool
                result = alone.submit(self.run_graph, component["dag"], inputs, pool).result()
            future.set_result(result)
            return future
        assert not task.get("cachingOptions", {}).get("enableCache"), f"{name}: Kubeflow's cache does not know the data"
        return pool.submit(self._run_task, name, task, component, inputs)

    def _run_task(self, name: str, task: dict[str, Any], component: dict[str, Any], inputs: dict[str, Any]) -> bool:
        executor = self._spec["deploymentSpec"]["executors"][component["executorLabel"]]
        assert set(executor) == {"container"}, f"{name}: the backend runs no {set(executor)}"
        container = executor["container"]
        assert not set(container) - _CONTAINER_KEYS, f"{name}: {set(container) - _CONTAINER_KEYS} is not understood"
        run = TaskRun(task.get("taskInfo", {}).get("name", name))
        with self._lock:
            self._tasks[run.name] = run
        tries = 1 + task.get("retryPolicy", {}).get("maxRetryCount", 0)
        began = time.monotonic()
        for number in range(tries):
            folder = self._folder / name / str(number)
            (folder / "elsewhere").mkdir(parents=True)
            command, output_file = self._command(container, component, inputs, folder, run)
            run.command = command
            run.started += 1
            kill = self._kill.get(run.name) if number == 0 else None
            code, text = self._process(command, folder / "elsewhere", kill)
            run.tries.append((code, text))
            if code == 0:
                run.state = "succeeded"
                if output_file.exists():
                    for key, value in json.loads(output_file.read_text())["artifacts"].items():
                        run.metadata[key] = value["artifacts"][0]["metadata"]
                break
            run.state = "failed"
        run.seconds = time.monotonic() - began
        return run.state == "succeeded"

    def _command(self, container, component, inputs, folder, run) -> tuple[list[str], Path]:
        outputs = {}
        for key, about in component.get("outputDefinitions", {}).get("artifacts", {}).items():
            run.artifacts[key] = folder / "artifacts" / key
            artifact = {
                "type": about["artifactType"],
                "uri": f"minio://bucket/{run.name}/{key}",
                "name": key,
                "metadata": {},
            }
            outputs[key] = {"artifacts": [artifact]}
        output_file = folder / "executor_output.json"
        executor_input = {
            "inputs": {"parameterValues": inputs},
            "outputs": {"artifacts": outputs, "outputFile": str(output_file)},
        }

        def filled(argument: str) -> str:
            if argument == "{{$}}":
                return json.dumps(executor_input)
            argument = _INPUT.sub(lambda match: str(inputs[match[1]]), argument)
            argument = _ARTIFACT.sub(lambda match: str(run.artifacts[match[1]]), argument)
            assert "{{$" not in argument, f"{run.name}: {argument} is not filled in"
            return argument

        command = [filled(part) for part in [*container["command"], *container.get("args", [])]]
        assert all(len(part.encode()) <= 128 * 1024 for part in command), f"{run.name}: an argument is too long"
        return command, output_file

    def _process(self, command: list[str], folder: Path, kill: Callable[[], bool] | None) -> tuple[int, str]:
        log = folder.parent / "log"
        if self._warm and kill is None:
            python, option, module, *arguments = command
            assert (Path(python).name, option) in (("python", "-m"), ("python3", "-m")), command
            code = run_warm(module, arguments, log, folder, self._environment)
            return code, log.read_text(errors="replace")
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            while kill and process.poll() is None:
                if kill():
                    os.killpg(process.pid, signal.SIGKILL)
                    break
                time.sleep(0.05)
            code = process.wait()
        return code, log.read_text(errors="replace")
