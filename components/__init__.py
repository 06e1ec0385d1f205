"""What runs inside the pipeline: the TFX components and what they compute."""

import os

# hub.KerasLayer works only with Keras 2 (tf_keras), and TensorFlow reads both settings once, on import.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
