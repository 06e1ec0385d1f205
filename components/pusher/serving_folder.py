"""The folder that production reads: one SavedModel a version, in TensorFlow Serving's layout, `<number>/`.

How TensorFlow Serving reads it (sources/storage_path/file_system_storage_path_source.cc, core/
aspired_versions_manager.cc, core/availability_preserving_policy.h and model_servers/main.cc of tensorflow/serving):
it lists the folder every second (`--file_system_poll_wait_seconds`), skips names that are no numbers, and by default
(policy `latest`) wants the highest number alone. It loads that version while the one before goes on answering, and
unloads the old one only when the new one is ready. A version that it has loaded is never read again. So

- a version is copied and synchronised under a name that is no number, and gets its number by one rename;
- a rollback is a new highest version with the content of an old one: every server with the default policy takes it
  up, and nothing that a server reads changes or goes away;
- a version leaves under a name that is no number, and is deleted then.

A server with the policy `specific` serves the versions that its configuration names, whatever happens here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import filelock

from schemas.errors import BadInput
from schemas.labels import read_labels
from schemas.words import and_more

PUSHED, ALREADY_IN_PRODUCTION, PRODUCTION_CHANGED, ROLLED_BACK = (
    "pushed",
    "already_in_production",
    "production_changed",
    "rolled_back",
)
PUSH, ROLLBACK, RESTORATION = "push", "rollback", "restoration"
PRODUCTION, KEPT, REMOVED, DAMAGED, GONE = "production", "kept", "removed", "damaged", "gone"
SCHEMA_VERSION = 1
# SavedModel's folder for files that are not the model's own; loaders pass over it.
MANIFEST_FILE = "assets.extra/manifest.json"

# SavedModel's own file, without which nobody can load a version.
_MODEL_FILE = "saved_model.pb"
_LOCK, _PINNED = ".lock", ".pinned"
# Beside the folder, so that it outlives it; within it in older warmstarts.
_MANIFESTS, _OLD_MANIFESTS = "-manifests", ".manifests"
_INCOMING, _LEAVING = ".incoming-", ".removed-"
_LOCK_TIMEOUT_SECONDS = 300
_BLOCK = 1 << 20  # bytes
_LARGEST = 2**63 - 1  # TensorFlow Serving's numbers have 64 bits


@dataclass(frozen=True)
class PushResult:
    """outcome: `pushed`, `already_in_production`, `production_changed` (the model was compared with another version) or
    `rolled_back` (production was rolled back from this model). version: what is in production now. reason: a sentence.
    """

    outcome: str
    version: int | None
    reason: str


@dataclass(frozen=True)
class Standing:
    """Whether production reads what was pushed. version: the newest there ever was, which production should read; None:
    there never was one. state: `production`, `damaged` (files are missing or changed) or `gone` (its folder is not
    there; then production reads an older version, or none). problem: what is wrong with it, in words that follow
    "version 7"; empty: nothing is.
    """

    version: int | None
    state: str = PRODUCTION
    problem: str = ""


def checksums(folder: str | Path) -> dict[str, str]:
    """Relative path, with `/` -> SHA-256 in hexadecimal, of every file below `folder` but the manifest."""
    return {name: _digest(Path(folder, name)) for name in _files(Path(folder))}


def model_identity(folder: str | Path) -> str:
    """SHA-256, in hexadecimal, over the sorted paths and contents of a model's files: the same for every copy."""
    digest = hashlib.sha256()
    for name, content in sorted(checksums(folder).items()):
        digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


class ServingFolder:
    """The versions in a folder, and everything that may be done to them.

    Whatever changes the folder runs under one lock, which the operating system frees when its process is killed; what
    such a process left behind is cleared by the next one. Reading takes no lock.

    A version's manifest, `<version>/assets.extra/manifest.json`, says: `schema_version`; `version`; `kind`, `push`,
    `rollback` or `restoration`; `pushed_at`, UTC; `replaced`, the version before; `restores`, of the last two: the
    pushed version whose content it has; `reason`; `forced`, the reason given for a forced push; `run_id`; `winner`;
    `model_sha256`, the identity of the trained model, before anything was put beside it; `files`, path -> SHA-256;
    `labels`; `metrics`; `data_fingerprint`. What does not apply is null. Copies beside this folder, in
    `<folder>-manifests`, outlive the versions and the folder.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._manifests_folder = self.folder.with_name(self.folder.name + _MANIFESTS)

    def versions(self) -> list[int]:
        """The versions that TensorFlow Serving finds, oldest first."""
        return [number for number in self._numbers() if self._of(number).is_dir()]

    def production(self) -> int | None:
        """The version that production reads: the highest."""
        return max(self.versions(), default=None)

    def manifest(self, version: int) -> dict[str, Any] | None:
        """What is known of a version, also of a removed one; None: nothing, or not in a readable way."""
        in_older_ones = self.folder / _OLD_MANIFESTS / f"{version}.json"
        for path in (self._of(version) / MANIFEST_FILE, self._kept_manifest(version), in_older_ones):
            with contextlib.suppress(OSError, ValueError):
                found = json.loads(path.read_text(encoding="utf-8"))
                if _is_manifest(found) and found["version"] == version:
                    return found
        return None

    def identity(self, version: int) -> str | None:
        """`model_identity` of the trained model that a version has; None: its files are not what was pushed."""
        manifest = self.manifest(version)
        if manifest is None:
            return None if (self._of(version) / MANIFEST_FILE).exists() else model_identity(self._of(version))
        return None if _differences(checksums(self._of(version)), manifest["files"]) else manifest["model_sha256"]

    def standing(self) -> Standing:
        """Whether the newest version there ever was is there, and whole; reads all its files."""
        newest = max(self._manifests(), default=None)
        if newest is None:
            return Standing(None)
        folder = self._of(newest)
        if not folder.is_dir():
            production = self.production()
            now = "nothing" if production is None else f"version {production}"
            return Standing(newest, GONE, f"is gone, so {now} is in production in its place")
        manifest = self.manifest(newest)
        if manifest is None and (folder / MANIFEST_FILE).exists():
            return Standing(newest, DAMAGED, f"is damaged: {MANIFEST_FILE} cannot be read")
        found = checksums(folder)
        if manifest and manifest["files"] is not None:
            wrong = _differences(found, manifest["files"])
        else:  # of an older warmstart, or somebody else's
            wrong = [] if _MODEL_FILE in found else [f"{_MODEL_FILE} is missing"]
        return Standing(newest, DAMAGED, f"is damaged: {and_more(wrong, 3)}") if wrong else Standing(newest)

    def restore(self, places: Iterable[str | Path]) -> int | None:
        """Puts the content of the version that production should read into production once more, as a new version.

        Args:
          places: folders that may hold a copy of the model, such as what was pushed; the versions that are there are
            looked at first.

        Returns:
          the number of the new version; None: nothing is wrong, or there is no whole copy.
        """
        with self._locked():
            standing = self.standing()
            manifest = self.manifest(standing.version) if standing.problem and standing.version is not None else None
            if standing.version is None or manifest is None or not manifest["files"]:
                return None
            others = [self._of(version) for version in reversed(self.versions()) if version != standing.version]
            for place in map(Path, [*others, *places]):
                if not all((place / name).is_file() for name in manifest["files"]):
                    continue
                new = {
                    **manifest,
                    "version": self._new_number(),
                    "kind": RESTORATION,
                    "pushed_at": _now(),
                    "replaced": self.production(),
                    "restores": _origin(standing.version, self._manifests()),
                    "reason": f"version {standing.version} {standing.problem}",
                    "forced": None,
                }
                with contextlib.suppress(_DamagedError):
                    self._add(place, list(manifest["files"]), new, manifest["files"])
                    return new["version"]
            return None

    def pinned(self) -> list[int]:
        """The versions that are never removed, oldest first."""
        return sorted(_as_numbers(_names(self.folder / _PINNED)))

    def pushed_by(self, run_id: str) -> int | None:
        """The version that a run pushed, whether it is still there or not; None: it pushed none."""
        of_run = [v for v, each in self._manifests().items() if each["run_id"] == run_id and each["kind"] == PUSH]
        return max(of_run, default=None)

    def history(self, standing: Standing | None = None) -> list[dict[str, Any]]:
        """The manifests of all versions there ever were, oldest first, each with `state` and `pinned`.

        `standing` is that of now, for who has asked already: it reads all files of a version.

        The state is `production`, `kept` or `removed`; that of the newest may be `damaged` or `gone`, see `standing`.
        Of a version without a manifest, of an older warmstart, most is null; of one whose manifest is damaged `kind`
        is, too.
        """
        standing, manifests = standing or self.standing(), self._manifests()
        there = [version for version in self.versions() if version in manifests]  # another may have come by now
        production, pinned = max(there, default=None), self.pinned()
        states = {version: KEPT if version in there else REMOVED for version in manifests}
        states |= {production: PRODUCTION} if production is not None else {}
        states |= {standing.version: standing.state} if standing.problem and standing.version is not None else {}
        return [
            {**manifest, "state": states[version], "pinned": version in pinned}
            for version, manifest in manifests.items()
        ]

    def push(
        self,
        model_folder: str | Path,
        identity: str,
        release: Mapping[str, Any],
        expected_production: int | None,
        run_id: str | None = None,
        force_push: str = "",
    ) -> PushResult:
        """Puts a model into production, if production is still what the model was compared with.

        Args:
          model_folder: what is copied.
          identity: `model_identity` of the trained model.
          release: of ReleaseGate: `winner`, `reason`, `forced`, `metrics`, `data_fingerprint`.
          expected_production: the version that the model was compared with; None: with none.
          run_id: of the run that trained it.
          force_push: why the model is pushed even if production was rolled back from it; empty: it is not.
        """
        with self._locked():
            production, manifests = self.production(), self._manifests()
            # With an export more than production has, the same model is another version.
            if (
                production is not None
                and self.identity(production) == identity
                and {*_files(Path(model_folder))} <= {*_files(self._of(production))}
            ):
                reason = f"this very model is in production already, as version {production}"
                return PushResult(ALREADY_IN_PRODUCTION, production, reason)
            if production != expected_production:
                reason = (
                    f"the model was compared with {_version_or_none(expected_production)}, but by now "
                    f"{_version_or_none(production)} is in production; run again"
                )
                return PushResult(PRODUCTION_CHANGED, production, reason)
            refused = _rolled_back_from(manifests).get(identity)
            if refused is not None and not force_push:
                reason = (
                    f"this very model was version {refused['replaced']}, from which production was rolled back by "
                    f"version {refused['version']}{_because(refused)}; --force-push pushes it all the same"
                )
                return PushResult(ROLLED_BACK, production, reason)
            version = self._new_number()
            manifest = {
                **_NO_MANIFEST,
                **{key: release.get(key) for key in ("winner", "reason", "metrics", "data_fingerprint")},
                "version": version,
                "pushed_at": _now(),
                "replaced": production,
                "forced": release.get("forced") or (force_push if refused else None),
                "run_id": run_id,
                "model_sha256": identity,
                "labels": read_labels(model_folder),
            }
            self._add(Path(model_folder), _files(Path(model_folder)), manifest)
            return PushResult(PUSHED, version, f"the model is in production as version {version}")

    def rollback(self, version: int | None = None, reason: str = "") -> int:
        """Puts the content of an earlier version into production once more, as a new version.

        Args:
          version: which; None: what production read before the content that it reads now, or, where that is damaged,
            another version of the same content if there is one, or, where the newest version is gone, the one that is
            left in its place.
          reason: for the manifest.

        Returns:
          the number of the new version.

        Raises:
          BadInput: the version is unknown, removed, damaged or in production already, or there is none before.
        """
        with self._locked():
            production, manifests = self.production(), self._manifests()
            if production is None:
                raise BadInput(f"nothing is in production in {self.folder}; there is nothing to roll back")
            is_whole, standing = self.identity(production) is not None, self.standing()
            is_gone = standing.state == GONE  # then what is in production is no more than what was left
            others = [v for v in self.versions() if v != production or is_gone]
            same = [v for v in others if v != production and _same_content(v, production, manifests)]
            choices = [v for v in others if not is_whole or v not in same]
            target = version
            if version is None and is_gone:
                target = production
            elif version is None:
                target = max(same) if same and not is_whole else self._before(production, manifests)
            if target is None:
                raise BadInput(
                    f"version {_origin(production, manifests)}, whose content is in production, came first or nothing "
                    f"before it is left; {_to_choose_from(choices)}"
                )
            if target not in self.versions():
                what = "was removed" if target in manifests else "is unknown"
                raise BadInput(f"version {target} {what}; {_to_choose_from(choices)}")
            manifest = manifests[target]
            if target not in choices:
                state = "is in production already" if is_whole else "is in production, and damaged"
                raise BadInput(f"the content of version {target} {state}; {_to_choose_from(choices)}")
            if manifest["files"] is None:
                others = [v for v in choices if v != target]
                raise BadInput(f"version {target} is damaged: its manifest is unreadable; {_to_choose_from(others)}")
            new = {
                **manifest,
                "version": self._new_number(),
                "kind": ROLLBACK,
                "pushed_at": _now(),
                "replaced": standing.version if is_gone else production,
                "restores": _origin(target, manifests),
                "reason": reason or None,
                "forced": None,
            }
            try:
                self._add(self._of(target), list(manifest["files"]), new, manifest["files"])
            except _DamagedError as damaged:
                others = [v for v in choices if v != target]
                raise BadInput(f"version {target} is damaged: {damaged}; {_to_choose_from(others)}") from None
            return new["version"]

    def pin(self, version: int) -> None:
        """Keeps a version for ever.

        Raises:
          BadInput: there is no such version.
        """
        with self._locked():
            if version not in self.versions():
                raise BadInput(f"version {version} is not there; {_to_choose_from(self.versions())}")
            (self.folder / _PINNED).mkdir(exist_ok=True)
            (self.folder / _PINNED / str(version)).touch()

    def unpin(self, version: int) -> None:
        """Takes the pin off a version.

        Raises:
          BadInput: it is not pinned.
        """
        with self._locked():
            if version not in self.pinned():
                raise BadInput(f"version {version} is not pinned; {_to_choose_from(self.pinned())}")
            (self.folder / _PINNED / str(version)).unlink()

    def remove_old(self, keep: int) -> list[int]:
        """Removes all versions but the one in production, the pinned ones and the `keep` newest of the others.

        What a rollback restored may go too: the version in production is a copy.

        Returns:
          the removed ones, oldest first.
        """
        with self._locked():
            production, pinned = self.production(), self.pinned()
            others = [v for v in self.versions() if v != production and v not in pinned]
            removed = others[: max(len(others) - keep, 0)]
            for version in removed:
                leaving = self.folder / f"{_LEAVING}{version}"
                os.rename(self._of(version), leaving)
                shutil.rmtree(leaving, ignore_errors=True)  # what stays is cleared next time
            return removed

    def _of(self, version: int) -> Path:
        return self.folder / str(version)

    def _kept_manifest(self, version: int) -> Path:
        return self._manifests_folder / f"{version}.json"

    def _numbers(self) -> list[int]:
        """All numbers that are names here, also of files, which TensorFlow Serving takes for versions."""
        return sorted(_as_numbers(_names(self.folder)))

    def _ever(self) -> set[int]:
        names = [*_names(self._manifests_folder), *_names(self.folder / _OLD_MANIFESTS)]
        return {*self._numbers(), *_as_numbers(name.removesuffix(".json") for name in names)}

    def _new_number(self) -> int:
        """The time, or more if a clock was ahead once: a number is never given twice."""
        return max(int(time.time()), max(self._ever(), default=0) + 1)

    def _manifests(self) -> dict[int, dict[str, Any]]:
        """Of all versions there ever were, oldest first."""
        there = set(self.versions())
        found = {version: self.manifest(version) for version in sorted(self._ever())}
        return {
            version: manifest or {**_NO_MANIFEST, "version": version, "kind": self._kind_without_manifest(version)}
            for version, manifest in found.items()
            if manifest or version in there
        }

    def _kind_without_manifest(self, version: int) -> str | None:
        """Older warmstarts pushed without a manifest; of one that is damaged nothing is known."""
        return None if (self._of(version) / MANIFEST_FILE).exists() else PUSH

    def _before(self, production: int, manifests: dict[int, dict[str, Any]]) -> int | None:
        """The version, still there, that production read before it first read the content of `production`."""
        there = self.versions()
        before = manifests.get(_origin(production, manifests), _NO_MANIFEST)["replaced"]
        while before is not None:
            origin = _origin(before, manifests)
            copies = [v for v in there if v == before or _origin(v, manifests) == origin]
            if copies and not _same_content(before, production, manifests):
                return before if before in copies else max(copies)
            before = manifests.get(origin, _NO_MANIFEST)["replaced"]
        return None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder / _LOCK)
        try:
            lock.acquire(timeout=_LOCK_TIMEOUT_SECONDS)
        except filelock.Timeout:
            raise BadInput(
                f"another push or rollback has been at work in {self.folder} for more than {_LOCK_TIMEOUT_SECONDS} "
                "seconds; wait for it and try again"
            ) from None
        try:
            for name in _names(self.folder):
                if name.startswith((_INCOMING, _LEAVING)):  # of a process that was killed
                    shutil.rmtree(self.folder / name, ignore_errors=True)
            for version in self._ever():
                if not self._kept_manifest(version).is_file():
                    self._keep_manifest(version)
            yield
        finally:
            lock.release()

    def _keep_manifest(self, version: int) -> None:
        """Copies a version's manifest to where it outlives the version; makes one for an older warmstart's."""
        manifest = self.manifest(version)
        if manifest is None:
            folder = self._of(version)
            if (folder / MANIFEST_FILE).exists() or not folder.is_dir():
                return  # damaged: nobody knows what the version should hold
            manifest = {
                **_NO_MANIFEST,
                "version": version,
                "replaced": max((v for v in self.versions() if v < version), default=None),
                "model_sha256": model_identity(folder),
                "files": checksums(folder),
                "labels": read_labels(folder),
            }
        self._manifests_folder.mkdir(exist_ok=True)
        temporary = self._kept_manifest(version).with_suffix(".new")
        _write(temporary, manifest)
        os.replace(temporary, self._kept_manifest(version))

    def _add(
        self, source: Path, names: list[str], manifest: dict[str, Any], expected: dict[str, str] | None = None
    ) -> None:
        """Makes a version of files of `source`, whole or not at all, and tells `manifest` of them.

        Raises:
          _DamagedError: the files are not as `expected`.
        """
        version = manifest["version"]
        incoming = self.folder / f"{_INCOMING}{version}"
        try:
            manifest["files"] = _copy(source, incoming, names)
            if expected is not None and manifest["files"] != expected:
                wrong = [name for name, digest in expected.items() if manifest["files"].get(name) != digest]
                raise _DamagedError(f"{', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not what was pushed")
            _write(incoming / MANIFEST_FILE, manifest)
            for folder, _, _ in os.walk(incoming):
                _synchronise(Path(folder))
            os.rename(incoming, self._of(version))
        except BaseException:
            shutil.rmtree(incoming, ignore_errors=True)
            raise
        _synchronise(self.folder)
        with contextlib.suppress(OSError):  # the version is in production; whoever is next keeps its manifest
            self._keep_manifest(version)


# What is not known is null.
_NO_MANIFEST: dict[str, Any] = {
    "schema_version": SCHEMA_VERSION,
    "version": None,
    "kind": PUSH,
    "pushed_at": None,
    "replaced": None,
    "restores": None,
    "reason": None,
    "forced": None,
    "run_id": None,
    "winner": None,
    "model_sha256": None,
    "files": None,
    "labels": None,
    "metrics": None,
    "data_fingerprint": None,
}


# Besides null.
_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("schema_version", "version", "replaced", "restores"), int),
    **dict.fromkeys(("kind", "pushed_at", "reason", "forced", "run_id", "winner"), str),
    **dict.fromkeys(("model_sha256", "data_fingerprint"), str),
    **dict.fromkeys(("files", "metrics"), dict),
    "labels": list,
}


def _is_manifest(found: Any) -> bool:
    """Whether what a file holds is a manifest: what anybody may have written there is not trusted."""
    if not isinstance(found, dict) or not found.keys() >= _NO_MANIFEST.keys():
        return False
    if any(found[key] is not None and not isinstance(found[key], kind) for key, kind in _TYPES.items()):
        return False
    labels, files = found["labels"] or [], found["files"] or {}
    return all(isinstance(label, str) for label in labels) and all(
        is_plain_name(name) and isinstance(digest, str) for name, digest in files.items()
    )


def is_plain_name(name: str) -> bool:
    """Whether a relative path, with `/`, leads to a file below the folder that it is relative to, by its text alone."""
    return "\0" not in name and all(part not in ("", ".", "..") for part in name.split("/"))


def _differences(found: Mapping[str, str], wanted: Mapping[str, str] | None) -> list[str]:
    """What is not as it was pushed, by path and checksum; hidden files, as file systems make them, do not count."""
    wanted = wanted or {}
    wrong = [f"{name} is missing" for name in wanted if name not in found]
    wrong += [f"{name} was changed" for name, digest in wanted.items() if found.get(name, digest) != digest]
    added = [name for name in found if name not in wanted and not name.rpartition("/")[2].startswith(".")]
    return wrong + [f"{name} was added" for name in added]


class _DamagedError(Exception):
    """Files are missing or changed; the message names them."""


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _as_numbers(names: Iterable[str]) -> Iterator[int]:
    for name in names:
        if name.isascii() and name.isdecimal() and str(int(name)) == name and int(name) <= _LARGEST:
            yield int(name)


def _files(folder: Path) -> list[str]:
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if path != MANIFEST_FILE)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _copy(source: Path, target: Path, names: list[str]) -> dict[str, str]:
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
        with (source / name).open("rb") as file, (target / name).open("wb") as copy:
            while block := file.read(_BLOCK):
                digest.update(block)
                copy.write(block)
            copy.flush()
            os.fsync(copy.fileno())
        found[name] = digest.hexdigest()
    return found


def _write(path: Path, manifest: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(manifest, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _synchronise(folder: Path) -> None:
    """Sends a folder's list of names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _origin(version: int, manifests: dict[int, dict[str, Any]]) -> int:
    """The pushed version whose content a version has: itself, unless it is of a rollback."""
    restores = manifests[version]["restores"] if version in manifests else None
    return version if restores is None else restores


def _same_content(one: int, other: int, manifests: dict[int, dict[str, Any]]) -> bool:
    contents = [manifests[version]["model_sha256"] if version in manifests else None for version in (one, other)]
    return one == other or (contents[0] is not None and contents[0] == contents[1])


def _rolled_back_from(manifests: dict[int, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Identity of each model that production was rolled back from, and not to again -> manifest of the rollback."""
    refused: dict[str, dict[str, Any]] = {}
    for manifest in manifests.values():
        if manifest["kind"] == ROLLBACK and manifest["replaced"] in manifests:
            refused[manifests[manifest["replaced"]]["model_sha256"]] = manifest
        refused.pop(manifest["model_sha256"], None)  # also where a whole copy took the place of a damaged one
    return refused


def _because(manifest: dict[str, Any]) -> str:
    return f" ({manifest['reason']})" if manifest["reason"] else ""


def _version_or_none(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"


def _to_choose_from(versions: list[int]) -> str:
    if not versions:
        return "there is no other version to choose"
    return f"choose one of {', '.join(map(str, versions))}"
