"""The description of a pushed version: `<version>/assets.extra/manifest.json`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.json_records import from_json, to_json
from schemas.release import Interval

PUSH, ROLLBACK, RESTORATION = "push", "rollback", "restoration"
SCHEMA_VERSION = 1
# SavedModel's folder for files that are not the model's own; loaders pass over it.
MANIFEST_FILE = "assets.extra/manifest.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A pushed version. Fields that do not apply or are unknown are None."""

    schema_version: int | None = SCHEMA_VERSION
    version: int
    kind: str | None = PUSH
    """`push`, `rollback` or `restoration`."""
    pushed_at: str | None = None
    """UTC."""
    replaced: int | None = None
    restores: int | None = None
    """For a rollback or a restoration, the pushed version whose content it has."""
    reason: str | None = None
    forced: str | None = None
    run_id: str | None = None
    winner: str | None = None
    model_sha256: str | None = None
    """Identity of the trained model, before other files were added."""
    files: dict[str, str] | None = None
    """Path, with `/` -> SHA-256."""
    labels: list[str] | None = None
    metrics: dict[str, Interval | None] | None = None
    data_fingerprint: str | None = None


@dataclass(frozen=True, kw_only=True)
class PastVersion(Manifest):
    """A version that is or was in the folder."""

    state: str
    """`production`, `kept`, `removed`, `damaged` or `gone`."""
    pinned: bool


_KEYS = {field.name for field in dataclasses.fields(Manifest)}


def read_manifest(path: Path, version: int) -> Manifest | None:
    """The manifest of a version; None if it does not exist or cannot be read.

    The content is not trusted: every key must be there, and every file must be inside the version.
    """
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        manifest = from_json(Manifest, found)
        if found.keys() >= _KEYS and manifest.version == version and all(map(is_plain_name, manifest.files or ())):
            return manifest
    return None


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes a manifest and flushes it to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(to_json(manifest), indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())


def is_plain_name(name: str) -> bool:
    """Whether a relative path, with `/`, stays inside its folder, judging by its text alone."""
    return "\0" not in name and all(part not in ("", ".", "..") for part in name.split("/"))


# ---- what the manifests of all versions say together


def origin(version: int, manifests: Mapping[int, Manifest]) -> int:
    """The pushed version whose content a version has: itself, unless it restores another one."""
    restores = manifests[version].restores if version in manifests else None
    return version if restores is None else restores


def have_same_content(one: int, other: int, manifests: Mapping[int, Manifest]) -> bool:
    """Whether two versions are known to have the same trained model."""
    contents = [manifests[version].model_sha256 if version in manifests else None for version in (one, other)]
    return one == other or (contents[0] is not None and contents[0] == contents[1])


def rolled_back_from(manifests: Mapping[int, Manifest]) -> dict[str | None, Manifest]:
    """Identity of each model that production was rolled back from and not to again -> manifest of the rollback."""
    refused: dict[str | None, Manifest] = {}
    for manifest in manifests.values():
        replaced = None if manifest.replaced is None else manifests.get(manifest.replaced)
        if manifest.kind == ROLLBACK and replaced:
            refused[replaced.model_sha256] = manifest
        refused.pop(manifest.model_sha256, None)  # also where a whole copy took the place of a damaged one
    return refused
