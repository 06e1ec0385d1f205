"""The command line as a person uses it, in processes of their own, and what its runs leave behind.

Most of these processes are forked from one that has TFX imported (`tests/warm_process.py`).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.warm_process import run_warm

REPOSITORY = Path(__file__).parents[2]

# Short, but the real pipeline; with the real backbone, unless the fixture `small` is given too.
QUICK = [
    "--set=image.size=160",
    "--set=training.fine_tuning.strategy=top",
    "--set=training.feature_extraction.epochs=20",
    "--set=training.fine_tuning.epochs=1",
    "--set=serving.golden_photos=8",
]
# The same for a package of Kubeflow, with the backbone of two convolutions.
OF_PACKAGE = [
    "image.size=32",
    "training.feature_extraction.epochs=20",
    "training.fine_tuning.epochs=2",
    "training.fine_tuning.strategy=top",
    "serving.golden_photos=8",
    "release.minimum_accuracy=0",
    "release.minimum_test_photos=0",
    "data.settle_seconds=0",
]
STEPS = [
    "CuratedSchema",
    "ImageExampleGen",
    "StatisticsGen",
    "ExampleValidator",
    "DataGate",
    "Transform",
    "FeatureVectorGen",
    "FeatureExtraction",
    "FineTuning",
    "Predictions",
    "Evaluator",
    "ModelSelector",
    "ProductionPredictions",
    "ReleaseGate",
    "ServableCheck",
    "Pusher",
]
# They ask what is in production, which the cache cannot know.
ASK_ABOUT_PRODUCTION = {"ProductionPredictions", "ReleaseGate", "Pusher"}


def start(*arguments: str) -> subprocess.Popen:
    """A process that does all its imports itself, as a person's does."""
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def warmstart(*arguments: str, plain: bool = False) -> tuple[int, str]:
    """Exit code and everything a person sees; in a plain process, or in a forked one that has TFX imported."""
    if plain:
        process = start(*arguments)
        output, _ = process.communicate(timeout=900)
        return process.returncode, output
    with tempfile.NamedTemporaryFile("r", errors="replace") as file:
        code = run_warm("deploy.cli", arguments, Path(file.name))
        return code, file.read()


def run(data: Path, root: Path, *more: str, config: str = "cats_vs_dogs", plain: bool = False) -> tuple[int, str, dict]:
    code, output = warmstart(
        "run", "--config", config, "--data", str(data), "--root", str(root), *QUICK, *more, plain=plain
    )  # fmt: skip
    summaries = sorted((root / "reports").glob("*/summary.json"))
    assert summaries, output
    return code, output, json.loads(summaries[-1].read_text())


def states(summary: dict) -> dict[str, str]:
    return {node["id"]: node["state"] for node in summary["nodes"]}


def served(root: Path) -> list[str]:
    """The versions, as TensorFlow Serving finds them."""
    return sorted(path.name for path in (root / "serving").iterdir() if path.name.isdecimal())


def start_until(seen: str, *arguments: str) -> tuple[subprocess.Popen, str]:
    """A plain process that has come as far as printing `seen`, and what it printed."""
    process = start(*arguments)
    assert process.stdout is not None
    output = ""
    while seen not in output:
        line = process.stdout.readline()
        if not line:
            process.communicate()
            raise AssertionError(f"it ended without {seen!r}:\n{output}")
        output += line
    return process, output


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own; the test is skipped where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Takes all the room on a disk; the file that takes it, for who frees it again."""
    file = disk / "filled"
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as stream:
        while True:  # whoever else writes meanwhile takes his share
            stream.write(bytes(1 << 16))
    return file
