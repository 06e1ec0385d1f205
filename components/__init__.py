"""What runs inside the pipeline: the TFX components and what they compute."""

import os

# hub.KerasLayer works only with Keras 2 (tf_keras), and TensorFlow reads these settings once, on import.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# TensorFlow keeps the memory of its tensors, instead of asking the system for it again in every step: on a CPU each
# page is new then, and has to be filled with zeros, which took a third of the time of a pass through the backbone.
# The limit would be 64 GB, on whatever machine; this is 1 TB, of which nothing is taken before it is needed.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")
os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(2**20))
