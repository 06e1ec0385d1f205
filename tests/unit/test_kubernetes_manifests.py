"""The manifests in deploy/kubernetes: valid for Kubernetes, without rights that they do not need, and one with another.

What is checked of the files as they lie there is checked of kustomize's output too, where `kubectl` or `kustomize` is
at hand.
"""

from __future__ import annotations

import copy
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.commands.serve import serve
from deploy.kubeflow.compiler import MOUNT, Cluster
from deploy.metadata_address import PASSWORD_VARIABLE
from deploy.root import ROOTS_FOLDER, Root
from tests.manifests import (
    KUBERNETES,
    KUSTOMIZATION,
    VERSION,
    VERSIONS,
    Document,
    is_pinned,
    kustomizations,
    manifests,
    named,
    one,
    overlay,
    pods,
    read,
    render,
    security_problems,
)

EXAMPLE = KUBERNETES / "overlays" / "example"
# Kubernetes cares for three minor versions at a time.
SUPPORTED = VERSIONS[-3:]
# kubernetes-validate knows what Kubernetes itself brings; what an operator brings is checked here by hand.
BROUGHT_BY_OPERATORS = ("InferenceService",)


def as_they_lie_there() -> list[Document]:
    return [document for file in manifests() for document in read(file)]


def the_example() -> list[Document]:
    return render(EXAMPLE)


SETS = pytest.mark.parametrize("documents", [as_they_lie_there, the_example], ids=["files", "example"])


def serving_container(documents: list[Document]) -> Document:
    [container] = one(documents, "Deployment", "warmstart-serving")["spec"]["template"]["spec"]["containers"]
    return container


# --- valid


@pytest.mark.parametrize("version", VERSIONS)
@SETS
def test_kubernetes_of_every_known_version_takes_the_manifests(documents, version):
    checked = [it for it in documents() if it["kind"] not in BROUGHT_BY_OPERATORS]
    assert len(checked) >= 13
    for document in checked:
        kubernetes_validate.validate(document, version, strict=True)


def test_the_known_versions_reach_from_the_oldest_to_the_newest_supported_one():
    minors = [int(version.split(".")[1]) for version in VERSIONS]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert len(SUPPORTED) == 3
    assert SUPPORTED[-1] == kubernetes_validate.latest_version()


def misspelt(documents: list[Document]) -> Document:
    deployment = copy.deepcopy(one(documents, "Deployment", "warmstart-serving"))
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    return deployment


def of_a_wrong_type(documents: list[Document]) -> Document:
    claim = copy.deepcopy(one(documents, "PersistentVolumeClaim", "warmstart"))
    claim["spec"]["accessModes"] = "ReadWriteMany"
    return claim


def without_its_selector(documents: list[Document]) -> Document:
    deployment = copy.deepcopy(one(documents, "Deployment", "warmstart-toolbox"))
    del deployment["spec"]["selector"]
    return deployment


def of_a_removed_api(documents: list[Document]) -> Document:
    return {**one(documents, "PodDisruptionBudget"), "apiVersion": "policy/v1beta1"}


@pytest.mark.parametrize("version", [SUPPORTED[0], SUPPORTED[-1]])
@pytest.mark.parametrize("broken", [misspelt, of_a_wrong_type, without_its_selector, of_a_removed_api])
def test_a_broken_manifest_is_refused(broken, version):
    with pytest.raises((kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError)):
        kubernetes_validate.validate(broken(as_they_lie_there()), version, strict=True)


# --- without rights


@SETS
def test_no_pod_runs_as_root_or_may_become_it(documents):
    specs = {name: template["spec"] for name, template in pods(documents())}
    assert specs.keys() >= {"warmstart-serving", "warmstart-toolbox"}
    for service in named(documents(), "InferenceService"):
        specs[service["metadata"]["name"]] = service["spec"]["predictor"]
    assert {name: list(security_problems(spec)) for name, spec in specs.items()} == {name: [] for name in specs}


def _container(pod: Document) -> Document:
    return pod["containers"][0]["securityContext"]


@pytest.mark.parametrize(
    ("weaken", "problem"),
    [
        (lambda pod: pod.pop("securityContext"), "runAsNonRoot"),
        (lambda pod: pod["securityContext"].update(runAsUser=0), "runAsUser"),
        (lambda pod: pod["securityContext"].pop("seccompProfile"), "seccompProfile"),
        (lambda pod: pod.pop("automountServiceAccountToken"), "token"),
        (lambda pod: pod.update(hostNetwork=True), "host"),
        (lambda pod: pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}}), "hostPath"),
        (lambda pod: _container(pod).update(privileged=True), "privilege"),
        (lambda pod: _container(pod).pop("allowPrivilegeEscalation"), "privilege"),
        (lambda pod: _container(pod).pop("readOnlyRootFilesystem"), "readOnlyRootFilesystem"),
        (lambda pod: _container(pod)["capabilities"].update(add=["SYS_ADMIN"]), "capabilities"),
        (lambda pod: _container(pod).update(runAsUser=0), "runAsUser"),
        (lambda pod: pod["containers"][0]["resources"].pop("limits"), "limits"),
    ],
)
def test_a_pod_with_more_rights_is_found(weaken: Callable[[Document], Any], problem):
    for _, template in pods(as_they_lie_there()):
        weaken(template["spec"])
        assert problem in list(security_problems(template["spec"]))


@SETS
def test_nobody_is_given_a_right_or_a_token(documents):
    found = documents()
    assert not [it["kind"] for it in found if it["kind"].endswith(("Role", "RoleBinding"))]
    accounts = named(found, "ServiceAccount")
    assert {it["metadata"]["name"]: it["automountServiceAccountToken"] for it in accounts} == {
        template["spec"]["serviceAccountName"]: False for _, template in pods(found)
    }


@SETS
def test_no_secret_is_kept_here_and_the_only_one_that_is_named_is_the_password_of_the_metadata(documents):
    assert not named(documents(), "Secret")
    for name, template in pods(documents()):
        variables = {it["name"]: it for container in template["spec"]["containers"] for it in container.get("env", [])}
        assert not [it for it in variables.values() if "value" in it]
        if name == "warmstart-toolbox":
            reference = variables[PASSWORD_VARIABLE]["valueFrom"]["secretKeyRef"]
            assert reference == {"name": "warmstart-metadata", "key": "password", "optional": True}


# --- images


@SETS
def test_every_imageis_pinned(documents):
    images = [container["image"] for _, template in pods(documents()) for container in template["spec"]["containers"]]
    assert len(images) >= 3
    assert all(is_pinned(image) for image in images), images


def test_an_image_without_a_version_is_no_pinned_one():
    good = ["warmstart:0.1.0", "tensorflow/serving:2.16.1", "registry.example:5000/a/b:1.2.3", f"a@sha256:{'0' * 64}"]
    bad = ["warmstart", "warmstart:latest", "tensorflow/serving:2", "registry.example:5000/warmstart", "a@sha256:0"]
    assert [is_pinned(image) for image in good + bad] == [True] * len(good) + [False] * len(bad)


def test_the_image_is_that_of_this_version_and_serving_is_of_the_training_tensorflow():
    lock = (KUBERNETES.parents[1] / "requirements.lock").read_text(encoding="utf-8")
    [toolbox] = one(as_they_lie_there(), "Deployment", "warmstart-toolbox")["spec"]["template"]["spec"]["containers"]
    assert toolbox["image"] == f"warmstart:{VERSION}"
    trained_with = re.search(r"^tensorflow==(\d+\.\d+)\.\d+ ; python_full_version < '3.11'", lock, re.MULTILINE)
    served_with = re.fullmatch(r"tensorflow/serving:(\d+\.\d+)\.\d+", serving_container(as_they_lie_there())["image"])
    assert trained_with is not None
    assert served_with is not None
    assert trained_with[1] == served_with[1]
    model = one(as_they_lie_there(), "InferenceService")["spec"]["predictor"]["model"]
    assert f"tensorflow/serving:{model['runtimeVersion']}" == served_with[0]


# --- one with another


@SETS
def test_every_selector_finds_the_pods_of_one_deployment(documents):
    found = documents()
    templates = dict(pods(found))
    selectors = {
        (it["kind"], it["metadata"]["name"]): it["spec"].get("podSelector", it["spec"].get("selector"))
        for kind in ("Deployment", "PodDisruptionBudget", "Service", "NetworkPolicy")
        for it in named(found, kind)
    }
    assert len(selectors) >= 8
    for (kind, name), selector in selectors.items():
        wanted = selector if kind == "Service" else selector["matchLabels"]
        assert wanted
        matched = [of for of, it in templates.items() if wanted.items() <= it["metadata"]["labels"].items()]
        assert matched == [name]
        if kind == "Deployment":
            for spread in templates[name]["spec"].get("topologySpreadConstraints", []):
                assert spread["labelSelector"] == selector


@SETS
def test_every_named_port_is_one_of_the_server(documents):
    found = documents()
    container = serving_container(found)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    assert {"--port=8500", "--rest_api_port=8501"} <= set(container["args"])
    service = one(found, "Service", "warmstart-serving")["spec"]["ports"]
    assert {port["targetPort"]: port["port"] for port in service} == ports
    [rule] = one(found, "NetworkPolicy", "warmstart-serving")["spec"]["ingress"]
    assert {port["port"] for port in rule["ports"]} == set(ports)


@SETS
def test_every_probe_asks_for_the_model_that_is_served(documents):
    container = serving_container(documents())
    [model] = [arg.split("=")[1] for arg in container["args"] if arg.startswith("--model_name=")]
    probes = [container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert probes == [{"path": f"/v1/models/{model}", "port": "rest"}] * 3


@SETS
def test_the_served_folder_is_the_one_that_the_pipeline_pushes_to(documents):
    found = documents()
    container = serving_container(found)
    [model] = [arg.split("=")[1] for arg in container["args"] if arg.startswith("--model_name=")]
    [mounted] = [mount for mount in container["volumeMounts"] if mount["name"] == "warmstart"]
    pushed_to = Root(f"{MOUNT}/{ROOTS_FOLDER}/{model}").serving
    assert Path(MOUNT, mounted["subPath"]) == pushed_to
    assert f"--model_base_path={mounted['mountPath']}" in container["args"]


@SETS
def test_the_claim_is_the_one_that_the_pipeline_mounts_and_only_serving_cannot_write_to_it(documents):
    found = documents()
    claim = one(found, "PersistentVolumeClaim", "warmstart")
    cluster = Cluster(image="")
    assert claim["metadata"]["name"] == cluster.volume_claim
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    read_only = {}
    for name, template in pods(found):
        if name == "warmstart-metadata":
            continue
        for volume in template["spec"]["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] == cluster.volume_claim
                mounts = [it for container in template["spec"]["containers"] for it in container["volumeMounts"]]
                [mount] = [it for it in mounts if it["name"] == volume["name"]]
                # Of the claim as a whole: through a writable one Kubernetes would make a missing folder, as root.
                read_only[name] = volume["persistentVolumeClaim"].get("readOnly", False), mount.get("readOnly", False)
    assert read_only.pop("warmstart-flink-workers", (False, False)) == (False, False)
    assert read_only == {"warmstart-serving": (True, True), "warmstart-toolbox": (False, False)}


def test_the_toolbox_has_the_volume_where_the_steps_have_it():
    pod = one(as_they_lie_there(), "Deployment", "warmstart-toolbox")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert {"name": "warmstart", "mountPath": Cluster(image="").mount} in container["volumeMounts"]
    # Without `command` the image's entry point stays, which ends on SIGTERM.
    assert "command" not in container
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]


def test_the_users_of_the_pods_are_those_of_the_image():
    users = re.findall(r"^USER (.*)$", (KUBERNETES.parent / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(users) == 2
    for _, template in pods(as_they_lie_there()):
        context = template["spec"]["securityContext"]
        assert {f"{context['runAsUser']}:{context['runAsGroup']}"} == set(users)


@SETS
def test_the_metadata_service_is_the_one_that_the_pipeline_asks_and_its_program_takes_its_arguments(documents):
    found = documents()
    name = "warmstart-metadata"
    service = one(found, "Service", name)
    [port] = service["spec"]["ports"]
    assert Cluster(image="").metadata == f"grpc://{name}:{port['port']}"
    deployment = one(found, "Deployment", name)["spec"]
    # SQLite has one writer.
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    [listens] = container["ports"]
    assert listens["name"] == port["targetPort"]
    assert {container[probe]["grpc"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")} == {
        listens["containerPort"]
    }
    python, dash_m, module, *arguments = container["args"]
    assert (python, dash_m) == ("python", "-m")
    assert f"--port={listens['containerPort']}" in arguments
    [file] = [argument.removeprefix("--file=") for argument in arguments if argument.startswith("--file=")]
    [mount] = [it for it in container["volumeMounts"] if it["name"] == "metadata"]
    assert Path(file).parent == Path(mount["mountPath"])
    [claim] = [it["persistentVolumeClaim"]["claimName"] for it in pod["volumes"] if it["name"] == "metadata"]
    assert one(found, "PersistentVolumeClaim", claim)["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert importlib.util.find_spec(module) is not None
    [rule] = one(found, "NetworkPolicy", name)["spec"]["ingress"]
    assert rule == {"from": [{"podSelector": {}}], "ports": [{"port": "grpc"}]}


# --- kustomize


def test_every_file_belongs_to_a_kustomization_and_every_path_in_one_exists():
    used = set()
    for file in kustomizations():
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert content["kind"] == ("Component" if "components" in file.parts else "Kustomization")
        for path in [*content.get("resources", []), *content.get("components", [])]:
            target = (file.parent / path).resolve()
            assert (target / KUSTOMIZATION if target.is_dir() else target).is_file(), f"{file}: {path}"
            used.add(target)
    assert used >= {file.resolve() for file in manifests()}


def test_what_a_patch_or_a_replacement_names_exists():
    documents = as_they_lie_there()
    content = yaml.safe_load((EXAMPLE / KUSTOMIZATION).read_text(encoding="utf-8"))
    targets = [patch["target"] for patch in content["patches"]]
    targets += [target["select"] for it in content["replacements"] for target in it["targets"]]
    assert len(targets) == 4
    for target in targets:
        assert named(documents, target["kind"], target["name"]), target


def test_the_example_names_model_folder_image_storage_and_namespace_once():
    found = render(EXAMPLE)
    container = serving_container(found)
    assert "--model_name=oxford_iiit_pet" in container["args"]
    assert container["volumeMounts"][0]["subPath"] == "runs/oxford_iiit_pet/serving"
    assert "cats_vs_dogs" not in yaml.safe_dump_all(found)
    assert {it["metadata"]["namespace"] for it in found} == {"kubeflow"}
    assert one(found, "PersistentVolumeClaim", "warmstart")["spec"]["storageClassName"]
    [toolbox] = one(found, "Deployment", "warmstart-toolbox")["spec"]["template"]["spec"]["containers"]
    assert toolbox["image"] == f"registry.example.com/ml/warmstart:{VERSION}"
    assert not named(found, "ConfigMap")


def test_kserve_takes_the_place_of_the_deployment(tmp_path):
    found = render(overlay(tmp_path / "mine", {"resources": ["base"], "components": ["components/kserve"]}))
    assert sorted(it["kind"] for it in found) == [
        "Deployment",
        "InferenceService",
        "PersistentVolumeClaim",
        "ServiceAccount",
    ]
    assert one(found, "Deployment")["metadata"]["name"] == "warmstart-toolbox"


def test_warmstart_serve_takes_the_place_of_tensorflow_serving(tmp_path):
    components = ["components/network-policy", "components/serve"]
    found = render(overlay(tmp_path / "mine", {"resources": ["base"], "components": components}))
    for version in VERSIONS:
        for document in found:
            kubernetes_validate.validate(document, version, strict=True)
    pod = dict(pods(found))["warmstart-serving"]["spec"]
    assert list(security_problems(pod)) == []
    container = serving_container(found)
    assert container["image"] == f"warmstart-serving:{VERSION}"
    assert "command" not in container  # the image's entry point
    # The server takes these arguments, listens where the probes and the Service ask, and answers while it ends.
    arguments = dict(argument.removeprefix("--").split("=") for argument in container["args"])
    options = {option.removeprefix("--") for parameter in serve.params for option in parameter.opts}
    assert arguments.keys() <= options
    [port] = container["ports"]
    assert (arguments["host"], arguments["port"]) == ("0.0.0.0", str(port["containerPort"]))
    probes = [container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert probes == [{"path": f"/v2/models/{arguments['name']}/ready", "port": port["name"]}] * 3
    pre_stop = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert int(arguments["timeout"]) + pre_stop < pod["terminationGracePeriodSeconds"]
    # Nothing of gRPC is left, and the folder that the pipeline pushes to is read-only.
    [of_service] = one(found, "Service", "warmstart-serving")["spec"]["ports"]
    [of_policy] = one(found, "NetworkPolicy", "warmstart-serving")["spec"]["ingress"][0]["ports"]
    assert of_service["targetPort"] == of_policy["port"] == port["name"]
    [mounted] = [mount for mount in container["volumeMounts"] if mount["name"] == "warmstart"]
    assert (mounted["mountPath"], mounted["readOnly"]) == (arguments["model"], True)
    assert Path(MOUNT, mounted["subPath"]) == Root(f"{MOUNT}/{ROOTS_FOLDER}/{arguments['name']}").serving


def test_an_overlay_sets_model_folder_and_image_of_warmstart_serve(tmp_path):
    content = yaml.safe_load((EXAMPLE / KUSTOMIZATION).read_text(encoding="utf-8"))
    content["components"].append("../../components/serve")
    for key in ("resources", "components"):
        content[key] = [str((EXAMPLE / path).resolve().relative_to(KUBERNETES)) for path in content[key]]
    container = serving_container(render(overlay(tmp_path / "mine", content)))
    assert container["image"] == f"registry.example.com/ml/warmstart-serving:{VERSION}"
    assert container["args"][0] == "--name=oxford_iiit_pet"
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/models/oxford_iiit_pet/ready"
    assert container["volumeMounts"][0]["subPath"] == "runs/oxford_iiit_pet/serving"


def test_the_inference_service_is_one_that_kserve_reads():
    """By hand, after serving.kserve.io/v1beta1: a predictor is a pod's spec with a model and limits of replicas in it,
    a model is a container without image and command.
    """
    service = one(as_they_lie_there(), "InferenceService")
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", service["metadata"]["name"])
    assert service["spec"].keys() == {"predictor"}
    predictor = copy.deepcopy(service["spec"]["predictor"])
    model = predictor.pop("model")
    assert predictor.pop("minReplicas") <= predictor.pop("maxReplicas")
    assert model.pop("modelFormat") == {"name": "tensorflow"}
    assert model.pop("protocolVersion") == "v1"
    assert model.pop("runtimeVersion")
    claim, folder = re.fullmatch(r"pvc://([^/]+)/(.+)", model.pop("storageUri")).groups()
    assert claim == Cluster(image="").volume_claim
    assert Path(MOUNT, folder) == Root(f"{MOUNT}/{ROOTS_FOLDER}/cats_vs_dogs").serving
    pod = {**predictor, "containers": [{"name": "kserve-container", **model}]}
    as_pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "as-kserve-makes-it"}, "spec": pod}
    for version in VERSIONS:
        kubernetes_validate.validate(as_pod, version, strict=True)


def test_two_models_are_served_side_by_side(tmp_path):
    for name in ("cats", "pets"):
        labels = [{"pairs": {"app.kubernetes.io/instance": name}, "includeSelectors": True}]
        overlay(tmp_path / name, {"resources": ["base/serving"], "nameSuffix": f"-{name}", "labels": labels})
    both = {"resources": [tmp_path / "cats", tmp_path / "pets"]}
    found = render(overlay(tmp_path / "both", both))
    templates = dict(pods(found))
    assert templates.keys() == {"warmstart-serving-cats", "warmstart-serving-pets"}
    for service in named(found, "Service"):
        selector = service["spec"]["selector"].items()
        matched = [name for name, it in templates.items() if selector <= it["metadata"]["labels"].items()]
        assert matched == [service["metadata"]["name"]]
    # The claim is not theirs, so it keeps its name.
    for template in templates.values():
        assert template["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == Cluster(image="").volume_claim
