"""Statistics and the frozen pass on an engine with one and with two workers.

    python -m benchmarks.engine_scale --data DIR

DIR holds one folder of photos a class; crops of them are made (`benchmarks.more_photos`). `warmstart run` then goes as
far as FeatureVectorGen three times, one after another and each in a new root: here, on Beam's own job service with one
worker process, and with two (`tests/beam_engine.py`). Only the two steps that are measured go to the engine. All this
is done with few photos and with many: what the start of the job and of its workers takes does not grow with them.

TensorFlow has one thread in every process, so that a worker is about one core, and so is the run here. Seconds are
those of the whole step. Seconds of the processor and memory are read from /proc five times a second. The former are
those of the run, the engine and the workers together. The latter is that of the largest worker, or of the run itself,
up to the middle of the step and at most.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.more_photos import make_photos
from tests.beam_engine import beam_engine

STEPS = ("StatisticsGen", "FeatureVectorGen")
CASES = {"here": 0, "1 worker": 1, "2 workers": 2}
_ONE_THREAD = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
_EVERY_SECONDS = 0.2
# Of less, the noise is too large a part for a ratio.
_LEAST_SECONDS = 5.0
_STEP_DONE = re.compile(r"^  (\S+) +(?:done|cached) +([0-9.]+) s")


@dataclass(frozen=True)
class Seen:
    """A process at one moment."""

    processor_seconds: float
    megabytes: float  # resident
    is_worker: bool


@dataclass(frozen=True)
class Step:
    """What a step took."""

    seconds: float
    processor_seconds: float
    megabytes: tuple[float, float]  # of the largest worker: up to the middle of the step, and at most


class Watch:
    """Looks at every process below this one, again and again, as long as the block lasts."""

    def __init__(self) -> None:
        self.moments: list[tuple[float, dict[int, Seen]]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            self.moments.append((time.perf_counter(), dict(_processes_below(os.getpid()))))

    def step(self, began: float, ended: float, on_engine: bool) -> Step:
        """What the processes took between two moments; memory is that of workers, or of all without an engine."""
        before: dict[int, float] = {}
        after: dict[int, float] = {}
        largest = [0.0, 0.0]
        for moment, processes in self.moments:
            if moment > ended:
                break
            for number, seen in processes.items():
                (before if moment < began else after)[number] = seen.processor_seconds
                if moment >= began and (seen.is_worker or not on_engine):
                    largest[1] = max(largest[1], seen.megabytes)
                    if moment <= (began + ended) / 2:
                        largest[0] = largest[1]
        used = sum(seconds - before.get(number, 0.0) for number, seconds in after.items())
        return Step(ended - began, used, (largest[0], largest[1]))


def _processes_below(number: int) -> Iterator[tuple[int, Seen]]:
    """Number and state of the children of a process, of theirs, and so on, but not of the process itself."""
    with contextlib.suppress(OSError):  # it may have ended meanwhile
        for thread in Path("/proc", str(number), "task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _processes_below(int(child))
                with contextlib.suppress(OSError):
                    yield int(child), _seen(Path("/proc", child))


def _seen(folder: Path) -> Seen:
    """The process of a folder of /proc, see proc(5)."""
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # in programs and in the kernel
    pages = int(fields[21])
    return Seen(
        ticks / os.sysconf("SC_CLK_TCK"),
        pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        b"sdk_worker" in (folder / "cmdline").read_bytes(),
    )


def measure(photos: Path, root: Path, size: int, engine: list[str]) -> dict[str, Step]:
    """Runs the pipeline as far as the frozen pass; step -> what it took.

    Args:
      photos: one folder a class.
      root: a new folder.
      size: side of the images, pixels.
      engine: arguments of Beam; empty: the steps run in the process of the run.
    """
    settings = [f"image.size={size}"]
    if engine:
        settings += [f"runtime.beam_pipeline_args={json.dumps(engine)}", f"runtime.beam_steps={json.dumps(STEPS)}"]
    command = [
        *(sys.executable, "-m", "deploy.cli", "run", "--config=image_folder", f"--data={photos}", f"--root={root}"),
        *("--to=FeatureVectorGen", *(f"--set={setting}" for setting in settings)),
    ]
    found: dict[str, Step] = {}
    lines: list[str] = []
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with Watch() as watch, subprocess.Popen(command, text=True, **pipes) as run:
        assert run.stdout is not None
        for line in run.stdout:
            lines.append(line)
            done = _STEP_DONE.match(line)
            if done and done[1] in STEPS:
                ended = time.perf_counter()
                time.sleep(_EVERY_SECONDS)  # until it was looked at again
                found[done[1]] = watch.step(ended - float(done[2]), ended, bool(engine))
    if run.returncode != 0 or found.keys() != set(STEPS):
        sys.exit("".join(lines))
    return found


def print_table(made: dict[tuple[int, str], dict[str, Step]], few: int, many: int) -> None:
    """Prints a table of each step.

    Args:
      made: (photos, case) -> step -> what it took.
      few, many: photos.
    """
    print(f"{'':<38}" + "".join(f"{case:>12}" for case in CASES))
    for step in STEPS:
        first, took = ([made[count, case][step] for case in CASES] for count in (few, many))
        further = [it.seconds - at_first.seconds for it, at_first in zip(took, first, strict=True)]
        print(step)
        for title, values in (
            (f"seconds, {few:,} photos", [f"{it.seconds:.1f}" for it in first]),
            (f"seconds, {many:,} photos", [f"{it.seconds:.1f}" for it in took]),
            (f"seconds, {many - few:,} photos more", [f"{seconds:.1f}" for seconds in further]),
            (f"processor seconds, {many:,} photos", [f"{it.processor_seconds:.1f}" for it in took]),
            ("MB up to the middle of the step", [f"{it.megabytes[0]:,.0f}" for it in took]),
            ("MB at most", [f"{it.megabytes[1]:,.0f}" for it in took]),
        ):
            print(f"  {title:<36}" + "".join(f"{value:>12}" for value in values))
        print(f"  1 worker / here: {_ratio(took[1].seconds, took[0].seconds)}, ", end="")
        print(f"of the photos more {_ratio(further[1], further[0])}")
        print(f"  1 worker / 2 workers: {_ratio(took[1].seconds, took[2].seconds)}, ", end="")
        print(f"of the photos more {_ratio(further[1], further[2])}")


def _ratio(seconds: float, of: float) -> str:
    return f"{seconds / of:.2f}" if min(seconds, of) > _LEAST_SECONDS else "(too short to tell)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="one folder of photos a class")
    parser.add_argument("--photos", type=int, nargs=2, default=(200, 20_000), metavar="N", help="few, and many")
    parser.add_argument("--size", type=int, default=224, help="side of the images, pixels")
    given = parser.parse_args()
    os.environ.update(_ONE_THREAD)
    few, many = given.photos
    # The first run is not counted: it cuts the backbone, which the others find in the cache.
    turns = [(few, "here"), *((count, case) for count in (few, many) for case in CASES)]
    made: dict[tuple[int, str], dict[str, Step]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in (few, many):
            make_photos(given.data, Path(folder, f"photos-{count}"), count, seed=42)
        for number, (count, case) in enumerate(turns, 1):
            workers = CASES[case]
            with beam_engine(workers) if workers else contextlib.nullcontext([]) as engine:
                root = Path(folder, f"root-{number}")
                made[count, case] = measure(Path(folder, f"photos-{count}"), root, given.size, engine)
            print(f"run {number} of {len(turns)}: {count:,} photos, {case}", flush=True)
    print(f"crops of real photos at {given.size} pixels")
    print_table(made, few, many)


if __name__ == "__main__":
    main()
