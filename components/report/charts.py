"""The charts of the pages: static SVG, drawn by matplotlib and embedded in the page.

Text stays text. Black becomes the page's text colour, and the other colours are variables of the page, so that a
drawing works on white and on black. Figures are made without pyplot, so no state is kept between them.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from components.report.history import PastRun, measure_of
from schemas.release import Interval
from schemas.words import spelled

# Wide enough for a phone without making its letters too small to read.
_INCHES_WIDE = 5.2
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "warmstart",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.18,
    "grid.color": "#000000",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
# Okabe & Ito 2008, "Color Universal Design"; the page has a variable of each name, for light and for dark.
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
_VARIABLES = {
    BLUE: "var(--blue)",
    VERMILLION: "var(--vermillion)",
    GREEN: "var(--green)",
    PURPLE: "var(--purple)",
    "#000000": "currentColor",
}
# Colour, marker and line of the series of a chart, in turn: no two differ by colour alone.
_SERIES = ((BLUE, "o", "-"), (VERMILLION, "s", "--"), (GREEN, "D", "-."), (PURPLE, "^", ":"))
_LONGEST_NAME = 28


def learning_curves(phases: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Loss, accuracy and learning rate by epoch, with the phases one after the other and a line between them.

    Of masks there is the mean IoU in place of the accuracy.

    Args:
      phases: name -> the trainer's history (`components/trainer/loop.py`), in the order in which they ran.
    """
    figure = _figure(7.6)
    with matplotlib.rc_context(_SETTINGS):
        panels = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.6))
        of_masks = any("eval_mean_iou" in epoch for history in phases.values() for epoch in history["epochs"])
        reached, title = ("mean_iou", "Mean IoU") if of_masks else ("accuracy", "Accuracy")
        for axes, metric in zip(panels, ("loss", reached), strict=False):
            _curves(axes, phases, metric)
        panels[0].set(ylabel="loss (nats)", title="Loss")
        panels[1].set(ylabel=f"{'mean IoU' if of_masks else 'accuracy'} (%)", title=title)
        panels[1].yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        rates = panels[2]
        start = 0
        for history in phases.values():
            values = [_number(epoch.get("learning_rate")) for epoch in history["epochs"]]
            rates.plot(range(start + 1, start + 1 + len(values)), values, color=GREEN, marker=_dots(values))
            start += len(values)
        if any(value > 0 for line in rates.get_lines() for value in line.get_ydata()):
            rates.set_yscale("log")
        rates.set(title="Learning rate", ylabel="rate", xlabel="epoch, over both phases")
        rates.xaxis.set_major_locator(MaxNLocator(integer=True))
        start = 0
        for name, history in list(phases.items())[:-1]:
            start += len(history["epochs"])
            following = list(phases)[list(phases).index(name) + 1]
            for axes in panels:
                axes.axvline(start + 0.5, color="black", linewidth=1.2, linestyle=(0, (1, 1.5)))
            panels[0].annotate(
                f"{following} starts", (start + 0.5, 0.97), (-4, 0), xycoords=("data", "axes fraction"),
                textcoords="offset points", rotation=90, ha="right", va="top", fontsize=10,
            )  # fmt: skip
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        ends = "; ".join(
            f"{name}: {len(history['epochs'])} epochs, best {history.get('best_epoch')}"
            for name, history in phases.items()
        )
        return _drawn(figure, "learning-curves", f"Learning curves of {' and '.join(phases)}", ends)


def _curves(axes: Axes, phases: Mapping[str, Mapping[str, Any]], metric: str) -> None:
    start = 0
    for number, history in enumerate(phases.values()):
        epochs, smoothed = history["epochs"], history.get("smoothed") or []
        x = [start + 1 + i for i in range(len(epochs))]
        for key, colour, line in (("train", BLUE, "--"), ("eval", VERMILLION, "-")):
            raw = [_number(epoch.get(f"{key}_{metric}")) for epoch in epochs]
            axes.plot(x, raw, line, color=colour, alpha=0.45, linewidth=1, label=None if number else f"{key}, raw")
            smooth = [_number(epoch.get(f"{key}_{metric}")) for epoch in smoothed]
            axes.plot(
                x[: len(smooth)], smooth, line, color=colour, linewidth=2.2, marker=_dots(smooth),
                label=None if number else f"{key}, smoothed",
            )  # fmt: skip
        before = _number((history.get("before") or {}).get(f"eval_{metric}"))
        axes.plot(
            [start], [before], "x", color=VERMILLION, markersize=7, label=None if number else "eval, before the phase"
        )
        best = history.get("best_epoch") or 0
        if 0 < best <= len(epochs):
            value = _number(epochs[best - 1].get(f"eval_{metric}"))
            axes.plot(
                [start + best], [value], "o", markersize=9, markerfacecolor="none", markeredgecolor="black",
                label=None if number else "best epoch, kept",
            )  # fmt: skip
        start += len(epochs)


def reliability(models: Mapping[str, Mapping[str, Any]]) -> Markup:
    """How often answers with a given confidence are right, and how many photos have it; one panel per model.

    Args:
      models: name -> `edges` (11), `confidence`, `accuracy` (10, None for a bin without photos) and `count` (10).
    """
    rows = math.ceil(len(models) / 2)
    figure = _figure(0.9 + 2.5 * rows)
    with matplotlib.rc_context(_SETTINGS):
        grid = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[len(models) :]:
            axes.set_visible(False)
        for axes, (name, bins), (colour, marker, _) in zip(
            grid.flat, models.items(), _SERIES * len(models), strict=False
        ):
            total = sum(bins["count"]) or 1
            shares = [count / total for count in bins["count"]]
            axes.bar(
                bins["edges"][:-1], shares, width=[b - a for a, b in _pairs(bins["edges"])], align="edge",
                color="black", alpha=0.15,
            )  # fmt: skip
            axes.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle=":")
            points = [
                (confidence, accuracy)
                for confidence, accuracy in zip(bins["confidence"], bins["accuracy"], strict=True)
                if confidence is not None and accuracy is not None
            ]
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker) if points else None
            axes.set_title(_short(name), parse_math=False)
            axes.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(PercentFormatter(1, symbol=""))
        figure.supxlabel("mean confidence (%)", fontsize=11)
        figure.supylabel("right answers (%); grey: share of photos", fontsize=11)
        text = "On the dotted line the model is as accurate as it is confident; below it the model is overconfident."
        return _drawn(figure, "reliability", f"Reliability of {', '.join(models)}", text)


def intervals(
    panels: Mapping[str, Mapping[str, Interval]], name: str, title: str, series: int = len(_SERIES)
) -> Markup:
    """Values with their intervals; one panel per metric and one row per model.

    Args:
      panels: metric with its unit -> model -> measured value; metrics in percent are shares in [0, 1].
      series: number of colours that the rows cycle through, at most 4.
    """
    most = max(map(len, panels.values()))
    figure = _figure(len(panels) * (0.95 + 0.3 * most))
    with matplotlib.rc_context(_SETTINGS):
        for axes, (metric, models) in zip(
            figure.subplots(len(panels), 1, squeeze=False).flat, panels.items(), strict=True
        ):
            for row, (measured, (colour, marker, _)) in enumerate(
                zip(models.values(), _SERIES[:series] * len(models), strict=False)
            ):
                value, low, high = map(_number, (measured.value, measured.low, measured.high))
                axes.plot([low, high], [row, row], color=colour, linewidth=2.2)
                axes.plot([value], [row], marker, color=colour, markersize=8)
            axes.set_yticks(range(len(models)), [_short(model) for model in models], parse_math=False)
            axes.set(ylim=(len(models) - 0.5, -0.5), xlabel=metric)
            axes.grid(axis="y", visible=False)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            if "%" in metric:
                axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        return _drawn(figure, name, title, "The numbers are in the table next to it.")


def sizes(edges: Sequence[float], counts: Sequence[int]) -> Markup:
    """A histogram of the photos' shorter sides.

    Args:
      edges: bin edges in pixels, one more than counts.
      counts: photos in each bin.
    """
    figure = _figure(2.8)
    with matplotlib.rc_context(_SETTINGS):
        axes = figure.subplots()
        axes.bar(
            edges[:-1], counts, width=[b - a for a, b in _pairs(edges)], align="edge", color=BLUE, edgecolor="none"
        )
        axes.set(xlabel="shorter side (pixels)", ylabel="photos", title="Sizes of the accepted photos")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        text = f"{sum(counts)} photos, with shorter sides from {edges[0]:.0f} to {edges[-1]:.0f} pixels"
        return _drawn(figure, "sizes", "Sizes of the accepted photos", text)


def photo_scores(edges: Sequence[float], counts: Mapping[str, Sequence[int]]) -> Markup:
    """A histogram of the photos' own mean IoU, a line for each model.

    Args:
      edges: bin edges, shares in [0, 1], one more than counts.
      counts: model -> photos in each bin.
    """
    figure = _figure(3.0)
    with matplotlib.rc_context(_SETTINGS):
        axes = figure.subplots()
        for (model, photos), (colour, _, line) in zip(counts.items(), _SERIES * len(counts), strict=False):
            axes.stairs(photos, edges, color=colour, linestyle=line, linewidth=2.2, label=_short(model))
        axes.set(xlabel="mean IoU of a photo (%)", ylabel="photos", title="Photos by their mean IoU")
        axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        for text in figure.legend(loc="outside lower center", ncols=3).get_texts():
            text.set_parse_math(False)
        return _drawn(figure, "photo-scores", "Photos by their mean IoU", "The numbers are in the table next to it.")


def over_time(runs: Sequence[PastRun]) -> Markup:
    """What the winner reaches, in accuracy or mean IoU, and the gain of fine-tuning in each run, in order."""
    figure = _figure(6.2, max(_INCHES_WIDE, min(12, 0.32 * len(runs))))
    marks = {"pushed": (BLUE, "o"), "not_pushed": (VERMILLION, "X"), "skipped": (GREEN, "D")}
    with matplotlib.rc_context(_SETTINGS):
        accuracy, gain = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for number, run in enumerate(runs):
            colour, marker = marks.get(run.status, (PURPLE, "^"))
            label = spelled(run.status)
            if (its := run.mean_iou or run.accuracy) is not None:
                _interval(accuracy, number, its.value, its.low, its.high, colour, marker, label)
            if run.difference is not None and run.interval:
                low, high = run.interval
                _interval(gain, number, run.difference, low, high, colour, marker, label)
        gain.axhline(0, color="black", linewidth=1)
        reached = _capital(measure_of(runs))
        accuracy.set(title=f"{reached} of the winner on the test split", ylabel=f"{measure_of(runs)} (%)")
        gain.set(title="Gain from fine-tuning", ylabel=f"{measure_of(runs)} points", xlabel="run (day, UTC)")
        for axes in (accuracy, gain):
            axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        step = max(1, math.ceil(len(runs) / 6))
        shown = range(0, len(runs), step)
        gain.set_xticks(list(shown), [_short(runs[i].run_id[:10]) for i in shown], parse_math=False, rotation=30)
        gain.set_xlim(-0.5, max(len(runs) - 0.5, 0.5))
        handles: dict[str, Any] = {}
        for axes in (accuracy, gain):
            handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        if handles:
            legend = figure.legend(handles.values(), handles, loc="outside lower center", ncols=3)
            for text in legend.get_texts():
                text.set_parse_math(False)
        return _drawn(
            figure, "over-time", f"{reached} and gain of every run", f"{len(runs)} runs; all of them are in the table."
        )


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _figure(height: float, width: float = _INCHES_WIDE) -> Figure:
    return Figure(figsize=(width, height), facecolor="none", layout="constrained")


def _interval(
    axes: Axes, x: float, value: float, low: float, high: float, colour: str, marker: str, label: str
) -> None:
    axes.plot([x, x], [low, high], color=colour, linewidth=1.8)
    axes.plot([x], [value], marker, color=colour, markersize=8, label=label)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _pairs(edges: Sequence[float]) -> list[tuple[float, float]]:
    return list(itertools.pairwise(edges))


def _dots(values: Sequence[Any]) -> str:
    """Shows the points of a short line, since a single point would be invisible."""
    return "." if len(values) <= 12 else ""


def _short(name: str) -> str:
    name = spelled(name)
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _drawn(figure: Figure, name: str, title: str, text: str) -> Markup:
    """The figure as an `<svg>` element for a page; its ids begin with the chart's name."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # The browser has the letters that the font here lacks.
        warnings.filterwarnings("ignore", message=".*missing from font.*")
        FigureCanvasSVG(figure).print_svg(
            stream, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    root = ElementTree.fromstring(stream.getvalue())
    drawing = stream.getvalue().decode()
    for parent in root.iter():
        if f"#{parent.attrib.get('id')}" not in drawing:
            parent.attrib.pop("id", None)
        parent.tag = parent.tag.rpartition("}")[2]
        parent.attrib = {
            key.rpartition("}")[2]: _value(key.rpartition("}")[2], value, name) for key, value in parent.attrib.items()
        }
        for child in list(parent):
            # A style of matplotlib's is for every element of the document, and so for the whole page.
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "class": "chart",
        # matplotlib says nothing of a fill that is black.
        "fill": "currentColor",
        "role": "img",
        "aria-label": f"{title}. {text}",
    }
    return Markup(re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode")))


def _value(attribute: str, value: str, name: str) -> str:
    """Rewrites an attribute that matplotlib wrote for use in the page."""
    if attribute == "id":
        return f"{name}-{value}"
    if attribute == "href":
        return f"#{name}-{value[1:]}"
    value = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", value)
    if attribute == "style":
        value = re.sub(r"font-family: [^;]*", "font-family: system-ui, sans-serif", value)
        for colour, variable in _VARIABLES.items():
            value = value.replace(colour, variable)
    return value
