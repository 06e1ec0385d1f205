"""All runs of a root folder over time, on one page that needs no network."""

from __future__ import annotations

from pathlib import Path

from components.report.history import History, measure_of
from components.report.page import rendered, text_only
from components.whole_file import write_whole

HISTORY_FILE = "history.html"


def write_history_page(history: History, name: str, folder: Path) -> Path:
    """Writes `history.html`, whole or not at all."""
    shown: History = text_only(history)
    drawn = [run for run in shown.runs if run.accuracy or run.difference is not None]
    page = rendered("history_page.html.j2", h=shown, name=text_only(name), drawn=drawn, measure=measure_of(shown.runs))
    path = folder / HISTORY_FILE
    write_whole(path, page)
    return path
