"""The picture of the graph: the steps of a run from top to bottom, with the state and the time of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

# The steps that can be, row by row; a row has three places. Steps that a run does not have leave no gap.
_ROWS: tuple[tuple[str | None, ...], ...] = (
    ("CuratedSchema", "ImageExampleGen", "FurtherExampleGen"),
    (None, "StatisticsGen", None),
    (None, "ExampleValidator", None),
    (None, "DataGate", None),
    (None, "Transform", None),
    (None, "FeatureVectorGen", "EarlierSpans"),
    ("DriftGate", "Window", None),
    ("Tuner", None, None),
    ("FeatureExtraction", None, "FineTuning"),
    (None, "Ensemble", None),
    (None, "Predictions", "FurtherPredictions"),
    ("Evaluator", "ModelSelector", "ProductionPredictions"),
    (None, "ReleaseGate", None),
    (None, "ServableCheck", None),
    (None, "Pusher", None),
)
_EDGES = (
    ("ImageExampleGen", "StatisticsGen"),
    ("CuratedSchema", "StatisticsGen"),
    ("StatisticsGen", "ExampleValidator"),
    ("ExampleValidator", "DataGate"),
    ("DataGate", "Transform"),
    ("Transform", "FeatureVectorGen"),
    ("EarlierSpans", "DriftGate"),
    ("FeatureVectorGen", "DriftGate"),
    ("EarlierSpans", "Window"),
    ("FeatureVectorGen", "Window"),
    ("DriftGate", "Window"),
    ("Window", "FeatureExtraction"),
    ("Window", "FineTuning"),
    ("FeatureVectorGen", "FeatureExtraction"),
    ("FeatureVectorGen", "FineTuning"),
    ("Window", "Tuner"),
    ("FeatureVectorGen", "Tuner"),
    ("Tuner", "FeatureExtraction"),
    ("FeatureExtraction", "FineTuning"),
    ("FeatureExtraction", "Ensemble"),
    ("FineTuning", "Ensemble"),
    ("Ensemble", "Predictions"),
    ("FeatureExtraction", "Predictions"),
    ("FineTuning", "Predictions"),
    ("FurtherExampleGen", "FurtherPredictions"),
    ("FineTuning", "FurtherPredictions"),
    ("Predictions", "Evaluator"),
    ("Predictions", "ModelSelector"),
    ("ModelSelector", "ReleaseGate"),
    ("ProductionPredictions", "ReleaseGate"),
    ("ReleaseGate", "ServableCheck"),
    ("ServableCheck", "Pusher"),
)
# With a window the vectors go through it, and not past it.
_PAST_WINDOW = {("FeatureVectorGen", step) for step in ("Tuner", "FeatureExtraction", "FineTuning")}
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 160, 46, 14, 24
_LONGEST = 22
# Mark of a state, drawn in a field of 12 by 12.
_MARKS = {
    "complete": "M1 6 L5 10 L11 2",
    "cached": "M2 4 H10 M2 8 H10",
    "failed": "M2 2 L10 10 M10 2 L2 10",
    "skipped": "M1 6 H11",
    "running": "M3 1 L10 6 L3 11 Z",
}
_NO_MARK = "M6 2 A4 4 0 1 1 5.9 2 Z"


def graph_picture(nodes: Sequence[Mapping[str, Any]]) -> Markup | None:
    """An `<svg>` element; None: there is no step.

    Args:
      nodes: `id`, `state` and `seconds` of each step, as in `summary.json`. Steps that the picture does not know come
        last.
    """
    if not nodes:
        return None
    places = _places([node["id"] for node in nodes])
    height = max(y for _, y in places.values()) + _HEIGHT + 2
    width = 3 * _WIDTH + 2 * _GAP_X + 4
    lines = [_arrow(places[a], places[b]) for a, b in _edges(places)]
    boxes = [_box(node, *places[node["id"]]) for node in nodes]
    told = ", ".join(f"{node['id']} {str(node['state']).replace('_', ' ')}" for node in nodes)
    return Markup(
        '<svg class="graph" role="img" viewBox="0 0 {} {}" aria-label="The steps and their states: {}">{}{}</svg>'
    ).format(width, height, told, Markup().join(lines), Markup().join(boxes))


def _places(ids: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Where the left upper corner of each step is."""
    rows: list[list[str | None]] = [
        [step if step in ids else None for step in row] for row in _ROWS if any(step in ids for step in row)
    ]
    known = {step for row in rows for step in row}
    others = [step for step in dict.fromkeys(ids) if step not in known]
    rows += [list(others[i : i + 3]) for i in range(0, len(others), 3)]
    return {
        step: (2 + column * (_WIDTH + _GAP_X), 2 + number * (_HEIGHT + _GAP_Y))
        for number, row in enumerate(rows)
        for column, step in enumerate(row)
        if step
    }


def _edges(places: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (a, b) for a, b in _EDGES if a in places and b in places and not ("Window" in places and (a, b) in _PAST_WINDOW)
    ]


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> Markup:
    (x1, y1), (x2, y2) = start, end
    if y1 == y2:
        side = 1 if x2 > x1 else -1
        x1, x2 = (x1 + _WIDTH, x2) if side > 0 else (x1, x2 + _WIDTH)
        y = y1 + _HEIGHT / 2
        path, head = f"M{x1} {y} H{x2}", f"M{x2 - side * 7} {y - 4} L{x2} {y} L{x2 - side * 7} {y + 4}"
    else:
        x1, y1, x2 = x1 + _WIDTH / 2, y1 + _HEIGHT, x2 + _WIDTH / 2
        middle = y2 - _GAP_Y / 2
        path = f"M{x1} {y1} V{middle} H{x2} V{y2}"
        head = f"M{x2 - 4} {y2 - 7} L{x2} {y2} L{x2 + 4} {y2 - 7}"
    return Markup('<path class="edge" d="{} {}"/>').format(path, head)


def _box(node: Mapping[str, Any], x: float, y: float) -> Markup:
    name, state = str(node["id"]), str(node["state"])
    shown = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
    word = state.replace("_", " ")
    word = word if len(word) <= _LONGEST - 8 else word[: _LONGEST - 9] + "…"
    words = f"{word} · {node['seconds']:.1f} s" if node["seconds"] else word
    kind = state if state in (*_MARKS, "not_reached") else "other"
    return Markup(
        '<g class="step {}"><rect x="{}" y="{}" width="{}" height="{}" rx="6"/>'
        '<path class="mark" transform="translate({} {})" d="{}"/>'
        '<text x="{}" y="{}">{}</text><text class="state" x="{}" y="{}">{}</text></g>'
    ).format(
        kind, x, y, _WIDTH, _HEIGHT, x + 9, y + 26, _MARKS.get(state, _NO_MARK), x + 9, y + 19, escape(shown),
        x + 27, y + 37, escape(words),
    )  # fmt: skip
