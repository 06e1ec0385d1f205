"""Reads a compiled package and checks that it can be submitted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import BadInput

# Ten times as fast, if PyYAML was built with it.
SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Package:
    """A compiled pipeline and the parameters of a run."""

    path: Path
    digest: str
    """SHA-256 of the content: the same for the same pipeline, however it is formatted."""
    images: tuple[str, ...]
    tasks: Mapping[str, str]
    """Name of a container task in the run -> name to show."""
    parameters: Mapping[str, str]

    def version_name(self, pipeline_name: str) -> str:
        """Name of the version with this content. It includes the pipeline's name, as stores may require."""
        return f"{pipeline_name}-{self.digest[:12]}"


def read_package(path: Path, parameters: Mapping[str, str]) -> Package:
    """Reads a compiled pipeline from a YAML file, and checks the parameters for it.

    Raises:
      BadInput: the file is not a compiled pipeline of schema 2.1.0, a task uses KFP's cache, or a parameter is unknown
        or missing.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise BadInput(f"the package {path} is not a .yaml file; give the file that `warmstart kubeflow compile` wrote")
    try:
        documents = list(yaml.load_all(path.read_bytes(), SAFE_LOADER))
        spec = documents[0]
        declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        components = spec["components"]
        tasks = [
            (name, task)
            for holder in (spec["root"], *components.values())
            for name, task in holder.get("dag", {}).get("tasks", {}).items()
        ]
        containers = {
            name: str(task.get("taskInfo", {}).get("name", name))
            for name, task in tasks
            if "executorLabel" in components[task["componentRef"]["name"]]
        }
        executors = spec["deploymentSpec"]["executors"].values()
        images = {str(executor["container"]["image"]) for executor in executors if "container" in executor}
        schema = spec["schemaVersion"]
    except OSError as error:
        raise BadInput(
            f"the package {path} cannot be read ({error.strerror}); give what `warmstart kubeflow compile` wrote"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, AttributeError):
        raise BadInput(
            f"the package {path} is not a compiled pipeline; give the file that `warmstart kubeflow compile` wrote"
        ) from None
    if schema != "2.1.0":
        raise BadInput(
            f"the package {path} has schema {schema}, but Kubeflow Pipelines 2.x needs 2.1.0; compile it again"
        )
    cached = [name for name, task in tasks if task.get("cachingOptions", {}).get("enableCache")]
    if cached:
        raise BadInput(
            f"the task {cached[0]!r} of {path} uses KFP's own cache, whose key does not include the photos; compile it "
            "again with `warmstart kubeflow compile`"
        )
    unknown = sorted(set(parameters) - set(declared))
    if unknown:
        raise BadInput(
            f"the pipeline in {path} has no parameter {unknown[0]!r}; it has {', '.join(sorted(declared)) or 'none'}"
        )
    missing = [
        name
        for name, definition in declared.items()
        if name not in parameters and "defaultValue" not in definition and not definition.get("isOptional")
    ]
    if missing:
        raise BadInput(f"the pipeline in {path} needs a value for its parameter {missing[0]!r}; give one")
    content = json.dumps(documents, sort_keys=True, default=str).encode()
    return Package(
        path=path,
        digest=hashlib.sha256(content).hexdigest(),
        images=tuple(sorted(image for image in images if "{{" not in image)),
        tasks=containers,
        parameters=dict(parameters),
    )
