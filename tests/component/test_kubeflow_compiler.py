"""What the package for Kubeflow says of every task, and what is refused before there is one.

Nothing here needs TFX: the graph is handed over as data. So the same tests run with the newest `kfp`, too
(`test_kubeflow_newest_kfp.py`).
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from deploy.kubeflow import package_request
from deploy.kubeflow.compiler import METADATA_SERVICE, RUN_ID, Cluster, Defaults, compile_package, task_name
from deploy.kubeflow.package_file import read_package
from deploy.kubeflow.package_request import PackageRequest, check_reference, resolve, step_resources
from deploy.kubeflow.plan import PREPARE, REPORT
from deploy.metadata_address import PASSWORD_VARIABLE
from pipeline.config import Config, StepResources, known_configs, load_config
from schemas.errors import BadInput
from tests.kubeflow_lint import problems

REPOSITORY = Path(__file__).parents[2]
IMAGE = "registry.example/warmstart:1"
# A diamond, two beginnings, and a node under no other.
GRAPH = {
    "CuratedSchema": (),
    "ImageExampleGen": (),
    "StatisticsGen": ("CuratedSchema", "ImageExampleGen"),
    "Transform": ("ImageExampleGen",),
    "FineTuning": ("StatisticsGen", "Transform"),
    "Pusher": ("FineTuning",),
}
STEPS = [PREPARE, *GRAPH, REPORT]
RESOURCES = {
    **dict.fromkeys(STEPS, StepResources()),
    "Transform": StepResources(retries=0, cpu="500m", memory="2G"),
    "FineTuning": StepResources(
        retries=5, timeout_minutes=90.5, cpu="4", memory="16G", accelerator="nvidia.com/gpu", accelerators=2
    ),
    "Pusher": StepResources(cpu=None, memory=None, timeout_minutes=10),
}
DEFAULTS = Defaults(
    config="cats_vs_dogs", data="cats_vs_dogs=/warmstart/photos", overrides="image.size=64", root="/warmstart/runs/c"
)
CLUSTER = Cluster(IMAGE, "my-claim", "/data", "mysql://ann@db.example/metadb", "metadata-password")


class Package:
    """A compiled package, by what a reader asks about."""

    def __init__(self, text: str):
        self.text = text
        self.spec, self.platform = yaml.safe_load_all(text)
        self.root = self.spec["root"]["dag"]["tasks"]
        [self.group] = [name for name in self.root if name != task_name(REPORT)]
        inside = self.spec["components"][self.root[self.group]["componentRef"]["name"]]["dag"]["tasks"]
        self.tasks: dict[str, Any] = {task_name(REPORT): self.root[task_name(REPORT)], **inside}

    def by_step(self) -> dict[str, dict[str, Any]]:
        """Step, as it is shown -> its task."""
        return {task["taskInfo"]["name"]: task for task in self.tasks.values()}

    def component(self, step: str) -> dict[str, Any]:
        return self.spec["components"][self.by_step()[step]["componentRef"]["name"]]

    def container(self, step: str) -> dict[str, Any]:
        return self.spec["deploymentSpec"]["executors"][self.component(step)["executorLabel"]]["container"]

    def flags(self, step: str) -> dict[str, str]:
        """Flag -> value, of a task's command."""
        arguments = self.container(step)["args"]
        assert all(flag.startswith("--") for flag in arguments[::2])
        flags = dict(zip(arguments[::2], arguments[1::2], strict=True))
        assert len(flags) == len(arguments) / 2
        return flags

    def on_kubernetes(self, step: str) -> dict[str, Any]:
        executors = self.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        return executors[self.component(step)["executorLabel"]]

    @property
    def parameters(self) -> dict[str, Any]:
        return self.spec["root"]["inputDefinitions"]["parameters"]


def compiled(graph: Any = GRAPH, resources: Any = None, cluster: Cluster = CLUSTER, defaults=DEFAULTS) -> Package:
    resources = resources or dict.fromkeys([PREPARE, *graph, REPORT], StepResources())
    return Package(compile_package("cats_vs_dogs", graph, resources, cluster, defaults))


@pytest.fixture(scope="module")
def package() -> Package:
    return compiled(resources=RESOURCES)


def given(name: str) -> str:
    return f"{{{{$.inputs.parameters['{name}']}}}}"


# ---- tasks


def test_there_is_a_task_for_every_step_and_no_other(package):
    assert set(package.by_step()) == set(STEPS)
    assert len(package.tasks) == len(STEPS) == len(package.spec["deploymentSpec"]["executors"])
    assert package.spec["pipelineInfo"]["name"] == "cats-vs-dogs"
    assert package.root[package.group]["taskInfo"]["name"] == "cats-vs-dogs"


def test_no_rule_of_the_backend_is_broken(package):
    assert problems(package.text) == []


def test_every_task_runs_the_one_entry_point_in_the_one_image(package):
    for step in STEPS:
        container = package.container(step)
        assert container["image"] == IMAGE
        assert container["command"] == ["python", "-m", "deploy.kubeflow.node"]
        flags = package.flags(step)
        assert flags["--node"] == step
        assert flags["--metadata"] == "mysql://ann@db.example/metadb"
        assert flags["--root"] == given("root")


def test_the_flags_are_those_that_the_entry_point_knows(package):
    ours = ["--node", "--metadata", "--root", "--run-id"]
    of_prepare = ["--config", "--data", "--span", "--overrides", "--tfx-pipeline-root", "--force-push", "--nodes"]
    assert set(package.flags(PREPARE)) == {*ours, *of_prepare}
    assert set(package.flags(REPORT)) == {*ours, "--page", "--executor-input"}
    assert set(package.flags("CuratedSchema")) == set(ours)
    assert package.flags(PREPARE)["--nodes"] == ",".join(GRAPH)
    source = (REPOSITORY / "deploy" / "kubeflow" / "node.py").read_text(encoding="utf-8")
    for flag in (*ours, *of_prepare, "--page", "--executor-input", "--timeout-minutes"):
        assert f'"{flag}"' in source


def test_tasks_wait_for_the_nodes_before_them_and_prepare_comes_first(package):
    tasks = package.by_step()
    assert "dependentTasks" not in tasks[PREPARE]
    for node, before in GRAPH.items():
        assert tasks[node]["dependentTasks"] == sorted(map(task_name, before or (PREPARE,)))


def test_report_is_the_exit_task_of_everything_else(package):
    report = package.by_step()[REPORT]
    assert report["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert report["dependentTasks"] == [package.group]
    assert set(package.root) == {package.group, "report"}
    assert all("triggerPolicy" not in task for name, task in package.tasks.items() if name != "report")


def test_page_and_metrics_are_artifacts_of_report_alone(package):
    artifacts = package.component(REPORT)["outputDefinitions"]["artifacts"]
    assert {name: one["artifactType"]["schemaTitle"] for name, one in artifacts.items()} == {
        "page": "system.HTML",
        "metrics": "system.Metrics",
    }
    assert package.flags(REPORT)["--page"] == "{{$.outputs.artifacts['page'].path}}"
    assert package.flags(REPORT)["--executor-input"] == "{{$}}"
    assert all("outputDefinitions" not in package.component(step) for step in STEPS if step != REPORT)


def test_the_cache_of_kubeflow_is_off_for_every_task(package):
    for step, task in package.by_step().items():
        assert not task["cachingOptions"].get("enableCache"), step
    assert "enableCache" not in package.text


def test_the_runs_id_is_an_input_of_every_task(package):
    for step, task in package.by_step().items():
        assert task["inputs"]["parameters"]["run_id"] == {"runtimeValue": {"constant": RUN_ID}}
        assert package.flags(step)["--run-id"] == given("run_id")
    assert RUN_ID == "{{$.pipeline_job_uuid}}"
    assert package.text.count("pipeline_job_uuid") == len(STEPS)


# ---- names


@pytest.mark.parametrize(
    ("node", "name"),
    [
        ("ImageExampleGen", "image-example-gen"),
        ("CSVExampleGen", "csv-example-gen"),
        ("Trainer", "trainer"),
        ("Trainer.fine_tuning", "trainer-fine-tuning"),
        ("Trainer2", "trainer2"),
        ("Step2Trainer", "step2-trainer"),
        ("TFX", "tfx"),
        ("evaluate the MODEL", "evaluate-the-model"),
        ("--Odd__Name--", "odd-name"),
        ("2ndTrainer", "step-2nd-trainer"),
        ("Über", "ber"),
        ("Ω", "step"),
        ("_", "step"),
    ],
)
def test_names_fit_argo(node, name):
    assert task_name(node) == name


def test_odd_nodes_make_a_package_that_the_backend_takes_and_keep_their_own_names():
    odd = ["2ndTrainer", "Ω", "_", "Trainer.fine", "Trainer-fine", "trainer_Fine", "Prepare2", "prepare", "report", "x"]
    graph = {node: odd[:number][-2:] for number, node in enumerate(odd)}
    package = compiled(graph)
    assert problems(package.text) == []
    assert set(package.by_step()) == {PREPARE, *odd, REPORT}
    assert len(package.tasks) == len(odd) + 2
    names = {step: name for name, task in package.tasks.items() for step in [task["taskInfo"]["name"]]}
    for node, before in graph.items():
        assert package.flags(node)["--node"] == node
        waits = [names[other] for other in before] or [names[PREPARE]]
        assert package.by_step()[node]["dependentTasks"] == sorted(waits)


@pytest.mark.slow
@pytest.mark.release
def test_forty_nodes_that_wait_for_all_before_them_are_still_a_package():
    nodes = [f"Node{number}" for number in range(40)]
    package = compiled({node: nodes[:number] for number, node in enumerate(nodes)})
    assert problems(package.text) == []
    assert len(package.by_step()["Node39"]["dependentTasks"]) == 39


# ---- resources


def test_a_task_is_tried_again_as_often_as_the_configuration_says(package):
    tries = {step: task.get("retryPolicy", {}).get("maxRetryCount", 0) for step, task in package.by_step().items()}
    assert tries == {**dict.fromkeys(STEPS, 2), "Transform": 0, "FineTuning": 5}
    assert "retryPolicy" not in package.by_step()["Transform"]


def test_retries_end_thirty_days_after_the_first_try_and_not_after_an_hour(package):
    for step, task in package.by_step().items():
        if step != "Transform":
            assert task["retryPolicy"]["backoffMaxDuration"] == f"{30 * 24 * 3600}s"
            assert task["retryPolicy"]["backoffDuration"] == "30s"
            assert task["retryPolicy"]["backoffFactor"] == 2.0
    assert "3600s" not in package.text


def test_cores_memory_and_accelerators_are_asked_for_and_limited(package):
    usual = package.container("CuratedSchema")["resources"]
    assert {usual[key] for key in ("cpuRequest", "cpuLimit")} == {1.0}
    assert {usual[key] for key in ("memoryRequest", "memoryLimit")} == {4.0}
    assert "accelerator" not in usual
    small = package.container("Transform")["resources"]
    assert (small["cpuLimit"], small["memoryLimit"]) == (0.5, 2.0)
    large = package.container("FineTuning")["resources"]
    assert (large["cpuRequest"], large["memoryRequest"]) == (4.0, 16.0)
    assert (large["accelerator"]["type"], large["accelerator"]["count"]) == ("nvidia.com/gpu", "2")
    assert "resources" not in package.container("Pusher")


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize(
    ("cpu", "memory"),
    [("1", "4000000000"), ("0.5", "500M"), ("250m", "4G"), ("96", "2T"), ("2", "512Mi"), ("1500m", "4Gi")],
)
def test_every_quantity_that_the_configuration_takes_is_taken_by_the_sdk(cpu, memory):
    resources = dict.fromkeys([PREPARE, "Make", REPORT], StepResources(cpu=cpu, memory=memory))
    package = compiled({"Make": ()}, resources)
    asked = package.container("Make")["resources"]
    units = {"M": 1e-3, "G": 1, "T": 1e3, "Mi": 2**20 / 1e9, "Gi": 2**30 / 1e9, "": 1e-9}
    digits = memory.rstrip("MGTi")
    assert asked["memoryLimit"] == pytest.approx(int(digits) * units[memory.removeprefix(digits)])
    assert asked["cpuLimit"] == pytest.approx(float(cpu.rstrip("m")) / (1000 if cpu.endswith("m") else 1))
    assert problems(package.text) == []


def test_a_time_limit_is_a_flag_of_the_task_that_has_one(package):
    limits = {step: package.flags(step).get("--timeout-minutes") for step in STEPS}
    assert limits == {**dict.fromkeys(STEPS, None), "FineTuning": "90.5", "Pusher": "10.0"}


def test_every_task_finds_the_volume_and_the_password(package):
    for step in STEPS:
        on_kubernetes = package.on_kubernetes(step)
        [mount] = on_kubernetes["pvcMount"]
        assert (mount["constant"], mount["mountPath"]) == ("my-claim", "/data")
        [secret] = on_kubernetes["secretAsEnv"]
        assert secret["secretName"] == "metadata-password"
        assert secret["keyToEnv"] == [{"envVar": PASSWORD_VARIABLE, "secretKey": "password"}]
    executors = package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == set(package.spec["deploymentSpec"]["executors"])


def test_without_a_secret_there_is_none():
    package = compiled(cluster=Cluster(IMAGE))
    assert "secretAsEnv" not in package.text
    assert package.flags("Pusher")["--metadata"] == METADATA_SERVICE
    assert {package.on_kubernetes(step)["pvcMount"][0]["mountPath"] for step in STEPS} == {"/warmstart"}


def test_a_folder_of_the_claim_and_a_user_stand_in_every_task():
    package = compiled(cluster=Cluster(IMAGE, sub_path="team-a/ml", run_as="1000:2000"))
    for step in STEPS:
        on_kubernetes = package.on_kubernetes(step)
        assert on_kubernetes["pvcMount"][0]["subPath"] == "team-a/ml"
        assert on_kubernetes["securityContext"] == {"runAsUser": "1000", "runAsGroup": "2000"}
    assert problems(package.text) == []
    plain = compiled(cluster=Cluster(IMAGE))
    assert [word for word in ("subPath", "securityContext", "pipelineConfig") if word in plain.text] == []


def test_the_deadline_and_the_end_of_a_workflow_are_settings_of_the_run():
    runtime = {"deadline_hours": 1.5, "workflow_days": 7}
    overrides = [f"runtime.{key}={value}" for key, value in runtime.items()]
    request = PackageRequest("cats_vs_dogs", Cluster(IMAGE), overrides=overrides)
    of_run = package_request._pipeline_config(resolve(request).config)
    assert of_run == {"activeDeadlineSeconds": 5400, "resourceTtlOnCompletion": 604_800}
    resources = dict.fromkeys(STEPS, StepResources())
    package = Package(compile_package("cats_vs_dogs", GRAPH, resources, CLUSTER, DEFAULTS, of_run))
    assert package.platform["platforms"]["kubernetes"]["pipelineConfig"] == of_run
    assert problems(package.text) == []


def test_what_the_platform_says_is_what_the_newest_sdk_knows():
    """The names of the protocol buffers, where they are installed; older ones pass over what they do not know."""
    kubernetes_config = pytest.importorskip("kfp.kubernetes.kubernetes_executor_config_pb2")
    pipeline_spec = pytest.importorskip("kfp.pipeline_spec.pipeline_spec_pb2")
    if "security_context" not in kubernetes_config.KubernetesExecutorConfig.DESCRIPTOR.fields_by_name:
        pytest.skip("an older kfp-kubernetes")
    of_run = {"activeDeadlineSeconds": 5400, "resourceTtlOnCompletion": 604_800}
    cluster = Cluster(IMAGE, sub_path="team-a", run_as="1000:2000")
    text = compile_package("c", GRAPH, dict.fromkeys(STEPS, StepResources()), cluster, DEFAULTS, of_run)
    package = Package(text)
    for step in STEPS:
        config = json_format.ParseDict(package.on_kubernetes(step), kubernetes_config.KubernetesExecutorConfig())
        assert (config.security_context.run_as_user, config.security_context.run_as_group) == (1000, 2000)
        assert config.pvc_mount[0].sub_path == "team-a"
    given = package.platform["platforms"]["kubernetes"]["pipelineConfig"]
    parsed = json_format.ParseDict(given, pipeline_spec.PipelineConfig())
    assert (parsed.active_deadline_seconds, parsed.resource_ttl_on_completion) == (5400, 604_800)


# ---- parameters


def test_parameters_are_texts_with_the_defaults_that_were_given(package):
    assert {name: one["defaultValue"] for name, one in package.parameters.items()} == dataclasses.asdict(DEFAULTS)
    assert {one["parameterType"] for one in package.parameters.values()} == {"STRING"}


def test_parameters_reach_prepare_and_the_root_reaches_everybody(package):
    inputs = package.by_step()[PREPARE]["inputs"]["parameters"]
    assert set(inputs) == {field.name for field in dataclasses.fields(Defaults)} | {"run_id"}
    for name in set(inputs) - {"run_id"}:
        assert inputs[name] == {"componentInputParameter": f"pipelinechannel--{name}"}
        assert package.flags(PREPARE)[f"--{name.replace('_', '-')}"] == given(name)
    for step in STEPS:
        assert "root" in package.by_step()[step]["inputs"]["parameters"]
        if step != PREPARE:
            assert set(package.by_step()[step]["inputs"]["parameters"]) == {"root", "run_id"}


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize(
    "text",
    [
        "name: mine\ndata:\n  sources: {image_folder: }\n# a comment: 'quoted' \"twice\" \\ \t\n",
        "  leading and trailing  ",
        "kätzchen 🐱 猫",
        "17",
        "true",
        "null",
        "[1, 2]",
        "{a: b}",
        "backoffMaxDuration: 3600s",
        "a: 1\ncomponents: 2\n--- # no\n...\n- deploy.kubeflow.node\n",
        "{{ not }} $.ours",
        "x" * 5000,
    ],
)
def test_a_default_comes_out_as_the_text_that_it_was(text):
    defaults = dataclasses.replace(DEFAULTS, config=text, overrides=text, span=text)
    package = compiled({"Make": ()}, defaults=defaults)
    assert {package.parameters[name]["defaultValue"] for name in ("config", "overrides", "span")} == {text}
    assert problems(package.text) == []


def test_the_package_can_be_read_back_for_a_run(package, tmp_path):
    file = tmp_path / "package.yaml"
    file.write_text(package.text, encoding="utf-8")
    found = read_package(file, {"span": "17", "force_push": "new camera"})
    assert found.images == (IMAGE,)
    assert found.tasks == {task_name(step): step for step in STEPS}


# ---- always the same

TWICE = """
import sys
from deploy.kubeflow.compiler import Cluster, Defaults, compile_package
from pipeline.config import StepResources
graph = {"B": (), "A": ("B",), "D": ("B",), "C": ("D", "A", "B")}
resources = dict.fromkeys(["Prepare", *graph, "Report"], StepResources(timeout_minutes=5))
sys.stdout.write(compile_package("cats", graph, resources, Cluster("image:1", metadata_secret="s"), Defaults("cats")))
"""


@pytest.mark.slow
@pytest.mark.release
def test_the_same_graph_gives_the_same_text_in_every_process():
    found = set()
    for seed in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-W", "ignore", "-c", TWICE]
        found.add(subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, check=True).stdout)
    assert len(found) == 1
    assert b"deploy.kubeflow.node" in found.pop()
    assert compiled(resources=RESOURCES).text == compiled(resources=RESOURCES).text


def test_where_the_sdk_is_not_installed_there_is_one_sentence(monkeypatch):
    for module in ("kfp", "kfp.kubernetes"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, module, None)
            if module == "kfp.kubernetes":
                without.delattr(sys.modules["kfp"], "kubernetes", raising=False)
            with pytest.raises(BadInput, match=r"not installed; install warmstart\[kubeflow\]") as error:
                compiled({"Make": ()})
        assert "\n" not in str(error.value)


# ---- what is asked for


def wanted(config: str = "cats_vs_dogs", cluster: dict[str, str] | None = None, **more: Any) -> PackageRequest:
    return PackageRequest(config, Cluster(**{"image": IMAGE, **(cluster or {})}), **more)


def refused(asked: PackageRequest) -> str:
    with pytest.raises(BadInput) as error:
        resolve(asked)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("config", known_configs())
def test_photos_and_root_are_on_the_volume_where_nobody_says_otherwise(config):
    found = resolve(wanted(config, {"mount": "/data"}))
    sources = found.config.data.sources
    assert found.defaults.config == config
    assert found.defaults.root == f"/data/runs/{config}"
    several = len(sources) > 1
    assert sources == {one: f"/data/photos/{one}" if several else "/data/photos" for one in sources}
    assert found.defaults.data == "; ".join(f"{one}={folder}" for one, folder in sources.items())
    assert (found.defaults.span, found.defaults.overrides, found.defaults.tfx_pipeline_root) == ("", "", "")


def test_what_is_asked_for_becomes_the_defaults_of_a_run():
    found = resolve(
        wanted(
            data=["/warmstart/photos/span-{SPAN}"],
            overrides=["image.size=64", "release.guarded_slices=[label, species]"],
            span="17",
            root="/warmstart/r",
            tfx_pipeline_root="gs://bucket/tfx",
        )
    )
    assert found.defaults == Defaults(
        config="cats_vs_dogs",
        data="cats_vs_dogs=/warmstart/photos/span-{SPAN}",
        span="17",
        overrides="image.size=64; release.guarded_slices=[label, species]",
        root="/warmstart/r",
        tfx_pipeline_root="gs://bucket/tfx",
        force_push="",
    )
    assert found.config.image.size == 64
    assert found.config.data.span == 17


def test_a_file_goes_along_as_its_text(tmp_path):
    text = "# mine\nname: mine\ntask: {schema_name: image_folder}\ndata: {sources: {image_folder: /warmstart/p}}\n"
    (tmp_path / "mine.yaml").write_text(text)
    found = resolve(wanted(str(tmp_path / "mine.yaml")))
    assert found.defaults.config == text
    assert found.defaults.root == "/warmstart/runs/mine"


def test_a_folder_with_a_separator_in_its_name_stays_in_the_file_alone(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ntask: {schema_name: image_folder}\ndata: {sources: {image_folder: '/warmstart/a;b'}}\n"
    )
    found = resolve(wanted(str(tmp_path / "mine.yaml")))
    assert found.config.data.sources == {"image_folder": "/warmstart/a;b"}
    assert found.defaults.data == ""


@pytest.mark.parametrize("folder", ["gs://bucket/photos", "gs://bucket/span-{SPAN}", "tfds:cats_vs_dogs", "/warmstart"])
def test_photos_that_the_cluster_sees_are_taken(folder):
    assert resolve(wanted(data=[folder])).config.data.sources == {"cats_vs_dogs": folder}


@pytest.mark.parametrize(
    "folder",
    [
        "/photos",
        "photos",
        "/warmstarted/photos",
        "/warmstart/../photos",
        "/",
        "file:///photos",
        "~/photos",
        "C:\\photos",
    ],
)
def test_photos_that_the_cluster_does_not_see_are_refused(folder):
    text = refused(wanted(data=[folder]))
    assert "the data folder" in text
    assert "is not below /warmstart" in text
    further = refused(
        wanted(overrides=[f"evaluation.further={{oxford_iiit_pet: '{folder}'}}", "evaluation.further_label=label"])
    )
    assert "is not below /warmstart" in further


@pytest.mark.parametrize("root", ["/runs", "runs", "gs://bucket/runs", "/warmstart/../runs", "/warmstarted", "~/runs"])
def test_a_root_beside_the_volume_is_refused(root):
    text = refused(wanted(root=root))
    assert f"the root {root} is not below /warmstart" in text


@pytest.mark.parametrize("place", ["/tfx", "tfx", "tfds:cats_vs_dogs", "file:///tfx", "/warmstart/../tfx"])
def test_a_pipeline_root_that_the_cluster_does_not_see_is_refused(place):
    assert f"the pipeline root {place} is neither below /warmstart" in refused(wanted(tfx_pipeline_root=place))


def test_a_backbone_and_a_first_model_of_this_machine_are_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    folder = str(tmp_path)
    for key in ("backbone.handle", "training.warm_start.source"):
        assert f"{folder}" in refused(wanted(overrides=[f"{key}={folder}"]))
        resolve(wanted(overrides=[f"{key}={folder}"], cluster={"mount": folder}))
    resolve(wanted(overrides=["backbone.handle=https://tfhub.dev/google/imagenet/x/feature_vector/5"]))


@pytest.mark.parametrize(
    "more",
    [
        {"data": ["/warmstart/a;b"]},
        {"data": ["/warmstart/a\nb"]},
        {"overrides": ["release.minimum_accuracy=0.9; image.size=64"]},
        {"overrides": ["data.sources={cats_vs_dogs: '/warmstart/a;b'}"]},
    ],
)
def test_separators_inside_values_are_refused(more):
    text = refused(wanted(**more))
    assert "contains a semicolon or a line break" in text
    assert "configuration file" in text


def test_what_a_runs_parameters_cannot_carry_is_refused(tmp_path):
    assert "the run's parameter data would contain {{$" in refused(wanted(data=["/warmstart/{{$.run}}"]))
    file = tmp_path / "long.yaml"
    text = "name: long\ntask: {schema_name: image_folder}\ndata: {sources: {image_folder: /warmstart/p}}\n# "
    file.write_text(text + "x" * (99_900 - len(text)))
    assert problems(compiled(defaults=resolve(wanted(str(file))).defaults).text) == []
    file.write_text(text + "x" * 100_000)
    told = refused(wanted(str(file)))
    assert "bytes, 100,0" in told
    assert "Kubeflow accepts 100,000" in told


@pytest.mark.parametrize(
    "mount", ["", "/", "warmstart", "/a b", "/a:b", "/a;b", "/a/", "/a/../b", "//a", "/a/.", "/a\n"]
)
def test_a_mount_that_is_no_folder_is_refused(mount):
    assert "is not a folder that a volume can be mounted at" in refused(wanted(cluster={"mount": mount}))


@pytest.mark.parametrize(
    ("cluster", "told"),
    [
        ({"metadata": "localhost"}, "'localhost' is not a metadata address"),
        ({"metadata": "mysql://ann:hidden@db/x"}, "contains a password"),
        ({"volume_claim": "My_Claim"}, "--volume-claim 'My_Claim' is not a valid name in Kubernetes"),
        ({"volume_claim": ""}, "--volume-claim '' is not a valid name"),
        ({"volume_claim": "a" * 64}, "is not a valid name"),
        ({"metadata_secret": "my secret"}, "--metadata-secret 'my secret' is not a valid name"),
        ({"image": "Not An Image"}, "'Not An Image' is not an image reference"),
        ({"image": ""}, "'' is not an image reference"),
        ({"image": "https://registry.example/warmstart"}, "is not an image reference"),
    ],
)
def test_what_cannot_be_on_a_cluster_is_refused(cluster, told):
    text = refused(wanted(cluster=cluster))
    assert told in text
    assert "hidden" not in text


@pytest.mark.parametrize(
    "image",
    [
        "",
        "Warmstart",
        "me//warmstart",
        "me/warmstart:",
        "me/warmstart:a:b",
        "me/warmstart:-a",
        "me/warmstart@sha256:12",
        "https://ghcr.io/me/warmstart",
        "ghcr.io/Me/warmstart",
        "me/warm start",
        "me/../warmstart",
        "me/warmstart:1.0\n",
    ],
)
def test_what_is_no_image_reference_is_refused(image):
    with pytest.raises(BadInput, match="is not an image reference"):
        check_reference(image)


@pytest.mark.parametrize(
    "image",
    [
        "warmstart",
        "me/warmstart:1.0",
        "localhost/me/warmstart",
        "registry:5000/warmstart:latest",
        "ghcr.io/me/warmstart@sha256:" + "0" * 64,
        "ghcr.io/me/warmstart:1.0@sha256:" + "0" * 64,
    ],
)
def test_an_image_reference_is_taken(image):
    check_reference(image)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"config": "cats"}, "unknown configuration 'cats'; did you mean 'cats_vs_dogs'?"),
        ({"config": "absent.yaml"}, "absent.yaml"),
        ({"overrides": ["image.sise=3"]}, "unknown key 'image.sise'"),
        ({"span": "yesterday"}, "expected a span's number"),
        ({"span": "17"}, "/warmstart/photos"),
        ({"data": ["cat_vs_dogs=/warmstart/x"]}, "unknown data set 'cat_vs_dogs'"),
        ({"overrides": ["runtime.steps.FineTuning.memory=lots"]}, "runtime.steps.FineTuning.memory"),
    ],
)
def test_a_wrong_configuration_is_refused_as_on_a_laptop(more, told):
    assert told in refused(wanted(**more))


def config(**runtime: Any) -> Config:
    overrides = [f"runtime.{key}={value}" for key, value in runtime.items()]
    return load_config("cats_vs_dogs", overrides, ["/warmstart/photos"])


def test_every_step_has_its_own_resources_or_those_of_all():
    found = step_resources(
        config(every_step="{memory: 8G}", steps="{FineTuning: {memory: 32G}, Report: {retries: 0}}"), list(GRAPH)
    )
    assert list(found) == STEPS
    assert {step for step, one in found.items() if one.memory == "8G"} == {*STEPS} - {"FineTuning", "Report"}
    assert found["FineTuning"].memory == "32G"
    assert found[REPORT] == StepResources(retries=0)


def test_resources_of_a_step_that_is_not_there_are_refused():
    with pytest.raises(BadInput, match="names FinTuning, Trainer; the steps are Prepare, CuratedSchema,") as error:
        step_resources(config(steps="{FinTuning: {}, Trainer: {}, Pusher: {}}"), list(GRAPH))
    assert "\n" not in str(error.value)
