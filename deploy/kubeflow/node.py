"""The program of a task on Kubeflow.

    python -m deploy.kubeflow.node --node NAME --root DIR --run-id ID --metadata ADDRESS

`Prepare` checks the input and makes the plan. A TFX node is launched as LocalDagRunner launches it. `Report` writes the
summary, the page and the metrics, however the other tasks ended. Exit codes: 0 done, cached or skipped; 1 failed; 2 the
input is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import quick_start
from deploy.display import ConsoleDisplay
from deploy.kubeflow.plan import (
    FAILED,
    PIPELINE_FILE,
    PREPARE,
    REPORT,
    RUNNING,
    SKIPPED,
    STOPPED,
    Note,
    read_notes,
    read_plan,
    write_note,
)
from deploy.root import EXIT_CODES, Root, failure
from schemas.errors import BadInput

if TYPE_CHECKING:
    from schemas.summary import Summary

# A second copy of a task is rare and ends with its node; Kubeflow's own time-out comes first.
_WAIT_FOR_TWIN_SECONDS = 6 * 3600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one task and notes how it ended.

    Returns:
      the exit code.
    """
    given = _parser().parse_args(arguments)
    root = Root(given.root)
    display = ConsoleDisplay(sys.stdout)
    began = time.monotonic()
    display.node_started(given.node)
    state, reason, code = FAILED, "", EXIT_CODES[FAILED]
    folder = None
    try:
        _check_run_id(given.run_id)
        folder = _run_folder(root, given.run_id)
        if given.node != REPORT:
            write_note(folder, given.node, Note(RUNNING))
        if given.timeout_minutes:
            _end_after(given.timeout_minutes, folder, given.node)
        state, code = _run(given, root, folder, display), 0
    except BadInput as error:
        state, reason, code = STOPPED, str(error), EXIT_CODES[STOPPED]
        if given.node not in (PREPARE, REPORT):
            traceback.print_exc()
    except BaseException as error:  # the note is written however a task ends
        reason = failure(error, root)
        traceback.print_exc()
    if folder and given.node != REPORT:
        write_note(folder, given.node, Note(state, reason))
    display.node_ended(given.node, state, time.monotonic() - began)
    if reason:
        print(f"error: {reason}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.kubeflow.node", description=__doc__)
    parser.add_argument("--node", required=True, help="a TFX node, Prepare or Report")
    parser.add_argument("--root", required=True, help="the root folder")
    parser.add_argument("--run-id", required=True, help="id of the run")
    parser.add_argument("--metadata", required=True, help="address of ML Metadata")
    parser.add_argument("--timeout-minutes", type=float, help="the task fails if it takes longer")
    of_prepare = parser.add_argument_group(PREPARE)
    of_prepare.add_argument("--config", default="", help="name, file or YAML text")
    of_prepare.add_argument("--data", default="", help="[DATASET=]DIR; ...")
    of_prepare.add_argument("--span", default="", help="number or date; empty: the latest")
    of_prepare.add_argument("--overrides", default="", help="key=value; ...")
    of_prepare.add_argument("--tfx-pipeline-root", default="", help="where artifacts go; empty: the root folder")
    of_prepare.add_argument("--force-push", default="", help="why to override ReleaseGate")
    of_prepare.add_argument("--nodes", default="", help="nodes that the package was compiled with")
    of_report = parser.add_argument_group(REPORT)
    of_report.add_argument("--page", help="where the page goes")
    of_report.add_argument("--executor-input", help="JSON from Kubeflow's launcher: where the metrics go")
    return parser


def _check_run_id(run_id: str) -> None:
    if not run_id or run_id.startswith("{{"):
        raise BadInput(
            f"the run id is {run_id!r}, which this version of Kubeflow Pipelines did not replace; expected version "
            "2.5.0 or newer"
        )


def _run_folder(root: Root, run_id: str) -> Path:
    folder = root.reports / run_id
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"the root folder {root.folder} cannot be written ({error.strerror}); check that the volume is mounted "
            f"there and that user {os.getuid()} may write to it"
        ) from None
    return folder


def _end_after(minutes: float, folder: Path, task: str) -> None:
    def end() -> None:
        reason = f"it took longer than runtime.steps.{task}.timeout_minutes ({minutes:g})"
        write_note(folder, task, Note(FAILED, reason))
        print(f"error: {task} failed: {reason}", file=sys.stderr, flush=True)
        os._exit(EXIT_CODES[FAILED])

    timer = threading.Timer(minutes * 60, end)
    timer.daemon = True
    timer.start()


def _run(given: argparse.Namespace, root: Root, folder: Path, display: ConsoleDisplay) -> str:
    if given.node == PREPARE:
        return _prepare(given, root)
    if given.node == REPORT:
        return _report(given, root, folder)
    return _launch(given, root, folder, display)


def _prepare(given: argparse.Namespace, root: Root) -> str:
    from deploy.kubeflow.prepare import prepare, read_config

    config = read_config(given.config, given.data, given.span, given.overrides)
    nodes = given.nodes.split(",")
    plan = prepare(config, root, given.run_id, given.metadata, nodes, given.tfx_pipeline_root, given.force_push.strip())
    print(f"{plan.pipeline_name}: {len(plan.nodes)} steps, in {root.folder}; in production: {plan.production_before}")
    return "complete"


def _launch(given: argparse.Namespace, root: Root, folder: Path, display: ConsoleDisplay) -> str:
    from deploy.metadata_address import connection_config

    plan = read_plan(folder)
    if plan is None:
        raise BadInput(
            f"there is no plan of run {given.run_id} in {folder}; run the task {PREPARE} first, which makes it"
        )

    quick_start.import_launcher()
    from tfx.proto.orchestration import pipeline_pb2

    from components import progress
    from deploy.beam_arguments import LOCAL
    from deploy.beam_operator import executor_operators
    from deploy.node_launch import launch_node

    pipeline = pipeline_pb2.Pipeline.FromString((folder / PIPELINE_FILE).read_bytes())
    progress.listen(display.node_progress)
    with root.node_lock(given.node, _WAIT_FOR_TWIN_SECONDS):
        operators = quick_start.late_operators(executor_operators(plan.beam_args.get(given.node, LOCAL)))
        state = launch_node(pipeline, given.node, connection_config(given.metadata), operators)
    if state == SKIPPED:
        print(f"{given.node}: skipped, because its condition is not met")
    return state


def _report(given: argparse.Namespace, root: Root, folder: Path) -> str:
    from components.report.page import PAGE_FILE
    from deploy.kubeflow.report_task import report

    summary = report(root, given.run_id, given.metadata, read_plan(folder), read_notes(folder))
    if given.page:
        Path(given.page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / PAGE_FILE, given.page)
    if given.executor_input:
        _write_metrics(summary, json.loads(given.executor_input))
    ConsoleDisplay(sys.stdout).closing(summary, folder)
    return "complete"


def _write_metrics(summary: Summary, executor_input: dict) -> None:
    """Passes the main metrics to Kubeflow's launcher, as the SDK's executor does (kfp/dsl/executor.py)."""
    from components.report.page import main_metrics

    outputs = executor_input["outputs"]
    [metrics] = outputs["artifacts"]["metrics"]["artifacts"]
    written = {**{key: metrics[key] for key in ("name", "uri") if key in metrics}, "metadata": main_metrics(summary)}
    file = Path(outputs["outputFile"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"artifacts": {"metrics": {"artifacts": [written]}}}), encoding="utf-8")


if __name__ == "__main__":
    quick_start.finish(main())
