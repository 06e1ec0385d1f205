"""The command line as a person uses it, in processes of their own, and what its runs leave behind.

Most of these processes are forked from one that has TFX imported (`tests/warm_process.py`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.warm_process import run_warm

REPOSITORY = Path(__file__).parents[2]

# Short, but the real pipeline; with the real backbone, unless the fixture `small` is given too.
QUICK = [
    "--set=training.feature_extraction.epochs=20",
    "--set=training.fine_tuning.epochs=1",
    "--set=serving.golden_photos=8",
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
