"""ServableCheck of a model that gives masks: it answers in a fresh process as it was evaluated, or it is refused."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf

from components.servable_check import component, exports, warmup
from components.servable_check.judgement import Limits
from tests.conftest import MASK_CLASSES

TOLERANCE, EXPORT_TOLERANCE = 1e-5, 1e-4


@pytest.fixture(scope="module")
def photos(drawn_photos, odd_photos):
    return [drawn_photos[2].photo_bytes, *odd_photos.values()]


@pytest.fixture(scope="module")
def expected(exported_segmenter, photos):
    """The ids that the model answers in this process, at its own size."""
    model = tf.saved_model.load(exported_segmenter)
    answers = model.signatures["probabilities"](image_bytes=tf.constant(photos))["probabilities"].numpy()
    return answers.argmax(-1).astype(np.uint8)


FORMATS = ["tflite", *(["onnx"] if find_spec("tf2onnx") else [])]  # the packages of the second are optional


@pytest.fixture(scope="module")
def stamped(exported_segmenter, photos, tmp_path_factory):
    """A copy of the model with warm-up requests and its exports in it."""
    folder = tmp_path_factory.mktemp("stamped") / "model"
    shutil.copytree(exported_segmenter, folder)
    assert warmup.write_requests(str(folder), photos[0], of_masks=True) == 10
    exports.convert(str(folder), FORMATS)
    return str(folder)


@pytest.mark.slow
def test_the_right_model_and_its_exports_are_servable(stamped, photos, expected):
    found = component.check(stamped, photos, expected, TOLERANCE, Limits(600, 1e6, 1e6, 1e6), FORMATS, EXPORT_TOLERANCE)
    assert found.servable, found.text
    assert found.kinds == ["png", "grey", "tiny", "huge", "corrupt"]
    assert found.warm_up_requests == 10
    assert "the masks differ in a share of their pixels by at most " in found.text
    assert list(found.exports) == FORMATS
    for name, export in found.exports.items():
        assert f"the probabilities of {name} differ from its own by at most " in found.text
        assert export.largest_difference <= EXPORT_TOLERANCE
        assert export.latency_milliseconds > 0


@pytest.mark.slow
@pytest.mark.parametrize("export_format", FORMATS)
def test_an_export_gives_the_probabilities_of_each_pixel(stamped, export_format, tmp_path):
    model = tf.saved_model.load(stamped)
    [spec] = model.probabilities_of_images.input_signature
    images = np.random.default_rng(5).random([3, *spec.shape[1:]], np.float32)
    np.save(tmp_path / "images.npy", images)
    wanted = model.probabilities_of_images(tf.constant(images)).numpy()
    assert wanted.shape == (3, *images.shape[1:3], len(MASK_CLASSES))
    found = exports.compare(stamped, export_format, str(tmp_path / "images.npy"), wanted)
    assert found.largest_difference < 1e-5
    changed = wanted.copy()
    changed[-1, 3, 4] += [0.01, -0.01, 0]  # of one pixel of one image
    found = exports.compare(stamped, export_format, str(tmp_path / "images.npy"), changed)
    assert found.largest_difference == pytest.approx(0.01, rel=0.01)


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("export_format", FORMATS)
def test_an_export_of_another_model_is_refused(stamped, export_format, export_segmenter, photos, expected, tmp_path):
    other, folder = export_segmenter(seed=2), str(tmp_path / "model")
    exports.convert(other, [export_format])
    shutil.copytree(stamped, folder)
    shutil.copy(exports.export_file(other, export_format), exports.export_file(folder, export_format))
    found = component.check(folder, photos, expected, TOLERANCE, Limits(), [export_format], EXPORT_TOLERANCE)
    assert not found.servable
    assert found.text.endswith("more than 1e-04")


@pytest.mark.slow
def test_another_mask_than_the_evaluated_one_is_refused(stamped, photos, expected):
    wrong = (expected + 1) % len(MASK_CLASSES)
    found = component.check(stamped, photos, wrong, TOLERANCE)
    assert not found.servable
    assert "the masks differ" in found.text
