"""setup.py asks for everything that the rooms import, and for what they need without importing it."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from importlib import metadata
from pathlib import Path

import pytest
import setuptools

REPOSITORY = Path(__file__).parents[2]
ROOMS = ("schemas", "samples", "components", "pipeline", "deploy", "warmstart")
# Who may import what an extra brings.
EXTRAS = {"kubeflow": "deploy/kubeflow", "mlflow": "deploy/tracking", "onnx": "components/servable_check"}


def plain(name: str) -> str:
    """A distribution's name as PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def declared() -> dict[str, set[str]]:
    """Distributions that setup.py asks for: of each extra, and under "" what everybody gets."""
    given: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        patch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
        runpy.run_path("setup.py")
    wanted = {"": given["install_requires"], **given["extras_require"]}
    return {
        extra: {plain(re.match(r"[\w.-]+", text)[0]) for text in requirements} for extra, requirements in wanted.items()
    }


@pytest.fixture(scope="module")
def brought_by() -> dict[str, set[str]]:
    """Top-level module, or `google.*`, -> the installed distributions that have files in it."""
    found: dict[str, set[str]] = {}
    for distribution in metadata.distributions():
        name = plain(distribution.metadata["Name"])
        # RECORD itself: `distribution.files` makes an object of every one of a hundred thousand lines.
        for line in (distribution.read_text("RECORD") or "").splitlines():
            path, dot, ending = line.partition(",")[0].partition(".")
            if dot and ending.startswith(("py", "so", "cpython")):
                found.setdefault(top(path.replace("/", ".")), set()).add(name)
    return found


def top(module: str) -> str:
    depth = 2 if module.startswith("google.") else 1
    return ".".join(module.split(".")[:depth])


def imported() -> dict[str, set[str]]:
    """Module of somebody else -> the files that import it, at the top or in a function."""
    found: dict[str, set[str]] = {}
    for room in ROOMS:
        for path in (REPOSITORY / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                for name in map(top, names):
                    if name.split(".")[0] not in (
                        *ROOMS,
                        *sys.stdlib_module_names,
                        "_typeshed",
                    ):  # which type checkers have
                        found.setdefault(name, set()).add(str(path.relative_to(REPOSITORY)))
    return found


def undeclared(declared: dict[str, set[str]], brought_by: dict[str, set[str]]) -> set[str]:
    """Modules that some file imports without its distribution being asked for."""
    missing = set()
    for module, files in imported().items():
        for file in files:
            extras = [extra for extra, folder in EXTRAS.items() if file.startswith(folder + "/")]
            asked = declared[""].union(*(declared[extra] for extra in extras))
            if not brought_by.get(module, {plain(module)}) & asked:
                missing.add(module)
    return missing


def test_what_is_imported_is_declared(declared, brought_by):
    assert undeclared(declared, brought_by) == set()


@pytest.mark.parametrize(
    ("extra", "distribution", "module"),
    [("", "numpy", "numpy"), ("", "protobuf", "google.protobuf"), ("kubeflow", "kfp-server-api", "kfp_server_api")],
)
def test_what_is_not_declared_would_be_found(declared, brought_by, extra, distribution, module):
    less = {**declared, extra: declared[extra] - {distribution}}
    assert undeclared(less, brought_by) == {module}


def test_what_is_needed_without_an_import_of_ours_is_declared(declared):
    # Beam looks for one of three checksum libraries when it writes TFRecords, and requires none of them.
    assert declared[""] >= {"google-crc32c", "dill", "setuptools", "tensorboard"}


def test_the_version_stands_in_setup_py_alone():
    assert metadata.version("warmstart") in (REPOSITORY / "setup.py").read_text(encoding="utf-8")
    version = f'"{metadata.version("warmstart")}"'
    others = [
        path for room in ROOMS for path in (REPOSITORY / room).rglob("*.py") if version in path.read_text("utf-8")
    ]
    assert others == []
