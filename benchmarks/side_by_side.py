"""warmstart beside a plain Keras script that does the same: `python -m benchmarks.side_by_side --data DIR`.

DIR holds one folder a class. From its photos 2,000 are made by cropping (for timing only: the accuracies of this
benchmark mean nothing; `benchmarks.accuracy_table` compares them on photos as they are). Then the plain script
(`benchmarks/plain_keras.py`, written as TensorFlow's transfer-learning tutorial) and `warmstart run` take turns, each
in a new process, each with the same photos, backbone, boundary, epochs, batch size and rates. Last, the frozen pass
alone, both sides in this process.
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
from pathlib import Path
from typing import Any

from benchmarks.more_photos import make_photos

BACKBONE, IMAGE_SIZE, BATCH_SIZE = "efficientnet_lite0", 160, 32
_PASSES, _PASS_BATCHES = 9, 8


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
    output, seconds = run_command(command)
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
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no notes on the processor between the numbers
    import tensorflow as tf
    import tensorflow_hub as hub

    from components.backbone import cut, feature_vector, freezing, frozen_pass, registry

    module_path = str(feature_vector.resolve(BACKBONE))
    plain = tf.function(hub.KerasLayer(module_path, trainable=False))
    module = hub.load(module_path)
    learning = freezing.learning_variables(
        [v.name for v in module.trainable_variables],
        [v.name for v in module.variables],
        "top",
        default_pattern=registry.BACKBONES[BACKBONE].unfreeze,
    )
    ours = frozen_pass.build(module, IMAGE_SIZE, cut.cut(module, learning, IMAGE_SIZE)).call
    images = tf.random.stateless_uniform([BATCH_SIZE, IMAGE_SIZE, IMAGE_SIZE, 3], [1, 2])

    def seconds(function) -> float:
        start = time.perf_counter()
        for _ in range(_PASS_BATCHES):
            function(images)
        return (time.perf_counter() - start) / _PASS_BATCHES

    seconds(plain), seconds(ours)
    pairs = [(seconds(plain), seconds(ours)) for _ in range(_PASSES)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def run_command(command: list[str]) -> tuple[str, float]:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):  # 3: the run ended and pushed nothing, by verdict
        sys.exit(done.stdout + done.stderr)
    return done.stdout, time.perf_counter() - start


if __name__ == "__main__":
    main()
