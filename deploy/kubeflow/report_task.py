"""The task Report: writes summary and page of a run on Kubeflow, however it ended."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from dataclasses import replace

from deploy import node_launch, run_summary
from deploy.kubeflow.plan import FAILED, SKIPPED, Note, Plan, why_it_ended
from deploy.metadata_address import connect
from deploy.root import CONFIG_FILE, Root, failure
from deploy.tracking import tracker
from pipeline import run_record
from pipeline.config import read_dumped_config
from schemas.summary import Summary


def report(root: Root, run_id: str, metadata: str, plan: Plan | None, notes: Mapping[str, Note]) -> Summary:
    """Writes `summary.json` and the page, and marks executions of killed tasks as failed.

    Args:
      plan: plan of the run; None: Prepare refused the input or never started.
    """
    folder = root.reports / run_id
    config_file = folder / CONFIG_FILE
    config = None
    if config_file.exists():
        try:
            config = read_dumped_config(config_file)
        except Exception:  # such as a model to start from that is gone; the page is written anyway
            traceback.print_exc()
    status, reason = why_it_ended(plan, dict(notes))
    nodes: dict[str, run_record.NodeRun] = {}
    skipped = [task for task, note in notes.items() if note.state == SKIPPED]
    ended = run_summary.Run(run_id, root, config, before=root.production_version(), skipped=skipped)
    if plan:
        ended = replace(ended, graph=plan.nodes, before=plan.production_before, window=plan.window)
    try:
        if plan:
            store = connect(metadata)
            node_launch.remove_outputs(plan.artifacts, run_record.abandon_unfinished(store, plan.pipeline_name, run_id))
            nodes = run_record.read_run(store, plan.pipeline_name, run_id)
        summary = run_summary.summarise(replace(ended, nodes=nodes), status, reason)
    except Exception as error:  # such as a store that is gone, or artifacts that somebody deleted
        traceback.print_exc()
        status, reason = status or FAILED, reason or f"the results of the run cannot be read: {failure(error, root)}"
        summary = run_summary.summarise(ended, status, reason)
    summary = replace(summary, duration_seconds=round(time.time() - plan.began, 1) if plan else 0.0)
    summary = run_summary.write_results(summary, folder, config, nodes)
    if config and (not_told := tracker.track_run(config, root, run_id)):
        print(f"note: {not_told}")
    return summary
