"""The page of a run: every status, names that mean harm, and nothing that needs a network."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from components.report import page as report_page
from components.report import summary as report_summary
from components.report.page import MAXIMUM_BYTES, PAGE_FILE
from schemas.json_records import from_json
from schemas.summary import Summary
from tests.mask_runs import TRIMAP, mask_run
from tests.report_runs import BREEDS, HOSTILE, PUSHED, STOPPED, SUMMARIES, drawn, model, whole_run

VOID = {"meta", "br", "hr", "img", "input", "link"}
# Attributes that make a browser fetch or run something.
ACTIVE = {"src", "action", "srcset", "data", "poster", "background", "formaction", "ping"}
SECTIONS = ["verdict", "answers", "comparison", "data", "training", "cost", "repeat", "steps", "next"]


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
        self.text = " ".join(" ".join(self.texts).split()).replace(" ,", ",").replace(" :", ":")
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
        if inside == "script":
            return
        {"style": self.styles, "title": self.titles}.get(inside, self.texts).append(data)
        if self.cells and {"td", "th", "li"} & set(self.open):
            self.cells[-1] += data


def write_page(summary: dict[str, Any], folder: Path, findings: dict[str, Any] | None = None) -> Path:
    return report_page.write_page(from_json(Summary, summary), folder, findings)


def write_summary(summary: dict[str, Any], folder: Path) -> Path:
    return report_summary.write_summary(from_json(Summary, summary), folder)


def main_metrics(summary: dict[str, Any]) -> dict[str, float]:
    return report_page.main_metrics(from_json(Summary, summary))


def page(summary: dict[str, Any], findings: Any = None, folder: Path | None = None) -> Page:
    if folder is None:
        findings, folder = None, findings
    written = write_page(summary, folder, findings)
    assert written == folder / PAGE_FILE
    return Page(written.read_text(encoding="utf-8"))


def stands_alone(found: Page) -> None:
    """Nothing is fetched, and nothing runs but the script whose hash the page names."""
    assert not {"iframe", "object", "embed", "form", "base", "foreignObject", "image"} & set(found.tags)
    assert found.tags.count("script") == 1
    script = found.source.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = [value for name, value in found.attributes if name == "content" and "default-src" in value]
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}';" in policy
    for name, value in found.attributes:
        assert not name.startswith("on"), f"{name}={value}"
        if name in ACTIVE:
            assert value.startswith("data:image/"), f"{name}={value}"
        if name == "href":
            assert value.startswith("#") or value == "data:,", value
        if name == "style":
            assert not re.search(r"url\((?!#)", value)
    style = "".join(found.styles)
    assert "url(" not in style
    assert "@import" not in style
    ids = [value for name, value in found.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    for name, value in found.attributes:
        if name == "href" and len(value) > 1 and value.startswith("#"):
            assert value[1:] in ids


@pytest.mark.parametrize("summary", SUMMARIES.values(), ids=SUMMARIES)
def test_every_end_of_a_run_has_a_page(summary, tmp_path):
    found = page(summary, tmp_path)
    assert found.source.startswith("<!doctype html>")
    stands_alone(found)
    assert not re.search("https?:|src=.?//", found.source)
    assert found.tags.count("h1") == found.tags.count("title") == 1
    assert found.text.startswith(summary["status"].replace("_", " "))
    assert summary["reason"] in found.text
    assert summary["run_id"] in found.title
    assert summary["run_id"] in found.text
    for node in summary["nodes"]:
        row = len(found.cells) - 1 - found.cells[::-1].index(node["id"])  # the table of the steps is the last one
        assert found.cells[row + 1 : row + 3] == [node["state"].replace("_", " "), f"{node['seconds']:.1f}"]
    assert [value for name, value in found.attributes if name == "id" and value in SECTIONS] == SECTIONS
    assert found.tags.count("h2") == len(SECTIONS)
    assert f"after: {summary['production']['after'] or 'none'}" in found.text
    assert ("Photos by class and split" in found.text) == (summary["data"] is not None)
    assert ("The run ended before the photos were read." in found.text) == (summary["data"] is None)
    assert ("Models side by side" in found.text) == (summary["models"] is not None)
    assert ("No model was measured." in found.text) == (summary["models"] is None)
    assert "No model was trained." in found.text
    assert not re.search(r"\bNone\b(?!: every)", found.text + found.title)
    assert list(tmp_path.iterdir()) == [tmp_path / PAGE_FILE]


def test_a_page_without_a_configuration_has_no_name_and_no_gap_for_it(tmp_path):
    assert page(STOPPED, tmp_path).title == f"stopped: {STOPPED['run_id']}"
    assert page(PUSHED, tmp_path).title == f"pushed: cats_vs_dogs, {PUSHED['run_id']}"


def test_the_numbers_are_those_of_the_summary(tmp_path):
    found = page(PUSHED, tmp_path)
    row = found.cells.index("feature extraction wins")
    assert found.cells[row + 1 : row + 5] == [
        "54",
        "90.7 % (80.7 to 100.0)",
        "0.157 (0.100 to 0.200)",
        "7.0 points (1.0 to 9.0)",
    ]
    assert "fine-tuned" in found.cells
    row = found.cells.index("dog")
    assert found.cells[row + 1 : row + 5] == ["200", "0", "24", "224"]
    for text in ("no proven gain", "at least release.minimum_accuracy", "a fresh process answered 16 photos"):
        assert text in found.text
    assert "before: none, after: 1795395593" in found.text


def test_what_to_try_next_is_on_the_page(tmp_path):
    summary = copy.deepcopy(PUSHED)
    assert "suggest nothing to try" in page(summary, tmp_path).text
    summary["next_steps"] = [{"action": f"warmstart run {HOSTILE[0]} --set a=1", "reason": "12.5% are <wrong>"}]
    found = page(summary, tmp_path)
    stands_alone(found)
    assert "suggest nothing to try" not in found.text
    assert found.text.rpartition("Next ")[2].startswith("warmstart run ")
    assert f"warmstart run {HOSTILE[0]} --set a=1" in found.text
    assert "12.5% are <wrong>" in found.text


def test_a_window_that_was_stopped_before_it_was_put_together_names_its_spans(tmp_path):
    summary = copy.deepcopy(PUSHED)
    summary["window"] = {"spans": ["1", "5"], "left_out": {"3": "it has no photos"}}
    found = page(summary, tmp_path)
    assert "Spans: 1, 5." in found.text
    assert "it has no photos" in found.text


def test_a_window_shows_all_its_classes_though_the_newest_span_has_one(tmp_path):
    summary = copy.deepcopy(PUSHED)
    summary["data"]["classes"] = {"train": {"cat": 3}}
    summary["window"] = {"spans": ["1"], "left_out": {}, "data": {"classes": {"train": {"cat": 3, "hamster": 4711}}}}
    found = page(summary, tmp_path)
    assert found.cells[found.cells.index("hamster") + 1] == "4711"


def test_a_first_span_has_a_verdict_of_drift_without_any_check(tmp_path):
    text = "there are no earlier photos to compare the 20 new ones with"
    summary = {**copy.deepcopy(PUSHED), "drift": {"text": text, "action": "go", "checks": {}}}
    assert text in page(summary, tmp_path).text


@pytest.fixture(scope="module")
def harmless(tmp_path_factory) -> Page:
    return page(PUSHED, tmp_path_factory.mktemp("harmless"))


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_that_mean_harm_are_text(name, harmless, tmp_path):
    summary = copy.deepcopy(PUSHED)
    summary["config"]["name"] = summary["run_id"] = summary["reason"] = name
    summary["data"]["classes"]["train"][name] = 7
    summary["data"]["rejected_files"].append({"detail": f"{name} is empty"})
    summary["models"][name] = model(0.5)
    summary["nodes"].append({"id": name, "state": name, "seconds": 0.0})
    summary["production"] |= {"before": name, "folder": name}
    for key in ("verdict", "release", "servable"):
        summary[key]["text"] = f"{key} {name}"
    found = page(summary, tmp_path)
    stands_alone(found)
    assert set(found.tags) == set(harmless.tags)
    # Names stand in these as text, and nowhere else in an element.
    told = {"aria-label", "alt", "title"}
    own = {name for name, _ in found.attributes}
    assert own == {name for name, _ in harmless.attributes}
    assert not any(name in (value or "") for key, value in found.attributes if key not in told)
    assert found.styles == harmless.styles
    shown = " ".join(name.split())
    for text in (f"verdict {shown}", f"release {shown}", f"servable {shown}", f"before: {shown}", f"in {shown}"):
        assert text in found.text
    assert shown in found.title
    assert f"{name} is empty" in found.cells

    def beside(text: str) -> list[str]:
        return [found.cells[place + 1] for place, cell in enumerate(found.cells) if cell == text]

    words = name.replace("_", " ")  # as models and states are shown
    # The step, the class, and the configuration, after which the table of the steps begins.
    assert {words, "7", "step"} <= {*beside(name)}
    assert {"0.0", "54"} <= {*beside(words)}  # the state, the model


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


@pytest.mark.slow
@pytest.mark.release
def test_names_that_mean_harm_are_text_in_everything_that_is_found(tmp_path):
    """Every label, photo and reason at once; the elements are those of a run with harmless names."""
    found = page(*whole_run(HOSTILE, HOSTILE[0]), tmp_path)
    stands_alone(found)
    harmless = page(*whole_run([f"class {i}" for i in range(len(HOSTILE))]), tmp_path)
    assert set(found.tags) == set(harmless.tags)
    assert {key for key, _ in found.attributes} == {key for key, _ in harmless.attributes}
    assert found.styles == harmless.styles
    for name in HOSTILE:
        assert found.text.count(" ".join(name.split())) >= 10, name


def test_names_that_are_no_text_may_stand_anywhere_in_the_findings(tmp_path):
    name = b"K\xf6nig \xff".decode("utf-8", "surrogateescape")
    found = page(*whole_run([name, "dog"], f"{name} {{}}.jpg"), tmp_path)
    assert found.text.count("K?nig ?") > 20


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


# ---- findings


def test_everything_that_was_found_is_on_the_page(tmp_path):
    summary, findings = whole_run(["cat", "dog"])
    found = page(summary, findings, tmp_path)
    stands_alone(found)
    for text in (
        "485 of 485 photos were compared; 7 pairs in different splits look alike, the closest 3 are shown",
        "perceptual hash, distance 2",
        "feature vector, distance 0.0132",
        "485 of 485 photos were checked; 4 may have the wrong label.",
        "(97.0 %; label: 1.0 %)",
        "the new photos are like the old ones",
        "3 photos are far from everything seen before; the farthest 1 are named",
        "distance 0.410; nearest to photo.jpg",
        "right: feature extraction says cat, 60.0 %",
        "wrong: fine-tuned says dog, 70.0 %",
        "30, best 28",
        "6, best 4",
        "from this run's feature-extraction model: 2 variables copied",
        "Most confident mistakes of production",
        "Confusion of ensemble, 2 classes",
        "Learning rate",
        "fine-tuning starts",
    ):
        assert text in found.text, text
    cells = found.cells
    row = cells.index("production", cells.index("ensemble"))
    assert cells[row + 1 : row + 3] == ["–", "90.0 % (80.0 to 95.0)"]
    row = cells.index("vectors")
    assert cells[row + 1 : row + 6] == ["note", "'dog' most of all", "0.3", "–", "0.2"]
    assert cells[cells.index("Evaluator") + 3] == "900"
    assert cells[cells.index("Pusher") + 3] == "–"
    assert cells[cells.index("training.fine_tuning.epochs") + 1] == "5"
    assert cells[cells.index("tfx") + 1] == "1.16.0"
    thumbnails = [value for name, value in found.attributes if name == "src"]
    assert set(thumbnails) >= {file["thumbnail"] for file in findings["data"]["rejected"] if file["thumbnail"]}
    assert set(thumbnails) <= {drawn(7 + i) for i in range(12)}


def matrix_start(found: Page) -> int:
    """Where the rows of the first confusion matrix begin: its last column is headed `right`."""
    places = [place for place, cell in enumerate(found.cells) if cell == "right"]
    return next(place for place in places if found.cells[place + 2].isdigit() or found.cells[place + 2] == "·")


def test_the_gaps_of_slices_are_sorted(tmp_path):
    summary, findings = whole_run(BREEDS)
    found = page(summary, findings, tmp_path)
    start = found.cells.index("from -50 to +50")
    gaps = [float(cell) for cell in found.cells[start : start + 5 * 40] if re.fullmatch(r"[+-]\d+\.\d", cell)]
    assert len(gaps) == 40
    assert gaps == sorted(gaps)


def test_the_confusion_of_37_breeds_has_every_cell(tmp_path):
    summary, findings = whole_run(BREEDS)
    found = page(summary, findings, tmp_path)
    row = found.cells.index(BREEDS[36], matrix_start(found) + 36)
    matrix = findings["comparison"]["confusion"]["feature_extraction"]
    assert found.cells[row + 1 : row + 38] == [str(n or "·") for n in matrix[36]]


def test_of_many_classes_those_are_compared_that_are_mistaken_most(tmp_path):
    labels = [f"class {i}" for i in range(100)]
    summary, findings = whole_run(labels)
    matrix = [[9 if i == j else 0 for j in range(100)] for i in range(100)]
    matrix[98][99] = 5
    findings["comparison"]["confusion"] = dict.fromkeys(findings["comparison"]["confusion"], matrix)
    found = page(summary, findings, tmp_path)
    assert "100 classes, showing the 60 with the most mistakes" in found.text
    row = found.cells.index("class 98", matrix_start(found) + 1)
    assert found.cells[row + 59 : row + 61] == ["9", "5"]


def test_without_findings_the_matrix_and_its_pairs_come_from_the_summary(tmp_path):
    summary, _ = whole_run(["cat", "dog"])
    summary["models"]["feature_extraction"]["confusion_matrix"] = [[20, 3], [0, 30]]
    found = page(summary, tmp_path)
    row = found.cells.index("cat", matrix_start(found))
    assert found.cells[row + 1 : row + 3] == ["20", "3"]
    row = found.cells.index("answer")
    assert found.cells[row + 2 : row + 5] == ["cat", "dog", "3"]


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("part", ["data", "training", "comparison", "cost"])
def test_each_part_of_the_findings_may_be_missing(part, tmp_path):
    summary, findings = whole_run(["cat", "dog"])
    stands_alone(page(summary, {**findings, part: None}, tmp_path))
    stands_alone(page(summary, {**findings, part: dict.fromkeys(findings[part])}, tmp_path))


def test_a_picture_that_would_be_fetched_is_none(tmp_path):
    summary, findings = whole_run(["cat", "dog"])
    for one in findings["comparison"]["disagreements"]["photos"]:
        one["photo"]["thumbnail"] = "https://example.org/photo.jpg"
    found = page(summary, findings, tmp_path)
    stands_alone(found)
    assert "example.org" not in found.source


def test_the_gallery_says_what_it_left_out_and_can_be_filtered(tmp_path):
    summary, findings = whole_run(["cat", "dog"])
    found = page(summary, findings, tmp_path)
    assert "14 of the 1,234 test photos with the answers of feature extraction, mistakes first." in found.text
    assert "4 of 9 wrong answers are shown, the surest first, and 4 of 5 unsure ones." in found.text
    for kind in ("all (14)", "wrong (4)", "unsure (4)"):
        assert kind in found.text
    classes = [value.split() for name, value in found.attributes if name == "class" and value and "c0" in value]
    assert [kinds.count("is-wrong") for kinds in classes][:4] == [1, 1, 1, 1]
    assert classes[3] == ["c0", "c1", "is-wrong", "is-unsure"]
    style = "".join(found.styles)
    assert style.count(".gallery:has(option[") == 2
    findings["gallery"] |= {"of": 14, "wrong": 4, "unsure": 4}
    all_shown = page(summary, findings, tmp_path).text
    assert "All 14 test photos with the answers of feature extraction, mistakes first. Show" in all_shown
    without = page(summary, {**findings, "gallery": None}, tmp_path)
    assert "Test photos Not looked for." in without.text


@pytest.fixture
def page_with_large_pictures(tmp_path):
    """A page some of whose photos have pictures of a part of all the bytes that a page may have."""

    def write(photos_of, part):
        summary, findings = whole_run(["cat", "dog"])
        large = "data:image/jpeg;base64," + "A" * (MAXIMUM_BYTES // part)
        for one in photos_of(findings):
            one["photo"]["thumbnail"] = large
        path = write_page(summary, tmp_path, findings)
        assert path.stat().st_size < MAXIMUM_BYTES
        return Page(path.read_text(encoding="utf-8"))

    return write


@pytest.mark.slow
@pytest.mark.release
def test_a_page_that_grew_too_large_loses_the_pictures_of_the_gallery_first(page_with_large_pictures):
    found = page_with_large_pictures(lambda findings: findings["gallery"]["photos"], 10)
    assert "The pictures of this part are left out because the page would have been too large." in found.text
    assert "The pictures are left out" not in found.text
    assert "img" in found.tags
    assert "wrong (4)" in found.text


@pytest.mark.slow
@pytest.mark.release
def test_a_page_that_grew_too_large_has_no_pictures(page_with_large_pictures):
    text = page_with_large_pictures(lambda findings: findings["comparison"]["disagreements"]["photos"], 8).text
    assert "no picture" in text
    assert "The pictures are left out because the page would have been too large." in text


def test_the_same_run_gives_the_same_page(tmp_path):
    first = write_page(*whole_run(BREEDS)[:1], tmp_path).read_bytes()
    assert write_page(*whole_run(BREEDS)[:1], tmp_path).read_bytes() == first


def test_the_summary_takes_names_that_are_no_text(tmp_path):
    name = b"K\xf6nig.jpg".decode("utf-8", "surrogateescape")
    written = write_summary({**PUSHED, "reason": f"{name} cannot be read"}, tmp_path)
    assert json.loads(written.read_text(encoding="utf-8"))["reason"] == "K?nig.jpg cannot be read"


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


# ---- masks


@pytest.mark.parametrize("labels", [TRIMAP, HOSTILE], ids=["trimap", "hostile"])
def test_the_page_of_a_run_of_masks_stands_alone(labels, tmp_path):
    found = page(*mask_run(labels, name=HOSTILE[0], breed=HOSTILE[1]), tmp_path)
    stands_alone(found)
    for label in labels:
        assert " ".join(label.split()) in found.text
    assert "IoU of each class" in found.text
    assert "What fine-tuning won most" in found.text
    assert "Suspected wrong masks" in found.text
    assert "6 of the 54 test photos with the answers of fine-tuned, from the lowest mean IoU" in found.text
    assert "the quarter with the lowest mean IoU (2)" in found.text
    assert "11 masks of the eval and test photos are far from what every model answers; the 2 farthest" in found.text
    for absent in ("Suspected wrong labels", "Photos on which the models disagree", "Worst mistakes"):
        assert absent not in found.text


def test_every_number_of_a_run_of_masks_says_how_it_is_counted(tmp_path):
    found = page(*mask_run(TRIMAP), tmp_path)
    assert "73.4 % mean IoU 63.4 % to 78.4 %, mean of 3 classes, on 54 test photos" in found.text
    assert "The mean is over 3 classes ( pet, background, border )" in found.text
    assert "Masks are compared at 160 x 160 pixels." in found.text
    assert "border counted as pet" in found.text
    assert "pixel accuracy" in found.text
    assert "Colours: pet orange, background not tinted, border bluish green" in found.text


def test_of_masks_the_page_says_which_classes_are_not_counted(tmp_path):
    summary, findings = mask_run(["pet", "background"])
    summary["data"]["ignored_classes"] = ["border", "<b>"]
    found = page(summary, findings, tmp_path)
    stands_alone(found)
    assert "mean of 2 classes, without border, <b>, on 54 test photos" in found.text
    assert "as are those of border, <b> ( task.ignore )" in found.text


def test_of_masks_a_page_is_written_without_findings_or_models_too(tmp_path):
    summary, findings = mask_run(TRIMAP)
    assert "IoU of each class" in page(summary, tmp_path).text
    unjudged = {**summary, "models": None, "winner": None, "verdict": None}
    found = page(unjudged, {**findings, "masks": None}, tmp_path)
    assert "Pixels by class and split" in found.text
    nothing = {**findings["masks"], "shown": {}, "production": None, "conventions": {}, "suspects": 0}
    assert "There are none." in page(summary, {**findings, "masks": nothing}, tmp_path).text
    unlabelled = mask_run(TRIMAP, breed="")
    unlabelled[0]["data"]["classes"] = {"train": {}, "eval": {}, "test": {}}
    found = page(*unlabelled, tmp_path)
    assert "Photos by class and split" not in found.text
