"""Flink in deploy/kubernetes: what stands there finds each other, is of the versions at hand, and lets in no more.

It was never applied to a cluster: this is what can be said of it without one.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.beam_arguments import Given, refuse_wrong
from deploy.kubeflow.compiler import Cluster
from pipeline.config.release import RuntimeConfig
from tests.manifests import (
    KUBERNETES,
    VERSION,
    VERSIONS,
    Document,
    is_pinned,
    named,
    one,
    overlay,
    pods,
    read,
    render,
    security_problems,
)

FILE = KUBERNETES / "components" / "flink" / "flink.yaml"
NAME, WORKERS = "warmstart-flink", "warmstart-flink-workers"


@pytest.fixture
def documents() -> list[Document]:
    return read(FILE)


def containers(documents: list[Document], name: str) -> dict[str, Document]:
    return {it["name"]: it for it in dict(pods(documents))[name]["spec"]["containers"]}


def ports(container: Document) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def configuration(documents: list[Document]) -> dict[str, Any]:
    """Flink's own, with the keys as Flink has them."""

    def flat(level: dict[str, Any], above: str = "") -> dict[str, Any]:
        found = {}
        for key, value in level.items():
            found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
        return found

    return flat(yaml.safe_load(one(documents, "ConfigMap", NAME)["data"]["config.yaml"]))


def test_it_is_put_beside_the_base_and_every_known_kubernetes_takes_it(tmp_path):
    content = {
        "resources": ["base"],
        "components": ["components/flink"],
        "namespace": "kubeflow",
        "images": [{"name": "warmstart", "newName": "registry.example.com/warmstart", "newTag": VERSION}],
    }
    found = render(overlay(tmp_path / "mine", content))
    for version in VERSIONS:
        for document in found:
            kubernetes_validate.validate(document, version, strict=True)
    templates = dict(pods(found))
    assert templates.keys() >= {NAME, WORKERS, "warmstart-toolbox"}
    for name in (NAME, WORKERS):
        assert list(security_problems(templates[name]["spec"])) == []
    assert containers(found, WORKERS)["workers"]["image"] == f"registry.example.com/warmstart:{VERSION}"
    # The pools may use the volume as the steps may.
    toolbox = templates["warmstart-toolbox"]["spec"]
    assert templates[WORKERS]["spec"]["securityContext"] == toolbox["securityContext"]


def test_two_task_managers_have_a_pool_of_workers_of_the_image_each(documents):
    deployment = one(documents, "Deployment", WORKERS)["spec"]
    assert deployment["replicas"] == 2
    assert containers(documents, WORKERS).keys() == {"task-manager", "workers"}
    workers = containers(documents, WORKERS)["workers"]
    assert workers["image"] == f"warmstart:{VERSION}"
    # Without `command` the image's entry point stays, which ends on SIGTERM.
    assert "command" not in workers
    python, dash_m, module, *arguments = workers["args"]
    assert (python, dash_m) == ("python", "-m")
    assert importlib.util.find_spec(module) is not None
    assert arguments == [f"--service_port={ports(workers)['workers']}"]
    # Photos, roots and nothing else; Flink itself has no volume.
    cluster = Cluster(image="")
    assert {"name": "warmstart", "mountPath": cluster.mount} in workers["volumeMounts"]
    [claim] = [it for it in deployment["template"]["spec"]["volumes"] if "persistentVolumeClaim" in it]
    assert claim["persistentVolumeClaim"]["claimName"] == cluster.volume_claim
    others = [*containers(documents, NAME).values(), containers(documents, WORKERS)["task-manager"]]
    assert not [it for it in others for mount in it["volumeMounts"] if mount["name"] == "warmstart"]


def test_versions_are_those_of_the_environment(documents):
    """Beam's job server speaks the protocol of one Beam and is built for one Flink, which this Beam knows."""
    images = {it["name"]: it["image"] for name in (NAME, WORKERS) for it in containers(documents, name).values()}
    assert all(is_pinned(image) for image in images.values())
    assert images["job-manager"] == images["task-manager"]
    flink = re.fullmatch(r"flink:(\d+\.\d+)\.\d+", images["job-manager"])[1]
    lock = (KUBERNETES.parents[1] / "requirements.lock").read_text(encoding="utf-8")
    beam = re.search(r"^apache-beam==(\S+) ; python_full_version < '3.11'", lock, re.MULTILINE)[1]
    assert images["job-server"] == f"apache/beam_flink{flink}_job_server:{beam}"
    # Read, and not imported: Beam takes seconds to import.
    options = Path(metadata.distribution("apache-beam").locate_file("apache_beam/options/pipeline_options.py"))
    known = re.search(r"PUBLISHED_FLINK_VERSIONS = \[(.*?)\]", options.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert f"'{flink}'" in known


def test_everything_listens_where_the_others_ask(documents):
    flink = configuration(documents)
    manager, server = (containers(documents, NAME)[name] for name in ("job-manager", "job-server"))
    task_manager = containers(documents, WORKERS)["task-manager"]
    assert ports(manager) == {
        "rpc": flink["jobmanager.rpc.port"],
        "blob": flink["blob.server.port"],
        "rest": flink["rest.port"],
    }
    assert ports(task_manager) == {"rpc": flink["taskmanager.rpc.port"], "data": flink["taskmanager.data.port"]}
    arguments = dict(argument.removeprefix("--").split("=") for argument in server["args"])
    # In the same pod, hence localhost.
    assert arguments["flink-master"] == f"localhost:{flink['rest.port']}"
    assert {"jobs": arguments["job-port"], "artifacts": arguments["artifact-port"]} == {
        name: str(port) for name, port in ports(server).items()
    }
    service = one(documents, "Service", NAME)
    assert flink["jobmanager.rpc.address"] == service["metadata"]["name"]
    listening = {**ports(manager), **ports(server)}
    assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == {
        name: port for name, port in listening.items() if name != "rest"
    }
    for container in (manager, task_manager):
        [config] = [mount for mount in container["volumeMounts"] if mount["name"] == "config"]
        assert config["subPath"] in one(documents, "ConfigMap", NAME)["data"]


def test_memory_is_what_flink_asks_for_and_photos_fit_into_a_sort_buffer(documents):
    flink = configuration(documents)
    mebibytes = {"m": 1, "Mi": 1, "Gi": 1024}

    def size(text: str) -> int:
        number, unit = re.fullmatch(r"(\d+)(m|Mi|Gi)", text).groups()
        return int(number) * mebibytes[unit]

    for name, of_pod, key in (
        ("job-manager", NAME, "jobmanager.memory.process.size"),
        ("task-manager", WORKERS, "taskmanager.memory.process.size"),
    ):
        resources = containers(documents, of_pod)[name]["resources"]
        assert size(resources["requests"]["memory"]) == size(flink[key])
        assert size(resources["limits"]["memory"]) > size(flink[key])
    # Flink sorts a record in its managed memory (tfx issue 3251: with 512 MB and less a photo may not fit).
    assert size(flink["taskmanager.memory.managed.size"]) / flink["taskmanager.numberOfTaskSlots"] > 512


def test_only_task_managers_reach_what_runs_programs_and_nobody_the_pool_of_workers(documents):
    """`from` without a policy's port would let anybody in; the page of Flink takes programs too."""
    to_jobs, to_flink = one(documents, "NetworkPolicy", NAME)["spec"]["ingress"]
    assert to_jobs == {"from": [{"podSelector": {}}], "ports": [{"port": "jobs"}, {"port": "artifacts"}]}
    workers = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": WORKERS}}}
    assert to_flink == {"from": [workers], "ports": [{"port": "rpc"}, {"port": "blob"}]}
    [to_workers] = one(documents, "NetworkPolicy", WORKERS)["spec"]["ingress"]
    assert to_workers["ports"] == [{"port": "rpc"}, {"port": "data"}]
    labels = [it["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for it in to_workers["from"]]
    assert labels == [NAME, WORKERS]
    assert len(named(documents, "NetworkPolicy")) == 2


def test_the_arguments_that_are_told_are_those_of_what_stands_there(documents):
    """In the file itself and in deploy/README.md, and none that is refused before the first job."""
    comment = "".join(line.removeprefix("#") for line in FILE.read_text().splitlines() if line.startswith("#"))
    readme = (KUBERNETES.parent / "README.md").read_text(encoding="utf-8")
    found = []
    for text in (comment, readme):
        [told] = [it for it in re.findall(r"beam_pipeline_args='\[([^']*?)\]'", text) if "job_endpoint" in it]
        found.append([argument.strip() for argument in told.split(",")])
    assert found[0] == found[1]
    refuse_wrong(RuntimeConfig(beam_pipeline_args=found[0]), connects=False)
    flags = Given.of(found[0]).flags
    server, workers = containers(documents, NAME)["job-server"], containers(documents, WORKERS)["workers"]
    assert flags["job_endpoint"] == f"{NAME}:{ports(server)['jobs']}"
    assert flags["artifact_endpoint"] == f"{NAME}:{ports(server)['artifacts']}"
    assert flags["environment_config"] == f"localhost:{ports(workers)['workers']}"
    slots = configuration(documents)["taskmanager.numberOfTaskSlots"]
    assert int(flags["parallelism"]) == slots * one(documents, "Deployment", WORKERS)["spec"]["replicas"]


def test_make_runs_the_comparison_on_a_flink_that_is_named_and_refuses_without_one():
    repository = KUBERNETES.parents[1]
    command = ["make", "--no-print-directory", "test-flink"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "make test-flink FLINK_MASTER=HOST:PORT" in done.stderr
    # What it would do.
    command += ["--dry-run", "FLINK_MASTER=flink.example:8081"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    [arguments] = re.findall(r'^ENGINE_ARGS="(.*?)" .*test_beam_engine.py$', done.stdout, re.MULTILINE)
    refuse_wrong(RuntimeConfig(beam_pipeline_args=arguments.split()), connects=False)
    assert Given.of(arguments.split()).flags["flink_master"] == "flink.example:8081"
