"""Housekeeping: removes from a root folder what nobody needs any more, and tells ML Metadata first.

How long something is kept goes by its last use: the newest run that made it, took it from the cache or read it. A run
that finds everything in the cache makes nothing, and needs all of it. So what a step made is removed when nothing has
used it for `retention.days`, and it is needed neither

- by a run that the next one goes on from: the newest, the newest that came to its end, and the newest in which each
  step succeeded. All that they read and made stays, and so does the ingestion of the earlier spans of their windows;
- by a version in `serving/`, so also by every pinned one: all that the run behind it read and made, but photos,
  vectors and predictions (`Examples`);
- to know which version was pushed last.

DriftGate's verdict on a span stays with the span's vectors: a span is judged once, by those it came after.

What one execution of a step made is kept or removed as a whole: TFX's cache takes all of it or nothing. Only for a
version's sake may a part stay; the cache then passes over it.

Artifacts become DELETED in ML Metadata before their folders go, all at once. TFX's cache passes over an execution of
whose outputs one is not LIVE (tfx/orchestration/portable/cache_utils.py), and inputs are chosen among LIVE artifacts
only (.../input_resolution/channel_resolver.py), so that after a kill in between nothing points at nothing; the next
call removes what is left. An artifact that stays is not touched: the time of its last change is a part of the cache
keys of all steps that read it.

Needs ML Metadata's client and neither TFX nor TensorFlow.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from components.drift_gate import VECTORS_PROPERTY
from deploy.kubeflow.plan import PIPELINE_FILE, read_plan
from deploy.metadata_address import connect, connection_config
from deploy.root import CONFIG_FILE, LOG_FILE, SUMMARY_FILE, Root
from pipeline.config import RetentionConfig
from schemas.errors import BadInput
from schemas.run_end import RunEnd, read_summary_file

# In the root folder: a line for everything that was removed.
REMOVED_FILE = ".removed.jsonl"

_DAY = 86_400.0
_STATES = metadata_store_pb2.Execution.State
_DONE = (_STATES.COMPLETE, _STATES.CACHED)
_DELETED = metadata_store_pb2.Artifact.DELETED
# Of photos, of vectors and of predictions.
_EXAMPLES = "Examples"
_INGEST_REPORT, _PUSHED_MODEL = "WarmstartIngestReport", "PushedModel"
# `components.example_gen.report.KEYS_FILE`; that module imports TFX.
KEYS_FILE = "keys.jsonl"
# TFX's folder of a step for what is no artifact.
_WORKING = ".system"
# Of one call to ML Metadata; a server takes 4 MB.
_CHUNK = 500


@dataclass(frozen=True)
class Removal:
    """Something that is removed. what: path below the root folder. why: in words. bytes: size of its files. paths: of
    files and folders. artifacts: their numbers in ML Metadata.
    """

    what: str
    why: str
    bytes: int
    paths: tuple[Path, ...]
    artifacts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Cleaned:
    """What was removed, or would be. bytes: that become free; fewer than the sum where another folder links the same
    files. not_removed: path -> what went wrong. left_alone: places of artifacts that are no folders here.
    """

    days: float
    dry_run: bool = False
    removed: list[Removal] = field(default_factory=list)
    bytes: int = 0
    not_removed: dict[str, str] = field(default_factory=dict)
    left_alone: list[str] = field(default_factory=list)


def clean_root(root: Root, days: float | None = None, metadata: str = "", dry_run: bool = False) -> Cleaned:
    """Cleans a root folder, under its lock.

    Args:
      root: which.
      days: for which what nothing uses is kept; None: `retention.days` of the newest run's configuration.
      metadata: address of ML Metadata of a root on Kubeflow.
      dry_run: changes nothing, and takes no lock.

    Raises:
      RunActiveError: a run is active here.
      BadInput: the address is missing, wrong or one too much, or a run on Kubeflow is active.
    """
    on_kubeflow = root.store_mark().exists()
    if on_kubeflow and not metadata:
        raise BadInput(
            f"the root folder {root.folder} belongs to a pipeline on Kubeflow, whose metadata are in a store there; "
            "give its address with --metadata"
        )
    if metadata and not on_kubeflow:
        raise BadInput(
            f"--metadata was given, but the root folder {root.folder} has metadata of its own; leave --metadata out"
        )
    days = configured_days(root) if days is None else days
    if not on_kubeflow and not root.metadata.exists():
        return Cleaned(days, dry_run)
    store = connect(metadata) if on_kubeflow else _open(root, dry_run)
    if on_kubeflow:
        _check_binding(root, store, metadata)
    with contextlib.nullcontext() if dry_run else root.lock("clean"):
        return clean(root, store, days, dry_run=dry_run)


def clean(
    root: Root, store: metadata_store.MetadataStore, days: float, now: float | None = None, dry_run: bool = False
) -> Cleaned:
    """Removes what nobody needs; call it while no run is active on the root, under `root.lock`.

    Args:
      root: the root folder.
      store: its ML Metadata; other pipelines may be in it.
      days: for which what nothing uses is kept.
      now: seconds since 1970; None: the time.
      dry_run: changes nothing.

    Raises:
      BadInput: a run on Kubeflow is active.
    """
    now = time.time() if now is None else now
    if root.store_mark().exists() and (active := _active_run(root, now)):
        raise BadInput(
            f"the run {active} on {root.folder} has no summary and was at work less than a day ago; clean when it has "
            "ended"
        )
    record = _Record(store, _pipeline_name(root))
    needs = _find_needs(root, record)
    places, left_alone = _artifact_places(root)
    artifacts = list(_old_artifacts(root, places, record, needs, now, days))
    removals = [
        *artifacts,
        *_old_working_folders(root, places, now, days),
        *_old_vectors(root, _kept_photos(places, record, artifacts), now, days),
        *_old_logs(root, needs, now, days),
        *_old_training_states(root, now, days),
        *_set_aside(root, now, days),
    ]
    cleaned = Cleaned(days, dry_run, removals, _bytes_freed(removals), left_alone=left_alone)
    if not dry_run:
        _mark_deleted(store, sorted({number for removal in removals for number in removal.artifacts}))
        for removal in removals:
            _remove(root, removal, cleaned.not_removed)
    return cleaned


def configured_days(root: Root) -> float:
    """`retention.days` of the newest run's configuration, or its default."""
    files = sorted(root.reports.glob(f"*/{CONFIG_FILE}"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[:1]:
        # It may be of another version of warmstart, so the types of today are not asked.
        with contextlib.suppress(OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
            return float(yaml.safe_load(file.read_text(encoding="utf-8"))["retention"]["days"])
    return float(RetentionConfig().days)  # type: ignore[call-arg]


def _open(root: Root, read_only: bool) -> metadata_store.MetadataStore:
    config = connection_config(f"sqlite://{quote(str(root.metadata))}")
    source = metadata_store_pb2.SqliteMetadataSourceConfig
    config.sqlite.connection_mode = source.READONLY if read_only else source.READWRITE
    try:
        return metadata_store.MetadataStore(config)
    except Exception as error:  # SQLite fails in many ways
        said = " ".join(str(error).split())[:300]
        raise BadInput(f"{root.metadata} cannot be read ({said}); nothing was removed") from error


def _check_binding(root: Root, store: metadata_store.MetadataStore, address: str) -> None:
    """With another store's numbers everything here would look left over."""
    from deploy.kubeflow.prepare import bind

    name = _pipeline_name(root)
    if store.get_context_by_type_and_name("pipeline", name) is None:
        raise BadInput(
            f"ML Metadata at {address} knows no run of the pipeline {name!r}, to which the root folder {root.folder} "
            "belongs; give the address of the store that it was run with"
        )
    bind(root, name, store, address)


def _pipeline_name(root: Root) -> str:
    return (root.folder / ".pipeline").read_text(encoding="utf-8").strip()


def _active_run(root: Root, now: float) -> str:
    """A run that has no summary yet, and gave a sign of life in the last day."""
    for folder in _folders(root.reports):
        if not (folder / SUMMARY_FILE).exists() and now - _newest_change(folder) < _DAY:
            return folder.name
    return ""


class _Record:
    """What ML Metadata knows of a pipeline: its executions, what they made, and when that was used last.

    executions: by number. outputs: execution -> key -> numbers of artifacts; of cached ones too. inputs: execution ->
    numbers. maker: artifact -> the execution that made it. artifacts: by number. runs: name -> context.
    """

    def __init__(self, store: metadata_store.MetadataStore, pipeline_name: str):
        self._store, self._pipeline_name = store, pipeline_name
        context = store.get_context_by_type_and_name("pipeline", pipeline_name)
        executions = store.get_executions_by_context(context.id) if context else []
        artifacts = store.get_artifacts_by_context(context.id) if context else []
        children = store.get_children_contexts_by_context(context.id) if context else []
        self.runs = {child.name: child for child in children if child.type == "pipeline_run"}
        self.executions = {execution.id: execution for execution in executions}
        self.artifacts = {artifact.id: artifact for artifact in artifacts}
        self.outputs: dict[int, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        self.inputs: dict[int, set[int]] = defaultdict(set)
        self.maker: dict[int, int] = {}
        self._users: dict[int, set[int]] = defaultdict(set)
        events = metadata_store_pb2.Event
        for event in self._events():
            self._users[event.artifact_id].add(event.execution_id)
            if event.type in (events.OUTPUT, events.PENDING_OUTPUT):
                key = next((step.key for step in event.path.steps if step.key), "")
                self.outputs[event.execution_id][key].add(event.artifact_id)
                first = self.maker.get(event.artifact_id, event.execution_id)
                self.maker[event.artifact_id] = min(first, event.execution_id)
            else:
                self.inputs[event.execution_id].add(event.artifact_id)
        by_address = {artifact.uri: artifact.id for artifact in artifacts}
        self._judged = {
            artifact.id: by_address.get(artifact.custom_properties[VECTORS_PROPERTY].string_value)
            for artifact in artifacts
            if VECTORS_PROPERTY in artifact.custom_properties
        }
        self._times = {e.id: e.last_update_time_since_epoch / 1000 for e in [*executions, *self._foreign()]}

    def _events(self) -> Iterator[metadata_store_pb2.Event]:
        for some in _chunks(list(self.artifacts)):
            yield from self._store.get_events_by_artifact_ids(some)

    def _foreign(self) -> Iterator[metadata_store_pb2.Execution]:
        """Executions of other pipelines that used what this one made."""
        foreign = {user for users in self._users.values() for user in users} - self.executions.keys()
        for some in _chunks(sorted(foreign)):
            yield from self._store.get_executions_by_id(some)

    def newest_successes(self, steps: set[str] | None) -> set[str]:
        """Names of the runs in which each step succeeded last; None: all steps there ever were."""
        found = set()
        for context in self._store.get_contexts_by_type("node"):
            pipeline, _, step = context.name.partition(".")
            if pipeline != self._pipeline_name or (steps is not None and step not in steps):
                continue
            done = [e.id for e in self._store.get_executions_by_context(context.id) if e.last_known_state in _DONE]
            if done:
                found |= {c.name for c in self._store.get_contexts_by_execution(max(done)) if c.name in self.runs}
        return found

    def used_by_runs(self, names: Iterable[str]) -> set[int]:
        """The artifacts that runs read and made."""
        used: set[int] = set()
        for name in names:
            for execution in self._store.get_executions_by_context(self.runs[name].id):
                used.update(self.inputs[execution.id], *self.outputs[execution.id].values())
        return used

    def last_use(self, execution: int) -> float:
        """When anything that an execution made was used last, seconds since 1970."""
        made = set().union(*self.outputs[execution].values())
        users = {execution}.union(*(self._users[artifact] for artifact in made))
        return max(self._times[user] for user in users if user in self._times)

    def judged(self, execution: int) -> set[int]:
        """The executions that made the vectors on which this one's verdict is."""
        made = set().union(*self.outputs[execution].values())
        return {self.maker[vectors] for a in made if (vectors := self._judged.get(a)) in self.maker}

    def known_elsewhere(self, numbers: Iterable[int]) -> set[int]:
        """Those that are executions of other pipelines."""
        unknown = sorted({*numbers} - self.executions.keys())
        return {e.id for some in _chunks(unknown) for e in self._store.get_executions_by_id(some)}

    def last_pushed(self) -> int | None:
        """The artifact that says which version was pushed last; as `pipeline.run_record.last_pushed_version`."""
        pushed = [
            artifact.id
            for artifact in self.artifacts.values()
            if artifact.type == _PUSHED_MODEL
            and artifact.custom_properties["pushed"].int_value == 1
            and artifact.state == metadata_store_pb2.Artifact.LIVE
        ]
        return max(pushed, default=None)


@dataclass
class _Needs:
    """What stays, however old. executions: all that they made. artifacts: these besides. runs: their reports."""

    executions: set[int] = field(default_factory=set)
    artifacts: set[int] = field(default_factory=set)
    runs: set[str] = field(default_factory=set)


def _find_needs(root: Root, record: _Record) -> _Needs:
    needs, groups = _Needs(), _groups(root, record)
    for run in _runs_to_go_on_from(root, record, groups):
        needs.runs.add(run)
        used = record.used_by_runs(groups[run])
        needs.executions |= {record.maker[artifact] for artifact in used if artifact in record.maker}
    serving = root.serving_folder()
    for version in serving.versions():  # the pinned ones are among them
        manifest = serving.manifest(version)
        run_id = manifest.run_id if manifest else None
        if not run_id:
            continue  # of an older warmstart, or damaged: nobody knows which run it was
        needs.runs.add(run_id)
        needs.artifacts |= {
            artifact
            for artifact in record.used_by_runs(groups.get(run_id, ()))
            if artifact in record.artifacts and record.artifacts[artifact].type != _EXAMPLES
        }
    if (last_pushed := record.last_pushed()) is not None:
        needs.artifacts.add(last_pushed)
    return needs


def _groups(root: Root, record: _Record) -> dict[str, list[str]]:
    """Each run with its companions, as ML Metadata names them, newest first.

    The ingestion of span 7 for the run `<id>` is a run of its own, `<id>-span-7` (`deploy/earlier_spans.py`).
    """
    reports = {folder.name for folder in _folders(root.reports)}
    base, base_of = "", {}
    for name in sorted({*record.runs, *reports}):  # companions follow their run
        base = base if base and name.startswith(base + "-") and name not in reports else name
        base_of[name] = base
    groups: dict[str, list[str]] = {}
    for name in sorted(record.runs, key=lambda name: record.runs[name].id, reverse=True):
        groups.setdefault(base_of[name], []).append(name)
    return groups


def _runs_to_go_on_from(root: Root, record: _Record, groups: dict[str, list[str]]) -> set[str]:
    """The newest run, the newest that came to its end, and the newest in which each step of that one succeeded."""
    finished = ((run, _steps_of_finished(root.reports / run)) for run in groups)
    last, steps = next(((run, steps) for run, steps in finished if steps is not None), (None, None))
    successes = record.newest_successes(steps)
    return {
        run for run, names in groups.items() if run in (next(iter(groups)), last) or not successes.isdisjoint(names)
    }


def _steps_of_finished(report: Path) -> set[str] | None:
    """The steps that succeeded in a run that went through the whole graph, whatever the verdict; None: it did not."""
    try:
        end = read_summary_file(RunEnd, report)
    except (OSError, ValueError):
        return None
    states = {node.id: node.state for node in end.nodes}
    if (
        end.status not in ("pushed", "not_pushed", "skipped")
        or not states
        or not {*states.values()} <= {"complete", "cached", "skipped"}
    ):
        return None
    return {step for step, state in states.items() if state != "skipped"}


def _artifact_places(root: Root) -> tuple[list[Path], list[str]]:
    """Folders with artifacts of the root, and places that are no folders."""
    places, left_alone = [root.artifacts], set()
    for report in _folders(root.reports) if root.store_mark().exists() else ():
        plan = None
        with contextlib.suppress(OSError, ValueError, TypeError):
            plan = read_plan(report)
        if plan and "://" in plan.artifacts:
            left_alone.add(plan.artifacts)
        elif plan and Path(plan.artifacts) not in places:
            places.append(Path(plan.artifacts))
    return places, sorted(left_alone)


def _output_folders(places: Iterable[Path]) -> Iterator[tuple[str, int, Path]]:
    """Every `<step>/<key>/<number of the execution>`: key, number and path."""
    for place in places:
        for node in _folders(place):
            for key in _folders(node):
                if key.name != _WORKING:
                    for folder in _folders(key):
                        if folder.name.isascii() and folder.name.isdecimal():
                            yield key.name, int(folder.name), folder


def _old_artifacts(
    root: Root, places: Collection[Path], record: _Record, needs: _Needs, now: float, days: float
) -> Iterator[Removal]:
    found = list(_output_folders(places))
    elsewhere = record.known_elsewhere(number for _, number, _ in found)
    for key, number, folder in found:
        with_judged = {number, *record.judged(number)}
        if number in elsewhere or with_judged & needs.executions:
            continue
        execution = record.executions.get(number)
        made = record.outputs[number].get(key, set()) if execution else set()
        if made & needs.artifacts:
            continue
        if execution is None:
            age = (now - _newest_change(folder)) / _DAY
            why = f"ML Metadata does not know it, and nothing in it has changed for {_days(age)}"
        elif made and all(record.artifacts[artifact].state == _DELETED for artifact in made):
            age, why = days, "left over from a cleaning that was interrupted"
        elif execution.last_known_state in _DONE:
            age = (now - max(map(record.last_use, with_judged))) / _DAY
            why = f"last used {_days(age)} ago"
        else:
            age = (now - execution.last_update_time_since_epoch / 1000) / _DAY
            how = "failed" if execution.last_known_state == _STATES.FAILED else "was killed or cancelled"
            why = f"left by a step that {how} {_days(age)} ago"
        if age >= days:
            yield Removal(_shown(root, folder), why, _size(folder), (folder,), tuple(sorted(made)))


def _old_working_folders(root: Root, places: Iterable[Path], now: float, days: float) -> Iterator[Removal]:
    """What steps needed while they ran; most of it is empty folders."""
    for place in places:
        old = [
            folder
            for node in _folders(place)
            for kind in _folders(node / _WORKING)
            for folder in _folders(kind)
            if now - _newest_change(folder) >= days * _DAY
        ]
        if old:
            why = f"what steps needed while they ran, {_at_least(days)} ago: {len(old):,} folders"
            yield Removal(_shown(root, place / "*" / _WORKING), why, sum(map(_size, old)), tuple(old))


def _kept_photos(places: Iterable[Path], record: _Record, removals: Iterable[Removal]) -> set[str] | None:
    """Content hashes of the photos in the spans that stay; None: of one of them they are not known."""
    gone = {number for removal in removals for number in removal.artifacts}
    photos: set[str] = set()
    for key, number, folder in _output_folders(places):
        if number not in record.executions or record.executions[number].last_known_state not in _DONE:
            continue
        every = set().union(*record.outputs[number].values())
        reports = [a for a in record.outputs[number].get(key, ()) if record.artifacts[a].type == _INGEST_REPORT]
        # A report that stays for a version's sake alone has no photos beside it.
        if not reports or any(a in gone or record.artifacts[a].state == _DELETED for a in every):
            continue
        try:
            with (folder / KEYS_FILE).open(encoding="utf-8") as lines:
                photos.update(json.loads(line)[0] for line in lines)
        except (OSError, ValueError, LookupError, TypeError):
            return None
    return photos


def _old_vectors(root: Root, kept_photos: set[str] | None, now: float, days: float) -> Iterator[Removal]:
    """Old entries of photos in no span that stays; and of backbones, code or augmentations that are no longer used.

    An entry's time is when it was made; reading leaves it. In use is the folder that was written to last, of photos
    and of augmented views. A wrong guess loses nothing but the time to make the vectors again.
    """
    folders = []
    for folder in _folders(root.vectors):
        entries = [Path(path) for path in _files(folder)]
        times = {entry: _time_or_now(entry, now) for entry in entries}
        folders.append((folder, times, max(times.values(), default=0.0), "-views-" in folder.name))
    for folder, times, written, is_views in folders:
        in_use = written == max(other for _, _, other, views in folders if views is is_views)
        old = [
            entry
            for entry, at in times.items()
            if now - at >= days * _DAY
            and (not in_use or (kept_photos is not None and entry.name.partition("-")[0] not in kept_photos))
        ]
        if not old:
            continue
        what = "photos that are in no span that is kept" if in_use else "a backbone, code or augmentation not in use"
        why = f"vectors of {what}, {len(old):,} of them, made {_at_least(days)} ago"
        whole = len(old) == len(times) and not in_use
        yield Removal(_shown(root, folder), why, sum(map(_size, old)), (folder,) if whole else tuple(old))


def _old_logs(root: Root, needs: _Needs, now: float, days: float) -> Iterator[Removal]:
    """Logs and compiled pipelines; the summary, the page and the configuration of a run stay for ever."""
    for folder in _folders(root.reports):
        files = [folder / name for name in (LOG_FILE, PIPELINE_FILE) if (folder / name).is_file()]
        age = (now - _newest_change(folder)) / _DAY
        if files and folder.name not in needs.runs and age >= days:
            names = " and ".join(file.name for file in files)
            why = f"{names} of a run that ended {_days(age)} ago"
            yield Removal(_shown(root, folder), why, sum(map(_size, files)), tuple(files))


def _old_training_states(root: Root, now: float, days: float) -> Iterator[Removal]:
    for path in map(Path, _files(root.resume)):
        age = (now - _time_or_now(path, now)) / _DAY
        if age >= days:
            why = f"state of a training that was interrupted {_days(age)} ago"
            yield Removal(_shown(root, path), why, _size(path), (path,))


def _set_aside(root: Root, now: float, days: float) -> Iterator[Removal]:
    """What was written before ML Metadata's file was deleted or put back; a folder's time is when it came there."""
    for folder in _folders(root.set_aside):
        age = (now - _time_or_now(folder, now)) / _DAY
        if age >= days:
            why = f"of steps that ML Metadata does not know any more, set aside {_days(age)} ago"
            yield Removal(_shown(root, folder), why, _size(folder), (folder,))


def _mark_deleted(store: metadata_store.MetadataStore, numbers: list[int]) -> None:
    for some in _chunks(numbers):
        artifacts = [artifact for artifact in store.get_artifacts_by_id(some) if artifact.state != _DELETED]
        for artifact in artifacts:
            artifact.state = _DELETED
        if artifacts:
            store.put_artifacts(artifacts, field_mask_paths=["state"])


def _remove(root: Root, removal: Removal, not_removed: dict[str, str]) -> None:
    """Writes down what is removed, and removes it."""
    _note(root, {"what": removal.what, "why": removal.why, "bytes": removal.bytes})
    try:
        for path in removal.paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        not_removed[removal.what] = f"{error.strerror or error}: {error.filename or removal.what}"
        _note(root, {"what": removal.what, "error": not_removed[removal.what]})
        return
    for parent in {path.parent for path in removal.paths}:
        with contextlib.suppress(OSError):  # something else is in it
            parent.rmdir()


def _note(root: Root, told: dict[str, Any]) -> None:
    line = {"at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), **told}
    with (root.folder / REMOVED_FILE).open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _bytes_freed(removals: Iterable[Removal]) -> int:
    """A file with several names is gone with the last of them."""
    links: dict[tuple[int, int], int] = defaultdict(int)
    facts: dict[tuple[int, int], os.stat_result] = {}
    for path in {path for removal in removals for path in removal.paths}:
        for file in _files(path):
            with contextlib.suppress(OSError):
                found = os.lstat(file)
                links[found.st_dev, found.st_ino] += 1
                facts[found.st_dev, found.st_ino] = found
    return sum(found.st_size for inode, found in facts.items() if links[inode] >= found.st_nlink)


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, by name; links are none."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files(path: Path) -> Iterator[str]:
    """A file itself, or every file below a folder."""
    if not path.is_dir() or path.is_symlink():
        if os.path.lexists(path):
            yield str(path)
        return
    for folder, _, names in os.walk(path):
        yield from (os.path.join(folder, name) for name in names)


def _size(path: Path) -> int:
    total = 0
    for file in _files(path):
        with contextlib.suppress(OSError):
            total += os.lstat(file).st_size
    return total


def _newest_change(folder: Path) -> float:
    """When a folder, or anything in it, was changed last, seconds since 1970; 0: it is gone."""
    newest = 0.0
    for parent, _, names in os.walk(folder):
        for path in (parent, *(os.path.join(parent, name) for name in names)):
            with contextlib.suppress(OSError):
                newest = max(newest, os.lstat(path).st_mtime)
    return newest


def _time_or_now(path: Path, now: float) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return now


def _chunks(numbers: list[int]) -> Iterator[list[int]]:
    for first in range(0, len(numbers), _CHUNK):
        yield numbers[first : first + _CHUNK]


def _shown(root: Root, path: Path) -> str:
    return str(path.relative_to(root.folder) if path.is_relative_to(root.folder) else path)


def _days(days: float) -> str:
    whole = int(max(days, 0))
    return "less than a day" if whole == 0 else "1 day" if whole == 1 else f"{whole} days"


def _at_least(days: float) -> str:
    return f"{days:g} day{'' if days == 1 else 's'} or more"
