"""Debian's chromium, one for all tests of a process: Playwright cannot be started twice in one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="make test-browser runs these")
    chromium = shutil.which("chromium") or "/usr/bin/chromium"
    with playwright.sync_playwright() as driver:
        # Chromium's sandbox refuses to work for root, as which CI runs; the pages are our own.
        started = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield started
        started.close()
