"""The page of a run: every status, names that mean harm, and nothing that needs a network."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from components.report.page import PAGE_FILE, main_metrics, write_page

VOID = {"meta", "br", "hr", "img", "input", "link"}
# Attributes that make a browser fetch or run something.
ACTIVE = {"src", "href", "action", "srcset", "data", "poster", "background", "style"}
STEPS = ["CuratedSchema", "ImageExampleGen", "Predictions", "ReleaseGate", "Pusher"]


def measured(value: float) -> dict[str, Any]:
    return {
        "split": "test",
        "examples": 54,
        "accuracy": {"value": value, "low": value - 0.1, "high": 1.0},
        "loss": {"value": 0.157, "low": 0.1, "high": 0.2},
        "calibration_error": {"value": 0.07, "low": 0.01, "high": 0.09},
    }


PUSHED: dict[str, Any] = {
    "schema_version": 1,
    "run_id": "9199c317-8c67-42d0-85a4-1d8109ebe5f8",
    "config": {"name": "cats_vs_dogs"},
    "status": "pushed",
    "reason": "feature extraction is in production as version 1795395593",
    "nodes": [{"id": step, "state": "complete", "seconds": 1.25} for step in STEPS],
    "window": None,
    "data": {
        "layouts": {"cats_vs_dogs": "class_folders"},
        "accepted": {"train": 381, "eval": 50, "test": 54},
        "classes": {"train": {"cat": 181, "dog": 200}, "eval": {"cat": 50}, "test": {"cat": 30, "dog": 24}},
        "formats": {"JPEG": 485},
        "rejected": {"empty": 1, "truncated": 2},
        "rejected_files": [
            {"dataset": "cats_vs_dogs", "file_name": name, "reason": "empty", "detail": f"{name} is empty (0 bytes)"}
            for name in ("cat/1.jpg", "dog/2.jpg", "dog/3.jpg")
        ],
    },
    "vectors": None,
    "models": {"feature_extraction": measured(0.907), "fine_tuned": measured(0.944)},
    "further": None,
    "winner": "feature_extraction",
    "verdict": {"text": "no proven gain", "difference": 0.02, "interval": [0.0, 0.06], "p_value": 1.0},
    "release": {"text": "at least release.minimum_accuracy (70.0%)", "released": True, "forced": ""},
    "servable": {"text": "a fresh process answered 16 photos", "servable": True},
    "production": {"before": None, "after": "1795395593", "folder": "/warmstart/runs/cats_vs_dogs/serving"},
    "duration_seconds": 83.2,
}
NOTHING = dict.fromkeys(["window", "data", "vectors", "models", "further", "winner", "verdict", "release", "servable"])
STOPPED = {
    **PUSHED,
    **NOTHING,
    "config": None,
    "status": "stopped",
    "reason": "no photos in /warmstart/photos; expected folders named as the classes",
    "nodes": [],
    "production": {"before": None, "after": None, "folder": "/warmstart/runs/cats_vs_dogs/serving"},
    "duration_seconds": 0.0,
}
SUMMARIES = {
    "pushed": PUSHED,
    "not pushed": {
        **PUSHED,
        "status": "not_pushed",
        "reason": "the winner loses 3.0 points against production",
        "release": {"text": "the winner loses 3.0 points against production", "released": False, "forced": ""},
        "nodes": [*PUSHED["nodes"][:-1], {"id": "Pusher", "state": "skipped", "seconds": 0.0}],
    },
    "stopped without a plan": STOPPED,
    "stopped at the gate": {
        **PUSHED,
        **NOTHING,
        "data": PUSHED["data"],
        "status": "stopped",
        "reason": "12 % of the files were rejected",
        "nodes": [*PUSHED["nodes"][:2], *({"id": s, "state": "not_reached", "seconds": 0.0} for s in STEPS[2:])],
    },
    "failed": {
        **PUSHED,
        **NOTHING,
        "status": "failed",
        "reason": "FineTuning was killed while it was at work",
        "nodes": [{"id": step, "state": "failed", "seconds": 0.0} for step in STEPS],
    },
    "failed after the models": {**PUSHED, "status": "failed", "winner": None, "verdict": None, "release": None},
    "skipped": {
        **PUSHED,
        "status": "skipped",
        "reason": "this very model is in production already",
        "nodes": [{"id": step, "state": "cached", "seconds": 0.0} for step in STEPS],
        "production": {**PUSHED["production"], "before": "1795395593"},
    },
}
assert {one["status"] for one in SUMMARIES.values()} == {"pushed", "not_pushed", "stopped", "failed", "skipped"}


class Page(HTMLParser):
    """A page taken apart. text: what a person sees, blanks and line breaks as one blank; title: of the window."""

    def __init__(self, source: str):
        super().__init__(convert_charrefs=True)
        self.source, self.open, self.tags = source, [], []
        self.attributes: list[tuple[str, str | None]] = []
        self.styles, self.titles, self.texts, self.cells = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == [], "elements that are not closed"
        self.text = " ".join(" ".join(self.texts).split())
        self.title = " ".join("".join(self.titles).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th", "li"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element, in line {self.getpos()[0]}"

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        {"style": self.styles, "title": self.titles}.get(inside, self.texts).append(data)
        if inside in ("td", "th", "li"):
            self.cells[-1] += data


def page(summary: dict[str, Any], folder: Path) -> Page:
    written = write_page(summary, folder)
    assert written == folder / PAGE_FILE
    return Page(written.read_text(encoding="utf-8"))


def only_text(found: Page) -> None:
    """Nothing is fetched, nothing runs."""
    assert not {"script", "link", "iframe", "img", "object", "embed", "form", "base", "svg"} & set(found.tags)
    for name, value in found.attributes:
        assert name not in ACTIVE, f"{name}={value}"
        assert not name.startswith("on"), f"{name}={value}"
    assert "http-equiv" not in dict(found.attributes)
    style = "".join(found.styles)
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("summary", SUMMARIES.values(), ids=SUMMARIES)
def test_every_end_of_a_run_has_a_page(summary, tmp_path):
    found = page(summary, tmp_path)
    assert found.source.startswith("<!doctype html>")
    only_text(found)
    assert not re.search("https?:|//", found.source)
    assert found.tags.count("h1") == found.tags.count("title") == 1
    assert found.text.startswith(summary["status"].replace("_", " "))
    assert summary["reason"] in found.text
    assert summary["run_id"] in found.title
    assert summary["run_id"] in found.text
    for node in summary["nodes"]:
        row = found.cells.index(node["id"])
        assert found.cells[row + 1 : row + 3] == [node["state"].replace("_", " "), f"{node['seconds']:.1f}"]
    assert f"after: {summary['production']['after'] or 'none'}" in found.text
    assert ("Photos" in found.text) == (summary["data"] is not None)
    assert ("Models" in found.text) == (summary["models"] is not None)
    assert "None" not in found.text + found.title
    assert list(tmp_path.iterdir()) == [tmp_path / PAGE_FILE]


def test_a_page_without_a_configuration_has_no_name_and_no_gap_for_it(tmp_path):
    assert page(STOPPED, tmp_path).title == f"stopped: {STOPPED['run_id']}"
    assert page(PUSHED, tmp_path).title == f"pushed: cats_vs_dogs, {PUSHED['run_id']}"


def test_the_numbers_are_those_of_the_summary(tmp_path):
    found = page(PUSHED, tmp_path)
    row = found.cells.index("feature extraction")
    assert found.cells[row + 1 : row + 6] == [
        "54",
        "90.7 % (80.7 % to 100.0 %)",
        "0.157 (0.100 to 0.200)",
        "0.070 (0.010 to 0.090)",
        "wins",
    ]
    assert found.cells[found.cells.index("fine tuned") + 5] == ""
    row = found.cells.index("dog")
    assert found.cells[row + 1 : row + 4] == ["200", "0", "24"]
    for text in ("no proven gain", "at least release.minimum_accuracy", "a fresh process answered 16 photos"):
        assert text in found.text
    assert "before: none, after: 1795395593" in found.text


HOSTILE = [
    "</td></tr></table><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"quoted" onmouseover="alert(1)" and \'single\'',
    "</title><style>body { display: none }</style>",
    "&lt;b&gt; &amp; & &#60;",
    "{{ 7 * 7 }} {% raw %} {# no #}",
    "<!-- never closed",
    "]]> ?> <?php",
    "https://example.org/photo.jpg",
    "\u202egnp.exe\u202c \u200f\u05e9\u05dc\u05d5\u05dd",
    "k\u00e4tzchen \U0001f431 \u732b",
    "x" * 200,
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_that_mean_harm_are_text(name, tmp_path):
    summary = copy.deepcopy(PUSHED)
    summary["config"]["name"] = summary["run_id"] = summary["reason"] = name
    summary["data"]["classes"]["train"][name] = 7
    summary["data"]["rejected_files"].append({"detail": f"{name} is empty"})
    summary["models"][name] = measured(0.5)
    summary["nodes"].append({"id": name, "state": name, "seconds": 0.0})
    summary["production"] |= {"before": name, "folder": name}
    for key in ("verdict", "release", "servable"):
        summary[key]["text"] = f"{key} {name}"
    found = page(summary, tmp_path)
    only_text(found)
    harmless = page(PUSHED, tmp_path)
    assert set(found.tags) == set(harmless.tags)
    assert set(found.attributes) == set(harmless.attributes)
    assert found.styles == harmless.styles
    shown = " ".join(name.split())
    for text in (f"verdict {shown}", f"release {shown}", f"servable {shown}", f"before: {shown}", f"in {shown}"):
        assert text in found.text
    assert shown in found.title
    assert f"{name} is empty" in found.cells
    beside = [found.cells[place + 1] for place, cell in enumerate(found.cells) if cell == name]
    assert beside == ["54", "7", name, "0.0"]  # the model, the class, the step, its state


def test_names_of_files_that_are_no_text_do_not_stop_the_page(tmp_path):
    name = b"K\xf6nig \xff.jpg".decode("utf-8", "surrogateescape")
    summary = copy.deepcopy(PUSHED)
    summary["reason"] = f"{name} cannot be read"
    summary["data"]["rejected_files"] = [{"detail": f"{name} is empty"}]
    summary["data"]["classes"]["test"][name] = 3
    found = page(summary, tmp_path)
    assert "K?nig ?.jpg cannot be read" in found.text
    assert "K?nig ?.jpg is empty" in found.cells
    assert "K?nig ?.jpg" in found.cells


def test_long_names_are_broken_and_do_not_widen_the_page(tmp_path):
    summary = copy.deepcopy(PUSHED)
    summary["data"]["rejected_files"] = [{"detail": "x" * 200}]
    found = page(summary, tmp_path)
    [rule] = re.findall(r"([^{}]*)\{[^{}]*overflow-wrap: anywhere", "".join(found.styles))
    assert {selector.strip() for selector in rule.split(",")} == {".text", "p"}
    assert re.search('<li class="text">x{200}</li>', found.source)


@pytest.mark.parametrize(("files", "shown"), [(0, 0), (50, 50), (51, 50), (7000, 50)])
def test_of_many_rejected_files_the_first_are_shown(files, shown, tmp_path):
    summary = copy.deepcopy(PUSHED)
    summary["data"]["rejected_files"] = [{"detail": f"photo {number} is empty"} for number in range(files)]
    found = page(summary, tmp_path)
    assert len([cell for cell in found.cells if cell.endswith("is empty")]) == shown
    assert (f"{files} files were rejected" in found.text) == (files > 0)
    assert ("the first 50" in found.text) == (files > 50)


def test_a_page_that_cannot_be_finished_leaves_the_old_one(tmp_path):
    write_page(PUSHED, tmp_path)
    before = (tmp_path / PAGE_FILE).read_bytes()
    broken = {key: value for key, value in PUSHED.items() if key != "production"}
    with pytest.raises(Exception, match="production"):
        write_page(broken, tmp_path)
    assert (tmp_path / PAGE_FILE).read_bytes() == before
    write_page(STOPPED, tmp_path)
    assert (tmp_path / PAGE_FILE).read_bytes() != before


# ---- metrics


def test_the_main_metrics_are_numbers_under_names_of_their_own():
    assert main_metrics(PUSHED) == {
        "pushed": 1.0,
        "feature_extraction_accuracy": 0.907,
        "feature_extraction_loss": 0.157,
        "feature_extraction_calibration_error": 0.07,
        "fine_tuned_accuracy": 0.944,
        "fine_tuned_loss": 0.157,
        "fine_tuned_calibration_error": 0.07,
        "fine_tuned_gain": 0.02,
        "photos_accepted": 485.0,
        "photos_rejected": 3.0,
    }


@pytest.mark.parametrize("summary", SUMMARIES.values(), ids=SUMMARIES)
def test_every_end_of_a_run_has_metrics_that_are_json(summary):
    metrics = main_metrics(summary)
    assert metrics["pushed"] == (summary["status"] == "pushed")
    assert all(type(value) is float for value in metrics.values())
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert ("photos_accepted" in metrics) == (summary["data"] is not None)
    assert ("fine_tuned_gain" in metrics) == (summary["verdict"] is not None)
    assert ("fine_tuned_accuracy" in metrics) == (summary["models"] is not None)
