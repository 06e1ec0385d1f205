"""The ServableCheck component."""

import os
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.artifacts import Verdict
from components.evaluator.stored_predictions import read_predictions
from components.records import read_examples, split_files, text
from components.servable_check import probe
from components.verdict import bless, read_verdict, write_verdict
from schemas import features as f

_TIMEOUT_SECONDS = 600


@component
def ServableCheck(
    model: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    predictions: InputArtifact[standard_artifacts.Examples],
    selection: InputArtifact[Verdict],
    blessing: OutputArtifact[standard_artifacts.InfraBlessing],
    verdict: OutputArtifact[Verdict],
    golden_photos: Parameter[int],
    tolerance: Parameter[float],
    code: Parameter[str],
):
    """Blesses the winner if a fresh process gets the stored probabilities out of it.

    Args:
      model: the winner.
      examples: photos; golden ones are taken from the test split, every true format first.
      predictions: of the Predictions component, on the same photos.
      selection: ModelSelector's verdict; it names the winner.
      blessing: of the winner; Pusher asks for it.
      verdict: the largest difference, load time and latency, and one sentence.
      golden_photos: how many photos are asked.
      tolerance: largest difference of a probability.
      code: fingerprint of the code this step runs; part of the cache key.
    """
    del code
    winner = read_verdict(selection.uri)["winner"]
    golden = choose_golden(read_examples(split_files(examples, "test")), golden_photos)
    stored = read_predictions(predictions, "test")
    row = {key: i for i, key in enumerate(stored.keys)}
    expected = stored.probabilities[winner][[row[text(example, f.CONTENT_HASH)] for example in golden]]
    photos = [example.features.feature[f.IMAGE].bytes_list.value[0] for example in golden]
    findings = check(path_utils.serving_model_path(model.uri), photos, expected, tolerance)
    write_verdict(verdict.uri, findings)
    bless(blessing, findings["servable"], "INFRA_")


def choose_golden(examples, count: int) -> list[tf.train.Example]:
    """`count` examples in the order of their content hashes, one of each true format first."""
    ordered = sorted(examples, key=lambda example: text(example, f.CONTENT_HASH))
    seen: set[str] = set()
    first: list[tf.train.Example] = []
    others: list[tf.train.Example] = []
    for example in ordered:
        image_format = text(example, f.IMAGE_FORMAT)
        (others if image_format in seen else first).append(example)
        seen.add(image_format)
    return (first + others)[:count]


def check(saved_model: str, photos: list[bytes], expected: np.ndarray, tolerance: float) -> dict:
    """Loads the model in a fresh process and compares its answers.

    Args:
      saved_model: folder of the model.
      photos: the photos' bytes.
      expected: float32 [photos, classes], range [0, 1].
      tolerance: largest difference allowed.

    Returns:
      `servable`, `text`, and where the process answered, `largest_difference`, `load_seconds` and
      `latency_milliseconds` (median, one photo a call).
    """
    with tempfile.TemporaryDirectory() as folder:
        photos_file, answers_file = os.path.join(folder, "photos.npz"), os.path.join(folder, "answers.npz")
        np.savez(photos_file, **{f"photo_{i}": np.frombuffer(photo, np.uint8) for i, photo in enumerate(photos)})
        try:
            done = subprocess.run(
                [sys.executable, "-I", probe.__file__, saved_model, photos_file, answers_file],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"servable": False, "text": f"a fresh process did not answer within {_TIMEOUT_SECONDS} s"}
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return {"servable": False, "text": f"a fresh process could not serve the model: {last}"}
        with np.load(answers_file) as answers:
            differences = [
                float(np.max(np.abs(answers[name] - expected))) for name in ("serving_default", "serve_examples")
            ]
            load_seconds = float(answers["load_seconds"])
            latency = float(np.median(answers["latency_seconds"]) * 1000)
    largest = float(np.max(differences))  # Python's max() may pass over a NaN
    servable = largest <= tolerance
    return {
        "servable": servable,
        "text": (
            f"a fresh process loaded the model in {load_seconds:.1f} s and answered {len(photos)} photos; the "
            f"probabilities differ by at most {largest:.1e}, {'within' if servable else 'more than'} {tolerance:.0e}"
        ),
        "largest_difference": largest,
        "load_seconds": load_seconds,
        "latency_milliseconds": latency,
    }
