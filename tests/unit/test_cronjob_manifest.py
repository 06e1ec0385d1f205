"""The CronJob in deploy/kubernetes: valid, one run at a time, the toolbox's rights, and a command that there is."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import kubernetes_validate
import pytest
import yaml

from deploy.cli import main
from deploy.kubeflow.compiler import MOUNT
from deploy.local import EXIT_CODES
from deploy.retrain import ALERT_CODE
from deploy.root import ROOTS_FOLDER
from deploy.timetable import timetable
from pipeline.config import load_config

Document = dict[str, Any]

VERSION = metadata.version("warmstart")
KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
COMPONENT = KUBERNETES / "components" / "cronjob"
# Oldest first; more than Kubernetes itself supports at a time.
VERSIONS = list(dict.fromkeys(kubernetes_validate.utils.all_versions()))
DAY_SECONDS = 24 * 60 * 60


@pytest.fixture
def cronjob() -> Document:
    return yaml.safe_load((COMPONENT / "cronjob.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def toolbox() -> Document:
    """The pod of the toolbox, whose rights tests/unit/test_kubernetes_manifests.py looks at."""
    documents = yaml.safe_load_all((KUBERNETES / "base" / "toolbox.yaml").read_text(encoding="utf-8"))
    [deployment] = [document for document in documents if document["kind"] == "Deployment"]
    return deployment["spec"]["template"]["spec"]


def job(cronjob: Document) -> Document:
    return cronjob["spec"]["jobTemplate"]["spec"]


def pod(cronjob: Document) -> Document:
    return job(cronjob)["template"]["spec"]


def container(spec: Document) -> Document:
    [only] = spec["containers"]
    return only


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_of_every_known_version_takes_it(cronjob, version):
    kubernetes_validate.validate(cronjob, version, strict=True)


def misspelt(cronjob: Document) -> None:
    cronjob["spec"]["concurencyPolicy"] = cronjob["spec"].pop("concurrencyPolicy")


def of_a_wrong_type(cronjob: Document) -> None:
    job(cronjob)["backoffLimit"] = "two"


def without_its_job(cronjob: Document) -> None:
    del cronjob["spec"]["jobTemplate"]


def of_a_removed_api(cronjob: Document) -> None:
    cronjob["apiVersion"] = "batch/v1beta1"


def with_a_misplaced_policy(cronjob: Document) -> None:
    pod(cronjob)["podFailurePolicy"] = job(cronjob).pop("podFailurePolicy")


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
@pytest.mark.parametrize(
    "broken", [misspelt, of_a_wrong_type, without_its_job, of_a_removed_api, with_a_misplaced_policy]
)
def test_a_broken_one_is_refused(cronjob, broken, version):
    broken(cronjob)
    with pytest.raises((kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError)):
        kubernetes_validate.validate(cronjob, version, strict=True)


def test_one_run_at_a_time_and_none_that_keeps_the_next_ones_from_starting(cronjob):
    spec = cronjob["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    # Below ten seconds Kubernetes may never start it.
    assert 10 <= spec["startingDeadlineSeconds"] < DAY_SECONDS
    assert spec["startingDeadlineSeconds"] + job(cronjob)["activeDeadlineSeconds"] < DAY_SECONDS
    assert job(cronjob)["ttlSecondsAfterFinished"] > DAY_SECONDS  # people have a morning to look
    # Within a pod that restarts, neither a policy for failures nor the log of the first try would be kept.
    assert pod(cronjob)["restartPolicy"] == "Never"


def test_it_starts_every_night(cronjob):
    zone = cronjob["spec"]["timeZone"]
    times = timetable(cronjob["spec"]["schedule"], zone, zone).next_times(3)
    assert {(time.hour, time.minute, time.tzinfo) for time in times} == {(3, 0, ZoneInfo(zone))}
    assert (times[2] - times[0]).days == 2


def test_it_has_the_rights_and_the_volumes_of_the_toolbox_and_no_more(cronjob, toolbox):
    for key in (
        "serviceAccountName",
        "automountServiceAccountToken",
        "enableServiceLinks",
        "securityContext",
        "volumes",
    ):
        assert pod(cronjob)[key] == toolbox[key], key
    for key in ("image", "securityContext", "volumeMounts"):
        assert container(pod(cronjob))[key] == container(toolbox)[key], key
    assert pod(cronjob).keys() - toolbox.keys() == {"restartPolicy"}
    assert container(pod(cronjob))["image"] == f"warmstart:{VERSION}"
    # Without `command` the image's entry point stays, which ends on SIGTERM.
    assert container(pod(cronjob)).keys() - container(toolbox).keys() == set()
    resources = container(pod(cronjob))["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    assert "memory" in resources["limits"]


def test_the_command_is_one_that_warmstart_takes(cronjob):
    words = container(pod(cronjob))["args"]
    program = words[words.index("warmstart") :]
    assert program[:2] == ["warmstart", "retrain"]
    command = main.commands["retrain"]
    options = command.make_context("retrain", program[2:]).params
    config = load_config(options["config_name"], list(options["overrides"]), list(options["data"]))
    assert config.data.sources == {"cats_vs_dogs": f"{MOUNT}/photos/span-{{SPAN}}"}
    assert options["root"] == f"{MOUNT}/{ROOTS_FOLDER}/{config.name}"


@pytest.mark.parametrize(("code", "seen"), [(0, 0), (1, 1), (2, 2), (EXIT_CODES["not_pushed"], 0), (ALERT_CODE, 4)])
def test_a_refused_model_is_no_failed_job_and_every_other_code_is_seen(cronjob, tmp_path, code, seen):
    program = tmp_path / "warmstart"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >"{tmp_path}/words"\nexit {code}\n')
    program.chmod(0o755)
    words = container(pod(cronjob))["args"]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert subprocess.run(words, env=environment, cwd="/", check=False).returncode == seen
    assert (tmp_path / "words").read_text().splitlines() == words[words.index("warmstart") + 1 :]


def test_only_what_a_further_try_may_mend_is_tried_again(cronjob):
    rules = {rule["action"]: rule for rule in job(cronjob)["podFailurePolicy"]["rules"]}
    assert rules.keys() == {"Ignore", "FailJob"}
    codes = rules["FailJob"]["onExitCodes"]
    assert codes["containerName"] == container(pod(cronjob))["name"]
    # An input that is wrong, data that were stopped, and the alert, which a second run would not give.
    assert (codes["operator"], codes["values"]) == ("In", [EXIT_CODES["stopped"], ALERT_CODE])
    assert job(cronjob)["backoffLimit"] > 0


def test_an_overlay_puts_it_beside_the_base(tmp_path):
    commands = (["kustomize", "build"], ["kubectl", "kustomize"])
    command = next((command for command in commands if shutil.which(command[0])), None)
    if command is None:
        pytest.skip("needs kustomize or kubectl")
    overlay = {
        "kind": "Kustomization",
        "namespace": "cats",
        "resources": [os.path.relpath(KUBERNETES / "base", tmp_path)],
        "components": [os.path.relpath(COMPONENT, tmp_path)],
        "images": [{"name": "warmstart", "newName": "registry.example.com/warmstart", "newTag": VERSION}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    documents = list(yaml.safe_load_all(done.stdout))
    [rendered] = [document for document in documents if document["kind"] == "CronJob"]
    assert rendered["metadata"]["namespace"] == "cats"
    assert container(pod(rendered))["image"] == f"registry.example.com/warmstart:{VERSION}"
    accounts = [document["metadata"]["name"] for document in documents if document["kind"] == "ServiceAccount"]
    assert pod(rendered)["serviceAccountName"] in accounts
    kubernetes_validate.validate(rendered, VERSIONS[-1], strict=True)
    as_written = yaml.safe_load((COMPONENT / "cronjob.yaml").read_text(encoding="utf-8"))
    expected = copy.deepcopy(as_written["spec"])
    container(pod(rendered))["image"] = container(pod(as_written))["image"]
    assert rendered["spec"] == expected
