"""Two runs side by side, on one page that needs no network."""

from __future__ import annotations

from pathlib import Path

from components.report.page import flat, measured, rendered, text_only
from components.whole_file import write_whole
from schemas.release import Interval
from schemas.summary import ModelSummary, Summary
from schemas.words import spelled

_METRICS = {
    "mean_iou": "mean IoU",
    "accuracy": "accuracy",
    "loss": "loss (nats)",
    "calibration_error": "calibration error",
}


def write_comparison(first: Summary, second: Summary, folder: Path) -> Path:
    """Writes the page that compares two runs, whole or not at all.

    Args:
      first, second: summaries of the runs. Names in them are escaped.
      folder: where `compare-FIRST-SECOND.html` is written.
    """
    runs: list[Summary] = [text_only(first), text_only(second)]
    configs = [flat(run.config or {}) for run in runs]
    keys = dict.fromkeys([*configs[0], *configs[1]])
    steps = [{node.id: node for node in run.nodes} for run in runs]
    counts = [run.data.class_counts if run.data else {} for run in runs]
    models = dict.fromkeys([*(runs[0].models or {}), *(runs[1].models or {})])
    known = [[(run.models or {}).get(model) for run in runs] for model in models]
    measures = {"mean IoU" if one.mean_iou else "accuracy" for pair in known for one in pair if one}
    page = rendered(
        "comparison_page.html.j2",
        runs=runs,
        metrics=[
            {
                "model": spelled(model),
                "metric": title,
                "values": [measured(_metric(one, key), key) for one in pair],
                "change": _change(pair, key),
            }
            for model, pair in zip(models, known, strict=True)
            for key, title in _METRICS.items()
            if key != "mean_iou" or any(one and one.mean_iou for one in pair)
        ],
        panels={
            f"{' or '.join(sorted(measures))} (%)": {
                f"{letter}: {spelled(model)}": one.score
                for model, pair in zip(models, known, strict=True)
                for letter, one in zip("AB", pair, strict=True)
                if one
            }
        },
        settings=[
            (key, [config.get(key, "–") for config in configs])
            for key in keys
            if configs[0].get(key, "–") != configs[1].get(key, "–")
        ],
        same=sum(key in configs[1] and configs[0][key] == configs[1][key] for key in configs[0]),
        steps=[(step, [one.get(step) for one in steps]) for step in dict.fromkeys([*steps[0], *steps[1]])],
        classes=[(label, [count.get(label, 0) for count in counts]) for label in sorted({*counts[0], *counts[1]})],
    )
    path = folder / f"compare-{first.run_id}-{second.run_id}.html"
    write_whole(path, page)
    return path


def _metric(model: ModelSummary | None, key: str) -> Interval | None:
    return getattr(model, key) if model else None


def _change(pair: list[ModelSummary | None], key: str) -> str:
    """The second run's metric minus the first's, in words; empty if a run does not have it."""
    first, second = (_metric(one, key) for one in pair)
    if first is None or second is None:
        return ""
    gain = second.value - first.value
    return f"{gain:+.3f}" if key == "loss" else f"{100 * gain:+.1f} points"
