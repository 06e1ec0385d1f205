"""Writes the pages that the browser looks at: `python -m tests.browser.pages DIR`, in the environment of the project."""

from __future__ import annotations

import sys
from pathlib import Path

from components.report.page import write_page
from tests.report_runs import BREEDS, HOSTILE, SUMMARIES, whole_run

NOT_TEXT = b"K\xf6nig \xff".decode("utf-8", "surrogateescape")


def write_pages(folder: Path) -> None:
    """Each page in a folder of its own name."""
    runs = {
        "cats_and_dogs": whole_run(["cat", "dog"]),
        "breeds": whole_run(BREEDS),
        "hostile": whole_run([*HOSTILE, NOT_TEXT], HOSTILE[0]),
        "not_text": whole_run([NOT_TEXT, "\u05db\u05dc\u05d1"], f"\u202e{NOT_TEXT}"),
        **{f"only_{name.replace(' ', '_')}": (summary, {}) for name, summary in SUMMARIES.items()},
    }
    for name, (summary, findings) in runs.items():
        (folder / name).mkdir()
        write_page(summary, folder / name, findings)


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
