"""ServableCheck of a model that gives masks: it answers in a fresh process as it was evaluated, or it is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf

from components.servable_check import component, exports, warmup
from components.servable_check.judgement import Limits
from tests.conftest import MASK_CLASSES

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def photos(drawn_photos, odd_photos):
    return [drawn_photos[2].photo_bytes, *odd_photos.values()]


@pytest.fixture(scope="module")
def expected(exported_segmenter, photos):
    """The ids that the model answers in this process, at its own size."""
    model = tf.saved_model.load(exported_segmenter)
    answers = model.signatures["probabilities"](image_bytes=tf.constant(photos))["probabilities"].numpy()
    return answers.argmax(-1).astype(np.uint8)


@pytest.fixture(scope="module")
def stamped(exported_segmenter, photos, tmp_path_factory):
    """A copy of the model with warm-up requests and a TFLite file in it."""
    folder = tmp_path_factory.mktemp("stamped") / "model"
    shutil.copytree(exported_segmenter, folder)
    assert warmup.write_requests(str(folder), photos[0], of_masks=True) == 10
    exports.convert(str(folder), ["tflite"])
    return str(folder)


@pytest.mark.slow
def test_the_right_model_and_its_export_are_servable(stamped, photos, expected):
    found = component.check(
        stamped, photos, expected, TOLERANCE, Limits(600, 1e6, 1e6, 1e6), formats=["tflite"], export_tolerance=1e-3
    )
    assert found.servable, found.text
    assert found.kinds == ["png", "grey", "tiny", "huge", "corrupt"]
    assert found.warm_up_requests == 10
    assert "the masks differ in a share of their pixels by at most " in found.text
    assert "the probabilities of tflite differ from its own by at most " in found.text
    assert found.exports["tflite"].largest_difference <= 1e-3


@pytest.mark.slow
def test_another_mask_than_the_evaluated_one_is_refused(stamped, photos, expected):
    wrong = (expected + 1) % len(MASK_CLASSES)
    found = component.check(stamped, photos, wrong, TOLERANCE)
    assert not found.servable
    assert "the masks differ in a share of their pixels by at most 1.0e+00, more than 1e-03" in found.text
