"""Seconds of a batch of 32 through a frozen backbone: `python -m benchmarks.frozen_pass_time SIDE BACKBONE SIZE ...`.

SIDE is `plain` (hub.KerasLayer) or `ours` (FeatureVectorGen's pass, which gives activations too). The median of a
number of passes, each of a number of batches, is printed. For `benchmarks.side_by_side`.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no notes on the processor beside the number

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
import tensorflow_hub as hub

from components.backbone import cut, feature_vector, freezing, frozen_pass, registry

BATCH_SIZE = 32


def main(side: str, backbone: str, size: int, passes: int, batches: int) -> None:
    module_path = str(feature_vector.resolve(backbone))
    if side == "plain":
        function = tf.function(hub.KerasLayer(module_path, trainable=False))
    else:
        module = hub.load(module_path)
        learning = freezing.learning_variables(
            [v.name for v in module.trainable_variables],
            [v.name for v in module.variables],
            "top",
            default_pattern=registry.BACKBONES[backbone].unfreeze,
        )
        function = frozen_pass.build(module, size, cut.cut(module, learning, size)).call
    images = tf.random.stateless_uniform([BATCH_SIZE, size, size, 3], [1, 2])

    def seconds() -> float:
        start = time.perf_counter()
        for _ in range(batches):
            function(images)
        return (time.perf_counter() - start) / batches

    seconds()
    print(statistics.median(seconds() for _ in range(passes)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *(int(number) for number in sys.argv[3:6]))
