"""ServableCheck: the exported model answers in a fresh process as it was evaluated, or it is refused with a reason."""

import ast
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf

from components.records import text
from components.servable_check import component, probe
from schemas import features as f

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def photos(drawn_photos, odd_photos):
    return [drawn_photos[0].photo_bytes, *odd_photos.values()]


@pytest.fixture(scope="module")
def expected(exported_model, photos):
    """What the model answers in this process."""
    model = tf.saved_model.load(exported_model)
    return model.signatures["serving_default"](image_bytes=tf.constant(photos))["probabilities"].numpy()


def test_the_right_model_is_servable_and_the_process_had_nothing_of_ours(exported_model, photos, expected, monkeypatch):
    run, processes = subprocess.run, []

    def run_with_import_times(command, **options):
        assert command[1] == "-I", "the process must not see the working folder, nor PYTHONPATH"
        done = run([command[0], "-X", "importtime", *command[1:]], **options)
        processes.append(done)
        return done

    monkeypatch.setattr(subprocess, "run", run_with_import_times)
    findings = component.check(exported_model, photos, expected, TOLERANCE)
    assert findings["servable"], findings["text"]
    assert 0 <= findings["largest_difference"] <= TOLERANCE
    assert findings["load_seconds"] > 0
    assert findings["latency_milliseconds"] > 0
    assert f"answered {len(photos)} photos" in findings["text"]
    assert "within 1e-05" in findings["text"]

    [process] = processes
    lines = [line for line in process.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert {"numpy", "tensorflow"} <= imported
    foreign = {"components", "schemas", "pipeline", "deploy", "tfx", "tfx_bsl", "tensorflow_transform", "apache_beam"}
    assert not imported & (foreign | {"tensorflow_hub", "tensorflow_model_analysis"})


def test_the_probe_names_tensorflow_and_numpy_alone():
    imported = set()
    for node in ast.walk(ast.parse(Path(probe.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.partition(".")[0] if node.level == 0 else "(relative)")
    assert imported == {"sys", "time", "numpy", "tensorflow"}


def test_a_probability_that_is_off_by_a_thousandth_is_refused(exported_model, photos, expected):
    changed = expected.copy()
    changed[-1] += [1e-3, -1e-3]  # of one photo
    findings = component.check(exported_model, photos, changed, TOLERANCE)
    assert not findings["servable"]
    assert findings["largest_difference"] == pytest.approx(1e-3, rel=0.05)
    assert "differ by at most 1.0e-03, more than 1e-05" in findings["text"]


def test_what_is_no_saved_model_is_refused_with_the_last_line_of_the_process(tmp_path, photos, expected):
    findings = component.check(str(tmp_path), photos, expected, TOLERANCE)
    assert findings.keys() == {"servable", "text"}
    assert not findings["servable"]
    assert findings["text"].startswith("a fresh process could not serve the model: OSError: ")
    assert str(tmp_path) in findings["text"]
    assert "\n" not in findings["text"]


class AnswersNothing(tf.Module):
    """Right for photos, NaN for examples."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serving_default(self, image_bytes):
        return {"probabilities": tf.fill([tf.size(image_bytes), 2], 0.5)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve_examples(self, examples):
        return {"probabilities": tf.fill([tf.size(examples), 2], float("nan"))}


def test_answers_that_are_not_numbers_are_refused(tmp_path):
    model = AnswersNothing()
    signatures = {name: getattr(model, name) for name in ("serving_default", "serve_examples")}
    tf.saved_model.save(model, str(tmp_path), signatures=signatures)
    findings = component.check(str(tmp_path), [b"a photo"], np.full([1, 2], 0.5, np.float32), TOLERANCE)
    assert not findings["servable"]
    assert "differ by at most nan, more than 1e-05" in findings["text"]


def test_a_process_that_hangs_is_refused(monkeypatch, tmp_path):
    def never_ends(command, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", never_ends)
    findings = component.check(str(tmp_path), [b"a photo"], np.zeros([1, 2], np.float32), TOLERANCE)
    assert findings == {"servable": False, "text": "a fresh process did not answer within 600 s"}


def golden_candidates():
    """Formats by content hash: JPEG for 0 to 5, GIF for 6, PNG for 7 and 8, BMP for 9."""
    examples = []
    for key, image_format in enumerate(["JPEG"] * 6 + ["GIF", "PNG", "PNG", "BMP"]):
        example = tf.train.Example()
        example.features.feature[f.CONTENT_HASH].bytes_list.value.append(f"{key:064x}".encode())
        example.features.feature[f.IMAGE_FORMAT].bytes_list.value.append(image_format.encode())
        examples.append(example)
    return examples


def keys(examples):
    return [int(text(example, f.CONTENT_HASH), 16) for example in examples]


@pytest.mark.parametrize(
    ("count", "chosen"),
    [(4, [0, 6, 7, 9]), (6, [0, 6, 7, 9, 1, 2]), (2, [0, 6]), (100, [0, 6, 7, 9, 1, 2, 3, 4, 5, 8])],
)
def test_golden_photos_are_one_of_each_format_first_whatever_the_order(count, chosen):
    candidates = golden_candidates()
    for seed in range(5):
        random.Random(seed).shuffle(candidates)
        assert keys(component.choose_golden(iter(candidates), count)) == chosen
