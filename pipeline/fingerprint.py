"""Fingerprint of the code a step runs, so that an edit runs again exactly the steps that use it.

TFX's cache knows inputs and parameters, not code.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from importlib import metadata
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_OWN_PACKAGES = ("schemas", "components")
# What computes the results; a new version of one of them makes every step run again.
_LIBRARIES = (
    *("tfx", "tensorflow", "tf-keras", "tensorflow-hub", "tensorflow-transform", "apache-beam"),
    *("pillow", "pi-heif"),
)


def code_fingerprint(module: str) -> str:
    """SHA-256 over the sources of `module` and of everything of ours it imports, and the libraries' versions.

    Args:
      module: dotted name, such as `components.trainer.fine_tuning`.
    """
    digest = hashlib.sha256()
    for library in _LIBRARIES:
        digest.update(f"{library} {_version(library)}\n".encode())
    for path in sorted(source_files(module)):
        digest.update(f"{path.relative_to(_ROOT)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:  # without pi-heif HEIC is rejected, and read once it is there
        return ""


def source_files(module: str) -> set[Path]:
    """Our source files that `module` consists of and imports, directly or not."""
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
