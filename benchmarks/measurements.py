"""Measures anew what README.md and docs/measurements.md show, and writes it there: `make measurements`.

Each part is a block between `<!-- begin NAME -->` and `<!-- end NAME -->` in one of the two pages. Without names, the
parts that README shows and the times of the steps are measured. The others take up to an hour each:

    python -m benchmarks.measurements side_by_side accuracy_table

Real photos are read from the folders `cats_vs_dogs` and `oxford_iiit_pet` in --photos. A part whose photos are missing
is skipped, and its block stays as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
PAGES = (REPOSITORY / "README.md", REPOSITORY / "docs" / "measurements.md")
DEFAULT = ("demo", "results", "step_times")
# Configuration -> its data sets.
CONFIGURATIONS = {
    "cats_vs_dogs": ("cats_vs_dogs",),
    "oxford_iiit_pet": ("oxford_iiit_pet",),
    "species": ("cats_vs_dogs", "oxford_iiit_pet"),
    "oxford_iiit_pet_masks": ("oxford_iiit_pet",),
}
# Benchmark -> its arguments; {NAME} is the folder of a data set.
BENCHMARKS = {
    "step_times": "",
    "accuracy_table": "--data cats_vs_dogs={cats_vs_dogs} --data oxford_iiit_pet={oxford_iiit_pet}",
    "fine_tuning_defaults": "--photos {petimages_180}/..",
    "side_by_side": "--data {cats_vs_dogs}",
    "masks_side_by_side": "--data {oxford_iiit_pet} --epochs 3",
    "peak_memory": "--data {cats_vs_dogs}",
    "evaluation_cost": "--data {cats_vs_dogs}",
    "selector_simulation": "",
    "report_cost": "--data {cats_vs_dogs} --photos 2000",
    "retrain_cost": "--data {cats_vs_dogs} --set image.size=224 --then training.warm_start.source=production "
    "--then training.warm_start.epochs=1",
    "nothing_to_do": "",
    "node_start": "--repeat 2",
    "engine_scale": "--data {cats_vs_dogs} --photos 200 1500",
}
_IN_MARKDOWN = ("accuracy_table", "fine_tuning_defaults")
_COLUMNS = 118
_EXIT_NOT_PUSHED = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ["demo", "results", *BENCHMARKS]
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(parts)}")
    parser.add_argument("--photos", type=Path, default=REPOSITORY.parent / "shared" / "data", metavar="DIR")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.parts) - set(parts)):
        parser.error(f"no such part: {', '.join(unknown)}")
    for part in arguments.parts or DEFAULT:
        start = time.perf_counter()
        text = measure(part, arguments.photos.resolve())
        if text is None:
            print(f"{part}: skipped, since its photos are not in {arguments.photos}", flush=True)
            continue
        write_part(part, text)
        print(f"{part}: written after {time.perf_counter() - start:.0f} s", flush=True)


def measure(part: str, photos: Path) -> str | None:
    """The Markdown of a part; None: its photos are not there."""
    if part == "demo":
        return demo()
    if part == "results":
        return results(photos)
    folders = {name: photos / name for name in re.findall(r"{(\w+)}", BENCHMARKS[part])}
    if not all(folder.is_dir() for folder in folders.values()):
        return None
    arguments = BENCHMARKS[part].format(**folders).split()
    output = re.sub(r"^(run|turn) \d+ of .*\n", "", _python(f"benchmarks.{part}", *arguments), flags=re.MULTILINE)
    return output.strip() if part in _IN_MARKDOWN else fenced(output)


def demo() -> str:
    """What `make demo` prints without the lines of the steps, and what the model says of two photos."""
    photos = [f"sample/cats_vs_dogs/{label}/{label}.1.jpg" for label in ("cat", "dog")]
    with tempfile.TemporaryDirectory() as folder:
        _warmstart("sample", "sample", folder=folder)
        run = ["run", "--config", "cats_vs_dogs", "--data", "sample/cats_vs_dogs", "--root", "runs/demo"]
        lines = _warmstart(*run, folder=folder).splitlines()
        answers = _warmstart("predict", *photos, folder=folder)
    steps = [number for number, line in enumerate(lines) if re.match(r"  \S.* \d+\.\d s", line)]
    lines[steps[0] : steps[-1] + 1] = ["  ..."]
    ask = f"$ .venv/bin/warmstart predict {' '.join(photos)}"
    return fenced("\n".join(["$ make demo", *lines, "", ask, answers]))


def results(photos: Path) -> str | None:
    """A table of what each configuration reaches as it is, and how long its run takes."""
    rows = []
    for config, datasets in CONFIGURATIONS.items():
        if not all((photos / name).is_dir() for name in datasets):
            print(f"results: {config} is left out, since its photos are not in {photos}", flush=True)
            continue
        data = [part for name in datasets for part in ("--data", f"{name}={photos / name}")]
        with tempfile.TemporaryDirectory() as root:
            start = time.perf_counter()
            summary = json.loads(_warmstart("run", "--config", config, *data, "--root", root, "--json"))
            rows.append(_row(config, summary, time.perf_counter() - start))
    if not rows:
        return None
    head = "| configuration | train / eval / test photos | feature extraction | fine-tuned | winner | seconds |"
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


def _row(config: str, summary: dict[str, Any], seconds: float) -> str:
    counts = " / ".join(str(summary["data"]["accepted"][split]) for split in ("train", "eval", "test"))
    scores = []
    for name in ("feature_extraction", "fine_tuned"):
        model = summary["models"][name]
        score = model.get("mean_iou") or model["accuracy"]
        value, low, high = (100 * score[key] for key in ("value", "low", "high"))
        scores.append(f"{value:.1f}% ({low:.1f} to {high:.1f})")
    winner = summary["winner"].replace("_", " ")
    return f"| `{config}` | {counts} | {' | '.join(scores)} | {winner} | {seconds:.0f} |"


def fenced(output: str) -> str:
    """Output as a block of code, its long lines broken."""
    lines = []
    for line in output.strip("\n").splitlines():
        lines += textwrap.wrap(line, _COLUMNS, subsequent_indent=" " * 9, break_on_hyphens=False) or [""]
    return "\n".join(["```", *(line.rstrip() for line in lines), "```"])


def write_part(part: str, text: str) -> None:
    """Puts the text of a part, with day and machine, between its markers.

    Raises:
      ValueError: no page has the markers, or more than one.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    day = datetime.now(timezone.utc).date()
    measured = f"Measured on {day} on {os.cpu_count()} cores with {memory:.0f} GB of memory."
    begin, end = f"<!-- begin {part} -->\n", f"<!-- end {part} -->"
    pages = {page: page.read_text(encoding="utf-8") for page in PAGES}
    found = [page for page, content in pages.items() if begin in content and end in content]
    if len(found) != 1:
        raise ValueError(f"{part} has its markers in {len(found)} pages; expected 1 of {', '.join(map(str, PAGES))}")
    before, _, rest = pages[found[0]].partition(begin)
    after = rest.partition(end)[2]
    found[0].write_text(f"{before}{begin}\n{text}\n\n{measured}\n\n{end}{after}", encoding="utf-8")


def _warmstart(*arguments: str, folder: str | Path = REPOSITORY) -> str:
    return _python("deploy.cli", *arguments, folder=folder)


def _python(module: str, *arguments: str, folder: str | Path = REPOSITORY) -> str:
    """What a module prints, in a process of its own that takes its code from this repository."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, _EXIT_NOT_PUSHED):
        sys.exit(f"{module} {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
