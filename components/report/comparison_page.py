"""Two runs side by side, on one page that needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.report.page import flat, measured, rendered, spaced, text_only
from components.whole_file import write_whole

_METRICS = {"accuracy": "accuracy", "loss": "loss (nats)", "calibration_error": "calibration error"}


def write_comparison(first: Mapping[str, Any], second: Mapping[str, Any], folder: Path) -> Path:
    """Writes the page that compares two runs, whole or not at all.

    Args:
      first, second: the content of `summary.json` of each. All names in them are shown as text.
      folder: where `compare-FIRST-SECOND.html` is written.
    """
    runs = [text_only(first), text_only(second)]
    configs = [flat(run["config"] or {}) for run in runs]
    keys = dict.fromkeys([*configs[0], *configs[1]])
    steps = [{node["id"]: node for node in run["nodes"]} for run in runs]
    counts = [_photos(run) for run in runs]
    models = dict.fromkeys([*(runs[0]["models"] or {}), *(runs[1]["models"] or {})])
    known = [[(run["models"] or {}).get(model) or {} for run in runs] for model in models]
    page = rendered(
        "comparison_page.html.j2",
        runs=runs,
        metrics=[
            {
                "model": spaced(model),
                "metric": title,
                "values": [measured(one.get(key), key) for one in pair],
                "change": _change(pair, key),
            }
            for model, pair in zip(models, known, strict=True)
            for key, title in _METRICS.items()
        ],
        panels={
            "accuracy (%)": {
                f"{letter}: {spaced(model)}": one["accuracy"]
                for model, pair in zip(models, known, strict=True)
                for letter, one in zip("AB", pair, strict=True)
                if one.get("accuracy")
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
    path = folder / f"compare-{first['run_id']}-{second['run_id']}.html"
    write_whole(path, page)
    return path


def _photos(run: Mapping[str, Any]) -> dict[str, int]:
    """Accepted photos of each class, over all splits."""
    found: dict[str, int] = {}
    for counts in ((run["data"] or {}).get("classes") or {}).values():
        for label, count in counts.items():
            found[label] = found.get(label, 0) + count
    return found


def _change(pair: list[Mapping[str, Any]], key: str) -> str:
    """By how much the second run's metric is above the first's; empty where one of them has none."""
    first, second = ((one.get(key) or {}).get("value") for one in pair)
    if first is None or second is None:
        return ""
    return f"{second - first:+.3f}" if key == "loss" else f"{100 * (second - first):+.1f} points"
