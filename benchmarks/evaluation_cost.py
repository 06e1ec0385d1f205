"""What evaluating two models costs beside asking them once: `python -m benchmarks.evaluation_cost --data DIR`.

DIR holds one folder a class; the photos are made from its photos by cropping, and most of them go to the eval and test
splits. A run of the pipeline gives the time of Predictions and Evaluator. Then a process of its own loads each of the
two exported models and asks it about the same examples, in the same batches, with nothing else around: the plain pass.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.more_photos import make_photos

_BATCH = 32
# A tenth of the photos is enough to train by; the models' answers do not matter here.
_SETTINGS = [
    "data.splits.train=1",
    "data.splits.eval=5",
    "data.splits.test=4",
    "training.feature_extraction.epochs=3",
    "training.fine_tuning.epochs=1",
    "release.minimum_accuracy=0",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of photos, one folder a class")
    parser.add_argument("--photos", type=int, default=2000, metavar="N")
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.root:
        print(json.dumps(_plain_passes(arguments.root)))
        return
    with tempfile.TemporaryDirectory() as folder:
        photos, root = Path(folder, "photos"), Path(folder, "root")
        make_photos(arguments.data, photos, arguments.photos, seed=1)
        settings = [part for setting in _SETTINGS for part in ("--set", setting)]
        command = ["-m", "deploy.cli", "run", "--config", "image_folder", "--data", str(photos), "--root", str(root)]
        done = subprocess.run([sys.executable, *command, *settings], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode not in (0, 3):  # 3: the run ended and pushed nothing, by verdict
            sys.exit(done.stdout)
        [summary] = [json.loads(path.read_text()) for path in root.glob("reports/*/summary.json")]
        seconds = {node["id"]: node["seconds"] for node in summary["nodes"]}
        command = ["-m", "benchmarks.evaluation_cost", "--data", str(arguments.data), "--root", str(root)]
        done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, check=True)
    plain = json.loads(done.stdout.splitlines()[-1])
    ours = seconds["Predictions"] + seconds["Evaluator"]
    passes = plain["feature_extraction"] + plain["fine_tuned"]
    print(f"{plain['examples']} photos of the eval and test splits, two models")
    print(f"plain passes             {passes:7.1f} s  (loading {plain['loading']:.1f} s not counted)")
    print(f"Predictions              {seconds['Predictions']:7.1f} s")
    print(f"Evaluator                {seconds['Evaluator']:7.1f} s")
    print(f"beyond 1.3 plain passes  {ours - 1.3 * passes:7.1f} s")


def _plain_passes(root: Path) -> dict[str, float]:
    """Seconds that each model takes to answer every photo of the eval and test splits once."""
    import components  # noqa: F401  (settings that TensorFlow reads on import)

    # isort: split
    import tensorflow as tf

    [examples] = (root / "artifacts" / "ImageExampleGen" / "examples").iterdir()
    files = sorted(str(path) for split in ("eval", "test") for path in examples.glob(f"Split-{split}/*"))
    found: dict[str, float] = {"loading": 0.0}
    for name, node in (("feature_extraction", "FeatureExtraction"), ("fine_tuned", "FineTuning")):
        [model] = (root / "artifacts" / node / "model").glob("*/Format-Serving")
        start = time.perf_counter()
        loaded = tf.saved_model.load(str(model))
        answer = loaded.signatures["serve_examples"]
        found["loading"] += time.perf_counter() - start
        start = time.perf_counter()
        answered = 0
        for batch in tf.data.TFRecordDataset(files, "GZIP").batch(_BATCH):
            answered += len(answer(examples=batch)["probabilities"].numpy())
        found[name] = time.perf_counter() - start
        found["examples"] = answered
    return found


if __name__ == "__main__":
    main()
