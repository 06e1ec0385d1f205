"""The rules of Kubeflow Pipelines' open-source backend, 2.5 and newer, as far as we know them, for a compiled package.

The `kfp` SDK writes packages that the backend then refuses, starts and cannot end, or runs otherwise than written. Each
rule names where it comes from. Below `backend/src` of kubeflow/pipelines, read at several commits since 2.5, `template`
is apiserver/template/v2_template.go, `visitor` v2/compiler/visitor.go, `argo` v2/compiler/argocompiler, `driver`
v2/driver, and `launcher` v2/component/launcher_v2.go; `Argo` is argoproj/argo-workflows; a number with # is an issue or
a pull request of kubeflow/pipelines. What passes may still fail: nothing here asks a cluster.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

import yaml

from deploy.kubeflow.package_file import SAFE_LOADER

# Linux's MAX_ARG_STRLEN, of one argument of a command with its closing zero byte (include/uapi/linux/binfmts.h).
_ARGUMENT_BYTES = 32 * 4096
# etcd refuses requests above 1.5 MiB (etcd.io, "System limits"; #4170); the workflow is larger than the package it is
# made of, and the state of every task is kept in the same object.
_PACKAGE_BYTES = 1024 * 1024
_ROOT = "root"
_EXIT = "ALL_UPSTREAM_TASKS_COMPLETED"

_Json = dict[str, Any]


@dataclass(frozen=True)
class _Task:
    """name: the key in its DAG. dag: name of the component it stands in. spec: of the task."""

    name: str
    dag: str
    spec: _Json

    def __str__(self) -> str:
        return f"task {self.name!r}" if self.dag == _ROOT else f"task {self.name!r} of {self.dag}"

    @property
    def component(self) -> str:
        return self.spec.get("componentRef", {}).get("name", "")

    @property
    def parameters(self) -> _Json:
        return self.spec.get("inputs", {}).get("parameters", {})

    @property
    def artifacts(self) -> _Json:
        return self.spec.get("inputs", {}).get("artifacts", {})

    @property
    def is_exit(self) -> bool:
        return self.spec.get("triggerPolicy", {}).get("strategy") == _EXIT

    @property
    def dependent_on(self) -> list[str]:
        return self.spec.get("dependentTasks", [])

    def producers(self) -> Iterator[tuple[str, str, str]]:
        """(input, task, output) of every input that another task gives."""
        for name, source in self.parameters.items():
            if given := source.get("taskOutputParameter"):
                yield name, given.get("producerTask", ""), given.get("outputParameterKey", "")
        for name, source in self.artifacts.items():
            if given := source.get("taskOutputArtifact"):
                yield name, given.get("producerTask", ""), given.get("outputArtifactKey", "")


@dataclass(frozen=True)
class _Package:
    """text: as it is uploaded. spec: the PipelineSpec as JSON. platform: the second document, or empty."""

    text: str
    spec: _Json
    platform: _Json

    @property
    def components(self) -> dict[str, _Json]:
        """Every component, the root too."""
        return {**self.spec.get("components", {}), _ROOT: self.spec.get("root", {})}

    @property
    def executors(self) -> dict[str, _Json]:
        return self.spec.get("deploymentSpec", {}).get("executors", {})

    @property
    def dags(self) -> dict[str, dict[str, _Task]]:
        """DAG -> task -> task."""
        return {
            dag: {name: _Task(name, dag, spec) for name, spec in sorted(component["dag"].get("tasks", {}).items())}
            for dag, component in self.components.items()
            if "dag" in component
        }

    @property
    def tasks(self) -> list[_Task]:
        return [task for tasks in self.dags.values() for task in tasks.values()]

    @property
    def containers(self) -> dict[str, _Json]:
        """Executor -> container, of those that are containers."""
        return {label: each["container"] for label, each in self.executors.items() if "container" in each}

    def executor_of(self, component: str) -> _Json:
        """The executor of a component; empty: there is none."""
        return self.executors.get(self.components.get(component, {}).get("executorLabel", ""), {})

    def inputs(self, component: str, kind: str) -> dict[str, _Json]:
        """Declared inputs; kind: `parameters` or `artifacts`."""
        return self.components.get(component, {}).get("inputDefinitions", {}).get(kind, {})

    def outputs(self, component: str) -> set[str]:
        declared = self.components.get(component, {}).get("outputDefinitions", {})
        return {*declared.get("parameters", {}), *declared.get("artifacts", {})}

    def users(self, label: str) -> str:
        """Who an executor works for, in words."""
        names = [str(task) for task in self.tasks if self.components[task.component].get("executorLabel") == label]
        return " and ".join(names) or f"executor {label!r}"


class _UnreadableError(ValueError):
    """There is nothing to check further."""


def problems(package_text: str) -> list[str]:
    """One sentence for each rule that a package breaks; empty: it breaks none that we know.

    Args:
      package_text: YAML as the `kfp` SDK writes it: the PipelineSpec, and maybe a second document with
        `platforms.kubernetes`.
    """
    try:
        package = _read(package_text)
    except _UnreadableError as error:
        return [str(error)]
    # The other rules look components and executors up.
    if missing := list(_components(package)):
        return missing
    return [sentence for rule in _RULES for sentence in rule(package)]


def _read(text: str) -> _Package:
    """template: the documents must be a PipelineSpec and, at most, a platform spec, in the JSON form of their protocol
    buffers; what is neither is passed over without a word.
    """
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    try:
        documents = [document for document in yaml.load_all(text, SAFE_LOADER) if document is not None]
    except yaml.YAMLError as error:
        raise _UnreadableError(f"the package is no YAML: {' '.join(str(error).split())}") from None
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise _UnreadableError("the package holds no pipeline spec; expected what the kfp SDK's compiler writes")
    if len(documents) > 2:
        raise _UnreadableError(f"the package holds {len(documents)} documents; expected a pipeline spec and a platform")
    message = pipeline_spec_pb2.PipelineSpec()
    try:
        json_format.ParseDict(documents[0], message)
        deployment = pipeline_spec_pb2.PipelineDeploymentConfig()
        json_format.ParseDict(documents[0].get("deploymentSpec", {}), deployment, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise _UnreadableError(f"the package is no pipeline spec: {' '.join(str(error).split())}") from None
    spec = json_format.MessageToDict(message)
    platform = documents[1] if len(documents) == 2 else {}
    try:
        json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise _UnreadableError(f"the second document is no platform spec: {' '.join(str(error).split())}") from None
    if not spec.get("root", {}).get("dag", {}).get("tasks"):
        raise _UnreadableError("the pipeline has no task: its root is no DAG, or an empty one")
    if platform and set(platform.get("platforms", {})) != {"kubernetes"}:
        raise _UnreadableError("the second document has no platforms.kubernetes alone, so the backend passes over it")
    return _Package(text, spec, platform)


def _components(package: _Package) -> Iterator[str]:
    """visitor: each component has a DAG or an executor that exists, each task a component that exists; none is called
    `root`, and none contains itself.
    """
    if _ROOT in package.spec.get("components", {}):
        yield f"a component is called {_ROOT!r}, which is the name of the pipeline itself"
    for name, component in package.components.items():
        label = component.get("executorLabel")
        if label is None and "dag" not in component:
            yield f"component {name!r} has neither an executor nor a DAG"
        if label is not None and label not in package.executors:
            yield f"component {name!r} has the executor {label!r}, which does not exist"
    for task in package.tasks:
        if task.component not in package.components:
            yield f"{task} runs the component {task.component!r}, which does not exist"
    contained = {dag: [task.component for task in tasks.values()] for dag, tasks in package.dags.items()}
    if circle := _circle(contained):
        yield f"components contain each other: {' -> '.join(circle)}"


def _schema_version(package: _Package) -> Iterator[str]:
    """template: "KFP only supports schema version 2.1.0"."""
    found = package.spec.get("schemaVersion")
    if found != "2.1.0":
        yield f"the schema version is {found}; the backend takes 2.1.0 only"


def _pipeline_name(package: _Package) -> Iterator[str]:
    """apiserver/common/util.go, ValidatePipelineName; the names of workflows begin with it."""
    name = package.spec.get("pipelineInfo", {}).get("name", "")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,127}", name):
        yield f"the pipeline is called {name!r}; expected lower-case letters, digits and hyphens, at most 128"


def _names(package: _Package) -> Iterator[str]:
    """Argo, workflow/validate/validate.go: names of tasks and templates are letters, digits and hyphens, at most 128 of
    them, and of tasks in a DAG with an order a letter first. argo: each task gets another one, `<task>-driver`. A DAG's
    name becomes that of a template, an exit task's that of `exit-hook-<DAG>-<task>`, a component's that of a parameter.
    """
    for task in package.tasks:
        driver = f"{task.name}-driver"
        hook = f"exit-hook-{task.dag}-{task.name}" if task.is_exit else ""
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", task.name):
            yield f"{task} has a name that Argo does not take; expected letters, digits and hyphens, a letter first"
        elif max(len(driver), len(hook)) > 128:
            yield f"{task} has too long a name: Argo gets {hook or driver!r}, and takes 128 characters"
    for name, component in package.components.items():
        allowed = r"[A-Za-z0-9][A-Za-z0-9-]{0,127}" if "dag" in component else r"[A-Za-z0-9_-]+"
        if not re.fullmatch(allowed, name):
            yield f"component {name!r} has a name that Argo does not take; expected letters, digits and hyphens"


def _executor_kinds(package: _Package) -> Iterator[str]:
    """visitor: "non-container and non-importer executor not implemented"; argo/dag.go: "custom job executors is Google
    Cloud only".
    """
    for label, executor in package.executors.items():
        kind = next(iter(executor), "empty")
        if kind not in ("container", "importer"):
            yield (
                f"{package.users(label)} needs a {kind} executor ({label}); the backend has those for containers and "
                "importers only"
            )


def _drivers(package: _Package) -> Iterator[str]:
    """argo/container.go builds a pod from image, command, arguments, environment and resources only; what TFX compiles
    its ExampleGens' drivers to is passed over.
    """
    for label, container in package.containers.items():
        if "lifecycle" in container:
            yield f"{package.users(label)} has a driver of its own ({label}, lifecycle), which the backend never runs"


def _order(package: _Package) -> Iterator[str]:
    """argo/dag.go: a task waits for tasks of its own DAG ("unknown producer task"); exit tasks are no part of it, so
    nothing can wait for them, and a DAG has other tasks too. Argo refuses circles.
    """
    for dag, tasks in package.dags.items():
        before = {
            task.name: {*task.dependent_on, *(producer for _, producer, _ in task.producers())}
            for task in tasks.values()
        }
        for task in tasks.values():
            for name in sorted(before[task.name]):
                if name not in tasks:
                    yield f"{task} waits for {name!r}, and there is no such task beside it"
                elif tasks[name].is_exit:
                    yield f"{task} waits for {name!r}, an exit task, for which nothing can wait"
        if circle := _circle(before):
            yield f"tasks of {dag} wait for each other: {' -> '.join(circle)}"
        if all(task.is_exit for task in tasks.values()):
            yield f"{dag} has no task besides exit tasks"


def _exit_tasks(package: _Package) -> Iterator[str]:
    """argo/dag.go since 2.5 (#11470): an exit task is a hook of the tasks it names; one that names none never runs, nor
    does one of two on the same task. kfp/dsl/tasks_group.py: "exit_task cannot depend on any other tasks", which may
    have failed and given nothing.
    """
    for tasks in package.dags.values():
        taken: dict[str, str] = {}
        for task in (task for task in tasks.values() if task.is_exit):
            if not task.dependent_on:
                yield f"{task} is an exit task of nothing, and never runs"
            for name in task.dependent_on:
                if name in taken:
                    yield f"{task} and {taken[name]!r} are both exit tasks of {name!r}; only one of them runs"
                taken[name] = task.name
            for key, producer, _ in task.producers():
                yield f"{task} is an exit task and takes {key!r} from {producer!r}, which may have failed"


def _control_flow(package: _Package) -> Iterator[str]:
    """argo/dag.go: "artifact iterator not implemented yet"; "condition on importer task is not supported"."""
    for task in package.tasks:
        if "artifactIterator" in task.spec:
            yield f"{task} loops over artifacts, which the backend cannot"
        if "condition" in task.spec.get("triggerPolicy", {}) and "importer" in package.executor_of(task.component):
            yield f"{task} imports an artifact under a condition, which the backend cannot"


def _task_inputs(package: _Package) -> Iterator[str]:
    """driver/resolve.go: each input comes from a constant, from the DAG around the task, or from another task's output,
    and is there; values of numbers, truth values, lists and structs have that type. 2.5 finds outputs by the task's
    displayed name (mended by #11938 in 2.14), and knows no final status of a task (#11641; since 2.14, #11953).
    """
    for task in package.tasks:
        declared = package.inputs(task.component, "parameters")
        for name, parameter in declared.items():
            iterated = task.spec.get("parameterIterator", {}).get("itemInput") == name
            if not (name in task.parameters or "defaultValue" in parameter or parameter.get("isOptional") or iterated):
                yield f"{task} gives its component no value for {name!r}, which has no default"
        for name, source in task.parameters.items():
            kind = declared.get(name, {}).get("parameterType")
            if "taskFinalStatus" in source:
                yield f"{task} takes the final status of a task as {name!r}, which backends before 2.14 do not give"
            elif "runtimeValue" in source and "constant" not in source["runtimeValue"]:
                yield f"{task} gives {name!r} in the manner of schema 2.0.0; expected a constant"
            elif "runtimeValue" in source:
                value = source["runtimeValue"]["constant"]
                if kind != "STRING" and not _fits(kind, value):
                    yield f"{task} gives {value!r} for {name!r}, which is a {kind}"
        for kind in ("parameters", "artifacts"):
            key = f"componentInput{kind[:-1].capitalize()}"
            for name, source in task.spec.get("inputs", {}).get(kind, {}).items():
                if source.get(key, "") not in {"", *package.inputs(task.dag, kind)}:
                    yield f"{task} takes {name!r} from {source[key]!r}, which {task.dag} does not have as an input"
        for name in task.artifacts.keys() ^ package.inputs(task.component, "artifacts").keys():
            optional = package.inputs(task.component, "artifacts").get(name, {}).get("isOptional")
            if not optional:
                yield f"{task} and its component do not agree about the input artifact {name!r}"
        for name, producer, key in task.producers():
            other = package.dags[task.dag].get(producer)
            if other is None:
                continue  # of `_order`
            if key not in package.outputs(other.component):
                yield f"{task} takes {name!r} from the output {key!r} of {producer!r}, which has no such output"
            elif other.spec.get("taskInfo", {}).get("name", producer) != producer:
                yield f"{task} takes an output of {producer!r}, whose display name is another; 2.5 does not find it"


def _defaults(package: _Package) -> Iterator[str]:
    """template, validatePipelineJobInputs: a run, and a recurring one that nobody is asked about, needs every parameter
    given or defaulted; a run can give no value of another type either.
    """
    for component, place in (
        (name, f"of {name}" if name != _ROOT else "of the pipeline") for name in package.components
    ):
        for name, parameter in package.inputs(component, "parameters").items():
            kind, default = parameter.get("parameterType"), parameter.get("defaultValue")
            if kind is None:
                yield f"parameter {name!r} {place} has no type, or one in the manner of schema 2.0.0"
            elif default is None and component == _ROOT:
                yield f"parameter {name!r} {place} has no default, so a schedule cannot start it"
            elif default is not None and not _fits(kind, default):
                yield f"parameter {name!r} {place} is a {kind}, and its default is {default!r}"
            elif isinstance(default, str) and "{{$" in default:
                yield f"parameter {name!r} {place} has the default {default!r}, in which nothing is replaced"


# What the driver puts in for a constant that is exactly this (driver/resolve.go, #11599).
_OF_THE_RUN = {
    f"{{{{$.pipeline_{name}}}}}" for name in ("job_name", "job_resource_name", "job_uuid", "task_name", "task_uuid")
}


def _placeholders(package: _Package) -> Iterator[str]:
    """launcher, getPlaceholders: in a command are replaced the whole executor input, declared parameters that have a
    value, and addresses of declared artifacts; nothing is in an environment variable.
    """
    for task in package.tasks:
        container = package.executor_of(task.component).get("container", {})
        replaced = {"{{$}}", *_inputs_and_outputs(package.components[task.component], task)}
        for text in [*container.get("command", []), *container.get("args", [])]:
            for placeholder in re.findall(r"\{\{\$.*?\}\}", text):
                if placeholder.startswith("{{$.pipeline_"):
                    yield f"the command of {task} uses {placeholder}, which is replaced only in an input of a task"
                elif placeholder not in replaced:
                    yield f"the command of {task} uses {placeholder}, which is no output and no given input of it"
        for variable in container.get("env", []):
            if "{{$" in variable.get("value", ""):
                yield f"the variable {variable['name']} of {task} is {variable['value']!r}; nothing is replaced there"


def _inputs_and_outputs(component: _Json, task: _Task) -> Iterator[str]:
    """Their placeholders."""
    for side in ("inputs", "outputs"):
        declared = component.get(f"{side[:-1]}Definitions", {})
        for name in declared.get("artifacts", {}):
            yield from (f"{{{{$.{side}.artifacts['{name}'].{what}}}}}" for what in ("uri", "path"))
        for name, parameter in declared.get("parameters", {}).items():
            if side == "outputs":
                yield f"{{{{$.outputs.parameters['{name}'].output_file}}}}"
            elif name in task.parameters or "defaultValue" in parameter:
                yield f"{{{{$.inputs.parameters['{name}']}}}}"


def _constants(package: _Package) -> Iterator[str]:
    """driver/resolve.go: a placeholder is the whole constant; inside a longer text it arrives as it is, or now and then
    replaced (#11035).
    """
    for task in package.tasks:
        for name, source in task.parameters.items():
            value = source.get("runtimeValue", {}).get("constant")
            if "{{$" in json.dumps(value) and value not in _OF_THE_RUN:
                yield f"{task} gives {value!r} for {name!r}; a placeholder is replaced only where it is the whole value"


def _artifact_types(package: _Package) -> Iterator[str]:
    """launcher, getArtifactSchema: outputs have a schema with a title. driver: inputs come without the schema they were
    declared with, on which TFX's entry point raises (tensorflow/tfx#7768).
    """
    for name, component in package.components.items():
        for side in ("inputDefinitions", "outputDefinitions"):
            for key, artifact in component.get(side, {}).get("artifacts", {}).items():
                kind = artifact.get("artifactType", {})
                title = kind.get("schemaTitle") or "title:" in kind.get("instanceSchema", "")
                if not title:
                    yield f"artifact {key!r} of {name} has a schema without a title"
                elif side == "inputDefinitions" and "instanceSchema" in kind:
                    yield f"input artifact {key!r} of {name} has a schema of its own, and arrives with an empty one"


def _caching(package: _Package) -> Iterator[str]:
    """driver/cache.go: the key is made of the task's inputs, and does not contain the photos behind an address."""
    for task in package.tasks:
        if task.spec.get("cachingOptions", {}).get("enableCache"):
            yield f"{task} is cached by Kubeflow, whose key does not contain the data; expected that to be off"


def _retries(package: _Package) -> Iterator[str]:
    """argo/container.go hands the policy on as it is. Argo, processNodeRetries of workflow/controller/operator.go: no
    retry begins or goes on later than `maxDuration` after the first try began, and the factor is a whole number.
    """
    for task in package.tasks:
        policy = task.spec.get("retryPolicy")
        if policy is None:
            continue
        if policy.get("maxRetryCount", 0) < 1:
            yield f"{task} has a retry policy without retries"
        if float(policy.get("backoffMaxDuration", "0s")[:-1]) <= 0:
            yield f"{task} has a retry policy without backoffMaxDuration, after which Argo never tries again"
        if not float(policy.get("backoffFactor", 0)).is_integer():
            yield f"{task} has the backoffFactor {policy['backoffFactor']}; Argo takes a whole number"


def _sizes(package: _Package) -> Iterator[str]:
    """argo/container.go, argo/dag.go: a task's driver gets container, component and task as one argument each, a DAG's
    driver the whole DAG (#12453). Linux limits an argument, etcd a workflow.
    """
    length = len(package.text.encode())
    if length > _PACKAGE_BYTES:
        yield f"the package has {length:,} bytes; Kubernetes stores about {_PACKAGE_BYTES:,}"
    too_long = set()
    for label, container in package.containers.items():
        for text in [*container.get("command", []), *container.get("args", [])]:
            if len(text.encode()) >= _ARGUMENT_BYTES:
                too_long.add(label)
                yield (
                    f"{package.users(label)} has an argument of {len(text.encode()):,} bytes; Linux takes fewer than "
                    f"{_ARGUMENT_BYTES:,}"
                )
    parts = {package.users(label): each for label, each in package.containers.items() if label not in too_long}
    parts |= {f"component {name!r}": component for name, component in package.components.items()}
    parts |= {f"the spec of {task}": task.spec for task in package.tasks}
    for what, part in parts.items():
        length = len(json.dumps(part, ensure_ascii=False).encode())
        if length >= _ARGUMENT_BYTES:
            yield f"{what} is {length:,} bytes of one argument of a driver; Linux takes fewer than {_ARGUMENT_BYTES:,}"


def _equal_containers(package: _Package) -> Iterator[str]:
    """argo/argo.go, hashComponentContainer (#10979): components are kept by the hash of their container, so of several
    with equal ones the first one's inputs and outputs are taken for all.
    """
    first: dict[str, str] = {}
    for name in sorted(package.components):
        if container := package.executor_of(name).get("container"):
            other = first.setdefault(json.dumps(container, sort_keys=True), name)
            interfaces = [
                {side: package.components[each].get(side) for side in ("inputDefinitions", "outputDefinitions")}
                for each in (name, other)
            ]
            if interfaces[0] != interfaces[1]:
                yield f"components {other!r} and {name!r} have equal containers, and different inputs or outputs"


def _platform(package: _Package) -> Iterator[str]:
    """visitor takes a platform's executors by name, and passes over others. driver/k8s.go, extendPodSpecPatch and
    makeVolumeMountPatch: a mount has a path and a claim, a secret a name, and both become names of volumes, which
    Kubernetes takes as DNS labels (RFC 1123); it takes a mount path once.
    """
    settings = (
        package.platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    )
    for label, each in settings.items():
        if label not in package.executors:
            yield f"the platform has settings for the executor {label!r}, which does not exist"
            continue
        who, paths = package.users(label), []
        for mount in each.get("pvcMount", []):
            paths.append(mount.get("mountPath", ""))
            yield from _volume(
                who, "claim", mount, ("constant", "pvcNameParameter", "componentInputParameter", "taskOutputParameter")
            )
        for secret in each.get("secretAsVolume", []):
            paths.append(secret.get("mountPath", ""))
            yield from _volume(who, "secret", secret, ("secretName", "secretNameParameter"))
        for secret in each.get("secretAsEnv", []):
            if not (secret.get("secretName") or secret.get("secretNameParameter")):
                yield f"{who} takes variables from a secret without a name"
            if not all(key.get("secretKey") and key.get("envVar") for key in secret.get("keyToEnv", [{}])):
                yield f"{who} takes a variable from a secret without saying which"
        for path in sorted({path for path in paths if not path.startswith("/") or paths.count(path) > 1}):
            yield f"{who} mounts something at {path!r}; expected an absolute path for each mount, and another one"


def _volume(who: str, what: str, mount: _Json, names: tuple[str, ...]) -> Iterator[str]:
    if not any(mount.get(name) for name in names):
        yield f"{who} mounts a {what} without a name"
    constant = mount.get(names[0], "a")
    if isinstance(constant, str) and constant and not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", constant):
        yield f"{who} mounts the {what} {constant!r}; expected up to 63 lower-case letters, digits and hyphens"


_RULES: list[Callable[[_Package], Iterator[str]]] = [
    _schema_version,
    _pipeline_name,
    _names,
    _executor_kinds,
    _drivers,
    _order,
    _exit_tasks,
    _control_flow,
    _task_inputs,
    _defaults,
    _placeholders,
    _constants,
    _artifact_types,
    _caching,
    _retries,
    _sizes,
    _equal_containers,
    _platform,
]


def _fits(kind: str | None, value: Any) -> bool:
    """Whether a JSON value has a parameter type's type."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "STRING": isinstance(value, str),
        "NUMBER_INTEGER": number and float(value).is_integer(),
        "NUMBER_DOUBLE": number,
        "BOOLEAN": isinstance(value, bool),
        "LIST": isinstance(value, list),
        "STRUCT": isinstance(value, dict),
    }
    return kind is None or fits.get(kind, True)


def _circle(before: dict[str, Any]) -> list[str]:
    """Names that come round to the first; empty: there is no circle."""
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        return error.args[1]
    return []
