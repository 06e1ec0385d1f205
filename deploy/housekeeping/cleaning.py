"""Cleans a root folder: finds what can be removed, and removes it."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import yaml
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from deploy.files import files_below, folders_in, log_line, newest_change
from deploy.housekeeping.needs import find_needs
from deploy.housekeeping.record import DELETED, Record, chunks
from deploy.housekeeping.removals import (
    DAY,
    Removal,
    artifact_places,
    kept_photos_of,
    old_artifacts,
    old_leftovers,
    old_logs,
    old_vectors,
    old_working_folders,
)
from deploy.metadata_address import connect, connection_config
from deploy.root import CONFIG_FILE, SUMMARY_FILE, Root
from pipeline.config import RetentionConfig
from schemas.errors import BadInput
from schemas.words import on_one_line

# In the root folder: one line for everything that was removed.
REMOVED_FILE = ".removed.jsonl"


@dataclass(frozen=True)
class CleaningResult:
    """What was removed, or would be."""

    days: float
    dry_run: bool = False
    removed: list[Removal] = field(default_factory=list)
    bytes: int = 0
    """Bytes freed on disk: less than the sum if another folder links to the same files."""
    not_removed: dict[str, str] = field(default_factory=dict)
    """Path -> why it could not be removed."""
    left_alone: list[str] = field(default_factory=list)
    """Remote places of artifacts, which are not cleaned."""


def clean_root(root: Root, days: float | None = None, metadata: str = "", dry_run: bool = False) -> CleaningResult:
    """Cleans a root folder under its lock.

    Args:
      days: how many days unused files are kept; None: `retention.days` of the newest run's configuration.
      metadata: address of ML Metadata, for the root of a pipeline on Kubeflow.
      dry_run: change nothing and take no lock.

    Raises:
      RunActiveError: a run is active here.
      BadInput: the address is missing, wrong or not needed, or a run on Kubeflow is active.
    """
    on_kubeflow = root.store_mark().exists()
    if on_kubeflow and not metadata:
        raise BadInput(
            f"the root folder {root.folder} belongs to a pipeline on Kubeflow, which keeps its metadata there; give "
            "the address of ML Metadata with --metadata"
        )
    if metadata and not on_kubeflow:
        raise BadInput(
            f"--metadata was given, but the root folder {root.folder} has its own metadata; leave out --metadata"
        )
    days = configured_days(root) if days is None else days
    if not on_kubeflow and not root.metadata.exists():
        return CleaningResult(days, dry_run)
    store = connect(metadata) if on_kubeflow else _open(root, dry_run)
    if on_kubeflow:
        _check_binding(root, store, metadata)
    with contextlib.nullcontext() if dry_run else root.lock("clean"):
        return clean(root, store, days, dry_run=dry_run)


def clean(
    root: Root, store: metadata_store.MetadataStore, days: float, now: float | None = None, dry_run: bool = False
) -> CleaningResult:
    """Removes what is not needed; call it under `root.lock` while no run is active in the root.

    Args:
      store: its ML Metadata, which other pipelines may share.
      days: how many days unused files are kept.
      now: seconds since 1970; None: the current time.

    Raises:
      BadInput: a run on Kubeflow is active.
    """
    now = time.time() if now is None else now
    if root.store_mark().exists() and (active := _active_run(root, now)):
        raise BadInput(
            f"the run {active} in {root.folder} has no summary and was active less than a day ago; clean once it has "
            "ended"
        )
    record = Record(store, root.pipeline_name())
    needs = find_needs(root, record)
    places, left_alone = artifact_places(root)
    artifacts = list(old_artifacts(root, places, record, needs, now, days))
    removals = [
        *artifacts,
        *old_working_folders(root, places, now, days),
        *old_vectors(root, kept_photos_of(places, record, artifacts), now, days),
        *old_logs(root, needs, now, days),
        *old_leftovers(root, now, days),
    ]
    cleaned = CleaningResult(days, dry_run, removals, _bytes_freed(removals), left_alone=left_alone)
    if not dry_run:
        _mark_deleted(store, sorted({number for removal in removals for number in removal.artifacts}))
        for removal in removals:
            _remove(root, removal, cleaned.not_removed)
    return cleaned


def configured_days(root: Root) -> float:
    """`retention.days` of the newest run's configuration, or its default."""
    files = sorted(root.reports.glob(f"*/{CONFIG_FILE}"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[:1]:
        # Another version of warmstart may have written it, so it is not validated.
        with contextlib.suppress(OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
            return float(yaml.safe_load(file.read_text(encoding="utf-8"))["retention"]["days"])
    return float(RetentionConfig().days)


def _open(root: Root, read_only: bool) -> metadata_store.MetadataStore:
    config = connection_config(root.metadata_address)
    source = metadata_store_pb2.SqliteMetadataSourceConfig
    config.sqlite.connection_mode = source.READONLY if read_only else source.READWRITE
    try:
        return metadata_store.MetadataStore(config)
    except Exception as error:  # SQLite fails in many ways
        raise BadInput(f"{root.metadata} cannot be read ({on_one_line(error)}); nothing was removed") from error


def _check_binding(root: Root, store: metadata_store.MetadataStore, address: str) -> None:
    """Refuses another store, by whose numbers everything here would look unused."""
    from deploy.kubeflow.prepare import bind

    name = root.pipeline_name()
    if store.get_context_by_type_and_name("pipeline", name) is None:
        raise BadInput(
            f"ML Metadata at {address} has no run of the pipeline {name!r}, to which the root folder {root.folder} "
            "belongs; give the address of the store that the pipeline ran with"
        )
    bind(root, name, store, address)


def _active_run(root: Root, now: float) -> str:
    """A run without a summary that was active within the last day; empty: there is none."""
    for folder in folders_in(root.reports):
        if not (folder / SUMMARY_FILE).exists() and now - newest_change(folder) < DAY:
            return folder.name
    return ""


def _mark_deleted(store: metadata_store.MetadataStore, numbers: list[int]) -> None:
    for some in chunks(numbers):
        artifacts = [artifact for artifact in store.get_artifacts_by_id(some) if artifact.state != DELETED]
        for artifact in artifacts:
            artifact.state = DELETED
        if artifacts:
            store.put_artifacts(artifacts, field_mask_paths=["state"])


def _remove(root: Root, removal: Removal, not_removed: dict[str, str]) -> None:
    log = root.folder / REMOVED_FILE
    log_line(log, {"what": removal.what, "why": removal.why, "bytes": removal.bytes})
    try:
        for path in removal.paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        not_removed[removal.what] = f"{error.strerror or error}: {error.filename or removal.what}"
        log_line(log, {"what": removal.what, "error": not_removed[removal.what]})
        return
    for parent in {path.parent for path in removal.paths}:
        with contextlib.suppress(OSError):  # something else is in it
            parent.rmdir()


def _bytes_freed(removals: Iterable[Removal]) -> int:
    """Bytes that become free; a file with several names is freed with the last of them."""
    links: dict[tuple[int, int], int] = defaultdict(int)
    facts: dict[tuple[int, int], os.stat_result] = {}
    for path in {path for removal in removals for path in removal.paths}:
        for file in files_below(path):
            with contextlib.suppress(OSError):
                found = os.lstat(file)
                links[found.st_dev, found.st_ino] += 1
                facts[found.st_dev, found.st_ino] = found
    return sum(found.st_size for inode, found in facts.items() if links[inode] >= found.st_nlink)
