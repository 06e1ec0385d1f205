#!/bin/sh
# Guess:   `tft.vocabulary` of labels that are equally frequent is in alphabetical order, as class names are
#          everywhere else (Keras, datasets, scikit-learn).
# Seen:    with TensorFlow Transform 1.21.0 ties are broken backwards, z before a, behind the more frequent ones. A
#          balanced data set gives the reverse of what a list of class names says, and one more photo gives other
#          numbers to the classes: a head that is warm-started from yesterday's has its columns swapped, and no shape
#          tells.
#              tensorflow-transform 1.21.0: cat 2, dog 2: dog 0, cat 1
#              tensorflow-transform 1.21.0: cat 3, dog 2: cat 0, dog 1
#              tensorflow-transform 1.21.0: ant 1, bee 1, cow 1: cow 0, bee 1, ant 2
# Source:  `_VocabularyOrderAndWriteImpl` in tensorflow_transform/beam/analyzer_impls.py sorts pairs of count and
#          token with reverse=True; "larger (lexicographic) items come first", vocabulary_integration_test.py.
# Matters: no analyzer of TFT numbers the classes. Their list lies beside each model (schemas/labels.py), and a warm
#          start matches the rows of the head by name (components/trainer/warm_start.py).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow-transform==1.21.0 apache-beam==2.77.0 google-crc32c==1.9.0
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - "$folder" 2>/dev/null <<'PYTHON'
import sys
from collections import Counter
from importlib.metadata import version

import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

spec = {"label": tf.io.FixedLenFeature([], tf.string)}
metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
expected = {
    ("cat", "dog", "cat", "dog"): ["dog", "cat"],
    ("cat", "dog", "cat", "dog", "cat"): ["cat", "dog"],
    ("ant", "bee", "cow"): ["cow", "bee", "ant"],
}
seen = {}
for number, labels in enumerate(expected):
    written = f"{sys.argv[1]}/{number}"
    with tft_beam.Context(temp_dir=f"{written}.temporary"):
        photos = ([{"label": label} for label in labels], metadata)
        transform = photos | tft_beam.AnalyzeDataset(
            lambda photo: {"label": tft.compute_and_apply_vocabulary(photo["label"], vocab_filename="labels")}
        )
        _ = transform | tft_beam.WriteTransformFn(written)
    vocabulary = tft.TFTransformOutput(written).vocabulary_by_name("labels")
    seen[labels] = [label.decode() for label in vocabulary]
    counts = ", ".join(f"{label} {count}" for label, count in Counter(labels).items())
    numbers = ", ".join(f"{label} {index}" for index, label in enumerate(seen[labels]))
    print(f"tensorflow-transform {version('tensorflow-transform')}: {counts}: {numbers}")
sys.exit(seen != expected)
PYTHON
