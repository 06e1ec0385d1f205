"""The plan of a run on Kubeflow, and what its tasks note down: files in the run's folder below the root.

`Prepare` makes the plan once; every later task follows it, so that all of them run the same graph, whatever is pushed
or edited meanwhile, and none has to build the graph again (10 s). In `reports/<run id>/`:

| file                | what                                                                             |
|---------------------|----------------------------------------------------------------------------------|
| `config.yaml`       | the configuration as it was resolved                                              |
| `pipeline.pb`       | TFX's compiled pipeline, with the run id, without the address of ML Metadata      |
| `plan.json`         | the nodes, when the run began, what was in production then; written last          |
| `nodes/<node>.json` | how a task ended: `state`, and `reason` of one that failed or was stopped         |
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from components.whole_file import write_whole
from schemas.json_records import from_json, to_json
from schemas.summary import WindowSummary

# The two tasks that are no TFX nodes.
PREPARE, REPORT = "Prepare", "Report"
RUNNING, SKIPPED, STOPPED, FAILED = "running", "skipped", "stopped", "failed"

_PLAN_FILE, PIPELINE_FILE, _NOTES = "plan.json", "pipeline.pb", "nodes"


@dataclass(frozen=True)
class Plan:
    """nodes: id -> ids of the nodes that it waits for, in the order of the graph. began: seconds since 1970.
    production_before: the version then, or None. artifacts: TFX's pipeline root. window: with `data.window`, what the
    summary says of it.
    """

    pipeline_name: str
    nodes: dict[str, list[str]]
    began: float
    production_before: str | None
    artifacts: str
    window: WindowSummary | None = None


@dataclass(frozen=True)
class Note:
    """state: `running`, `complete`, `cached`, `skipped`, `stopped` by the user's input, or `failed`. reason: why."""

    state: str
    reason: str = ""


def write_plan(folder: Path, plan: Plan, pipeline: bytes) -> None:
    """Writes plan and pipeline; the plan is there when both are."""
    write_whole(folder / PIPELINE_FILE, pipeline)
    write_whole(folder / _PLAN_FILE, json.dumps(to_json(plan), indent=2).encode())


def read_plan(folder: Path) -> Plan | None:
    """The plan, or None: it was never made."""
    try:
        return from_json(Plan, json.loads((folder / _PLAN_FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_note(folder: Path, task: str, note: Note) -> None:
    """Notes how a task stands; bytes in the reason that are no text, as in names of files, become `\\udcff`."""
    notes = folder / _NOTES
    notes.mkdir(parents=True, exist_ok=True)
    reason = note.reason.encode("utf-8", "backslashreplace").decode()
    write_whole(notes / f"{task}.json", json.dumps({"state": note.state, "reason": reason}).encode())


def read_notes(folder: Path) -> dict[str, Note]:
    """Task -> how it stands; tasks that never began are absent."""
    files = sorted((folder / _NOTES).glob("*.json"))
    return {file.stem: Note(**json.loads(file.read_text(encoding="utf-8"))) for file in files}


def why_it_ended(plan: Plan | None, notes: dict[str, Note]) -> tuple[str, str]:
    """Status and reason of a run that did not come to its end; two empty strings: it did.

    A task that was killed cannot say so: its note says that it is running.
    """
    order = [PREPARE, *(plan.nodes if plan else ())]
    told = [(task, notes[task]) for task in order if task in notes]
    for state in (STOPPED, FAILED):
        for task, note in told:
            if note.state == state:
                return state, note.reason if state == STOPPED else f"{task} failed: {note.reason}"
    for task, note in told:
        if note.state == RUNNING:
            return FAILED, (
                f"{task} was killed while it was at work, most often for want of memory (runtime.steps.{task}.memory); "
                "the events of its pod say more, and the next run goes on from the last finished step"
            )
    if missing := [task for task in order if task not in notes]:
        return FAILED, (
            f"{missing[0]} never began: the run was cancelled, or Kubeflow could not start it (image, volume, "
            "resources); the events of its pod say more, and the next run goes on from the last finished step"
        )
    return "", ""
