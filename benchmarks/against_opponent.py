"""The demo of this checkout beside that of an older one: `python -m benchmarks.against_opponent OLD`.

OLD is another checkout with its own `.venv`, such as `git worktree add ../old 4c89645` and `make install` there. Both
sides take turns on the same drawn photos: a first run in a new root, then a second one in the same root, for which
everything comes from the cache. Printed are the medians of wall time and of the processor's seconds, of the whole
command with every process that it starts, and their ratios. Before the first round each side runs once, uncounted,
so that the backbone is converted and every file has been read.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cost:
    """What a command took, in seconds."""

    wall: float
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=int, default=480)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for both sides")
    given = parser.parse_args()
    settings = [f"--set={each}" for each in given.set]
    sides = {"old": given.old.resolve(), "new": HERE}
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder, "sample", "cats_vs_dogs")
        command(HERE, "sample", str(photos.parent), "--photos", str(given.photos))
        costs: dict[tuple[str, str], list[Cost]] = {}
        for turn in range(given.rounds + 1):
            for side, checkout in sides.items():
                root = Path(folder, f"{side}-{turn}")
                run = ["run", "--config=cats_vs_dogs", f"--data={photos}", f"--root={root}", *settings]
                for which in ("first run", "second run"):
                    cost = command(checkout, *run)
                    if turn:
                        costs.setdefault((which, side), []).append(cost)
                    print(f"{turn or 'warm-up'} {which} {side}: {cost.wall:.1f} s, {cost.processor:.1f} s of processor")
    print(table(costs))


def table(costs: dict[tuple[str, str], list[Cost]]) -> str:
    """Medians and ratios, a line for each run and kind of cost."""
    lines = [f"{'':<26}{'old':>10}{'new':>10}{'new / old':>12}"]
    for which in dict.fromkeys(which for which, _ in costs):
        for kind, name in (("wall", "wall"), ("processor", "processor")):
            old, new = (
                statistics.median(getattr(cost, kind) for cost in costs[which, side]) for side in ("old", "new")
            )
            lines.append(f"{which}, {name:<14}{old:>8.1f} s{new:>8.1f} s{new / old:>12.2f}")
    return "\n".join(lines)


def command(checkout: Path, *arguments: str) -> Cost:
    """Runs the command line of a checkout, and ends this program where it fails."""
    python = checkout / ".venv" / "bin" / "python"
    before, began = _processor(), time.perf_counter()
    done = subprocess.run(
        [str(python), "-m", "deploy.cli", *arguments],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 3):
        sys.exit(f"{checkout}: {done.stdout}{done.stderr}")
    return Cost(time.perf_counter() - began, _processor() - before)


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
