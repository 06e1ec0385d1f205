"""warmstart beside a plain Keras script that does the same: `python -m benchmarks.side_by_side --data DIR`.

DIR holds one folder a class. From its photos 2,000 are made by cropping (for timing only: the accuracies of this
benchmark mean nothing; `benchmarks.accuracy_table` compares them on photos as they are). Then the plain script
(`benchmarks/plain_keras.py`, written as TensorFlow's transfer-learning tutorial) and `warmstart run` take turns, each
in a new process, each with the same photos, backbone, boundary, epochs, batch size and rates. Last, the frozen pass
alone, the two sides in turn, each in a process of its own. The plain side has TensorFlow as it comes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.more_photos import make_photos

BACKBONE, IMAGE_SIZE, BATCH_SIZE = "efficientnet_lite0", 160, 32
_PASSES, _PASS_BATCHES, _PASS_TURNS = 5, 8, 3
# What `components` sets, as TensorFlow has it by itself.
_PLAIN = {"TF_CPU_ALLOCATOR_USE_BFC": "false"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of photos, one folder a class")
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10, help="of each phase")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder, "photos")
        make_photos(arguments.data, photos, arguments.photos, seed=1)
        plain, ours = [], []
        for turn in range(arguments.repeat):
            plain.append(plain_script(photos, arguments.epochs))
            ours.append(warmstart_run(photos, Path(folder, f"root-{turn}"), arguments.epochs))
            totals = plain[-1]["whole, from start to exported model"], ours[-1]["whole, from start to exported model"]
            print(
                f"turn {turn + 1} of {arguments.repeat}: plain Keras {totals[0]:.1f} s, warmstart {totals[1]:.1f} s",
                flush=True,
            )
    print(f"\n{arguments.photos} photos, {arguments.epochs} + {arguments.epochs} epochs, median of {arguments.repeat}")
    print(f"{'':<38} {'plain Keras':>12} {'warmstart':>12} {'ratio':>8}")
    for name in plain[0]:
        _line(name, *(statistics.median(turn[name] for turn in side) for side in (plain, ours)))
    _line("frozen pass, a batch of 32", *frozen_passes())


def _line(name: str, plain_seconds: float, our_seconds: float) -> None:
    print(f"{name:<38} {plain_seconds:>10.3f} s {our_seconds:>10.3f} s {plain_seconds / our_seconds:>7.1f}x")


def _times(head_epochs: list[float], fine_tuning_epochs: list[float], total: float) -> dict[str, float]:
    """What is compared. The first epoch of a phase traces the graph; it counts in the whole alone."""
    return {
        "head epoch, with validation": statistics.median(head_epochs[1:]),
        "fine-tuning epoch, with validation": statistics.median(fine_tuning_epochs[1:]),
        "whole, from start to exported model": total,
    }


def plain_script(photos: Path, epochs: int) -> dict[str, float]:
    """Runs the plain script in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.plain_keras", str(photos), "--backbone", BACKBONE]
    command += ["--epochs", str(epochs), "--fine-tuning-epochs", str(epochs)]
    output, seconds = run_command(command, _PLAIN)
    result: dict[str, Any] = json.loads(output[output.index("{") :])
    return _times(result["feature_extraction"]["epoch_seconds"], result["fine_tuning"]["epoch_seconds"], seconds)


def warmstart_run(photos: Path, root: Path, epochs: int) -> dict[str, float]:
    """Runs the pipeline in a process of its own, evaluation and push included; all epochs are run."""
    command = [sys.executable, "-m", "deploy.cli", "run", "--config", "image_folder", "--data", str(photos)]
    command += ["--root", str(root)]
    for phase in ("feature_extraction", "fine_tuning"):
        command += ["--set", f"training.{phase}.epochs={epochs}", "--set", f"training.{phase}.patience={epochs}"]
    # The script trains on 80 % and validates on the rest; here a little of it is the test split.
    for split, share in (("train", 80), ("eval", 19), ("test", 1)):
        command += ["--set", f"data.splits.{split}={share}"]
    command += ["--set", f"image.size={IMAGE_SIZE}", "--set", f"training.batch_size={BATCH_SIZE}"]
    for setting in ("strategy=top", "schedule=constant", "warmup_fraction=0", "learning_rate=1e-4"):
        command += ["--set", f"training.fine_tuning.{setting}"]
    _, seconds = run_command(command)
    [feature_extraction, fine_tuning] = (
        json.loads(next(root.glob(f"artifacts/{node}/model_run/*/training.json")).read_text())["epoch_seconds"]
        for node in ("FeatureExtraction", "FineTuning")
    )
    return _times(feature_extraction, fine_tuning, seconds)


def frozen_passes() -> tuple[float, float]:
    """Seconds of a batch through the frozen backbone: hub.KerasLayer, and FeatureVectorGen's pass with activations."""
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(_PASS_TURNS):
        for side, found in seconds.items():
            command = [sys.executable, "-m", "benchmarks.frozen_pass_time", side, BACKBONE, str(IMAGE_SIZE)]
            output, _ = run_command([*command, str(_PASSES), str(_PASS_BATCHES)], _PLAIN if side == "plain" else {})
            found.append(float(output))
    return statistics.median(seconds["plain"]), statistics.median(seconds["ours"])


def run_command(command: list[str], environment: Mapping[str, str] | None = None) -> tuple[str, float]:
    """What a program prints, and the seconds of its process, with further variables of its environment."""
    start, variables = time.perf_counter(), {**os.environ, **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if done.returncode not in (0, 3):  # 3: the run ended and pushed nothing, by verdict
        sys.exit(done.stdout + done.stderr)
    return done.stdout, time.perf_counter() - start


if __name__ == "__main__":
    main()
