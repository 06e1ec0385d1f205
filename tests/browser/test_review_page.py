"""The review page in Debian's chromium: decisions by mouse and by keys, at two widths."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import serving

playwright = pytest.importorskip("playwright.sync_api", reason="make test-browser runs these")
Axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="make test-browser runs these").Axe


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """The folder of everything."""
    return tmp_path_factory.mktemp("review")


@pytest.fixture(scope="module")
def server(place) -> Iterator[str]:
    with serving("tests.browser.reviewing", str(place)) as address:
        yield address


@pytest.fixture(params=[(390, "light"), (1440, "dark")], ids=["390 light", "1440 dark"])
def page(request, browser, server, place) -> Iterator[Any]:
    """The page, with nothing decided yet."""
    width, scheme = request.param
    (place / "root" / "corrections.csv").unlink(missing_ok=True)
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    opened.on("request", lambda sent: asked.append(sent.url))
    opened.goto(server)
    playwright.expect(opened.locator("#items > li")).to_have_count(6)
    yield opened
    # A photo that is gone and a refusal have statuses that Chromium mentions.
    assert [text for text in said if "404 (Not Found)" not in text and "409 (Conflict)" not in text] == []
    assert [url for url in asked if not url.startswith((f"{server}/", "data:"))] == []
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()


def decided(folder: Path) -> list[str]:
    """The new label of each decision in the file, in order."""
    with (folder / "root" / "corrections.csv").open(newline="", encoding="utf-8") as file:
        return [row["new_label"] for row in csv.DictReader(file)]


def status(page: Any, words: str) -> None:
    playwright.expect(page.locator("#status")).to_contain_text(words)


def test_ten_decisions_by_keys(page, place):
    """Keep, change to the proposal, choose by number, drop, and take back, without a mouse."""
    first = page.locator("#items > li").first
    first.focus()  # in two classes: there is nothing to keep
    page.keyboard.press("k")
    page.keyboard.press("2")
    status(page, "1 of 6 photos decided")
    playwright.expect(page.locator("#items > li").nth(1)).to_be_focused()  # on it goes
    for key, count in (("c", 2), ("k", 3), ("d", 4)):
        page.keyboard.press(key)
        status(page, f"{count} of 6 photos decided")
    page.keyboard.press("ArrowUp")
    playwright.expect(page.locator("#items > li").nth(3)).to_be_focused()
    page.keyboard.press("u")
    status(page, "3 of 6 photos decided")
    page.keyboard.press("3")
    status(page, "4 of 6 photos decided")
    page.keyboard.press("d")
    page.keyboard.press("d")
    status(page, "6 of 6 photos decided, 0 to go")
    found = decided(place)
    assert sorted(found) == sorted(["dog", "dog", "<b>cat</b>", "hen", "", ""])
    page.reload()
    status(page, "6 of 6 photos decided")
    playwright.expect(page.locator("#items > li")).to_have_count(0)
    page.check("#decided")
    playwright.expect(page.locator("#items > li.is-decided")).to_have_count(6)
    assert [v["id"] for v in Axe().run(page).response["violations"]] == []


def test_decisions_by_mouse_and_what_is_shown(page, place):
    assert page.locator("#name").inner_text() == "Review: image_folder"
    playwright.expect(page.locator("#items .none")).to_have_text("no picture")
    page.locator("#items img").first.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#items img').naturalWidth > 0")
    assert "<img src=x onerror=alert(0)>" in page.locator("#items").inner_text()
    page.select_option("#kind", "far_photo")
    playwright.expect(page.locator("#items > li")).to_have_count(1)
    card = page.locator("#items > li")
    card.get_by_role("button", name="Change to hen").click()
    playwright.expect(card.locator(".said")).to_contain_text("changed to hen by ann")
    playwright.expect(card.get_by_role("button", name="Change to hen")).to_have_attribute("aria-pressed", "true")
    assert decided(place) == ["hen"]
    card.get_by_role("button", name="Undo").click()
    playwright.expect(card.locator(".said")).to_have_text("")
    assert decided(place) == []
    assert [v["id"] for v in Axe().run(page).response["violations"]] == []


def test_a_decision_that_is_refused_is_told(page, place):
    (place / "root" / "corrections.csv").write_text("nonsense\n")
    card = page.locator("#items > li").nth(1)
    card.get_by_role("button", name="Drop").click()
    playwright.expect(card.locator(".error")).to_contain_text("has no column content_hash")
    (place / "root" / "corrections.csv").unlink()


def test_collected_photos_become_a_span(page, place):
    """Two of the four photos at each width."""
    left = page.locator("#collected > li").count()
    playwright.expect(page.locator("#make")).to_be_disabled()
    page.locator("#collected > li").first.focus()
    page.keyboard.press("3")
    page.keyboard.press("d")
    playwright.expect(page.locator("#collected-status")).to_have_text(f"1 labelled, 1 left out, {left - 2} to go")
    page.locator("#make").click()
    status = page.locator("#collected-status")
    playwright.expect(status).to_have_text(re.compile(r"1 photo is now the span .*/span-\d+\.$"))
    span = Path(re.search(r"the span (.*)\.$", status.inner_text())[1])
    assert span.parent == place / "photos"
    assert len(list((span / "hen").iterdir())) == 1
    assert (span / "_SUCCESS").exists()
    playwright.expect(page.locator("#collected > li")).to_have_count(left - 2)
