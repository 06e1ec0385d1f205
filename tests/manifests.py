"""The manifests in deploy/kubernetes: read, rendered by kustomize where it is at hand, and looked at."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

Document = dict[str, Any]

VERSION = metadata.version("warmstart")
KUBERNETES = Path(__file__).parents[1] / "deploy" / "kubernetes"
KUSTOMIZATION = "kustomization.yaml"
VERSIONS = list(dict.fromkeys(kubernetes_validate.utils.all_versions()))  # oldest first


def kustomizations() -> list[Path]:
    return sorted(KUBERNETES.rglob(KUSTOMIZATION))


def manifests() -> list[Path]:
    return [file for file in sorted(KUBERNETES.rglob("*.yaml")) if file.name != KUSTOMIZATION]


def read(file: Path) -> list[Document]:
    return list(yaml.safe_load_all(file.read_text(encoding="utf-8")))


@functools.cache
def _rendered(folder: Path) -> str:
    commands = (["kustomize", "build"], ["kubectl", "kustomize"])
    command = next((command for command in commands if shutil.which(command[0])), None)
    if command is None:
        pytest.skip("needs kustomize or kubectl")
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr
    return done.stdout


def render(folder: Path) -> list[Document]:
    """What kustomize makes of a folder."""
    return list(yaml.safe_load_all(_rendered(folder)))


def overlay(folder: Path, content: Document) -> Path:
    """A kustomization of the test's own; its paths are below deploy/kubernetes."""
    folder.mkdir()
    for key in ("resources", "components"):
        content[key] = [os.path.relpath(KUBERNETES / path, folder) for path in content.get(key, [])]
    (folder / KUSTOMIZATION).write_text(yaml.safe_dump({"kind": "Kustomization", **content}))
    return folder


def named(documents: list[Document], kind: str, name: str = "") -> list[Document]:
    return [it for it in documents if it["kind"] == kind and name in ("", it["metadata"]["name"])]


def one(documents: list[Document], kind: str, name: str = "") -> Document:
    [found] = named(documents, kind, name)
    return found


def pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Name and template of everything that becomes pods."""
    for deployment in named(documents, "Deployment"):
        yield deployment["metadata"]["name"], deployment["spec"]["template"]


def security_problems(pod: Document) -> Iterator[str]:
    """What the Pod Security Standard `restricted` refuses in a pod's spec, and what is stricter here."""
    context = pod.get("securityContext", {})
    if not context.get("runAsNonRoot"):
        yield "runAsNonRoot"
    if not context.get("runAsUser") or not context.get("runAsGroup"):
        yield "runAsUser"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "seccompProfile"
    if pod.get("automountServiceAccountToken") is not False:
        yield "token"
    if any(pod.get(shared) for shared in ("hostNetwork", "hostPID", "hostIPC")):
        yield "host"
    if any("hostPath" in volume for volume in pod.get("volumes", [])):
        yield "hostPath"
    for container in [
        *pod.get("containers", []),
        *pod.get("initContainers", []),
        *([pod["model"]] if "model" in pod else []),
    ]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield "privilege"
        if own.get("readOnlyRootFilesystem") is not True:
            yield "readOnlyRootFilesystem"
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield "capabilities"
        if own.get("runAsUser") == 0 or own.get("runAsNonRoot") is False:
            yield "runAsUser"
        if not {"cpu", "memory"} <= container.get("resources", {}).get("requests", {}).keys():
            yield "requests"
        if "memory" not in container.get("resources", {}).get("limits", {}):
            yield "limits"


def is_pinned(image: str) -> bool:
    return (
        re.fullmatch(r"[a-z0-9./_-]+(:[0-9]+[^@:]*)?(:[0-9]+\.[0-9]+\.[0-9]+|@sha256:[0-9a-f]{64})", image) is not None
    )
