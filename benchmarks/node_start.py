"""How soon the process of one node launches it, plainly and by the quick start: `python -m benchmarks.node_start`.

First a process that does nothing but import TFX's launcher, plainly and by `deploy/quick_start.py` in turn: from its
start to the moment the launcher is there. Then the whole process of a node whose result is in the cache, from its start
to its end, for CuratedSchema and for ImageExampleGen, whose own driver has to look at the photos first. The node that
is not cached, once each, is for comparison: it imports its executor.

The minimum of `--repeat` processes, and the median in brackets; on a machine with other work, believe the processor's
time, which is of all threads of the process. Byte code is there already, and both sides end by `finish()`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

_NODES = ("CuratedSchema", "ImageExampleGen")
_SIDES = ("plain", "quick")


class Cost(NamedTuple):
    """Seconds by the clock, and of all processors, in user and system mode."""

    clock: float
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--photos", type=int, default=100, help="of ImageExampleGen")
    parser.add_argument("--ready", choices=_SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--compile", nargs=2, metavar=("FOLDER", "RUNS"), help=argparse.SUPPRESS)
    parser.add_argument("--launch", nargs=3, metavar=("SIDE", "FOLDER", "RUN"), help=argparse.SUPPRESS)
    parser.add_argument("--node", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ready:
        _ready(given.ready)
    elif given.compile:
        _compile(Path(given.compile[0]), int(given.compile[1]))
    elif given.launch:
        side, folder, run = given.launch
        _launch(side, Path(folder), run, given.node)
    else:
        _compare(given.repeat, given.photos)


def _compare(repeat: int, photos: int) -> None:
    ready: dict[str, list[Cost]] = {side: [] for side in _SIDES}
    for _ in range(repeat):
        for side in _SIDES:
            began = time.time()
            clock, processor = map(float, _child("--ready", side).split())
            ready[side].append(Cost(clock - began, processor))
    print(f"{'':<60}{'plain':>16}{'quick':>16}{'times as fast':>16}")
    _print("until the launcher is there", ready)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "deploy.cli", "sample", str(Path(folder, "sample")), "--photos", str(photos)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        _child("--compile", folder, str(repeat + 1))
        for node in _NODES:
            first: dict[str, list[Cost]] = {side: [] for side in _SIDES}
            again: dict[str, list[Cost]] = {side: [] for side in _SIDES}
            for run in range(repeat + 1):
                for side in _SIDES:
                    cost, state = _timed("--launch", side, folder, str(run), "--node", node)
                    if state != ("cached" if run else "complete"):
                        sys.exit(f"{node} is {state} in run {run}")
                    (again if run else first)[side].append(cost)
            _print(f"{node}, whole process", first)
            _print(f"{node}, cached, whole process", again)


def _print(what: str, costs: dict[str, list[Cost]]) -> None:
    for field, unit in (("clock", "s"), ("processor", "s of processor")):
        numbers = {side: [getattr(cost, field) for cost in costs[side]] for side in _SIDES}
        cells = [f"{min(each):.2f} ({statistics.median(each):.2f})" for each in numbers.values()]
        ratio = min(numbers["plain"]) / min(numbers["quick"])
        print(f"{what + ', ' + unit:<60}{cells[0]:>16}{cells[1]:>16}{ratio:>16.1f}", flush=True)


def _child(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.node_start", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(done.stderr)
    return done.stdout.splitlines()[-1] if done.stdout else ""


def _timed(*arguments: str) -> tuple[Cost, str]:
    """What a process cost from its start to its end, and its last line."""
    began, before = time.perf_counter(), os.times()
    said = _child(*arguments)
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(time.perf_counter() - began, processor), said


def _ready(side: str) -> None:
    from deploy import quick_start

    if quick_start.import_launcher(defer=side == "quick") != (side == "quick"):
        sys.exit(f"the {side} start was another")
    print(time.time(), time.process_time())
    quick_start.finish(0)


def _compile(folder: Path, runs: int) -> None:
    """Writes the compiled pipelines of so many runs of each side."""
    from tfx.orchestration.pipeline import Pipeline

    from components.curated_schema.component import CuratedSchema
    from components.example_gen.component import ImageExampleGen
    from components.example_gen.found_photos import FolderRules
    from components.example_gen.photo_rules import PhotoRules
    from deploy.assembly import compile_pipeline
    from schemas.schema_files import curated_schema_file

    for side in _SIDES:
        photos = ImageExampleGen(
            sources={"cats_vs_dogs": str(folder / "sample" / "cats_vs_dogs")},
            label_from="label",
            split_buckets={"train": 8, "eval": 1, "test": 1},
            rules=PhotoRules(min_side=8, max_pixels=10**8),
            code="",
            folder_rules=FolderRules(),
        )
        pipeline = Pipeline(
            f"node_start_{side}",
            str(folder / side),
            components=[CuratedSchema(content=Path(curated_schema_file("cats_vs_dogs")).read_text()), photos],
            enable_cache=True,
            beam_pipeline_args=["--runner=FnApiRunner", "--direct_running_mode=in_memory", "--setup_file=unused"],
        )
        for run in range(runs):
            compiled = compile_pipeline(pipeline, f"{side}-{run}")
            (folder / f"{side}-{run}.pb").write_bytes(compiled.SerializeToString())


def _launch(side: str, folder: Path, run: str, node: str) -> None:
    """Does what a process for one node does."""
    from deploy import quick_start

    quick_start.import_launcher(defer=side == "quick")
    from tfx.proto.orchestration import pipeline_pb2

    from deploy.metadata_address import connection_config
    from deploy.node_launch import launch_node

    pipeline = pipeline_pb2.Pipeline.FromString((folder / f"{side}-{run}.pb").read_bytes())
    operators = quick_start.late_operators() if side == "quick" else None
    print(launch_node(pipeline, node, connection_config(f"sqlite://{folder / side}.sqlite"), operators))
    quick_start.finish(0)


if __name__ == "__main__":
    main()
