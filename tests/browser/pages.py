"""The pages that the browser looks at, written in the project's environment: `python -m tests.browser.pages DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

from components.report.comparison_page import write_comparison
from components.report.page import write_history_page, write_page
from schemas.json_records import from_json
from schemas.summary import Summary
from tests.mask_runs import TRIMAP, mask_run
from tests.report_runs import BREEDS, HOSTILE, SUMMARIES, history_of, whole_run

NOT_TEXT = b"K\xf6nig \xff".decode("utf-8", "surrogateescape")


def write_pages(folder: Path) -> None:
    """Each page in a folder of its own name, those of several runs as `others/`."""
    runs = {
        "cats_and_dogs": whole_run(["cat", "dog"]),
        "breeds": whole_run(BREEDS),
        "hostile": whole_run([*HOSTILE, NOT_TEXT], HOSTILE[0]),
        "masks": mask_run(TRIMAP),
        "hostile_masks": mask_run(HOSTILE, HOSTILE[0], HOSTILE[1]),
        "not_text": whole_run([NOT_TEXT, "\u05db\u05dc\u05d1"], f"\u202e{NOT_TEXT}"),
        **{f"only_{name.replace(' ', '_')}": (summary, {}) for name, summary in SUMMARIES.items()},
    }
    for name, (summary, findings) in runs.items():
        (folder / name).mkdir()
        write_page(from_json(Summary, summary), folder / name, findings)
    others = folder / "others"
    others.mkdir()
    named = {"cats_and_dogs": runs["cats_and_dogs"][0], "hostile": runs["hostile"][0]}
    named["stopped"] = SUMMARIES["stopped without a plan"]
    first, second, stopped = (from_json(Summary, {**summary, "run_id": name}) for name, summary in named.items())
    write_comparison(first, second, others)
    write_comparison(first, stopped, others)
    write_history_page(history_of(12, HOSTILE), HOSTILE[0], others)


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
