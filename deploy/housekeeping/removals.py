"""What can be removed: everything old that nothing needs, with a reason for each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ml_metadata.proto import metadata_store_pb2

from deploy.files import files_below, folders_in, newest_change, size_of, time_or_now
from deploy.housekeeping.needs import Needs
from deploy.housekeeping.record import DELETED, Record
from deploy.kubeflow.plan import PIPELINE_FILE, read_plan
from deploy.root import LOG_FILE, Root
from pipeline.run_record import DONE

DAY = 86_400.0  # seconds
_INGEST_REPORT = "WarmstartIngestReport"
# `components.example_gen.report.KEYS_FILE`; that module imports TFX.
KEYS_FILE = "keys.jsonl"
# TFX's folder of a step for files that are not artifacts.
_WORKING = ".system"
_FAILED = metadata_store_pb2.Execution.State.FAILED


@dataclass(frozen=True)
class Removal:
    """Something to remove, and the reason."""

    what: str
    why: str
    bytes: int
    paths: tuple[Path, ...]
    artifacts: tuple[int, ...] = ()
    """Numbers in ML Metadata."""

    @classmethod
    def of(cls, root: Root, what: Path, why: str, paths: Iterable[Path], artifacts: Iterable[int] = ()) -> Removal:
        """The removal of paths, which are called `what`, as seen from the root."""
        named = what.relative_to(root.folder) if what.is_relative_to(root.folder) else what
        some = tuple(paths)
        return cls(str(named), why, sum(map(size_of, some)), some, tuple(artifacts))


def artifact_places(root: Root) -> tuple[list[Path], list[str]]:
    """Folders with artifacts of the root, and places of artifacts that are remote."""
    places, left_alone = [root.artifacts], set()
    for report in folders_in(root.reports) if root.store_mark().exists() else ():
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
        for node in folders_in(place):
            for key in folders_in(node):
                if key.name != _WORKING:
                    for folder in folders_in(key):
                        if folder.name.isascii() and folder.name.isdecimal():
                            yield key.name, int(folder.name), folder


def old_artifacts(
    root: Root, places: Collection[Path], record: Record, needs: Needs, now: float, days: float
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
            age = (now - newest_change(folder)) / DAY
            why = f"unknown to ML Metadata, and unchanged for {_days(age)}"
        elif made and all(record.artifacts[artifact].state == DELETED for artifact in made):
            age, why = days, "left over from an interrupted cleaning"
        elif execution.last_known_state in DONE:
            age = (now - max(map(record.last_use, with_judged))) / DAY
            why = f"last used {_days(age)} ago"
        else:
            age = (now - execution.last_update_time_since_epoch / 1000) / DAY
            how = "failed" if execution.last_known_state == _FAILED else "was killed or cancelled"
            why = f"left by a step that {how} {_days(age)} ago"
        if age >= days:
            yield Removal.of(root, folder, why, [folder], sorted(made))


def old_working_folders(root: Root, places: Iterable[Path], now: float, days: float) -> Iterator[Removal]:
    """Working folders of steps, most of them empty."""
    for place in places:
        old = [
            folder
            for node in folders_in(place)
            for kind in folders_in(node / _WORKING)
            for folder in folders_in(kind)
            if now - newest_change(folder) >= days * DAY
        ]
        if old:
            why = f"{len(old):,} working folders of steps that ran {_at_least(days)} ago"
            yield Removal.of(root, place / "*" / _WORKING, why, old)


def kept_photos_of(places: Iterable[Path], record: Record, removals: Iterable[Removal]) -> set[str] | None:
    """Content hashes of the photos in the spans that are kept; None: they are unknown for one of them."""
    gone = {number for removal in removals for number in removal.artifacts}
    photos: set[str] = set()
    for key, number, folder in _output_folders(places):
        if number not in record.executions or record.executions[number].last_known_state not in DONE:
            continue
        every = set().union(*record.outputs[number].values())
        reports = [a for a in record.outputs[number].get(key, ()) if record.artifacts[a].type == _INGEST_REPORT]
        # A report that is kept only for a version has no photos with it.
        if not reports or any(a in gone or record.artifacts[a].state == DELETED for a in every):
            continue
        try:
            with (folder / KEYS_FILE).open(encoding="utf-8") as lines:
                photos.update(json.loads(line)[0] for line in lines)
        except (OSError, ValueError, LookupError, TypeError):
            return None
    return photos


def old_vectors(root: Root, kept_photos: set[str] | None, now: float, days: float) -> Iterator[Removal]:
    """Old vectors of photos in no span that is kept, or of a backbone, code or augmentation that is no longer used.

    The time of an entry is when it was made; reading does not change it. The folders in use are those written to last,
    one for photos and one for augmented views. A wrong guess only costs the time to compute the vectors again.
    """
    folders = []
    for folder in folders_in(root.vectors):
        entries = [Path(path) for path in files_below(folder)]
        times = {entry: time_or_now(entry, now) for entry in entries}
        folders.append((folder, times, max(times.values(), default=0.0), "-views-" in folder.name))
    for folder, times, written, is_views in folders:
        in_use = written == max(other for _, _, other, views in folders if views is is_views)
        old = [
            entry
            for entry, at in times.items()
            if now - at >= days * DAY
            and (not in_use or (kept_photos is not None and entry.name.partition("-")[0] not in kept_photos))
        ]
        if not old:
            continue
        what = "photos in no span that is kept" if in_use else "a backbone, code or augmentation not in use"
        why = f"{len(old):,} vectors of {what}, made {_at_least(days)} ago"
        whole = len(old) == len(times) and not in_use
        yield Removal.of(root, folder, why, [folder] if whole else old)


def old_logs(root: Root, needs: Needs, now: float, days: float) -> Iterator[Removal]:
    """Logs and compiled pipelines; summary, page and configuration of a run are kept for ever."""
    for folder in folders_in(root.reports):
        files = [folder / name for name in (LOG_FILE, PIPELINE_FILE) if (folder / name).is_file()]
        age = (now - newest_change(folder)) / DAY
        if files and folder.name not in needs.runs and age >= days:
            names = " and ".join(file.name for file in files)
            why = f"{names} of a run that ended {_days(age)} ago"
            yield Removal.of(root, folder, why, files)


def old_leftovers(root: Root, now: float, days: float) -> Iterator[Removal]:
    """States of trainings, and outputs from before the ML Metadata file was deleted or restored, by their own times."""
    found = [(Path(file), "state of a training interrupted") for file in files_below(root.resume)]
    unknown = "outputs of steps that ML Metadata no longer knows, set aside"
    for path, what in [*found, *((folder, unknown) for folder in folders_in(root.set_aside))]:
        age = (now - time_or_now(path, now)) / DAY
        if age >= days:
            yield Removal.of(root, path, f"{what} {_days(age)} ago", [path])


def _days(days: float) -> str:
    whole = int(max(days, 0))
    return "less than a day" if whole == 0 else "1 day" if whole == 1 else f"{whole} days"


def _at_least(days: float) -> str:
    return f"{days:g} day{'' if days == 1 else 's'} or more"
