"""The page of a run: what it did and why, in one HTML file that needs no network."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from components.report.graph_picture import graph_picture
from components.report.history import History, measure_of
from components.whole_file import write_whole
from schemas.json_records import from_json, to_json
from schemas.release import RELEASE_METRICS, Interval
from schemas.summary import CorrectionsSummary, DataSummary, ModelSummary, Summary, TrainingSummary
from schemas.words import spelled

PAGE_FILE = "index.html"
# A mail takes it, and a phone too.
MAXIMUM_BYTES = 5_000_000
_TEMPLATES = Path(__file__).parent
# The only script: the size of the letters of a wide table.
_SCRIPT = """\
document.querySelectorAll("input[type=range]").forEach((control) => {
  const table = document.getElementById(control.dataset.zooms);
  const set = () => { table.style.fontSize = control.value + "%"; };
  control.addEventListener("input", set);
  set();
});
"""
_MOST_FILES, _MOST_ROWS, _MOST_CLASSES, _MOST_EPOCHS = 50, 60, 60, 200
_MOST_PHOTOS = {"worst": 12, "disagreements": 24, "suspected": 20, "pairs": 20, "confused": 15, "corrected": 24}
_METRICS = {
    "mean_iou": "mean IoU",
    "own_size_mean_iou": "mean IoU at the photos' own size",
    "photo_mean_iou": "mean IoU of a photo",
    "accuracy": "accuracy",
    "top_3_accuracy": "top-3 accuracy",
    "auc": "area under the ROC curve",
    "loss": "loss (nats)",
    "calibration_error": "calibration error (points)",
}
_IN_PERCENT = (
    *("mean_iou", "own_size_mean_iou", "photo_mean_iou", "iou"),
    *("accuracy", "top_3_accuracy", "calibration_error"),
)
_VERDICTS = {"verdict": "choice", "release": "release", "servable": "serving"}
_PHASES = {"feature_extraction": "feature extraction", "fine_tuned": "fine-tuning"}
_FINDINGS = {
    "data": ("sizes", "rejected", "near_duplicates", "suspected_labels", "corrected"),
    "training": ("feature_extraction", "fine_tuned"),
    "comparison": ("labels", "metrics", "reliability", "confusion", "confused_pairs", "disagreements", "worst"),
}
_DATA_BEGINNINGS = ("data:image/jpeg;base64,", "data:image/png;base64,", "data:image/webp;base64,")


@dataclass(frozen=True)
class _Training:
    """Everything the page shows about the training of one phase."""

    told: TrainingSummary
    epochs: list[dict[str, Any]]  # the learning curves
    variables: list[str]  # names of the trained variables


def write_page(summary: Summary, folder: Path, findings: Mapping[str, Any] | None = None) -> Path:
    """Writes `index.html` of a run, whole or not at all.

    Args:
      summary: summary of the run. Names from photos and folders are escaped.
      findings: from `components.report.findings.find`. The page leaves out parts that are missing.
    """
    shown, found = text_only(summary), text_only(findings or {})
    content = _render(shown, found)
    if len(content) > MAXIMUM_BYTES:
        content = _render(shown, found, gallery_pictures=False)
    if len(content) > MAXIMUM_BYTES:
        content = _render(shown, found, gallery_pictures=False, pictures=False)
    path = folder / PAGE_FILE
    write_whole(path, content)
    return path


def write_plain_page(summary: Summary, folder: Path, problem: str) -> Path:
    """Writes an `index.html` that only says how the run ended and why there is no full page.

    Args:
      problem: a sentence on what went wrong.
    """
    status, run_id, reason = map(html.escape, (summary.status, summary.run_id, summary.reason))
    text = (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{status}: {run_id}</title>\n'
        f"<h1>{status}</h1>\n<p>run {run_id}</p>\n<p>{reason}</p>\n"
        f"<p>{html.escape(problem)}; the details are in summary.json next to this page.</p>\n</html>\n"
    )
    path = folder / PAGE_FILE
    write_whole(path, text.encode("utf-8", "replace"))
    return path


def _render(
    summary: Summary, findings: Mapping[str, Any], *, gallery_pictures: bool = True, pictures: bool = True
) -> bytes:
    data, training, compared = (_part(findings, part) for part in ("data", "training", "comparison"))
    masks = findings.get("masks")
    models = _models(summary, compared, masks)
    of_masks = any(model.mean_iou for model in models.values()) or masks is not None
    gallery = masks.get("gallery") if masks else findings.get("gallery")
    order = sorted(models, key=lambda model: (model != summary.winner, list(models).index(model)))
    counts = summary.data.class_counts if summary.data else {}
    of_window = summary.window.data if summary.window else None
    corrections = (of_window or summary.data or DataSummary()).corrections
    return rendered(
        "page.html.j2",
        s=summary,
        texts=[(part, verdict.text) for key, part in _VERDICTS.items() if (verdict := getattr(summary, key))],
        graph=graph_picture(summary.nodes),
        peaks={node: cost["peak_megabytes"] for node, cost in _nodes_cost(findings).items()},
        data=data,
        notes=[*(summary.data.notes if summary.data else ()), *(of_window.notes if of_window else ())],
        labels=list(counts),
        most_of_a_class=max(counts.values(), default=0),
        rejected=_rejected(summary, data),
        corrections=corrections,
        corrected=_corrected(corrections, data),
        curves={_PHASES[phase]: training[phase] for phase in _PHASES if (training[phase] or {}).get("epochs")},
        trainings={
            name: told for phase, name in _PHASES.items() if (told := _training(summary, phase, training[phase]))
        },
        models=models,
        order=order,
        metrics={
            key: f"pixel {name}" if of_masks and key == "accuracy" else name
            for key, name in _METRICS.items()
            if any(getattr(each, key) for each in models.values())
        },
        interval_panels=_interval_panels(models, of_masks),
        compared=compared,
        confusion={model: _confusion(model, models, compared) for model in order},
        pairs={model: _pairs(model, models, compared) for model in order},
        slices={model: by_gap(models[model]) for model in order},
        masks=masks,
        of_masks=of_masks,
        mask_legend=(masks or {}).get("legend"),
        mask_size=flat(summary.config or {}).get("image.size"),
        m_classes=_classes_of_masks(models, masks) if of_masks else [],
        pixel_labels=_pixel_labels(summary.data),
        ignored=((of_window or summary.data or DataSummary()).ignored_classes or []),
        curve_key="mean_iou" if of_masks else "accuracy",
        curve_name="mean IoU" if of_masks else "accuracy",
        model_cost=(findings.get("cost") or {}).get("models") or {},
        facts=flat(summary.config or {}),
        lineage={key: known for key in ("versions", "data_fingerprint", "lineage") if (known := getattr(summary, key))},
        vectors=to_json(summary.vectors) if summary.vectors else {},
        problems=findings.get("problems") or [],
        gallery=gallery,
        gallery_classes=sorted({label for one in gallery["photos"] for label in one["classes"]}) if gallery else [],
        gallery_pictures=gallery_pictures,
        pictures=pictures,
        most=_MOST_PHOTOS,
        most_rows=_MOST_ROWS,
        most_epochs=_MOST_EPOCHS,
    )


def rendered(template: str, **content: Any) -> bytes:
    """Renders a template of this folder with the functions that all of them use."""
    # Only a page with charts pays for matplotlib.
    from components.report import charts

    page = (
        _environment()
        .get_template(template)
        .render(
            charts=charts,
            flat=flat,
            measured=measured,
            points=_points,
            percent=_percent,
            script=Markup(_SCRIPT),
            script_hash=base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode(),
            **content,
        )
    )
    return page.encode("utf-8", "replace")


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"spaced": spelled, "value": _value, "picture": _picture, "seconds": _seconds}
    return environment


def text_only(value: Any) -> Any:
    """The same value with question marks for bytes of file names that are not valid text."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {text_only(key): text_only(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [text_only(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: text_only(getattr(value, field.name)) for field in fields(value)})
    return value


def main_metrics(summary: Summary) -> dict[str, float]:
    """The main numbers of a run, for a dashboard: metric -> value; accuracies are in [0, 1]."""
    metrics: dict[str, float] = {"pushed": float(summary.status == "pushed")}
    for model, measures in (summary.models or {}).items():
        for key in RELEASE_METRICS:
            if known := getattr(measures, key):
                metrics[f"{model}_{key}"] = known.value
    if summary.verdict:
        metrics["fine_tuned_gain"] = summary.verdict.difference
    if summary.data:
        metrics["photos_accepted"] = float(sum(summary.data.accepted.values()))
        metrics["photos_rejected"] = float(sum(summary.data.rejected.values()))
    return metrics


# ---- used by the template


def flat(facts: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested facts flattened to dotted keys, as `--set` takes them; empty parts are left out."""
    found: dict[str, Any] = {}
    for key, value in facts.items():
        found |= flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return found


def by_gap(model: ModelSummary) -> list[dict[str, Any]]:
    """The slices of a model, starting with those furthest below the model's overall accuracy or mean IoU."""
    rows = [
        {
            "feature": feature,
            "value": value,
            "gap": part.score.value - model.score.value,
            "score": part.score,
            **vars(part),
        }
        for feature, values in model.slices.items()
        for value, part in values.items()
    ]
    return sorted(rows, key=lambda row: (row["gap"], row["feature"], row["value"]))


def _part(findings: Mapping[str, Any], part: str) -> dict[str, Any]:
    """A part of the findings with all its keys; missing ones are None."""
    return {**dict.fromkeys(_FINDINGS[part]), **(findings.get(part) or {})}


def _models(summary: Summary, compared: Mapping[str, Any], masks: Mapping[str, Any] | None) -> dict[str, ModelSummary]:
    """The models of the summary, and those that only the findings have, such as the model in production."""
    measured = {**(compared["metrics"] or {})}
    if masks and masks["production"]:
        measured["production"] = masks["production"]
    others = {model: from_json(ModelSummary, metrics) for model, metrics in measured.items()}
    models = summary.models or {}
    return models | {model: others[model] for model in others if model not in models}


def _classes_of_masks(models: Mapping[str, ModelSummary], masks: Mapping[str, Any] | None) -> list[str]:
    """The classes in the order of their ids, and so of their colours."""
    return masks["labels"] if masks else list(next(iter(models.values())).per_class)


def _pixel_labels(data: DataSummary | None) -> list[str]:
    """The classes of the pixels, in the order of their ids as far as it is known."""
    found = (data.pixel_classes if data else None) or {}
    return list(dict.fromkeys(label for classes in found.values() for label in classes))


def _training(summary: Summary, phase: str, history: Mapping[str, Any] | None) -> _Training | None:
    model = (summary.models or {}).get(phase)
    told = model.training if model else None
    if told is None and history is None:
        return None
    history = history or {"epochs": [], "trainable_variables": []}
    return _Training(told or TrainingSummary.of_history(history), history["epochs"], history["trainable_variables"])


def _interval_panels(models: Mapping[str, ModelSummary], of_masks: bool) -> dict[str, dict[str, Interval]]:
    units = {
        **({"mean_iou": "mean IoU (%)"} if of_masks else {}),
        "accuracy": "pixel accuracy (%)" if of_masks else "accuracy (%)",
        "loss": "loss (nats)",
        "calibration_error": "calibration error (points, %)",
    }
    return {
        unit: {model: interval for model, known in models.items() if (interval := getattr(known, key))}
        for key, unit in units.items()
    }


def _rejected(summary: Summary, data: Mapping[str, Any]) -> dict[str, Any]:
    """The number of rejected files, in all and by reason, and the first files with their pictures if there are any."""
    known = summary.data or DataSummary()
    files = known.rejected_files
    pictured = data["rejected"] or []
    pictures = {(file["name"], file["reason"]): file.get("thumbnail") for file in pictured}
    shown = [
        {"name": file.file_name, "detail": file.detail, "thumbnail": pictures.get((file.file_name, file.reason))}
        for file in files[:_MOST_FILES]
    ]
    return {"all": len(files), "reasons": known.rejected, "files": shown}


def _corrected(corrections: CorrectionsSummary | None, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The corrected photos, with their pictures if there are any."""
    if data["corrected"] is not None or corrections is None:
        return data["corrected"] or []
    return [
        {**vars(one), "photo": {"name": one.file_name, "split": one.split, "thumbnail": None}}
        for one in corrections.photos[: _MOST_PHOTOS["corrected"]]
    ]


def _nodes_cost(findings: Mapping[str, Any]) -> dict[str, Any]:
    nodes = (findings.get("cost") or {}).get("nodes") or {}
    return {node: cost for node, cost in nodes.items() if (cost or {}).get("peak_megabytes") is not None}


def _matrix(
    model: str, models: Mapping[str, ModelSummary], compared: Mapping[str, Any]
) -> tuple[list[str], list[list[int]]]:
    matrix = (compared.get("confusion") or {}).get(model)
    labels = compared.get("labels") or []
    if not matrix:
        matrix, labels = models[model].confusion_matrix, list(models[model].per_class)
    return (labels, matrix) if matrix and len(matrix) == len(labels) else ([], [])


def _confusion(model: str, models: Mapping[str, ModelSummary], compared: Mapping[str, Any]) -> dict[str, Any] | None:
    labels, matrix = _matrix(model, models, compared)
    if not labels:
        return None
    every = range(len(labels))
    wrong = [sum(matrix[i]) + sum(row[i] for row in matrix) - 2 * matrix[i][i] for i in every]
    chosen = sorted(sorted(every, key=lambda i: -wrong[i])[:_MOST_CLASSES])
    rows = []
    for i in chosen:
        total = sum(matrix[i]) or 1
        cells = [{"count": matrix[i][j], "level": -(-5 * matrix[i][j] // total), "right": i == j} for j in chosen]
        rows.append({"label": labels[i], "cells": cells, "total": sum(matrix[i]), "right": matrix[i][i]})
    return {"labels": [labels[i] for i in chosen], "rows": rows, "of": len(labels)}


def _pairs(model: str, models: Mapping[str, ModelSummary], compared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The most confused pairs of classes, most first."""
    pairs = (compared.get("confused_pairs") or {}).get(model)
    if pairs is None:
        labels, matrix = _matrix(model, models, compared)
        pairs = [
            {"true": labels[i], "predicted": labels[j], "count": matrix[i][j]}
            for i in range(len(labels))
            for j in range(len(labels))
            if i != j and matrix[i][j]
        ]
        pairs.sort(key=lambda pair: -pair["count"])
    return list(pairs[: _MOST_PHOTOS["confused"]])


# ---- how values are written


def measured(known: Interval | None, key: str) -> str:
    """A metric with its interval; a dash if it is unknown."""
    if known is None:
        return "–"
    if key in _IN_PERCENT:
        unit = " points" if key == "calibration_error" else " %"
        return f"{100 * known.value:.1f}{unit} ({100 * known.low:.1f} to {100 * known.high:.1f})"
    return f"{known.value:.3f} ({known.low:.3f} to {known.high:.3f})"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _seconds(seconds: float | None) -> str:
    """A duration in words."""
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_value(item) for item in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_value(item)}" for key, item in value.items())
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _picture(uri: Any) -> str:
    """Whether a picture is embedded in the page; any other address is not shown, since the page fetches nothing."""
    return uri if isinstance(uri, str) and uri.startswith(_DATA_BEGINNINGS) else ""


def write_history_page(history: History, name: str, folder: Path) -> Path:
    """Writes `history.html`, whole or not at all."""
    shown: History = text_only(history)
    drawn = [run for run in shown.runs if run.accuracy or run.difference is not None]
    page = rendered("history_page.html.j2", h=shown, name=text_only(name), drawn=drawn, measure=measure_of(shown.runs))
    path = folder / "history.html"
    write_whole(path, page)
    return path
