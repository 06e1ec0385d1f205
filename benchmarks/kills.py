"""Kills whole runs at random moments, and looks at what is left: `python -m benchmarks.kills --kills 100`.

A run on drawn photos is started, and killed with SIGKILL after a random time, it or one of the processes that it
started. Then the next one is. A run that reaches its end is compared with one that was never killed, and its root
begins anew, so that every moment of a run is met. Printed is how many kills there were in which step, and at the end
what was wrong: a version in production that is not whole, other metrics than without a kill, a process or a temporary
file that was left behind, a run that nobody closed. There should be nothing.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from deploy.root import Root

NAME = "cats_vs_dogs"
QUICK = [
    "--set=image.size=32",
    "--set=training.feature_extraction.epochs=10",
    "--set=training.fine_tuning.epochs=2",
    "--set=serving.golden_photos=4",
    "--set=release.minimum_accuracy=0",
    "--set=release.minimum_test_photos=0",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--photos", type=int, default=120)
    parser.add_argument("--backbone", help="a small one makes runs short; the default is the configuration's")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        photos = folder / "sample" / NAME
        settings = [*QUICK, *([f"--set=backbone.handle={given.backbone}"] if given.backbone else [])]
        subprocess.run(
            [sys.executable, "-m", "deploy.cli", "sample", f"{folder}/sample", f"--photos={given.photos}"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        began = time.monotonic()
        whole = start(photos, folder / "unharmed", settings, folder)
        if whole.wait() != 0:
            sys.exit(f"the run that nobody kills ended with exit code {whole.returncode}")
        longest = time.monotonic() - began
        wanted = metrics(folder / "unharmed")
        print(f"a run without a kill takes {longest:.0f} s; its metrics: {wanted}")

        wrong: list[str] = []
        met: collections.Counter[str] = collections.Counter()
        ended = roots = 0
        root = folder / "root-0"
        while sum(met.values()) < given.kills:
            process = start(photos, root, settings, folder)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(draw.uniform(1, longest))
            if process.poll() is None:
                children = [child for child in children_of(process.pid) if child != process.pid]
                of_child = bool(children) and draw.random() < 0.3
                met[("a child in " if of_child else "") + step_of(root)] += 1
                os.kill(draw.choice(children) if of_child else process.pid, signal.SIGKILL)
                process.wait()
                wrong += looked_at(root, process.pid, children)
            else:
                ended += 1
                if process.returncode != 0 or metrics(root) != wanted:
                    wrong.append(f"{root.name}: exit code {process.returncode}, {metrics(root)}")
                wrong += [f"{root.name}: {run.name} has no summary" for run in unclosed(root)]
                wrong += [f"{left.name} was left behind" for left in (folder / "tmp").iterdir()]
                shutil.rmtree(root)
                roots += 1
                root = folder / f"root-{roots}"
            print(f"\r{sum(met.values())} kills, {ended} runs to their end, {len(wrong)} faults", end="", flush=True)
        print("\n\nkilled in")
        for step, count in met.most_common():
            print(f"  {count:4d}  {step}")
        print("\nwrong: " + ("nothing" if not wrong else ""))
        for fault in wrong:
            print(f"  {fault}")
        sys.exit(1 if wrong else 0)


def start(photos: Path, root: Path, settings: list[str], folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "deploy.cli", "run", f"--config={NAME}", f"--data={photos}", f"--root={root}"]
    return subprocess.Popen(
        [*command, *settings],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(folder / "tmp")},
    )


def metrics(root: Path) -> dict[str, Any]:
    """Of the newest run that has any."""
    for report in sorted((root / "reports").glob("*/summary.json"), reverse=True):
        models = json.loads(report.read_text())["models"]
        if models:
            return {name: [model["accuracy"]["value"], model["loss"]["value"]] for name, model in models.items()}
    return {}


def children_of(process: int) -> list[int]:
    """The process and everything below it."""
    found, waiting = [], [process]
    while waiting:
        one = waiting.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                waiting += [int(child) for child in (thread / "children").read_text().split()]
    return found


def step_of(root: Path) -> str:
    """The step in which the newest run is, as its log tells."""
    with contextlib.suppress(OSError, ValueError):
        log = max((root / "reports").iterdir()) / "run.log"
        lines = [line for line in log.read_text(errors="replace").splitlines() if " is running." in line]
        return lines[-1].rpartition("Component ")[2].removesuffix(" is running.") if lines else "the start"
    return "the start"


def looked_at(root: Path, process: int, children: list[int]) -> list[str]:
    """What is wrong right after a kill."""
    wrong = []
    if root.exists() and (problem := Root(root).serving_folder().standing().problem):
        wrong.append(f"{root.name}: production {problem}")
    deadline = time.monotonic() + 10
    alive = [child for child in children if is_alive(child)]
    while alive and time.monotonic() < deadline:
        time.sleep(0.1)
        alive = [child for child in alive if is_alive(child)]
    wrong += [f"{root.name}: process {child} outlived {process}" for child in alive]
    for child in alive:
        os.kill(child, signal.SIGKILL)
    return wrong


def is_alive(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def unclosed(root: Path) -> list[Path]:
    return [run for run in (root / "reports").iterdir() if not (run / "summary.json").exists()]


if __name__ == "__main__":
    main()
