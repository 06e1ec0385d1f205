"""Masks learnt on a backbone beside a network from scratch: `python -m benchmarks.masks_side_by_side --data DIR`.

DIR is Oxford-IIIT Pets in the official layout. `benchmarks.chapter_nine` and `warmstart run --config
oxford_iiit_pet_masks` learn from the same photos, one after the other, each in a new process. The script's epochs are
all alike, so with fewer than the book's 50 its whole time is calculated, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import run_command

BOOK_EPOCHS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Oxford-IIIT Pets with trimaps")
    parser.add_argument("--epochs", type=int, default=BOOK_EPOCHS, help="of the network from scratch")
    parser.add_argument("--image-size", type=int, default=160, help="of warmstart, pixels")
    arguments = parser.parse_args()
    book, book_seconds = from_scratch(arguments.data, arguments.epochs)
    with tempfile.TemporaryDirectory() as root:
        ours, our_seconds = warmstart_run(arguments.data, Path(root), arguments.image_size)
    book_epoch, our_epoch = (statistics.median(seconds[1:]) for seconds in (book["epoch_seconds"], ours["epochs"]))
    calculated = arguments.epochs < BOOK_EPOCHS
    whole = book_seconds + (BOOK_EPOCHS - arguments.epochs) * book_epoch
    note = f", calculated from {arguments.epochs} epochs" if calculated else ""
    print(f"{book['train_photos']} photos to train on, {book['test_photos']} official test photos")
    print(f"{'':<52} {'from scratch':>14} {'warmstart':>14} {'ratio':>8}")
    _line("an epoch (of feature extraction)", book_epoch, our_epoch)
    _line(f"whole: {BOOK_EPOCHS} epochs{note}; both phases", whole, our_seconds)
    print(
        f"{f'mean IoU, three classes, test, after {arguments.epochs} epochs':<52} {book['mean_iou']:>14.3f} "
        f"{ours['mean_iou']:>14.3f}"
    )


def _line(name: str, book_seconds: float, our_seconds: float) -> None:
    print(f"{name:<52} {book_seconds:>12.2f} s {our_seconds:>12.2f} s {book_seconds / our_seconds:>7.1f}x")


def from_scratch(data: Path, epochs: int) -> tuple[dict[str, Any], float]:
    """What `benchmarks.chapter_nine` prints, and the seconds of its process."""
    output, seconds = run_command([sys.executable, "-m", "benchmarks.chapter_nine", str(data), "--epochs", str(epochs)])
    return json.loads(output[output.index("{") :]), seconds


def warmstart_run(data: Path, root: Path, image_size: int) -> tuple[dict[str, Any], float]:
    """Seconds of the epochs of feature extraction, the pushed model's mean IoU, and the seconds of the process."""
    command = [sys.executable, "-m", "deploy.cli", "run", "--config", "oxford_iiit_pet_masks", "--data", str(data)]
    _, seconds = run_command([*command, "--root", str(root), "--set", f"image.size={image_size}"])
    history = json.loads(next(root.glob("artifacts/FeatureExtraction/model_run/*/training.json")).read_text())
    summary = json.loads(next(root.glob("reports/*/summary.json")).read_text())
    winner = summary["models"][summary["winner"]]
    return {"epochs": history["epoch_seconds"], "mean_iou": winner["mean_iou"]["value"]}, seconds


if __name__ == "__main__":
    main()
