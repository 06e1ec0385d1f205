"""The linter of Kubeflow's rules: a package of the kfp SDK passes, and one change for each rule makes it fail."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from kfp import compiler, dsl, kubernetes

from tests.kubeflow_lint import problems

COMMAND = ["python", "-m", "deploy.kubeflow.node"]
RUN_ID = "{{$.pipeline_job_uuid}}"
HANDLER = "comp-exit-handler-1"
PREPARE, TRAINER = f"task 'prepare' of {HANDLER}", f"task 'trainer' of {HANDLER}"
DATA = "{{$.inputs.parameters['data']}}"


@dsl.container_component
def prepare(run_id: str, data: str):
    return dsl.ContainerSpec(
        image="registry/warmstart:1", command=COMMAND, args=["--node", "Prepare", "--run-id", run_id, "--data", data]
    )


@dsl.container_component
def trainer(run_id: str, epochs: int):
    return dsl.ContainerSpec(
        image="registry/warmstart:1", command=COMMAND, args=["--node", "Trainer", "--run-id", run_id, "--n", epochs]
    )


@dsl.container_component
def report(run_id: str, page: dsl.Output[dsl.HTML], metrics: dsl.Output[dsl.Metrics]):
    return dsl.ContainerSpec(
        image="registry/warmstart:1",
        command=COMMAND,
        args=["--node", "Report", "--run-id", run_id, "--page", page.path, "--executor-input", "{{$}}"],
    )


@dsl.pipeline(name="cats-vs-dogs")
def small(data: str = "", epochs: int = 3, ratio: float = 0.5, forced: bool = False):
    last = report(run_id=RUN_ID).set_caching_options(False)
    with dsl.ExitHandler(last):
        first = prepare(run_id=RUN_ID, data=data).set_caching_options(False)
        second = trainer(run_id=RUN_ID, epochs=epochs).after(first).set_caching_options(False)
        second.set_retry(2, backoff_duration="30s").set_cpu_limit("2").set_memory_limit("4G")
        second.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1)
    for task in (last, first, second):
        kubernetes.mount_pvc(task, pvc_name="warmstart", mount_path="/warmstart")
    kubernetes.use_secret_as_env(second, "metadata", {"password": "METADATA_PASSWORD"})


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("package") / "small.yaml"
    compiler.Compiler().compile(small, str(file))
    return file.read_text(encoding="utf-8")


class Package:
    """The two documents, and short ways to what the changes below change."""

    def __init__(self, text: str):
        self.spec, self.platform = yaml.safe_load_all(text)

    @property
    def parameters(self) -> dict[str, Any]:
        return self.spec["root"]["inputDefinitions"]["parameters"]

    @property
    def root(self) -> dict[str, Any]:
        return self.spec["root"]["dag"]["tasks"]

    @property
    def tasks(self) -> dict[str, Any]:
        return self.spec["components"][HANDLER]["dag"]["tasks"]

    def component(self, name: str) -> dict[str, Any]:
        return self.spec["components"][f"comp-{name}"]

    def container(self, name: str) -> dict[str, Any]:
        return self.spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]

    def on_kubernetes(self, name: str) -> dict[str, Any]:
        return self.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{name}"]

    def give(self, task: str, **constants: Any) -> None:
        given = self.tasks[task]["inputs"]["parameters"]
        given.update({name: {"runtimeValue": {"constant": value}} for name, value in constants.items()})

    def take(self, name: str, producer: str, output: str = "model") -> dict[str, Any]:
        """An input artifact of Trainer, and an output of Prepare, for a task's inputs."""
        kind = {"artifactType": {"schemaTitle": "system.Model", "schemaVersion": "0.0.1"}}
        self.component("prepare")["outputDefinitions"] = {"artifacts": {"model": copy.deepcopy(kind)}}
        self.component("trainer")["inputDefinitions"]["artifacts"] = {name: copy.deepcopy(kind)}
        return {name: {"taskOutputArtifact": {"producerTask": producer, "outputArtifactKey": output}}}

    def problems(self) -> list[str]:
        return problems(yaml.safe_dump_all([self.spec, self.platform]))


@pytest.fixture
def package(text) -> Package:
    return Package(text)


def test_what_the_kfp_sdk_compiles_passes(text, package):
    assert problems(text) == []
    assert package.problems() == []
    assert problems(yaml.safe_dump(package.spec)) == [], "a package without a platform is one, too"


def test_an_artifact_handed_from_task_to_task_passes(package):
    package.tasks["trainer"]["inputs"]["artifacts"] = package.take("start", "prepare")
    assert package.problems() == []


CHANGES: dict[str, tuple[Callable[[Package], Any], str]] = {
    "schema version": (
        lambda p: p.spec.update(schemaVersion="2.0.0"),
        "the schema version is 2.0.0; the backend takes 2.1.0 only",
    ),
    "pipeline name": (
        lambda p: p.spec["pipelineInfo"].update(name="cats_vs_dogs"),
        "the pipeline is called 'cats_vs_dogs'; expected lower-case letters, digits and hyphens, at most 128",
    ),
    "component without implementation": (
        lambda p: p.component("prepare").pop("executorLabel"),
        "component 'comp-prepare' has neither an executor nor a DAG",
    ),
    "absent executor": (
        lambda p: p.component("prepare").update(executorLabel="exec-other"),
        "component 'comp-prepare' has the executor 'exec-other', which does not exist",
    ),
    "absent component": (
        lambda p: p.tasks["prepare"]["componentRef"].update(name="comp-other"),
        f"{PREPARE} runs the component 'comp-other', which does not exist",
    ),
    "component called root": (
        lambda p: p.spec["components"].update(root=p.component("prepare")),
        "a component is called 'root', which is the name of the pipeline itself",
    ),
    "component in itself": (
        lambda p: p.tasks.update(again={"componentRef": {"name": HANDLER}}),
        f"components contain each other: {HANDLER} -> {HANDLER}",
    ),
    "task name": (
        lambda p: p.tasks.update(feature_vectors=p.tasks.pop("trainer")),
        f"task 'feature_vectors' of {HANDLER} has a name that Argo does not take; expected letters, digits and hyphens",
    ),
    "task name that begins with a digit": (
        lambda p: p.tasks.update({"2nd": p.tasks.pop("trainer")}),
        f"task '2nd' of {HANDLER} has a name that Argo does not take; expected letters, digits and hyphens, a letter",
    ),
    "long task name": (
        lambda p: p.tasks.update({"t" * 122: p.tasks.pop("trainer")}),
        f"task '{'t' * 122}' of {HANDLER} has too long a name: Argo gets '{'t' * 122}-driver', and takes 128",
    ),
    "long name of an exit task": (
        lambda p: p.root.update({"r" * 114: p.root.pop("report")}),
        f"task '{'r' * 114}' has too long a name: Argo gets 'exit-hook-root-{'r' * 114}', and takes 128 characters",
    ),
    "name of a DAG": (
        lambda p: (
            p.spec["components"].update(comp_all=p.spec["components"].pop(HANDLER)),
            p.root["exit-handler-1"]["componentRef"].update(name="comp_all"),
        ),
        "component 'comp_all' has a name that Argo does not take; expected letters, digits and hyphens",
    ),
    "resolver": (
        lambda p: p.spec["deploymentSpec"]["executors"].update({"exec-prepare": {"resolver": {}}}),
        f"{PREPARE} needs a resolver executor (exec-prepare); the backend has those for containers and importers only",
    ),
    "custom job": (
        lambda p: p.spec["deploymentSpec"]["executors"].update({"exec-trainer": {"customJob": {"customJob": {}}}}),
        f"{TRAINER} needs a customJob executor (exec-trainer); the backend has those for containers and importers only",
    ),
    "driver": (
        lambda p: p.container("prepare").update(lifecycle={"preCacheCheck": {"command": ["python"]}}),
        f"{PREPARE} has a driver of its own (exec-prepare, lifecycle), which the backend never runs",
    ),
    "absent task to wait for": (
        lambda p: p.tasks["trainer"].update(dependentTasks=["report"]),
        f"{TRAINER} waits for 'report', and there is no such task beside it",
    ),
    "waiting for an exit task": (
        lambda p: p.root["exit-handler-1"].update(dependentTasks=["report"]),
        "task 'exit-handler-1' waits for 'report', an exit task, for which nothing can wait",
    ),
    "waiting for each other": (
        lambda p: p.tasks["prepare"].update(dependentTasks=["trainer"]),
        f"tasks of {HANDLER} wait for each other: prepare -> trainer -> prepare",
    ),
    "exit tasks only": (
        lambda p: [
            task.update(triggerPolicy={"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}) for task in p.tasks.values()
        ],
        f"{HANDLER} has no task besides exit tasks",
    ),
    "exit task of nothing": (
        lambda p: p.root["report"].pop("dependentTasks"),
        "task 'report' is an exit task of nothing, and never runs",
    ),
    "two exit tasks": (
        lambda p: p.root.update(again=copy.deepcopy(p.root["report"])),
        "task 'report' and 'again' are both exit tasks of 'exit-handler-1'; only one of them runs",
    ),
    "exit task with an output of others": (
        lambda p: p.root["report"]["inputs"].update(artifacts=p.take("start", "exit-handler-1")),
        "task 'report' is an exit task and takes 'start' from 'exit-handler-1', which may have failed",
    ),
    "loop over artifacts": (
        lambda p: p.tasks["trainer"].update(artifactIterator={"itemInput": "x"}),
        f"{TRAINER} loops over artifacts, which the backend cannot",
    ),
    "importer under a condition": (
        lambda p: (
            p.spec["deploymentSpec"]["executors"].update({"exec-trainer": {"importer": {}}}),
            p.tasks["trainer"].update(triggerPolicy={"condition": "true"}),
        ),
        f"{TRAINER} imports an artifact under a condition, which the backend cannot",
    ),
    "missing value": (
        lambda p: p.tasks["trainer"]["inputs"]["parameters"].pop("epochs"),
        f"{TRAINER} gives its component no value for 'epochs', which has no default",
    ),
    "final status": (
        lambda p: p.tasks["trainer"]["inputs"]["parameters"].update(
            run_id={"taskFinalStatus": {"producerTask": "prepare"}}
        ),
        f"{TRAINER} takes the final status of a task as 'run_id', which backends before 2.14 do not give",
    ),
    "constant of schema 2.0.0": (
        lambda p: p.tasks["trainer"]["inputs"]["parameters"].update(
            run_id={"runtimeValue": {"constantValue": {"stringValue": "x"}}}
        ),
        f"{TRAINER} gives 'run_id' in the manner of schema 2.0.0; expected a constant",
    ),
    "constant of another type": (
        lambda p: p.give("trainer", epochs="three"),
        f"{TRAINER} gives 'three' for 'epochs', which is a NUMBER_INTEGER",
    ),
    "absent input around": (
        lambda p: p.spec["components"][HANDLER]["inputDefinitions"]["parameters"].pop("pipelinechannel--data"),
        f"{PREPARE} takes 'data' from 'pipelinechannel--data', which {HANDLER} does not have as an input",
    ),
    "undeclared artifact": (
        lambda p: (
            p.tasks["trainer"]["inputs"].update(artifacts=p.take("start", "prepare")),
            p.component("trainer")["inputDefinitions"].pop("artifacts"),
        ),
        f"{TRAINER} and its component do not agree about the input artifact 'start'",
    ),
    "absent output": (
        lambda p: p.tasks["trainer"]["inputs"].update(artifacts=p.take("start", "prepare", "weights")),
        f"{TRAINER} takes 'start' from the output 'weights' of 'prepare', which has no such output",
    ),
    "output of a task displayed otherwise": (
        lambda p: (
            p.tasks["trainer"]["inputs"].update(artifacts=p.take("start", "prepare")),
            p.tasks["prepare"]["taskInfo"].update(name="Prepare"),
        ),
        f"{TRAINER} takes an output of 'prepare', whose display name is another; 2.5 does not find it",
    ),
    "parameter of schema 2.0.0": (
        lambda p: p.parameters.update(data={"type": "STRING"}),
        "parameter 'data' of the pipeline has no type, or one in the manner of schema 2.0.0",
    ),
    "parameter without default": (
        lambda p: p.parameters.update(data={"parameterType": "STRING"}),
        "parameter 'data' of the pipeline has no default, so a schedule cannot start it",
    ),
    "default of another type": (
        lambda p: p.parameters["epochs"].update(defaultValue=2.5),
        "parameter 'epochs' of the pipeline is a NUMBER_INTEGER, and its default is 2.5",
    ),
    "default of a component": (
        lambda p: p.component("trainer")["inputDefinitions"]["parameters"]["epochs"].update(defaultValue="3"),
        "parameter 'epochs' of comp-trainer is a NUMBER_INTEGER, and its default is '3'",
    ),
    "placeholder as a default": (
        lambda p: p.parameters["data"].update(defaultValue=RUN_ID),
        f"parameter 'data' of the pipeline has the default '{RUN_ID}', in which nothing is replaced",
    ),
    "run id in a command": (
        lambda p: p.container("trainer")["args"].append(f"--id={RUN_ID}"),
        f"the command of {TRAINER} uses {RUN_ID}, which is replaced only in an input of a task",
    ),
    "undeclared parameter in a command": (
        lambda p: p.component("prepare")["inputDefinitions"]["parameters"].pop("data"),
        f"the command of {PREPARE} uses {DATA}, which is no output and no given input of it",
    ),
    "parameter without a value in a command": (
        lambda p: (
            p.component("prepare")["inputDefinitions"]["parameters"]["data"].update(isOptional=True),
            p.tasks["prepare"]["inputs"]["parameters"].pop("data"),
        ),
        f"the command of {PREPARE} uses {DATA}, which is no output and no given input of it",
    ),
    "undeclared artifact in a command": (
        lambda p: p.component("report")["outputDefinitions"]["artifacts"].pop("page"),
        "the command of task 'report' uses {{$.outputs.artifacts['page'].path}}, which is no output and no given input "
        "of it",
    ),
    "placeholder in a variable": (
        lambda p: p.container("trainer").update(env=[{"name": "RUN", "value": RUN_ID}]),
        f"the variable RUN of {TRAINER} is '{RUN_ID}'; nothing is replaced there",
    ),
    "placeholder inside a constant": (
        lambda p: p.give("trainer", run_id=f"run-{RUN_ID}"),
        f"{TRAINER} gives 'run-{RUN_ID}' for 'run_id'; a placeholder is replaced only where it is the whole value",
    ),
    "artifact without a title": (
        lambda p: p.component("report")["outputDefinitions"]["artifacts"].update(page={"artifactType": {}}),
        "artifact 'page' of comp-report has a schema without a title",
    ),
    "input artifact of TFX": (
        lambda p: (
            p.tasks["trainer"]["inputs"].update(artifacts=p.take("start", "prepare")),
            p.component("trainer")["inputDefinitions"]["artifacts"].update(
                start={"artifactType": {"instanceSchema": "title: tfx.Examples\ntype: object\n"}}
            ),
        ),
        "input artifact 'start' of comp-trainer has a schema of its own, and arrives with an empty one",
    ),
    "caching": (
        lambda p: p.tasks["trainer"].update(cachingOptions={"enableCache": True}),
        f"{TRAINER} is cached by Kubeflow, whose key does not contain the data; expected that to be off",
    ),
    "retry policy without retries": (
        lambda p: p.tasks["trainer"]["retryPolicy"].pop("maxRetryCount"),
        f"{TRAINER} has a retry policy without retries",
    ),
    "retry policy without time": (
        lambda p: p.tasks["trainer"]["retryPolicy"].pop("backoffMaxDuration"),
        f"{TRAINER} has a retry policy without backoffMaxDuration, after which Argo never tries again",
    ),
    "retry policy with a broken factor": (
        lambda p: p.tasks["trainer"]["retryPolicy"].update(backoffFactor=1.5),
        f"{TRAINER} has the backoffFactor 1.5; Argo takes a whole number",
    ),
    "long argument": (
        lambda p: p.container("trainer")["args"].append("x" * 131_072),
        f"{TRAINER} has an argument of 131,072 bytes; Linux takes fewer than 131,072",
    ),
    "many arguments": (
        lambda p: p.container("trainer")["args"].extend(["x" * 1000] * 132),
        f"{TRAINER} is 13",
    ),
    "large DAG": (
        lambda p: p.tasks.update({f"t{i}": {**p.tasks["trainer"], "taskInfo": {"name": f"t{i}"}} for i in range(400)}),
        f"component '{HANDLER}' is ",
    ),
    "large constant": (
        lambda p: p.give("prepare", data="x" * 140_000),
        f"the spec of {PREPARE} is 140,",
    ),
    "large package": (
        lambda p: p.spec["pipelineInfo"].update(description="x" * 1_100_000),
        "the package has 1,10",
    ),
    "equal containers": (
        lambda p: (
            p.container("prepare").update(args=["--run-id", "{{$.inputs.parameters['run_id']}}"], command=COMMAND)
            or p.spec["deploymentSpec"]["executors"]["exec-trainer"].update(container=p.container("prepare"))
        ),
        "components 'comp-prepare' and 'comp-trainer' have equal containers, and different inputs or outputs",
    ),
    "settings of an absent executor": (
        lambda p: p.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].update({"exec-other": {}}),
        "the platform has settings for the executor 'exec-other', which does not exist",
    ),
    "volume without a claim": (
        lambda p: [
            p.on_kubernetes("trainer")["pvcMount"][0].pop(key, None) for key in ("constant", "pvcNameParameter")
        ],
        f"{TRAINER} mounts a claim without a name",
    ),
    "claim with an impossible name": (
        lambda p: p.on_kubernetes("trainer")["pvcMount"][0].update(constant="warm.start"),
        f"{TRAINER} mounts the claim 'warm.start'; expected up to 63 lower-case letters, digits and hyphens",
    ),
    "volume without a path": (
        lambda p: p.on_kubernetes("trainer")["pvcMount"][0].pop("mountPath"),
        f"{TRAINER} mounts something at ''; expected an absolute path for each mount, and another one",
    ),
    "two volumes at one path": (
        lambda p: p.on_kubernetes("trainer").update(secretAsVolume=[{"secretName": "a", "mountPath": "/warmstart"}]),
        f"{TRAINER} mounts something at '/warmstart'; expected an absolute path for each mount, and another one",
    ),
    "secret without a name": (
        lambda p: p.on_kubernetes("trainer").update(
            secretAsVolume=[{"mountPath": "/secret"}],
            secretAsEnv=[{"keyToEnv": [{"secretKey": "password", "envVar": "PASSWORD"}]}],
        ),
        f"{TRAINER} takes variables from a secret without a name",
    ),
    "secret without a key": (
        lambda p: p.on_kubernetes("trainer")["secretAsEnv"][0].update(keyToEnv=[{"envVar": "PASSWORD"}]),
        f"{TRAINER} takes a variable from a secret without saying which",
    ),
}


@pytest.mark.parametrize("rule", CHANGES)
def test_a_broken_rule_is_one_sentence(package, rule):
    change, expected = CHANGES[rule]
    change(package)
    found = package.problems()
    assert any(sentence.startswith(expected) for sentence in found), found
    assert all("\n" not in sentence for sentence in found)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", "the package holds no pipeline spec; expected what the kfp SDK's compiler writes"),
        ("- 1", "the package holds no pipeline spec; expected what the kfp SDK's compiler writes"),
        ("a: [", "the package is no YAML: "),
        ("displayName: x\npipelineSpec: {}", "the package is no pipeline spec: "),
        (
            "pipelineInfo: {name: x}\nschemaVersion: 2.1.0",
            "the pipeline has no task: its root is no DAG, or an empty one",
        ),
        ("root: {}\n---\na: 1\n---\nb: 1", "the package holds 3 documents; expected a pipeline spec and a platform"),
    ],
)
def test_what_is_no_package_is_one_sentence(written, expected):
    [sentence] = problems(written)
    assert sentence.startswith(expected)
    assert "\n" not in sentence


def test_a_second_document_that_the_backend_passes_over_is_told(package):
    expected = "the second document has no platforms.kubernetes alone, so the backend passes over it"
    package.platform = {"platforms": {"other": {}}}
    assert package.problems() == [expected]
    package.platform = {"platforms": {"kubernetes": 3}}
    [sentence] = package.problems()
    assert sentence.startswith("the second document is no platform spec: ")


def test_several_problems_are_all_told(package):
    package.spec["schemaVersion"] = "2.0.0"
    package.tasks["prepare"]["cachingOptions"] = {"enableCache": True}
    package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-other"] = {}
    assert len(package.problems()) == 3
