"""The process that speaks to an MLflow server: `python -m deploy.tracking.client ROOT`.

It does everything that the root's `mlflow.json` says is to be done, and prints one line of JSON: `problem`, a sentence,
empty if all was done. What was done once is not done again.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from components.report.page import PAGE_FILE, flat, main_metrics
from deploy.root import CONFIG_FILE, Root
from deploy.tracking.tracker import RECORD_FILE, Tracking, read_tracking, write_tracking
from schemas.features import SEGMENTATION
from schemas.findings import FINDINGS_CSV
from schemas.run_end import SUMMARY_FILE, read_summary_file
from schemas.summary import Summary
from schemas.words import on_one_line

_VERSION_TAG, _RUN_TAG, _STATUS_TAG = "warmstart.version", "warmstart.run_id", "warmstart.status"
_SERVED_MODEL = Path(__file__).with_name("served_model.py")
_MOST_PARAMS, _MOST_CHARACTERS = 100, 5000  # of one request, and of one text


def do_everything(root: Root, tracking: Tracking) -> str:
    """Tells the server about every run that waits, and moves the alias; gives what went wrong first."""
    try:
        mlflow.set_tracking_uri(tracking.uri)
        client = MlflowClient()
        experiment = mlflow.set_experiment(tracking.experiment).experiment_id
    except Exception as error:  # MLflow's, requests' and the network's own
        traceback.print_exc()
        return f"{tracking.uri} does not answer as an MLflow server does ({on_one_line(error)})"
    problem = ""
    for run_id in tracking.waiting:
        try:
            _tell_run(client, tracking, experiment, root, run_id)
        except Exception as error:
            traceback.print_exc()
            problem = problem or on_one_line(error)
        else:
            _told(root, run_id)
    try:
        _move_alias(client, tracking, root)
    except Exception as error:
        traceback.print_exc()
        problem = problem or on_one_line(error)
    return problem


def _told(root: Root, run_id: str) -> None:
    """The run waits no longer; others may have come meanwhile."""
    if now := read_tracking(root.folder):
        write_tracking(root.folder, replace(now, waiting=[run for run in now.waiting if run != run_id]))


def _tell_run(client: MlflowClient, tracking: Tracking, experiment: str, root: Root, run_id: str) -> None:
    folder = root.reports / run_id
    try:
        summary = read_summary_file(Summary, folder)
    except (OSError, ValueError):  # somebody deleted it; there is nothing to tell
        return
    run = _run_of(client, tracking, experiment, folder, run_id)
    values = {key: value for key, value in flat(summary.config or {}).items() if value not in (None, "")}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    params = [Param(key, text[:_MOST_CHARACTERS]) for key, text in texts.items()]
    for start in range(0, len(params), _MOST_PARAMS):
        client.log_batch(run, params=params[start : start + _MOST_PARAMS])
    began = client.get_run(run).info.start_time
    client.log_batch(run, metrics=[Metric(key, value, began, 0) for key, value in metrics_of(summary).items()])
    client.set_tag(run, _STATUS_TAG, summary.status)
    client.set_tag(run, "mlflow.note.content", described(summary)[:_MOST_CHARACTERS])
    version = root.serving_folder().pushed_by(run_id)
    files = [folder / name for name in (PAGE_FILE, SUMMARY_FILE, CONFIG_FILE, FINDINGS_CSV)]
    files += [root.serving_folder().card_file(version)] if version else []
    for file in files:
        if file.is_file():
            client.log_artifact(run, str(file))
    if version and (root.serving / str(version)).is_dir():
        client.set_tag(run, _VERSION_TAG, str(version))
        _register(client, tracking, root.serving / str(version), run, summary)
    ended = began + round(1000 * summary.duration_seconds)
    client.set_terminated(run, "FAILED" if summary.status in ("failed", "stopped") else "FINISHED", ended)


def _run_of(client: MlflowClient, tracking: Tracking, experiment: str, folder: Path, run_id: str) -> str:
    """MLflow's own id of the run, which is created unless an earlier attempt did so."""
    mark = folder / RECORD_FILE
    known = {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(mark.read_text(encoding="utf-8"))
    if known.get("uri") == tracking.uri:
        try:
            return str(client.get_run(known["run_id"]).info.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # somebody removed it, or made the server anew
                raise
    began = round(1000 * (folder / CONFIG_FILE).stat().st_mtime) if (folder / CONFIG_FILE).exists() else None
    created = client.create_run(experiment, start_time=began, run_name=run_id, tags={_RUN_TAG: run_id}).info.run_id
    mark.write_text(json.dumps({"uri": tracking.uri, "run_id": created}) + "\n", encoding="utf-8")
    return created


def _register(client: MlflowClient, tracking: Tracking, model: Path, run: str, summary: Summary) -> None:
    """Logs the model with its signature, and registers it as a version, unless an earlier attempt did so."""
    if any(known.tags.get(_VERSION_TAG) == model.name for known in _registered(client, tracking)):
        return
    masks = ((summary.config or {}).get("task") or {}).get("kind") == SEGMENTATION
    with mlflow.start_run(run_id=run):
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(_SERVED_MODEL),
            artifacts={"saved_model": str(model)},
            signature=signature(masks),
            pip_requirements=[f"tensorflow=={summary.versions['tensorflow']}", "pandas"],
        )
    mlflow.register_model(logged.model_uri, tracking.model, tags={_VERSION_TAG: model.name, _RUN_TAG: summary.run_id})


def _registered(client: MlflowClient, tracking: Tracking) -> list[Any]:
    return list(client.search_model_versions(f"name = '{tracking.model}'", max_results=1000))


def _move_alias(client: MlflowClient, tracking: Tracking, root: Root) -> None:
    """Points the alias at the version whose content is in production; takes it away if MLflow does not know that."""
    registered = _registered(client, tracking)
    if not registered:
        return
    serving = root.serving_folder()
    production = serving.production()
    manifest = serving.manifest(production) if production is not None else None
    content = str((manifest.restores if manifest else None) or production)
    meant = [int(known.version) for known in registered if known.tags.get(_VERSION_TAG) == content]
    if meant:
        client.set_registered_model_alias(tracking.model, tracking.alias, str(max(meant)))
    else:
        client.delete_registered_model_alias(tracking.model, tracking.alias)


def signature(masks: bool) -> ModelSignature:
    """What a model takes and gives, as `served_model.py` does; masks: whether it gives a class for each pixel."""
    numbers = Array(DataType.double)
    outputs = [ColSpec(DataType.binary, "mask_png_bytes"), ColSpec(numbers, "class_shares")]
    if not masks:
        outputs = [
            ColSpec(DataType.string, "label"),
            ColSpec(DataType.double, "probability"),
            ColSpec(numbers, "probabilities"),
            ColSpec(DataType.boolean, "abstains"),
        ]
    return ModelSignature(Schema([ColSpec(DataType.binary, "image_bytes")]), Schema(outputs))


def metrics_of(summary: Summary) -> dict[str, float]:
    """The numbers of a run: those of Kubeflow's page, and the ends of the intervals of the models' metrics."""
    found = {**main_metrics(summary), "duration_seconds": summary.duration_seconds}
    for name, model in (summary.models or {}).items():
        for key in ("mean_iou", "accuracy", "loss", "calibration_error"):
            if measured := getattr(model, key):
                found |= {f"{name}_{key}_low": measured.low, f"{name}_{key}_high": measured.high}
    return found


def described(summary: Summary) -> str:
    """The run in a few sentences."""
    parts = [summary.verdict, summary.release, summary.servable]
    return "\n\n".join([f"**{summary.status}**: {summary.reason}", *(part.text for part in parts if part)])


def main(folder: str) -> None:
    root = Root(folder)
    tracking = read_tracking(root.folder)
    with contextlib.redirect_stdout(sys.stderr):  # MLflow prints links
        problem = do_everything(root, tracking) if tracking else ""
    print(json.dumps({"problem": problem}))


if __name__ == "__main__":
    main(sys.argv[1])
