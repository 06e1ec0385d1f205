"""The charts and the picture of the graph: text as text, colours of the page, the same each time, at the limits too."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from components.report import charts
from components.report.graph_picture import graph_picture
from schemas.release import Interval
from schemas.run_end import Step
from tests.report_runs import HOSTILE, STEPS, UPSTREAM, history, history_of, measured, whole_run

BINS = {
    "edges": [i / 10 for i in range(11)],
    "confidence": [None] * 9 + [0.97],
    "accuracy": [None] * 9 + [1.0],
    "count": [0] * 9 + [4],
}


def drawn() -> dict[str, str]:
    phases = {"feature extraction": history(9, 1, 1e-3), "fine-tuning": history(3, 2, 1e-4)}
    return {
        "learning-curves": charts.learning_curves(phases),
        "reliability": charts.reliability(whole_run(["cat", "dog"])[1]["comparison"]["reliability"]),
        "models": charts.intervals({"accuracy (%)": {"fine_tuned": Interval(**measured(0.9))}}, "models", "Metrics"),
        "sizes": charts.sizes([10, 20, 40], [3, 9]),
        "over-time": charts.over_time(history_of(12, ["no reason"]).runs),
    }


def texts(chart: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(chart).iter("text") if element.text]


@pytest.fixture(scope="module")
def all_charts() -> dict[str, str]:
    return drawn()


@pytest.mark.slow
@pytest.mark.release
def test_the_same_numbers_give_the_same_chart(all_charts):
    assert drawn() == all_charts


def test_every_chart_has_a_name_and_its_axes_have_units(all_charts):
    labels = {
        "learning-curves": {"loss (nats)", "accuracy (%)", "rate", "epoch, over both phases", "fine-tuning starts"},
        "reliability": {"mean confidence (%)", "right answers (%); grey: share of photos", "fine-tuned"},
        "models": {"accuracy (%)", "fine-tuned"},
        "sizes": {"shorter side (pixels)", "photos", "Sizes of the accepted photos"},
        "over-time": {"accuracy (%)", "accuracy points", "run (day, UTC)", "not pushed"},
    }
    for name, chart in all_charts.items():
        assert labels[name] <= set(texts(chart)), name
        root = ElementTree.fromstring(chart)
        assert root.attrib["role"] == "img"
        assert len(root.attrib["aria-label"]) > 20


def test_charts_take_their_colours_from_the_page_and_touch_nothing_else_of_it(all_charts):
    ids = []
    for name, chart in all_charts.items():
        assert not re.search("#[0-9a-f]{6}", chart), "a colour that does not change with the page"
        assert not re.search("<style|<metadata|xmlns|https?:", chart)
        own = re.findall(r'\bid="([^"]*)"', chart)
        assert all(one.startswith(f"{name}-") for one in own)
        assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', chart)) <= set(own)
        ids += own
    assert len(set(ids)) == len(ids)


def test_the_colours_are_the_pages_and_the_page_has_them_for_light_and_dark(all_charts):
    used = set(re.findall(r"var\((--\w+)\)", "".join(all_charts.values())))
    assert len(used) == 4
    layout = (charts.__file__.rpartition("/")[0]) + "/layout.html.j2"
    with open(layout, encoding="utf-8") as file:
        defined = set(re.findall(r"(--\w+): light-dark\(", file.read()))
    assert used <= defined


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_any_name_is_text_in_a_chart(name):
    chart = charts.intervals({"accuracy (%)": {name: Interval(**measured(0.9))}}, "models", name)
    shown = name.replace("_", " ")
    assert (shown if len(shown) <= 28 else shown[:27] + "…") in texts(chart)
    assert name in ElementTree.fromstring(chart).attrib["aria-label"]


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("epochs", [1, 2, 13, 200])
def test_curves_of_any_length_are_drawn(epochs):
    chart = charts.learning_curves({"feature extraction": history(epochs, 1, 1e-3)})
    assert "starts" not in " ".join(texts(chart))
    assert f"{epochs} epochs" in chart


def test_numbers_that_are_missing_leave_gaps():
    told = history(4, 1, 1e-3)
    told["epochs"][2] = {"train_loss": None, "eval_loss": math.nan, "learning_rate": 0.0}
    told["smoothed"], told["before"] = [], None
    assert charts.learning_curves({"feature extraction": told})
    assert charts.reliability({"one": BINS})
    assert charts.reliability({"one": {**BINS, "confidence": [None] * 10, "accuracy": [None] * 10, "count": [0] * 10}})
    assert charts.intervals({"loss (nats)": {"one": Interval(value=0.3, low=None, high=None)}}, "models", "Loss")


@pytest.mark.parametrize("runs", [1, 2, 200])
def test_any_number_of_runs_is_drawn_over_time(runs):
    told = history_of(runs, ["no reason"]).runs
    chart = charts.over_time(told)
    assert f"{runs} runs" in chart
    assert len([text for text in texts(chart) if text.startswith("2026-11")]) <= 6


# ---- the graph


def states_of(picture: str) -> dict[str, tuple[str, str]]:
    """Step -> class of its box, words in it."""
    return {
        group.findall("text")[0].text: (group.attrib["class"], group.findall("text")[1].text)
        for group in ElementTree.fromstring(picture).iter("g")
    }


def edges_of(picture: str) -> int:
    return picture.count('class="edge"')


def test_each_step_says_its_state_in_words_and_shape():
    states = ("complete", "cached", "failed", "skipped", "running", "not_reached")
    nodes = [Step(id=step, state=states[i % 6], seconds=1.25 * (i % 2)) for i, step in enumerate(STEPS)]
    picture = graph_picture(nodes)
    found = states_of(picture)
    assert list(found) == STEPS
    assert found["CuratedSchema"] == ("step complete", "complete")
    assert found["ImageExampleGen"] == ("step cached", "cached · 1.2 s")
    assert found["Transform"] == ("step not_reached", "not reached · 1.2 s")
    marks = {re.search(f'class="step {state}".*?class="mark"[^>]* d="([^"]*)"', picture)[1] for state in states}
    assert len(marks) == len(states)
    for step in STEPS:
        assert step in ElementTree.fromstring(picture).attrib["aria-label"]


def test_steps_that_the_picture_does_not_know_come_last_and_none_covers_another():
    names = [*STEPS, "Window", "EarlierSpans", "DriftGate", "Ensemble", *HOSTILE]
    picture = graph_picture([Step(id=name, state="complete") for name in names])
    boxes = [(float(box.attrib["x"]), float(box.attrib["y"])) for box in ElementTree.fromstring(picture).iter("rect")]
    assert len(set(boxes)) == len(boxes) == len(names)
    lowest = max(y for _, y in boxes[: len(STEPS)])
    assert all(y > lowest for _, y in boxes[-len(HOSTILE) :])
    assert float(ElementTree.fromstring(picture).attrib["viewBox"].split()[3]) > max(y for _, y in boxes) + 40


def node(step: str, *upstream: str) -> Step:
    return Step(id=step, state="complete", upstream=list(upstream))


def cells_of(picture: str) -> dict[str, tuple[int, int]]:
    """Step -> row and column of its box."""
    boxes = {
        group.findall("text")[0].text: (float(group.find("rect").attrib["y"]), float(group.find("rect").attrib["x"]))
        for group in ElementTree.fromstring(picture).iter("g")
    }
    rows, columns = (sorted({box[axis] for box in boxes.values()}) for axis in (0, 1))
    return {step: (rows.index(y), columns.index(x)) for step, (y, x) in boxes.items()}


def test_the_arrows_are_those_that_do_not_follow_from_others():
    """The graph of a run has 49 dependencies; 16 tell all."""
    assert edges_of(graph_picture([node(step, *UPSTREAM[step]) for step in STEPS])) == 16
    assert edges_of(graph_picture([node("a"), node("b", "a"), node("c", "a", "b")])) == 2
    assert edges_of(graph_picture([node("a"), node("b", "a"), node("c", "a")])) == 2
    assert edges_of(graph_picture([node("a"), node("b", "of another run")])) == 0


def test_each_step_stands_below_what_it_waits_for():
    cells = cells_of(graph_picture([node(step, *UPSTREAM[step]) for step in STEPS]))
    assert all(cells[step][0] > cells[other][0] for step in STEPS for other in UPSTREAM[step])
    assert cells["ProductionPredictions"][0] == cells["ServableCheck"][0] < cells["ReleaseGate"][0]


def test_no_arrow_passes_through_a_step():
    """Of `early` the arrow goes down past two rows, and what stands there makes way."""
    nodes = [
        node("early"),
        node("a"),
        node("b", "a"),
        node("c", "b"),
        node("side", "b"),
        node("last", "early", "c", "side"),
    ]
    cells = cells_of(graph_picture(nodes))
    for start, end in (("early", "last"), ("c", "last"), ("side", "last")):
        between = range(cells[start][0] + 1, cells[end][0])
        assert not {(row, cells[start][1]) for row in between} & set(cells.values())


def test_what_waits_for_nothing_stands_just_above_what_it_is_for():
    cells = cells_of(graph_picture([node("a"), node("late"), node("b", "a"), node("c", "b"), node("d", "c", "late")]))
    assert cells["late"][0] == cells["c"][0] != cells["a"][0]


def test_a_run_without_steps_has_no_picture():
    assert graph_picture([]) is None
