"""What TFX's Evaluator takes for each photo with a mask: `python -m benchmarks.mask_evaluator_cost`.

Stored answers of two models are drawn at random, with the features that Predictions writes, and Evaluator reads them as
in a run, with all of its slices. Its fixed cost goes away by taking the difference between two numbers of photos.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
from google.protobuf import json_format
from tfx.components.evaluator.executor import Executor
from tfx.types import artifact_utils, standard_artifacts

from components.evaluator.eval_config import make_eval_config
from components.evaluator.metrics import BINS
from components.evaluator.stored_masks import (
    COUNTED_PIXELS,
    confidence_gaps_key,
    confusion_key,
    ids_png,
    mask_key,
    pixel_loss_key,
)
from components.evaluator.stored_predictions import FEATURE_EXTRACTION, FINE_TUNED
from deploy.beam_arguments import LOCAL
from schemas import features as f

_FEW = 100  # photos
_SIDE = 160  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=600, metavar="N", help=f"more than {_FEW}")
    parser.add_argument("--classes", type=int, default=3, metavar="C")
    arguments = parser.parse_args()
    cpu_seconds(5, arguments.classes)  # imports and caches
    few, many = (cpu_seconds(photos, arguments.classes) for photos in (_FEW, arguments.photos))
    print(f"{_FEW} photos        {few:6.2f} CPU s")
    print(f"{arguments.photos} photos        {many:6.2f} CPU s")
    print(f"for each photo    {1000 * (many - few) / (arguments.photos - _FEW):6.2f} CPU ms")


def cpu_seconds(photos: int, classes: int) -> float:
    """The time of this process that evaluating so many photos takes."""
    with tempfile.TemporaryDirectory() as folder:
        examples = standard_artifacts.Examples()
        examples.uri = f"{folder}/predictions"
        examples.split_names = artifact_utils.encode_split_names(["eval"])
        split = Path(folder, "predictions", "Split-eval")
        split.mkdir(parents=True)
        with tf.io.TFRecordWriter(str(split / "data_tfrecord-00000-of-00001.gz"), "GZIP") as writer:
            for row in range(photos):
                writer.write(stored_answer(row, classes).SerializeToString())
        made = {
            "model": standard_artifacts.Model(),
            "baseline_model": standard_artifacts.Model(),
            "evaluation": standard_artifacts.ModelEvaluation(),
            "blessing": standard_artifacts.ModelBlessing(),
        }
        for name, artifact in made.items():
            artifact.uri = f"{folder}/{name}"
        slices = [name for name in f.SLICES if name != f.BREED]  # which is the label
        config = make_eval_config(0.5, 0.0, slices, "code", f.SEGMENTATION)
        context = Executor.Context(beam_pipeline_args=list(LOCAL), tmp_dir=f"{folder}/temp", unique_id="1")
        start = time.process_time()
        Executor(context).Do(
            {"examples": [examples], **{name: [made[name]] for name in ("model", "baseline_model")}},
            {name: [made[name]] for name in ("evaluation", "blessing")},
            {
                "eval_config": json_format.MessageToJson(config, preserving_proto_field_name=True),
                "example_splits": json.dumps(["eval"]),
            },
        )
        return time.process_time() - start


def stored_answer(row: int, classes: int) -> tf.train.Example:
    """What Predictions would store of a photo with a mask."""
    rng, example = np.random.default_rng(row), tf.train.Example()
    feature = example.features.feature
    texts = {
        f.CONTENT_HASH: f"{row:064d}",
        f.FILE_NAME: f"{row}.jpg",
        f.DATASET: "oxford_iiit_pet",
        f.LABEL: f"breed {row % 37}",
        f.SPECIES: ("cat", "dog", "dog")[row % 3],
        f.IMAGE_FORMAT: "JPEG",
        f.IMAGE_SIZE: f.image_size(300, 400),
    }
    for name, value in texts.items():
        feature[name].bytes_list.value.append(value.encode())
    feature[COUNTED_PIXELS].int64_list.value.append(_SIDE**2)
    likely = np.eye(classes) + 0.1
    for model in (FEATURE_EXTRACTION, FINE_TUNED):
        confusion = rng.multinomial(_SIDE**2, (likely / likely.sum()).ravel())
        feature[confusion_key(model)].int64_list.value.extend(confusion)
        feature[pixel_loss_key(model)].float_list.value.append(float(rng.random()))
        feature[confidence_gaps_key(model)].float_list.value.extend(rng.normal(0, 0.01, BINS))
        feature[mask_key(model)].bytes_list.value.append(
            ids_png(np.repeat(rng.integers(0, classes, 40), 640).reshape(_SIDE, -1))
        )
    return example


if __name__ == "__main__":
    main()
