"""Time of each step of the demo, cold and cached, as the summaries have it: `make bench`.

Draws the sample photos once, then runs the pipeline `--repeat` times, each time in a new root and a new process, and
a second time at once on the same root. Prints the median of each step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--photos", type=int, default=480)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sample, start = Path(folder, "sample"), time.perf_counter()
        _warmstart("sample", str(sample), "--photos", str(arguments.photos))
        print(f"{'drawing the sample':<30} {time.perf_counter() - start:7.1f} s")
        first, again = [], []
        for i in range(arguments.repeat):
            root = Path(folder, f"root-{i}")
            first.append(_run(sample / "cats_vs_dogs", root))
            again.append(_run(sample / "cats_vs_dogs", root))
            print(f"run {i + 1} of {arguments.repeat}: {first[-1]['total']:.1f} s, again {again[-1]['total']:.1f} s")
    _help = [_seconds(lambda: _warmstart("--help")) for _ in range(5)]
    print(f"\n{'step (median)':<30} {'first run':>9} {'again':>9}")
    for step in first[0]:
        medians = [statistics.median(run[step] for run in runs) for runs in (first, again)]
        print(f"{step:<30} {medians[0]:7.1f} s {medians[1]:7.1f} s")
    print(f"{'warmstart --help':<30} {statistics.median(_help):7.2f} s")


def _run(data: Path, root: Path) -> dict[str, float]:
    """Seconds of each step, of everything else, and in total, process start included."""
    total = _seconds(lambda: _warmstart("run", "--config", "cats_vs_dogs", "--data", str(data), "--root", str(root)))
    summary = json.loads(max((root / "reports").glob("*/summary.json")).read_text())
    steps = {node["id"]: node["seconds"] for node in summary["nodes"]}
    return {**steps, "imports, graph and summary": total - sum(steps.values()), "total": total}


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _warmstart(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "deploy.cli", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)


if __name__ == "__main__":
    main()
