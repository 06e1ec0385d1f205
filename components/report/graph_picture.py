"""The picture of the graph: the steps of a run from top to bottom, with their states and times."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

from markupsafe import Markup, escape

from schemas.run_end import Step
from schemas.words import spelled

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 160, 46, 14, 24
_COLUMNS = 3
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


def graph_picture(nodes: Sequence[Step]) -> Markup | None:
    """An `<svg>` element, or None without steps.

    Each step is below the steps that it waits for. Arrows that follow from others are not drawn (the transitive
    reduction of the graph; Aho, Garey & Ullman 1972, "The Transitive Reduction of a Directed Graph").

    Args:
      nodes: the steps. Summaries from older versions do not say what a step waits for; they give no arrows.
    """
    if not nodes:
        return None
    edges = _edges({node.id: node.upstream for node in nodes})
    cells = _cells([node.id for node in nodes], edges)
    places = {
        step: (2 + column * (_WIDTH + _GAP_X), 2 + row * (_HEIGHT + _GAP_Y)) for step, (row, column) in cells.items()
    }
    height = max(y for _, y in places.values()) + _HEIGHT + 2
    width = max(_COLUMNS, 1 + max(column for _, column in cells.values())) * (_WIDTH + _GAP_X) - _GAP_X + 4
    lines = [_arrow(places[a], places[b]) for a, b in edges]
    boxes = [_box(node, *places[node.id]) for node in nodes]
    told = ", ".join(f"{node.id} {spelled(node.state)}" for node in nodes)
    return Markup(
        '<svg class="graph" role="img" viewBox="0 0 {} {}" aria-label="The steps and their states: {}">{}{}</svg>'
    ).format(width, height, told, Markup().join(lines), Markup().join(boxes))


def _edges(upstream: Mapping[str, Collection[str]]) -> list[tuple[str, str]]:
    """The arrows of the transitive reduction, from a step to one that waits for it.

    Args:
      upstream: step -> steps that it waits for. Steps that do not come before it are ignored.
    """
    before: dict[str, set[str]] = {}  # all that a step waits for, directly or not
    edges = []
    for step, named in upstream.items():
        direct = [other for other in named if other in before]
        indirect = set[str]().union(*(before[other] for other in direct))
        edges += [(other, step) for other in direct if other not in indirect]
        before[step] = {*direct, *indirect}
    return edges


def _cells(steps: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, tuple[int, int]]:
    """Row and column of each step: a row below everything it waits for, in a column that no arrow passes through."""
    if not edges:
        return {step: divmod(number, _COLUMNS) for number, step in enumerate(steps)}
    rows = dict.fromkeys(steps, 0)
    for step in steps:
        rows[step] = max((rows[a] + 1 for a, b in edges if b == step), default=0)
    for step in steps:  # what waits for nothing stands just above what it is for
        if all(b != step for _, b in edges):
            rows[step] = max(0, min((rows[b] for a, b in edges if a == step), default=1) - 1)
    cells: dict[str, tuple[int, int]] = {}
    passed: set[tuple[int, int]] = set()  # cells through which an arrow goes down
    for step in sorted(steps, key=rows.__getitem__):
        free = (
            cell
            for column in itertools.chain((1, 0), itertools.count(2))
            if (cell := (rows[step], column)) not in passed
        )
        cells[step] = row, column = next(free)
        lowest = max((rows[b] for a, b in edges if a == step), default=row)
        passed |= {(below, column) for below in range(row, lowest)} | {(row, column)}
    return cells


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> Markup:
    """An arrow down the column of its start, then across, then into the top of its end."""
    x1, y1, x2, y2 = start[0] + _WIDTH / 2, start[1] + _HEIGHT, end[0] + _WIDTH / 2, end[1]
    path = f"M{x1} {y1} V{y2 - _GAP_Y / 2} H{x2} V{y2}"
    head = f"M{x2 - 4} {y2 - 7} L{x2} {y2} L{x2 + 4} {y2 - 7}"
    return Markup('<path class="edge" d="{} {}"/>').format(path, head)


def _box(node: Step, x: float, y: float) -> Markup:
    name, state = node.id, node.state
    shown = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
    word = spelled(state)
    word = word if len(word) <= _LONGEST - 8 else word[: _LONGEST - 9] + "…"
    words = f"{word} · {node.seconds:.1f} s" if node.seconds else word
    kind = state if state in (*_MARKS, "not_reached") else "other"
    return Markup(
        '<g class="step {}"><rect x="{}" y="{}" width="{}" height="{}" rx="6"/>'
        '<path class="mark" transform="translate({} {})" d="{}"/>'
        '<text x="{}" y="{}">{}</text><text class="state" x="{}" y="{}">{}</text></g>'
    ).format(
        kind, x, y, _WIDTH, _HEIGHT, x + 9, y + 26, _MARKS.get(state, _NO_MARK), x + 9, y + 19, escape(shown),
        x + 27, y + 37, escape(words),
    )  # fmt: skip
