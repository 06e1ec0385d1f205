"""The plan of a run on Kubeflow and the notes of its tasks: files in the folder of the run.

`Prepare` makes the plan once, and every later task follows it. So all tasks run the same graph, whatever is pushed or
edited meanwhile, and none has to build the graph again, which takes 10 s. In `reports/<run id>/`:

| file                | content                                                                            |
|---------------------|------------------------------------------------------------------------------------|
| `config.yaml`       | the resolved configuration                                                         |
| `pipeline.pb`       | TFX's compiled pipeline, with the run id and without the address of ML Metadata    |
| `plan.json`         | the nodes, the start of the run and the version then in production; written last   |
| `nodes/<node>.json` | how a task ended: `state`, and `reason` if it failed or was stopped                |
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from components.whole_file import write_whole
from schemas.json_records import from_json, to_json
from schemas.summary import WindowSummary

# The two tasks that are not TFX nodes.
PREPARE, REPORT = "Prepare", "Report"
RUNNING, SKIPPED, STOPPED, FAILED = "running", "skipped", "stopped", "failed"

_PLAN_FILE, PIPELINE_FILE, _NOTES = "plan.json", "pipeline.pb", "nodes"


@dataclass(frozen=True)
class Plan:
    """What `Prepare` decided for a run."""

    pipeline_name: str
    nodes: dict[str, list[str]]
    """Id of a node -> ids of the nodes that it waits for, in the order of the graph."""
    began: float
    """Start of the run, in seconds since 1970."""
    production_before: str | None
    """Version in production at the start; None: there was none."""
    artifacts: str
    window: WindowSummary | None = None
    """With `data.window`, the window for the summary."""
    beam_args: dict[str, list[str]] = field(default_factory=dict)
    """Beam step -> its arguments; others run in the process of their task."""


@dataclass(frozen=True)
class Note:
    """The state of a task."""

    state: str
    """`running`, `complete`, `cached`, `skipped`, `stopped` (by wrong input) or `failed`."""
    reason: str = ""


def write_plan(folder: Path, plan: Plan, pipeline: bytes) -> None:
    """Writes the pipeline and then the plan, so that the plan exists only if both do."""
    write_whole(folder / PIPELINE_FILE, pipeline)
    write_whole(folder / _PLAN_FILE, json.dumps(to_json(plan), indent=2).encode())


def read_plan(folder: Path) -> Plan | None:
    """The plan; None: there is none."""
    try:
        return from_json(Plan, json.loads((folder / _PLAN_FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_note(folder: Path, task: str, note: Note) -> None:
    """Notes the state of a task; bytes in the reason that are not text, as in file names, become `\\udcff`."""
    notes = folder / _NOTES
    notes.mkdir(parents=True, exist_ok=True)
    reason = note.reason.encode("utf-8", "backslashreplace").decode()
    write_whole(notes / f"{task}.json", json.dumps({"state": note.state, "reason": reason}).encode())


def read_notes(folder: Path) -> dict[str, Note]:
    """Task -> its note; tasks that never started have none."""
    files = sorted((folder / _NOTES).glob("*.json"))
    return {file.stem: Note(**json.loads(file.read_text(encoding="utf-8"))) for file in files}


def why_it_ended(plan: Plan | None, notes: dict[str, Note]) -> tuple[str, str]:
    """Status and reason of a run that did not reach its end; two empty strings: it did.

    The note of a killed task still says that it is running.
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
                f"{task} was killed while it was running, most likely because it ran out of memory "
                f"(runtime.steps.{task}.memory); see the events of its pod. The next run continues after the last "
                "finished step"
            )
    if missing := [task for task in order if task not in notes]:
        return FAILED, (
            f"{missing[0]} never started: the run was cancelled, or Kubeflow could not start it (image, volume, "
            "resources); see the events of its pod. The next run continues after the last finished step"
        )
    return "", ""
