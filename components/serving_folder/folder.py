"""The serving folder: pushing, rolling back, restoring, pinning and removing versions."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import filelock

from components.serving_folder.files import (
    as_versions,
    checksums,
    copy,
    differences,
    files_of,
    model_identity,
    names_in,
    synchronise,
)
from components.serving_folder.manifest import (
    MANIFEST_FILE,
    PUSH,
    RESTORATION,
    ROLLBACK,
    Manifest,
    PastVersion,
    have_same_content,
    origin,
    read_manifest,
    rolled_back_from,
    write_manifest,
)
from components.serving_folder.results import (
    ALREADY_IN_PRODUCTION,
    DAMAGED,
    GONE,
    KEPT,
    PRODUCTION,
    PRODUCTION_CHANGED,
    PUSHED,
    REMOVED,
    ROLLED_BACK,
    PushResult,
    Standing,
)
from schemas.errors import BadInput
from schemas.labels import read_labels
from schemas.release import Release
from schemas.words import and_more

# SavedModel's own file, without which nobody can load a version.
_MODEL_FILE = "saved_model.pb"
_LOCK, _PINNED = ".lock", ".pinned"
# Beside the folder, so that it outlives it; within it in older warmstarts.
_MANIFESTS, _OLD_MANIFESTS = "-manifests", ".manifests"
_INCOMING, _LEAVING = ".incoming-", ".removed-"
_LOCK_TIMEOUT_SECONDS = 300


class ServingFolder:
    """The versions in a serving folder.

    Every change takes one lock, which the operating system releases if the process is killed. The next process clears
    what a killed one left behind. Reading takes no lock.

    Copies of the manifests in `<folder>-manifests`, next to this folder, outlive the versions and the folder. So do the
    model cards beside them.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._manifests_folder = self.folder.with_name(self.folder.name + _MANIFESTS)

    def versions(self) -> list[int]:
        """The versions that TensorFlow Serving can see, oldest first."""
        return [number for number in self._numbers() if self._of(number).is_dir()]

    def production(self) -> int | None:
        """The version that production reads: the highest."""
        return max(self.versions(), default=None)

    def manifest(self, version: int) -> Manifest | None:
        """The manifest of a version, even of a removed one; None if it does not exist or cannot be read."""
        in_older_ones = self.folder / _OLD_MANIFESTS / f"{version}.json"
        places = (self._of(version) / MANIFEST_FILE, self._kept_manifest(version), in_older_ones)
        return next((found for path in places if (found := read_manifest(path, version))), None)

    def identity(self, version: int) -> str | None:
        """`model_identity` of a version's trained model; None if its files are not what was pushed."""
        manifest = self.manifest(version)
        if manifest is None:
            return None if (self._of(version) / MANIFEST_FILE).exists() else model_identity(self._of(version))
        return None if differences(checksums(self._of(version)), manifest.files) else manifest.model_sha256

    def standing(self) -> Standing:
        """Whether the newest version ever pushed exists and is intact; reads all its files."""
        newest = max(self._manifests(), default=None)
        if newest is None:
            return Standing(None)
        folder = self._of(newest)
        if not folder.is_dir():
            production = self.production()
            now = "nothing is in production" if production is None else f"version {production} is in production instead"
            return Standing(newest, GONE, f"is gone, so {now}")
        manifest = self.manifest(newest)
        if manifest is None and (folder / MANIFEST_FILE).exists():
            return Standing(newest, DAMAGED, f"is damaged: {MANIFEST_FILE} cannot be read")
        found = checksums(folder)
        if manifest and manifest.files is not None:
            wrong = differences(found, manifest.files)
        else:  # of an older warmstart, or somebody else's
            wrong = [] if _MODEL_FILE in found else [f"{_MODEL_FILE} is missing"]
        return Standing(newest, DAMAGED, f"is damaged: {and_more(wrong, 3)}") if wrong else Standing(newest)

    def restore(self, places: Iterable[str | Path]) -> int | None:
        """Restores the version that production should read, as a new version.

        Args:
          places: folders that may hold a copy of the model, such as the pushed artifact. Existing versions are tried
            first.

        Returns:
          The number of the new version; None if nothing is wrong or there is no intact copy.
        """
        with self._locked():
            standing = self.standing()
            manifest = self.manifest(standing.version) if standing.problem and standing.version is not None else None
            if standing.version is None or manifest is None or not manifest.files:
                return None
            others = [self._of(version) for version in reversed(self.versions()) if version != standing.version]
            for place in map(Path, [*others, *places]):
                if not all((place / name).is_file() for name in manifest.files):
                    continue
                new = replace(
                    manifest,
                    version=self._new_number(),
                    kind=RESTORATION,
                    pushed_at=_now(),
                    replaced=self.production(),
                    restores=origin(standing.version, self._manifests()),
                    reason=standing.sentence,
                    forced=None,
                )
                with contextlib.suppress(_DamagedError):
                    self._add(place, list(manifest.files), new, manifest.files)
                    return new.version
            return None

    def pinned(self) -> list[int]:
        """The pinned versions, which are never removed, oldest first."""
        return sorted(as_versions(names_in(self.folder / _PINNED)))

    def card_file(self, version: int) -> Path:
        """Where the model card of a version is written: beside the versions, whose own files are sealed."""
        return self._manifests_folder / str(version) / "README.md"

    def pushed_by(self, run_id: str) -> int | None:
        """The version that a run pushed, whether or not it still exists; None if it pushed none."""
        of_run = [v for v, each in self._manifests().items() if each.run_id == run_id and each.kind == PUSH]
        return max(of_run, default=None)

    def history(self, standing: Standing | None = None) -> list[PastVersion]:
        """All versions ever pushed, oldest first.

        The state is `production`, `kept` or `removed`; that of the newest may be `damaged` or `gone`, see `standing`.
        A version that an older warmstart pushed without a manifest has mostly None; with a damaged manifest `kind` is
        None too.

        Args:
          standing: the current `standing()`, if the caller has it already; computing it reads all files of a version.
        """
        standing, manifests = standing or self.standing(), self._manifests()
        there = [version for version in self.versions() if version in manifests]  # another may have come by now
        production, pinned = max(there, default=None), self.pinned()
        states = {version: KEPT if version in there else REMOVED for version in manifests}
        states |= {production: PRODUCTION} if production is not None else {}
        states |= {standing.version: standing.state} if standing.problem and standing.version is not None else {}
        return [
            PastVersion(**vars(manifest), state=states[version], pinned=version in pinned)
            for version, manifest in manifests.items()
        ]

    def push(
        self,
        model_folder: str | Path,
        identity: str,
        release: Release,
        expected_production: int | None,
        run_id: str | None = None,
        force_push: str = "",
    ) -> PushResult:
        """Puts a model into production if production is still the version that the model was compared with.

        Args:
          identity: `model_identity` of the trained model.
          expected_production: the version that the model was compared with; None if it was compared with none.
          run_id: the run that trained it.
          force_push: the reason for pushing a model that production was rolled back from; empty to refuse it.
        """
        with self._locked():
            production, manifests = self.production(), self._manifests()
            # With an export more than production has, the same model is another version.
            if (
                production is not None
                and self.identity(production) == identity
                and {*files_of(model_folder)} <= {*files_of(self._of(production))}
            ):
                reason = f"this model is already in production, as version {production}"
                return PushResult(ALREADY_IN_PRODUCTION, production, reason)
            if production != expected_production:
                reason = (
                    f"the model was compared with {_version_or_none(expected_production)}, but "
                    f"{_version_or_none(production)} is now in production; run again"
                )
                return PushResult(PRODUCTION_CHANGED, production, reason)
            refused = rolled_back_from(manifests).get(identity)
            if refused is not None and not force_push:
                reason = (
                    f"this model was version {refused.replaced}, from which production was rolled back by version "
                    f"{refused.version}{_because(refused)}; use --force-push to push it anyway"
                )
                return PushResult(ROLLED_BACK, production, reason)
            version = self._new_number()
            manifest = Manifest(
                version=version,
                pushed_at=_now(),
                replaced=production,
                reason=release.reason,
                forced=release.forced or (force_push if refused else None),
                run_id=run_id,
                winner=release.winner,
                model_sha256=identity,
                labels=read_labels(model_folder),
                metrics=release.metrics,
                data_fingerprint=release.data_fingerprint,
            )
            self._add(Path(model_folder), files_of(model_folder), manifest)
            return PushResult(PUSHED, version, f"the model is in production as version {version}")

    def rollback(self, version: int | None = None, reason: str = "") -> int:
        """Puts the content of an earlier version back into production, as a new version.

        Args:
          version: the version to return to. None returns to the version before the current content. If the current
            version is damaged, None prefers another version with the same content; if the newest version is gone, it
            confirms the one that is now in production.

        Returns:
          The number of the new version.

        Raises:
          BadInput: the version is unknown, removed, damaged or already in production, or there is no earlier one.
        """
        with self._locked():
            production, manifests = self.production(), self._manifests()
            if production is None:
                raise BadInput(f"nothing is in production in {self.folder}; there is nothing to roll back")
            is_whole, standing = self.identity(production) is not None, self.standing()
            is_gone = standing.state == GONE  # then what is in production is no more than what was left
            others = [v for v in self.versions() if v != production or is_gone]
            same = [v for v in others if v != production and have_same_content(v, production, manifests)]
            choices = [v for v in others if not is_whole or v not in same]
            target = version
            if version is None and is_gone:
                target = production
            elif version is None:
                target = max(same) if same and not is_whole else self._before(production, manifests)
            if target is None:
                raise BadInput(
                    f"no version from before version {origin(production, manifests)}, whose content is in production, "
                    f"is left; {_to_choose_from(choices)}"
                )
            if target not in self.versions():
                what = "was removed" if target in manifests else "is unknown"
                raise BadInput(f"version {target} {what}; {_to_choose_from(choices)}")
            manifest = manifests[target]
            if target not in choices:
                state = "is already in production" if is_whole else "is in production but damaged"
                raise BadInput(f"the content of version {target} {state}; {_to_choose_from(choices)}")
            if manifest.files is None:
                others = [v for v in choices if v != target]
                raise BadInput(f"version {target} is damaged: its manifest is unreadable; {_to_choose_from(others)}")
            new = replace(
                manifest,
                version=self._new_number(),
                kind=ROLLBACK,
                pushed_at=_now(),
                replaced=standing.version if is_gone else production,
                restores=origin(target, manifests),
                reason=reason or None,
                forced=None,
            )
            try:
                self._add(self._of(target), list(manifest.files), new, manifest.files)
            except _DamagedError as damaged:
                others = [v for v in choices if v != target]
                raise BadInput(f"version {target} is damaged: {damaged}; {_to_choose_from(others)}") from None
            return new.version

    def pin(self, version: int) -> None:
        """Pins a version, so that it is never removed.

        Raises:
          BadInput: the version does not exist.
        """
        with self._locked():
            if version not in self.versions():
                raise BadInput(f"version {version} does not exist; {_to_choose_from(self.versions())}")
            (self.folder / _PINNED).mkdir(exist_ok=True)
            (self.folder / _PINNED / str(version)).touch()

    def unpin(self, version: int) -> None:
        """Unpins a version.

        Raises:
          BadInput: the version is not pinned.
        """
        with self._locked():
            if version not in self.pinned():
                raise BadInput(f"version {version} is not pinned; {_to_choose_from(self.pinned())}")
            (self.folder / _PINNED / str(version)).unlink()

    def remove_old(self, keep: int) -> list[int]:
        """Removes all versions except the one in production, the pinned ones and the `keep` newest of the others.

        The version that a rollback restored may be removed too, since the one in production is a copy.

        Returns:
          The removed versions, oldest first.
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
        return sorted(as_versions(names_in(self.folder)))

    def _ever(self) -> set[int]:
        names = [*names_in(self._manifests_folder), *names_in(self.folder / _OLD_MANIFESTS)]
        return {*self._numbers(), *as_versions(name.removesuffix(".json") for name in names)}

    def _new_number(self) -> int:
        """The time, or more if a clock was ahead once: a number is never given twice."""
        return max(int(time.time()), max(self._ever(), default=0) + 1)

    def _manifests(self) -> dict[int, Manifest]:
        there = set(self.versions())
        found = {version: self.manifest(version) for version in sorted(self._ever())}
        return {
            version: manifest or Manifest(version=version, kind=self._kind_without_manifest(version))
            for version, manifest in found.items()
            if manifest or version in there
        }

    def _kind_without_manifest(self, version: int) -> str | None:
        """Older warmstarts pushed without a manifest; of one that is damaged nothing is known."""
        return None if (self._of(version) / MANIFEST_FILE).exists() else PUSH

    def _before(self, production: int, manifests: dict[int, Manifest]) -> int | None:
        """The version, still there, that production read before it first read the content of `production`."""
        there = self.versions()

        def replaced_by(version: int) -> int | None:
            manifest = manifests.get(origin(version, manifests))
            return manifest.replaced if manifest else None

        before = replaced_by(production)
        while before is not None:
            copies = [v for v in there if v == before or origin(v, manifests) == origin(before, manifests)]
            if copies and not have_same_content(before, production, manifests):
                return before if before in copies else max(copies)
            before = replaced_by(before)
        return None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder / _LOCK)
        try:
            lock.acquire(timeout=_LOCK_TIMEOUT_SECONDS)
        except filelock.Timeout:
            raise BadInput(
                f"another push or rollback has been running in {self.folder} for more than {_LOCK_TIMEOUT_SECONDS} "
                "seconds; wait for it and try again"
            ) from None
        try:
            for name in names_in(self.folder):
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
            manifest = Manifest(
                version=version,
                replaced=max((v for v in self.versions() if v < version), default=None),
                model_sha256=model_identity(folder),
                files=checksums(folder),
                labels=read_labels(folder),
            )
        self._manifests_folder.mkdir(exist_ok=True)
        temporary = self._kept_manifest(version).with_suffix(".new")
        write_manifest(temporary, manifest)
        os.replace(temporary, self._kept_manifest(version))

    def _add(self, source: Path, names: list[str], manifest: Manifest, expected: dict[str, str] | None = None) -> None:
        """Makes a version of files of `source`, whole or not at all, and writes their checksums into its manifest."""
        version = manifest.version
        incoming = self.folder / f"{_INCOMING}{version}"
        try:
            copied = copy(source, incoming, names)
            if expected is not None and copied != expected:
                wrong = [name for name, digest in expected.items() if copied.get(name) != digest]
                raise _DamagedError(f"{', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not what was pushed")
            write_manifest(incoming / MANIFEST_FILE, replace(manifest, files=copied))
            for folder, _, _ in os.walk(incoming):
                synchronise(Path(folder))
            os.rename(incoming, self._of(version))
        except BaseException:
            shutil.rmtree(incoming, ignore_errors=True)
            raise
        synchronise(self.folder)
        with contextlib.suppress(OSError):  # the version is in production; whoever is next keeps its manifest
            self._keep_manifest(version)


class _DamagedError(Exception):
    """Files are missing or changed; the message names them."""


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _because(manifest: Manifest) -> str:
    return f" ({manifest.reason})" if manifest.reason else ""


def _version_or_none(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"


def _to_choose_from(versions: list[int]) -> str:
    if not versions:
        return "there is no other version to choose"
    return f"choose one of {', '.join(map(str, versions))}"
