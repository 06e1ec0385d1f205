"""What a new span costs: `python -m benchmarks.retrain_cost --data DIR --photos 2000`.

Five spans are made of the photos below DIR (`benchmarks.more_photos`), one folder a class. A root learns from the first
four, from nothing, and then retrains on the window of the last four, of which one span is new. Printed are the photos
that each of the two runs ingested and passed through the backbone, as their own records count them, the seconds of each
step, and those of the processor.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.more_photos import make_photos

SPANS, WINDOW = 5, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="One folder of photos a class.")
    parser.add_argument("--photos", type=int, default=2000, help="Of a span.")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--then",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="As --set, where one span is new only, such as training.warm_start.source=production.",
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spans = make_spans(given.data, Path(folder), given.photos)
        made, root = {}, Path(folder, "root")
        before = counted(root)
        for name in ("from nothing", "one new span"):
            settings = given.settings if name == "from nothing" else [*given.settings, *given.then]
            made[name] = retrain(root, spans[0].parent, settings)
            after = counted(root)
            made[name]["counted"] = {key: after[key] - before[key] for key in after}
            before = after
            spans[-1].joinpath("_SUCCESS").touch()
        print_table(made)


def make_spans(source: Path, folder: Path, photos: int) -> list[Path]:
    """Spans of so many photos each, whose photos are all different; all but the last are complete."""
    make_photos(source, folder / "all", SPANS * photos, seed=42)
    spans = [folder / "photos" / f"span-{number}" for number in range(1, SPANS + 1)]
    for label in sorted((folder / "all").iterdir()):
        for i, photo in enumerate(sorted(label.iterdir())):
            target = spans[i % SPANS] / label.name / photo.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(photo, target)
    for span in spans[:-1]:
        (span / "_SUCCESS").touch()
    return spans


def retrain(root: Path, photos: Path, settings: list[str]) -> dict[str, Any]:
    """Seconds of a call of `warmstart retrain`, in total and by step."""
    began, processor = time.perf_counter(), _processor_seconds()
    done = subprocess.run(
        [
            sys.executable, "-m", "deploy.cli", "retrain", "--config=cats_vs_dogs", f"--data={photos}/span-{{SPAN}}",
            f"--root={root}", f"--set=data.window={WINDOW}", *(f"--set={setting}" for setting in settings),
        ],
        capture_output=True,
        text=True,
    )  # fmt: skip
    total = time.perf_counter() - began
    if done.returncode not in (0, 3):
        sys.exit(done.stdout + done.stderr)
    summary = json.loads(max((root / "reports").glob("*/summary.json")).read_text())
    steps = {node["id"]: node["seconds"] for node in summary["nodes"]}
    rest = total - sum(steps.values())
    return {
        "steps": {**steps, "earlier spans, imports and graph": rest},
        "totals": {"total": total, "total of processor": _processor_seconds() - processor},
        "window": summary["window"],
    }


def _processor_seconds() -> float:
    """Of all processes that this one started, and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def counted(root: Path) -> dict[str, int]:
    """Photos read by ImageExampleGen, and passed through the backbone by FeatureVectorGen, ever."""
    artifacts = root / "artifacts"
    reports = artifacts.glob("ImageExampleGen/ingest_report/*/keys.jsonl")
    passes = artifacts.glob("FeatureVectorGen/feature_vectors/*/pass.json")
    return {
        "photos ingested": sum(len(file.read_text().splitlines()) for file in reports),
        "photos through the backbone": sum(json.loads(file.read_text())["computed"] for file in passes),
    }


def print_table(made: dict[str, dict[str, Any]]) -> None:
    names = ["one new span", "from nothing"]
    print(f"{'':<34}" + "".join(f"{name:>14}" for name in names) + f"{'ratio':>8}")
    for key in made[names[0]]["counted"]:
        values = [made[name]["counted"][key] for name in names]
        print(f"{key:<34}" + "".join(f"{value:>14}" for value in values) + f"{values[1] / max(values[0], 1):>8.1f}")
    for kind in ("steps", "totals"):
        for key in made[names[0]][kind]:
            values = [made[name][kind][key] for name in names]
            ratio = f"{values[1] / values[0]:>8.1f}" if kind == "totals" else ""
            print(f"{key:<34}" + "".join(f"{value:>12.1f} s" for value in values) + ratio)
    assert all(len(each["window"]["spans"]) == WINDOW for each in made.values()), "a window is incomplete"


if __name__ == "__main__":
    main()
