"""Whether fine-tuning earns its place: `python -m benchmarks.fine_tuning_defaults --photos DIR`.

Tasks near ImageNet and far from it are made of real photos, the folders `petimages_180`, `cats_vs_dogs` and
`oxford_iiit_pet` in DIR:

    which_way_up     2,400 photos, each turned by 0, 90, 180 or 270 degrees: the turn is the label
    which_corner     2,400 photos, of each one corner: which one is the label
    petimages_180    cats and dogs, with 1,600 photos to test on
    cats_vs_dogs     cats and dogs, a small set
    oxford_iiit_pet  37 breeds, a small set

Each run is a `warmstart run` in a process of its own, by each recipe with each seed. A recipe is a list of
settings, `--recipe "NAME: KEY=VALUE KEY=VALUE"`; without one the defaults are run. Each seed turns and cuts other
photos. Runs on the same photos share a root, and so the steps up to FeatureVectorGen, and they end when the model is
chosen. Only with `--fresh` is each a whole run of its own, whose seconds can be compared.

Accuracy and log loss are means over the seeds on the test photos, of feature extraction ("frozen") and fine-tuning.
Behind the fine-tuned accuracy are the lowest and the highest, and behind the difference of the log losses is a 95%
interval of their mean (Student's t over the seeds). `wins` counts how often ModelSelector chose fine-tuning, `epochs`
are those that it kept.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from scipy import stats

PHOTOS = 2400
_CORNER = 0.6  # of each side of a photo
_TURNS = {
    "0": None,
    "90": Image.Transpose.ROTATE_90,
    "180": Image.Transpose.ROTATE_180,
    "270": Image.Transpose.ROTATE_270,
}
_CORNERS = {"top_left": (0, 0), "top_right": (1, 0), "bottom_left": (0, 1), "bottom_right": (1, 1)}


@dataclass(frozen=True)
class Task:
    """A task, and how its photos are split."""

    config: str
    source: str
    """Folder of the photos that it is made of."""
    splits: tuple[int, int, int] | None = None
    """Shares of train, eval and test; None: those of the configuration."""
    change: Callable[[Image.Image, str], Image.Image] | None = None
    """From a photo and a label to the photo of the task; None: the photos are used as they are."""
    labels: tuple[str, ...] = ()


def turned(photo: Image.Image, label: str) -> Image.Image:
    """The photo turned anticlockwise by `label` degrees."""
    turn = _TURNS[label]
    return photo if turn is None else photo.transpose(turn)


def corner(photo: Image.Image, label: str) -> Image.Image:
    """The part of the photo in the corner `label`."""
    right, bottom = _CORNERS[label]
    width, height = (round(_CORNER * side) for side in photo.size)
    left, top = right * (photo.width - width), bottom * (photo.height - height)
    return photo.crop((left, top, left + width, top + height))


TASKS = {
    "which_way_up": Task("image_folder", "petimages_180", (6, 2, 2), turned, tuple(_TURNS)),
    "which_corner": Task("image_folder", "petimages_180", (6, 2, 2), corner, tuple(_CORNERS)),
    "petimages_180": Task("image_folder", "petimages_180", (5, 1, 4)),
    "cats_vs_dogs": Task("cats_vs_dogs", "cats_vs_dogs"),
    "oxford_iiit_pet": Task("oxford_iiit_pet", "oxford_iiit_pet"),
}


def make_task(task: Task, photos: Path, folder: Path, count: int, seed: int) -> None:
    """Writes `count` photos of the task, one folder a class; which ones and how they change follow from the seed."""
    assert task.change is not None
    drawn = random.Random(seed)
    files = sorted(path for path in photos.rglob("*") if path.suffix == ".jpg")
    for file in drawn.sample(files, min(count, len(files))):
        label = drawn.choice(task.labels)
        (folder / label).mkdir(parents=True, exist_ok=True)
        with Image.open(file) as photo:
            changed = task.change(photo.convert("RGB"), label)
        changed.save(folder / label / f"{file.parent.name}-{file.name}", quality=95)


def run(task: Task, photos: Path, root: Path, settings: list[str], seed: int, *more: str) -> dict[str, Any]:
    """The summary of a run, with `wall` and `processor`, the seconds that it took; `more` are arguments of the run."""
    splits = zip(("train", "eval", "test"), task.splits or (), strict=False)
    every = [f"training.seed={seed}", *(f"data.splits.{name}={share}" for name, share in splits), *settings]
    command = [sys.executable, "-m", "deploy.cli", "run", "--config", task.config, "--data", str(photos)]
    command += ["--root", str(root), "--json", *more, *(f"--set={setting}" for setting in every)]
    began, processor = time.perf_counter(), _processor_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):  # 3: nothing was pushed, by verdict
        sys.exit(done.stdout + done.stderr)
    took = {"wall": time.perf_counter() - began, "processor": _processor_seconds() - processor}
    return {**json.loads(done.stdout), **took}


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def mean_and_interval(values: list[float]) -> tuple[float, float, float]:
    """The mean, and a 95% interval of the mean of more such values; of one value it is that value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, mean, mean
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return mean, mean - half, mean + half


def row(name: str, runs: list[dict[str, Any]]) -> str:
    """A row of the table: means over the runs, which differ by their seeds."""

    def of(model: str, metric: str) -> list[float]:
        return [each["models"][model][metric]["value"] for each in runs]

    accuracies = [of(model, "accuracy") for model in ("feature_extraction", "fine_tuned")]
    losses = [of(model, "loss") for model in ("feature_extraction", "fine_tuned")]
    difference, low, high = mean_and_interval([after - before for before, after in zip(*losses, strict=True)])
    won = sum(each["winner"] == "fine_tuned" for each in runs)
    epochs = sorted(each["models"]["fine_tuned"]["training"]["best_epoch"] for each in runs)
    cells = [
        name,
        f"{100 * statistics.fmean(accuracies[0]):.1f}%",
        f"{100 * statistics.fmean(accuracies[1]):.1f}%"
        + (f" ({100 * min(accuracies[1]):.1f} to {100 * max(accuracies[1]):.1f})" if len(runs) > 1 else ""),
        *(f"{statistics.fmean(values):.3f}" for values in losses),
        f"{difference:+.4f}" + (f" ({low:+.4f} to {high:+.4f})" if len(runs) > 1 else ""),
        f"{won} of {len(runs)}",
        ", ".join(map(str, epochs)) if len(set(epochs)) > 1 else str(epochs[0]),
        f"{statistics.fmean(each['processor'] for each in runs):.0f}",
        f"{statistics.fmean(each['wall'] for each in runs):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


_HEAD = ("recipe", "frozen", "fine-tuned", "loss frozen", "tuned", "difference", "wins", "epochs", "CPU s", "wall s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="holds the folders of the photos")
    parser.add_argument("--task", action="append", choices=TASKS, help="a task to run; default: all of them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="of the runs of each recipe")
    parser.add_argument("--count", type=int, default=PHOTOS, help="photos of a task that is made")
    parser.add_argument("--fresh", action="store_true", help="a new root for each run, to compare the seconds")
    parser.add_argument("--recipe", action="append", metavar="NAME: KEY=VALUE ...", help="settings to compare")
    arguments = parser.parse_args()
    recipes = {name: keys.split() for name, _, keys in (r.partition(":") for r in arguments.recipe or ["defaults"])}
    for name in arguments.task or TASKS:
        task = TASKS[name]
        source = (arguments.photos / task.source).resolve()
        results: dict[str, list[dict[str, Any]]] = {recipe: [] for recipe in recipes}
        with tempfile.TemporaryDirectory() as folder:
            for seed in arguments.seeds:
                photos = source
                if task.change is not None:
                    photos = Path(folder, f"photos-{seed}")
                    make_task(task, source, photos, arguments.count, seed)
                for recipe, settings in recipes.items():
                    root = Path(folder, f"root-{seed}-{recipe}" if arguments.fresh else f"root-{photos.name}")
                    more = () if arguments.fresh else ("--to", "ModelSelector")
                    results[recipe].append(run(task, photos, root, settings, seed, *more))
                    number, all_runs = sum(map(len, results.values())), len(recipes) * len(arguments.seeds)
                    print(f"run {number} of {all_runs}: {name}, {row(recipe, results[recipe][-1:])}", flush=True)
        counts = results[next(iter(recipes))][0]["data"]["accepted"]
        print(f"\n### {name}: {' / '.join(str(counts[s]) for s in ('train', 'eval', 'test'))} photos\n")
        print(f"| {' | '.join(_HEAD)} |\n|{'---|' * len(_HEAD)}")
        for recipe, runs in results.items():
            print(row(recipe, runs), flush=True)
        print()


if __name__ == "__main__":
    main()
