"""Debian's chromium, one for all tests of a process, since Playwright cannot be started twice in one; and servers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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


@contextmanager
def serving(module: str, *arguments: str) -> Iterator[str]:
    """The address that a module in the project's environment prints, and serves until SIGTERM."""
    repository = Path(__file__).parents[2]
    command = [repository / ".venv" / "bin" / "python", "-m", module, *arguments]
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.terminate()
        assert process.wait(60) == 0
