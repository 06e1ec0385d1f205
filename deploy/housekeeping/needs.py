"""What is kept however old it is: for the next run, and for the versions in `serving/`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from deploy.files import folders_in
from deploy.housekeeping.record import Record
from deploy.root import Root
from pipeline.run_record import last_pushed
from schemas.run_end import RunEnd, read_summary_file

# Type of photos, vectors and predictions.
_EXAMPLES = "Examples"


@dataclass
class Needs:
    """What is kept however old it is."""

    executions: set[int] = field(default_factory=set)
    artifacts: set[int] = field(default_factory=set)
    """Further artifacts that are kept."""
    runs: set[str] = field(default_factory=set)


def find_needs(root: Root, record: Record) -> Needs:
    """What the next run and the versions in `serving/` need."""
    needs, groups = Needs(), _groups(root, record)
    for run in _runs_to_go_on_from(root, record, groups):
        needs.runs.add(run)
        used = record.used_by_runs(groups[run])
        needs.executions |= {record.maker[artifact] for artifact in used if artifact in record.maker}
    serving = root.serving_folder()
    for version in serving.versions():  # the pinned ones are among them
        manifest = serving.manifest(version)
        run_id = manifest.run_id if manifest else None
        if not run_id:
            continue  # from an older warmstart, or damaged: its run is unknown
        needs.runs.add(run_id)
        needs.artifacts |= {
            artifact
            for artifact in record.used_by_runs(groups.get(run_id, ()))
            if artifact in record.artifacts and record.artifacts[artifact].type != _EXAMPLES
        }
    if (newest := last_pushed(record.artifacts.values())) is not None:
        needs.artifacts.add(newest.id)
    return needs


def _groups(root: Root, record: Record) -> dict[str, list[str]]:
    """Each run with its companions, by their names in ML Metadata, newest first.

    Span 7 is ingested for the run `<id>` in a run of its own, `<id>-span-7` (`deploy/earlier_spans.py`).
    """
    reports = {folder.name for folder in folders_in(root.reports)}
    base, base_of = "", {}
    for name in sorted({*record.runs, *reports}):  # companions follow their run
        base = base if base and name.startswith(base + "-") and name not in reports else name
        base_of[name] = base
    groups: dict[str, list[str]] = {}
    for name in sorted(record.runs, key=lambda name: record.runs[name].id, reverse=True):
        groups.setdefault(base_of[name], []).append(name)
    return groups


def _runs_to_go_on_from(root: Root, record: Record, groups: dict[str, list[str]]) -> set[str]:
    """The newest run, the newest that reached its end, and the newest in which each step of that one succeeded."""
    finished = ((run, _steps_of_finished(root.reports / run)) for run in groups)
    last, steps = next(((run, steps) for run, steps in finished if steps is not None), (None, None))
    successes = record.newest_successes(steps)
    return {
        run for run, names in groups.items() if run in (next(iter(groups)), last) or not successes.isdisjoint(names)
    }


def _steps_of_finished(report: Path) -> set[str] | None:
    """The steps that succeeded in a run of the whole graph, whatever its verdict; None: it did not reach its end."""
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
