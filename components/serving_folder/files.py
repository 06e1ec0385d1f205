"""The files of a version: checksums, comparison with what was pushed, and copies that are flushed to disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from components.serving_folder.manifest import MANIFEST_FILE

_BLOCK = 1 << 20  # bytes
_LARGEST = 2**63 - 1  # TensorFlow Serving's numbers have 64 bits


def checksums(folder: str | Path) -> dict[str, str]:
    """Relative path, with `/` -> SHA-256 in hexadecimal, for every file below `folder` except the manifest."""
    return {name: _digest(Path(folder, name)) for name in files_of(folder)}


def model_identity(folder: str | Path) -> str:
    """SHA-256, in hexadecimal, over the sorted paths and contents of a model's files: the same for every copy."""
    digest = hashlib.sha256()
    for name, content in sorted(checksums(folder).items()):
        digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def files_of(folder: str | Path) -> list[str]:
    """Relative paths, with `/`, of every file below `folder` except the manifest, sorted."""
    paths = (path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
    return sorted(path for path in paths if path != MANIFEST_FILE)


def names_in(folder: Path) -> list[str]:
    """Names of the files and folders in a folder; empty if it is not a folder."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def as_versions(names: Iterable[str]) -> Iterator[int]:
    """The names that TensorFlow Serving takes for versions, as numbers."""
    for name in names:
        if name.isascii() and name.isdecimal() and str(int(name)) == name and int(name) <= _LARGEST:
            yield int(name)


def differences(found: Mapping[str, str], wanted: Mapping[str, str] | None) -> list[str]:
    """How files differ from what was pushed, by path and checksum. Hidden files of the file system are ignored."""
    wanted = wanted or {}
    wrong = [f"{name} is missing" for name in wanted if name not in found]
    wrong += [f"{name} was changed" for name, digest in wanted.items() if found.get(name, digest) != digest]
    added = [name for name in found if name not in wanted and not name.rpartition("/")[2].startswith(".")]
    return wrong + [f"{name} was added" for name in added]


def copy(source: Path, target: Path, names: list[str]) -> dict[str, str]:
    """Copies files and flushes them to disk; missing files are left out.

    Returns:
      Path -> SHA-256 of the copied content.
    """
    target.mkdir()
    found = {}
    for name in names:
        if not (source / name).is_file():
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with (source / name).open("rb") as file, (target / name).open("wb") as copied:
            while block := file.read(_BLOCK):
                digest.update(block)
                copied.write(block)
            copied.flush()
            os.fsync(copied.fileno())
        found[name] = digest.hexdigest()
    return found


def synchronise(folder: Path) -> None:
    """Flushes a folder's list of names to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
