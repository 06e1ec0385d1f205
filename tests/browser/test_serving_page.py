"""The page of `warmstart serve` in Debian's chromium: photos by mouse, keyboard and clipboard, at two widths."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import serving

playwright = pytest.importorskip("playwright.sync_api", reason="make test-browser runs these")
Axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="make test-browser runs these").Axe

REPOSITORY = Path(__file__).parents[2]
PYTHON = REPOSITORY / ".venv" / "bin" / "python"
VERSION = "1790000001"
# Photos, drawn in the project's environment, since this one has no Pillow.
DRAW = """
import sys
import numpy as np
from PIL import Image
rng = np.random.default_rng(1)
for name, colour in {"red.png": (220, 90, 60), "blue.jpg": (60, 90, 220), "dark.png": (30, 20, 10)}.items():
    noise = rng.normal(0, 15, (60, 80, 3))
    Image.fromarray(np.clip(noise + colour, 0, 255).astype(np.uint8)).save(f"{sys.argv[1]}/{name}")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving("tests.browser.serving") as address:
        yield address


@pytest.fixture(scope="module")
def mask_server() -> Iterator[str]:
    with serving("tests.browser.serving", "masks") as address:
        yield address


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    subprocess.run([PYTHON, "-c", DRAW, str(folder)], check=True)
    (folder / "<img src=x>.jpg").write_text("no photo")
    (folder / "large.jpg").write_bytes(b"\xff\xd8\xff" + bytes(300_000))
    return folder


@pytest.fixture(params=[(390, "light"), (1440, "dark")], ids=["390 light", "1440 dark"])
def page(request, browser, server) -> Iterator[Any]:
    yield from opened_page(request.param, browser, server)


@pytest.fixture(params=[(390, "light"), (1440, "dark")], ids=["390 light", "1440 dark"])
def mask_page(request, browser, mask_server) -> Iterator[Any]:
    yield from opened_page(request.param, browser, mask_server)


def opened_page(view: tuple[int, str], browser: Any, server: str) -> Iterator[Any]:
    width, scheme = view
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    opened.on("request", lambda sent: asked.append(sent.url))
    opened.on("filechooser", lambda chooser: None)  # Chromium is told before a key can open one
    opened.goto(server)
    playwright.expect(opened.locator("#version")).to_have_text(VERSION)
    yield opened
    # A refused photo is an answer of status 400, which Chromium mentions.
    assert [text for text in said if "400 (Bad Request)" not in text] == []
    assert [url for url in asked if not url.startswith((f"{server}/", "blob:", "data:"))] == []
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()


def answers(page: Any, count: int) -> list[str]:
    """The texts of all answers, newest first, when there are so many and none is awaited."""
    playwright.expect(page.locator("#answers li div")).to_have_count(count, timeout=60_000)
    playwright.expect(page.locator("#status")).not_to_contain_text("to go", timeout=60_000)
    return [re.sub(r"\s+", " ", text) for text in page.locator("#answers li").all_inner_texts()]


def test_chosen_photos_are_answered_and_bad_files_named(page, photos):
    page.set_input_files("#files", sorted(photos.iterdir()))
    found = {name: text for text in answers(page, 5) for name in os.listdir(photos) if name in text}
    assert found["red.png"].startswith("<b>cat</b> ")
    assert found["blue.jpg"].startswith("dog ")
    assert f"answered by version {VERSION}" in found["blue.jpg"]
    assert "and 2 less likely" in found["blue.jpg"]
    assert "the model abstains" in found["dark.png"]
    assert "text file, not an image" in found["<img src=x>.jpg"]
    assert "at most 0.2 MB" in found["large.jpg"]
    playwright.expect(page.locator("#status")).to_have_text("3 answered, 2 failed")
    assert page.locator("#name").inner_text() == "pets & <i>more</i>"
    assert [v["id"] for v in Axe().run(page).response["violations"]] == []


@pytest.mark.parametrize("key", ["Space", "Enter"])
def test_the_keyboard_is_enough(page, photos, key):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press(key)
    chooser.value.set_files(photos / "red.png")
    assert answers(page, 1)[0].startswith("<b>cat</b> ")


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_photo_is_dropped_or_pasted(page, photos, way):
    content = list((photos / "blue.jpg").read_bytes())
    page.evaluate(
        """([way, content]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(content)], "moved.jpg", { type: "image/jpeg" }));
          const event = way === "drop"
            ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
          document.getElementById("drop").dispatchEvent(event);
        }""",
        [way, content],
    )
    [answer] = answers(page, 1)
    assert answer.startswith("dog ")
    assert "moved.jpg" in answer


def test_a_mask_lies_over_its_photo_and_its_classes_are_named(mask_page, photos):
    mask_page.set_input_files("#files", photos / "red.png")
    [answer] = answers(mask_page, 1)
    assert answer.startswith("red.png answered by version")
    for share in ("<b>cat</b> 33.8%", "background 33.8%", "owl 32.5%"):
        assert share in answer
    photo, mask = (mask_page.locator("#answers .stack img").nth(i).bounding_box() for i in range(2))
    assert (photo["x"], photo["y"]) == pytest.approx((mask["x"], mask["y"]), abs=1)
    assert (photo["width"], photo["height"]) == pytest.approx((mask["width"], mask["height"]), abs=1)
    colours = mask_page.eval_on_selector_all(".swatch", "all => all.map(one => getComputedStyle(one).backgroundColor)")
    assert sorted(colours) == sorted(["rgb(230, 159, 0)", "rgba(0, 0, 0, 0)", "rgb(0, 158, 115)"])
    assert [v["id"] for v in Axe().run(mask_page).response["violations"]] == []
