"""The pages in Debian's chromium: nothing is fetched, nothing is broken, and everybody can read them.

`make test-browser` runs this in an environment of its own, which has Playwright and axe; the pages come from .venv.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="make test-browser runs these")
Axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="make test-browser runs these").Axe

REPOSITORY = Path(__file__).parents[2]
PYTHON = REPOSITORY / ".venv" / "bin" / "python"
WIDTHS = (390, 1440)  # pixels
FEW_VIEWS = ((390, "light"), (1440, "dark"))
SECTIONS = ["verdict", "answers", "comparison", "data", "training", "cost", "repeat", "steps", "next"]
FIXTURES = [
    "cats_and_dogs",
    "breeds",
    "hostile",
    "masks",
    "hostile_masks",
    "not_text",
    "only_pushed",
    "only_not_pushed",
    "only_stopped_without_a_plan",
    "only_stopped_at_the_gate",
    "only_failed",
    "only_failed_after_the_models",
    "only_skipped",
]
# The names of the tables that are wider than the page; a matrix of many classes has to be.
CUT = """[...document.querySelectorAll(".scroll")]
  .filter(part => !part.querySelector(".matrix") && part.scrollWidth > part.clientWidth).map(part => part.ariaLabel)"""
# Everything that a key can reach must be reached by Tab.
# Of radio buttons the one that is chosen; the arrow keys reach the others.
REACHABLE = ".scroll, summary, input:not([type=radio]), input:checked, select, nav a"


class Opened(NamedTuple):
    """A page as it was opened, and what it said and asked for meanwhile."""

    page: Any
    said: list[str]
    asked: list[str]


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    subprocess.run([PYTHON, "-m", "tests.browser.pages", str(folder)], cwd=REPOSITORY, check=True)
    return folder


def opened(browser: Any, file: Path, width: int = 1440, scheme: str = "light") -> Opened:
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
    found = Opened(page, [], [])
    page.on("console", lambda message: found.said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: found.said.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (found.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: found.asked.append(request.url))
    page.goto(file.as_uri())
    return found


def check(browser: Any, file: Path, sections: list[str], every_view: bool = False) -> None:
    """Everything that must hold of a page, at every width, in light and in dark.

    The checks come before axe, which puts its own script into the page, and takes nearly all of the time: unless
    `every_view` is asked for, it looks at the narrow page in light and at the wide one in dark only.
    """
    assert file.stat().st_size < 5_000_000
    for width, scheme in [(width, scheme) for width in WIDTHS for scheme in ("light", "dark")]:
        found = opened(browser, file, width, scheme)
        page = found.page
        for details in page.query_selector_all("details"):
            details.evaluate("element => { element.open = true }")
        page.wait_for_load_state("networkidle")
        assert [url for url in found.asked if not url.startswith("data:")] == [file.as_uri()]
        assert found.said == []
        widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert widths == [width, width], f"{file} overflows at {width} pixels"
        broken = "image => !image.complete || !image.naturalWidth"
        assert page.evaluate(f"[...document.images].filter({broken}).length") == 0
        assert page.evaluate("[...document.images].filter(image => !image.alt).length") == 0
        assert page.evaluate(CUT) == [], f"tables of {file} are cut at {width} pixels"
        assert page.evaluate("[...document.querySelectorAll('main > section')].map(part => part.id)") == sections
        empty = "part => part.innerText.trim().split('\\n').length < 2"
        assert page.evaluate(f"[...document.querySelectorAll('main > section')].filter({empty}).length") == 0
        if every_view or (width, scheme) in FEW_VIEWS:
            seen = Axe().run(page).response["violations"]
            told = [(each["id"], each["nodes"][0]["html"][:200], each["nodes"][0]["failureSummary"]) for each in seen]
            assert told == [], f"{file} at {width} pixels, {scheme}"
        page.context.close()


@pytest.mark.parametrize("name", FIXTURES)
def test_a_page_is_whole_at_every_width_in_light_and_dark(browser, written, name):
    check(browser, written / name / "index.html", SECTIONS)


@pytest.mark.release
@pytest.mark.parametrize("name", [name for name in FIXTURES if not name.startswith("only_")])
def test_a_page_is_accessible_in_every_view(browser, written, name):
    check(browser, written / name / "index.html", SECTIONS, every_view=True)


@pytest.mark.parametrize(
    ("name", "sections"),
    [
        ("compare-cats_and_dogs-hostile", ["verdict", "comparison", "data", "repeat", "cost"]),
        ("compare-cats_and_dogs-stopped", ["verdict", "comparison", "data", "repeat", "cost"]),
        ("history", ["time", "runs", "versions"]),
    ],
)
def test_a_page_of_several_runs_is_whole_too(browser, written, name, sections):
    check(browser, written / "others" / f"{name}.html", sections)


def test_every_page_that_is_written_is_looked_at(written):
    assert sorted(folder.name for folder in written.iterdir()) == sorted([*FIXTURES, "others"])


@pytest.mark.parametrize("width", WIDTHS)
def test_the_tab_key_reaches_everything(browser, written, width):
    page = opened(browser, written / "breeds" / "index.html", width).page
    page.evaluate("document.querySelectorAll('details').forEach(element => { element.open = true })")
    expected = page.evaluate(
        f"[...document.querySelectorAll({REACHABLE!r})].map((element, i) => {{ element.dataset.place = i; return i }})"
    )
    assert len(expected) > 50
    reached = []
    for _ in range(len(expected) + 20):
        page.keyboard.press("Tab")
        place = page.evaluate("document.activeElement.dataset.place")
        if place is not None:
            reached.append(int(place))
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", "what has the focus cannot be seen"
        if len(set(reached)) == len(expected):
            break
    assert reached[: len(expected)] == expected, "not everything is reached, or not in the order of the page"
    page.context.close()


def test_the_confusion_matrix_is_zoomed_by_the_keyboard(browser, written):
    page = opened(browser, written / "breeds" / "index.html").page
    control = page.locator("#confusion-1-zoom")
    width = "document.getElementById('confusion-1').offsetWidth"
    control.focus()
    before = page.evaluate(width)
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    larger = page.evaluate(width)
    page.keyboard.press("Home")
    assert page.evaluate(width) < before < larger
    assert page.evaluate("document.documentElement.scrollWidth") == 1440
    page.context.close()


def test_a_wide_table_scrolls_by_the_arrow_keys(browser, written):
    page = opened(browser, written / "breeds" / "index.html", 390).page
    table = page.locator(".scroll:has(#confusion-1)")
    table.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.scroll:has(#confusion-1)').scrollLeft > 0")
    page.context.close()


def test_the_gallery_is_filtered_by_the_keyboard_and_without_scripts(browser, written):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((written / "cats_and_dogs" / "index.html").as_uri())
    photos, shown = page.locator(".gallery > ul > li"), page.locator(".gallery > ul > li:visible")
    assert shown.count() == photos.count() == 14
    page.locator(".gallery input:checked").focus()
    page.keyboard.press("ArrowRight")
    assert shown.count() == 4
    assert all("wrong: " in text for text in shown.all_inner_texts())
    page.keyboard.press("ArrowRight")
    assert shown.count() == 4
    assert all("unsure: " in text for text in shown.all_inner_texts())
    page.keyboard.press("ArrowRight")  # round to the first
    page.keyboard.press("Tab")
    page.keyboard.type("dog")
    texts = shown.all_inner_texts()
    assert 0 < len(texts) < 14
    assert all("labelled dog" in text or ": dog, " in text for text in texts)
    context.close()


def test_hostile_names_are_text_on_the_screen(browser, written):
    found = opened(browser, written / "hostile" / "index.html")
    text = found.page.inner_text("#data")
    for name in (
        "</td></tr></table><script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "&lt;b&gt; &amp; & &#60;",
        "\u202egnp.exe\u202c \u200f\u05e9\u05dc\u05d5\u05dd",
        "x" * 200,
        "K?nig ?",
    ):
        assert name in text
    assert found.page.evaluate("document.scripts.length") == 1
    assert found.said == []
    found.page.context.close()


def test_a_name_that_turns_the_writing_does_not_turn_its_neighbours(browser, written):
    """The number after a name with a right-to-left override is right of the class's cell, and reads as it is."""
    page = opened(browser, written / "hostile" / "index.html").page
    cells = page.locator("#data tr:has(bdi:text('\u202eturned'))").first.locator("th, td")
    lefts = [box["x"] for box in (cell.bounding_box() for cell in cells.all())]
    assert lefts == sorted(lefts)
    assert cells.nth(1).inner_text().isdigit()
    page.context.close()


def test_a_script_of_somebody_else_would_not_run(browser, written, tmp_path):
    """The policy holds: what a mistake in the page would let in is refused by the browser."""
    source = (written / "cats_and_dogs" / "index.html").read_text(encoding="utf-8")
    file = tmp_path / "index.html"
    foreign = '<script>document.title = "taken"</script><img src="http://127.0.0.1:9/x.png" alt="x"></body>'
    file.write_text(source.replace("</body>", foreign), encoding="utf-8")
    found = opened(browser, file)
    assert found.page.title() != "taken"
    assert len([said for said in found.said if "Content Security Policy" in said]) == 2
    found.page.context.close()


def test_printed_it_is_black_on_white_and_nothing_is_cut_off(browser, written):
    found = opened(browser, written / "breeds" / "index.html", scheme="dark")
    found.page.emulate_media(media="print")
    colour = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colour == "rgb(255, 255, 255)"
    cut = "element => getComputedStyle(element).overflow !== 'visible'"
    assert found.page.evaluate(f"[...document.querySelectorAll('.scroll')].filter({cut}).length") == 0
    assert not found.page.locator("nav").first.is_visible()
    assert len(found.page.pdf(format="A4")) > 20_000
    found.page.context.close()


def test_it_can_be_read_without_scripts(browser, written):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((written / "breeds" / "index.html").as_uri())
    assert page.locator("#confusion-1").is_visible()
    context.close()


# ---- pages of whole runs


def warmstart(*arguments: object) -> tuple[int, str]:
    """Exit code, and everything a person sees."""
    done = subprocess.run(
        [PYTHON, "-m", "deploy.cli", *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="session")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "photos"
    code, output = warmstart("sample", folder, "--photos", 200)
    assert code == 0, output
    return folder


@pytest.fixture(scope="session")
def run_of(sample, tmp_path_factory):
    """A function that runs a configuration on a folder of photos; gives the exit code, the summary and the page."""

    def run(data: Path, config: str = "cats_vs_dogs") -> tuple[int, dict[str, Any], Path]:
        root = tmp_path_factory.mktemp("run") / "root"
        quick = ["--set=training.feature_extraction.epochs=20", "--set=training.fine_tuning.epochs=1"]
        code, output = warmstart("run", "--config", config, "--data", data, "--root", root, *quick)
        said, page = warmstart("report", "--root", root, "--no-open")
        assert said == 0, output + page
        file = REPOSITORY / page.strip()
        return code, json.loads((file.parent / "summary.json").read_text(encoding="utf-8")), file

    return run


@pytest.mark.slow
@pytest.mark.release
def test_the_page_of_a_run_that_pushed(browser, run_of, sample):
    code, summary, file = run_of(sample / "cats_vs_dogs")
    assert (code, summary["status"]) == (0, "pushed")
    check(browser, file, SECTIONS, every_view=True)
    page = opened(browser, file).page
    assert page.locator(".status").inner_text() == "pushed"
    assert page.locator("#training svg.chart").is_visible()
    assert page.locator("#confusion-1").is_visible()
    assert page.locator("#steps .step.complete").count() == len(summary["nodes"])
    page.context.close()


@pytest.mark.slow
@pytest.mark.release
def test_the_page_of_a_run_with_37_breeds(browser, run_of, sample):
    """Six of them are drawn; the model and its confusion matrix know all."""
    _, summary, file = run_of(sample / "oxford_iiit_pet", "oxford_iiit_pet")
    assert summary["models"]
    check(browser, file, SECTIONS, every_view=True)
    page = opened(browser, file).page
    assert page.locator("#confusion-1 tbody tr").count() == 37
    page.context.close()


@pytest.mark.slow
@pytest.mark.release
def test_the_page_of_a_run_that_was_refused(browser, run_of, sample, tmp_path):
    photos = sorted((sample / "cats_vs_dogs").glob("*/*.jpg"))
    random.Random(0).shuffle(photos)
    for i, photo in enumerate(photos):
        target = tmp_path / ("cat", "dog")[i % 2] / f"{i}.jpg"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(photo, target)
    code, summary, file = run_of(tmp_path)
    assert (code, summary["status"]) == (3, "not_pushed")
    check(browser, file, SECTIONS, every_view=True)
    page = opened(browser, file).page
    assert page.locator(".status").inner_text() == "not pushed"
    assert "release.minimum_accuracy" in page.inner_text(".reason")
    assert page.locator("#steps .step.skipped").count() >= 1
    page.context.close()


@pytest.mark.slow
@pytest.mark.release
def test_the_page_of_a_run_that_the_gate_stopped(browser, run_of, sample, tmp_path):
    photos = sorted((sample / "cats_vs_dogs" / "cat").glob("*.jpg"))[:20]
    for folder in ("cat", "dog"):
        (tmp_path / folder).mkdir()
    for photo in photos:
        shutil.copy(photo, tmp_path / "cat")
    for i in range(8):
        (tmp_path / "dog" / f"dog <b>{i}.jpg").write_bytes(b"no photo")
    code, summary, file = run_of(tmp_path)
    assert (code, summary["status"]) == (2, "stopped")
    check(browser, file, SECTIONS, every_view=True)
    page = opened(browser, file).page
    assert page.locator(".status").inner_text() == "stopped"
    assert "dog <b>3.jpg" in page.inner_text("#data")
    assert "No model was measured." in page.inner_text("#comparison")
    page.context.close()
