"""What transfer buys: `python -m benchmarks.accuracy_table --data cats_vs_dogs=DIR --data oxford_iiit_pet=DIR`.

Each model answers the same test photos after training on the same training photos, with the epoch chosen on the same
eval photos: mini-Xception from scratch, feature extraction (with augmentation too), fine-tuning of the top and of
everything, the ensemble, and the plain Keras script (which keeps its last epoch, as the tutorial does). Prints a table
in Markdown for each data set.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

_SEED, _SAMPLES = 42, 2000
_IMAGE_SIZE = 160  # pixels, as in the models that it is compared with


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, metavar="CONFIG=DIR")
    parser.add_argument("--scratch-epochs", type=int, default=10, help="of mini-Xception")
    arguments = parser.parse_args()
    for item in arguments.data:
        config, _, folder = item.partition("=")
        with tempfile.TemporaryDirectory() as root:
            print(_section(config, folder, Path(root), arguments.scratch_epochs), flush=True)


def _section(config: str, folder: str, root: Path, scratch_epochs: int) -> str:
    """The table of one data set."""
    top = _pipeline(config, folder, root / "run", ["selection.ensemble=true", "training.fine_tuning.strategy=top"])
    everything = _pipeline(
        config, folder, root / "run", ["selection.ensemble=true", "training.fine_tuning.strategy=all"]
    )
    augmented = {
        mode: _pipeline(
            config,
            folder,
            root / mode,
            ["selection.ensemble=true", f"training.augmentation.mode={mode}", "training.fine_tuning.epochs=0"],
        )["feature_extraction"]
        for mode in ("views", "online")
    }
    like_the_script = _pipeline(
        config,
        folder,
        root / "like_the_script",
        [
            "selection.ensemble=true",
            "training.feature_extraction.epochs=10",
            "training.feature_extraction.patience=10",
            "training.fine_tuning.strategy=top",
            "training.fine_tuning.epochs=5",
            "training.fine_tuning.patience=5",
        ],
    )["fine_tuned"]
    labels, splits = _photos(root / "run")
    scratch = _mini_xception(labels, splits, scratch_epochs)
    plain = _plain_keras(labels, splits, root)
    classes = top["classes"]
    rows = [
        (f"mini-Xception from scratch, {scratch_epochs} epochs", scratch["probabilities"], scratch),
        ("feature extraction", top["feature_extraction"]["probabilities"], top["feature_extraction"]),
        ("feature extraction, 3 cached augmented views", augmented["views"]["probabilities"], augmented["views"]),
        ("feature extraction, online augmentation", augmented["online"]["probabilities"], augmented["online"]),
        ("fine-tuning, top", top["fine_tuned"]["probabilities"], top["fine_tuned"]),
        ("fine-tuning, all", everything["fine_tuned"]["probabilities"], everything["fine_tuned"]),
        ("ensemble of feature extraction and top", top["ensemble"]["probabilities"], top["ensemble"]),
        ("fine-tuning, top, 10 + 5 epochs like the script", like_the_script["probabilities"], like_the_script),
        ("plain Keras script, top, 10 + 5 epochs", plain["probabilities"], plain),
    ]
    counts = [len(splits[split][0]) for split in ("train", "eval", "test")]
    lines = [
        f"### {config}: {len(labels)} classes, {counts[0]} / {counts[1]} / {counts[2]} photos to train / eval / test",
        "",
        "| model | accuracy | seconds | trainable parameters |",
        "|---|---|---|---|",
    ]
    for name, probabilities, facts in rows:
        from components.evaluator.metrics import evaluate

        accuracy = evaluate(probabilities, classes, labels, 0.95, _SAMPLES, _SEED)["accuracy"]
        value, low, high = (100 * accuracy[key] for key in ("value", "low", "high"))
        lines.append(
            f"| {name} | {value:.1f}% ({low:.1f} to {high:.1f}) | {facts['seconds']:.0f} | {facts['parameters']:,} |"
        )
    return "\n".join(lines) + "\n"


def _pipeline(config: str, folder: str, root: Path, settings: list[str]) -> dict[str, Any]:
    """A run of the pipeline: what each model says of the test photos, its seconds and its parameters."""
    command = [sys.executable, "-m", "deploy.cli", "run", "--config", config, "--data", folder, "--root", str(root)]
    command += ["--set", f"image.size={_IMAGE_SIZE}"]
    done = subprocess.run(
        [*command, *(part for setting in settings for part in ("--set", setting))],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 3):
        sys.exit(done.stdout + done.stderr)
    from tfx.types import artifact_utils, standard_artifacts

    from components.evaluator.stored_predictions import read_predictions

    summary = json.loads(max(root.glob("reports/*/summary.json")).read_text())
    first_time: dict[str, float] = {}
    for path in sorted(root.glob("reports/*/summary.json")):
        for node in json.loads(path.read_text())["nodes"]:
            if node["state"] == "complete":
                first_time[node["id"]] = node["seconds"]
    predictions = standard_artifacts.Examples()
    predictions.uri = str(max(root.glob("artifacts/Predictions/predictions/*"), key=lambda path: int(path.name)))
    predictions.split_names = artifact_utils.encode_split_names(["eval", "test"])
    stored = read_predictions(predictions, "test")
    data = ["ImageExampleGen", "StatisticsGen", "Transform", "FeatureVectorGen"]
    steps = {
        "feature_extraction": [*data, "FeatureExtraction"],
        "fine_tuned": [*data, "FeatureExtraction", "FineTuning"],
        "ensemble": [*data, "FeatureExtraction", "FineTuning", "Ensemble"],
    }
    parameters = {
        name: summary["models"][name]["training"]["trainable_parameters"]
        for name in ("feature_extraction", "fine_tuned")
    }
    parameters["ensemble"] = sum(parameters.values())
    return {"classes": stored.classes} | {
        name: {
            "probabilities": stored.probabilities[name],
            "seconds": sum(first_time.get(step, 0.0) for step in names),
            "parameters": parameters[name],
        }
        for name, names in steps.items()
    }


def _photos(root: Path) -> tuple[list[str], dict[str, tuple[list[bytes], list[int]]]]:
    """The classes, and the photos of each split in the order of the stored predictions."""
    from components.records import matching_files, read_examples, text
    from schemas import features as f
    from schemas import schema_files

    [schema] = root.glob("artifacts/DataGate/schema/*/" + schema_files.SCHEMA_FILE)
    labels = schema_files.labels(schema_files.read_schema(str(schema)))
    splits = {}
    for split in ("train", "eval", "test"):
        files = matching_files([str(root / f"artifacts/ImageExampleGen/examples/*/Split-{split}/*")])
        examples = sorted(read_examples(files), key=lambda e: (text(e, f.CONTENT_HASH), text(e, f.FILE_NAME)))
        splits[split] = (
            [e.features.feature[f.IMAGE].bytes_list.value[0] for e in examples],
            [labels.index(text(e, f.LABEL)) for e in examples],
        )
    return labels, splits


def _mini_xception(labels: list[str], splits: dict[str, tuple[list[bytes], list[int]]], epochs: int) -> dict[str, Any]:
    from benchmarks import mini_xception

    return mini_xception.run(splits["train"], splits["eval"], splits["test"], labels, epochs, _SEED)


def _plain_keras(labels: list[str], splits: dict[str, tuple[list[bytes], list[int]]], root: Path) -> dict[str, Any]:
    """The script on the same photos: it splits train and eval itself, and is tested on the same test photos."""
    folders = {"train": root / "plain", "eval": root / "plain", "test": root / "plain_test"}
    for split, (photos, classes) in splits.items():
        for i, (photo, index) in enumerate(zip(photos, classes, strict=True)):
            path = folders[split] / labels[index] / f"{split}-{i:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photo)
    command = [sys.executable, "-m", "benchmarks.plain_keras", str(folders["train"]), "--test", str(folders["test"])]
    done = subprocess.run(
        [*command, "--epochs", "10", "--fine-tuning-epochs", "5"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    result = json.loads(done.stdout[done.stdout.index("{") :])
    classes = np.array(splits["test"][1])
    right = round(result["test"]["accuracy"] * len(classes))
    # The script gives no probabilities; an accuracy's interval depends on the number of right answers alone.
    answers = np.where(np.arange(len(classes)) < right, classes, (classes + 1) % len(labels))
    return {
        "probabilities": np.eye(len(labels), dtype=np.float32)[answers],
        "seconds": result["total_seconds"],
        "parameters": result["trainable_parameters"],
    }


if __name__ == "__main__":
    main()
