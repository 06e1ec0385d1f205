"""What the Predictions component stored, read back: each photo once."""

import numpy as np

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
from tfx.types import standard_artifacts

from components.evaluator.stored_predictions import FINE_TUNED, LABEL_INDEX, probabilities_key, read_predictions
from schemas import features as f


def prediction(content_hash: str, file_name: str, index: int, dataset: str = "image_folder") -> tf.train.Example:
    example = tf.train.Example()
    feature = example.features.feature
    for name, value in ((f.CONTENT_HASH, content_hash), (f.FILE_NAME, file_name), (f.DATASET, dataset)):
        feature[name].bytes_list.value.append(value.encode())
    feature[LABEL_INDEX].int64_list.value.append(index)
    feature[probabilities_key(FINE_TUNED)].float_list.value.extend([0.75, 0.25])
    return example


def test_copies_of_a_photo_count_once(tmp_path, write_records):
    rows = [("b", "2.jpg", 1), ("a", "copy.jpg", 0), ("c", "3.jpg", 0), ("a", "1.jpg", 0), ("a", "z.jpg", 0)]
    write_records(tmp_path / "Split-test", [prediction(*row) for row in rows])
    predictions = standard_artifacts.Examples()
    predictions.uri, predictions.split_names = str(tmp_path), '["test"]'
    stored = read_predictions(predictions, "test")
    assert stored.keys == ["a", "b", "c"]
    assert stored.file_names == ["1.jpg", "2.jpg", "3.jpg"]
    assert stored.classes.tolist() == [0, 1, 0]
    assert stored.probabilities[FINE_TUNED].shape == (3, 2)
    assert stored.scores(FINE_TUNED).tolist() == [True, False, True]
    assert np.array_equal(stored.rows_by_value("dataset")["image_folder"], [0, 1, 2])
