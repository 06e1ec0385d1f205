"""The files of a version: what identifies them, whether they are what was pushed, and copies that reach the disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from components.serving_folder.manifest import MANIFEST_FILE

_BLOCK = 1 << 20  # bytes
_LARGEST = 2**63 - 1  # TensorFlow Serving's numbers have 64 bits


def checksums(folder: str | Path) -> dict[str, str]:
    """Relative path, with `/` -> SHA-256 in hexadecimal, of every file below `folder` but the manifest."""
    return {name: _digest(Path(folder, name)) for name in files_of(folder)}


def model_identity(folder: str | Path) -> str:
    """SHA-256, in hexadecimal, over the sorted paths and contents of a model's files: the same for every copy."""
    digest = hashlib.sha256()
    for name, content in sorted(checksums(folder).items()):
        digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def files_of(folder: str | Path) -> list[str]:
    """Relative paths, with `/`, of every file below `folder` but the manifest, sorted."""
    paths = (path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
    return sorted(path for path in paths if path != MANIFEST_FILE)


def names_in(folder: Path) -> list[str]:
    """Of files and folders; of a folder that is none there are none."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def as_versions(names: Iterable[str]) -> Iterator[int]:
    """Those that TensorFlow Serving takes for versions."""
    for name in names:
        if name.isascii() and name.isdecimal() and str(int(name)) == name and int(name) <= _LARGEST:
            yield int(name)


def differences(found: Mapping[str, str], wanted: Mapping[str, str] | None) -> list[str]:
    """What is not as it was pushed, by path and checksum; hidden files, as file systems make them, do not count."""
    wanted = wanted or {}
    wrong = [f"{name} is missing" for name in wanted if name not in found]
    wrong += [f"{name} was changed" for name, digest in wanted.items() if found.get(name, digest) != digest]
    added = [name for name in found if name not in wanted and not name.rpartition("/")[2].startswith(".")]
    return wrong + [f"{name} was added" for name in added]


def copy(source: Path, target: Path, names: list[str]) -> dict[str, str]:
    """Copies files to the disk itself, not to the memory before it; what is missing is left out.

    Returns:
      path -> SHA-256 of what was read.
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
    """Sends a folder's list of names to the disk."""
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
