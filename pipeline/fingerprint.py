"""Fingerprint of the code of a step, so that an edit makes exactly the steps that use it run again.

TFX's cache depends on inputs and parameters, but not on code.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
from importlib import metadata
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_OWN_PACKAGES = ("schemas", "components")
# Libraries that compute the results: a new version of one makes every step run again.
_LIBRARIES = (
    *("tfx", "tensorflow", "tf-keras", "tensorflow-hub", "tensorflow-transform", "apache-beam"),
    *("pillow", "pi-heif"),
)


def code_fingerprint(module: str) -> str:
    """Hash of the sources of `module`, of our modules that it imports, and of the versions of the libraries.

    Args:
      module: dotted name, such as `components.trainer.fine_tuning`.

    Returns:
      the first 16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256()
    for library in _LIBRARIES:
        digest.update(f"{library} {_version(library)}\n".encode())
    for path in sorted(source_files(module)):
        digest.update(f"{path.relative_to(_ROOT)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def fingerprint_of_everything() -> str:
    """Hash of all our sources that a compiled pipeline may depend on, and of the versions of the libraries."""
    digest = hashlib.sha256()
    for library in _LIBRARIES:
        digest.update(f"{library} {_version(library)}\n".encode())
    for package in (*_OWN_PACKAGES, "pipeline", "deploy"):
        for folder, folders, names in os.walk(_ROOT / package):
            folders.sort()
            for name in sorted(names):
                if name.endswith((".py", ".pbtxt", ".yaml")):
                    path = os.path.join(folder, name)
                    digest.update(f"{os.path.relpath(path, _ROOT)}\n".encode())
                    with open(path, "rb") as file:
                        digest.update(file.read())
    return digest.hexdigest()


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:  # HEIC is rejected without pi-heif, and read with it
        return ""


def source_files(module: str) -> set[Path]:
    """The source files of `module` and of our modules that it imports, directly or not."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _module_file(name)
        if path is not None and path not in found:
            found.add(path)
            waiting += _imports(path)
            if "." in name:  # Python runs the package's __init__ first
                waiting.append(name.rpartition(".")[0])
    return found


def _module_file(module: str) -> Path | None:
    base = _ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@functools.cache
def _imports(path: Path) -> tuple[str, ...]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(_ROOT).parts[: -node.level] if node.level else ()
            module = ".".join((*package, *filter(None, [node.module])))
            names.append(module)
            names += [f"{module}.{alias.name}" for alias in node.names]
    return tuple(name for name in names if name.split(".")[0] in _OWN_PACKAGES)
