"""Where training runs: one device or several, in float32 or, where the hardware has it, in mixed precision."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf

# NVIDIA's Volta, the first with tensor cores.
_TENSOR_CORES = (7, 0)


@dataclass(frozen=True)
class Devices:
    """The devices to train on."""

    strategy: tf.distribute.Strategy
    """Only variables that learn are created in its scope: a SavedModel loaded there works only in a training step."""
    scale_loss: bool
    """Whether gradients may vanish in float16."""
    note: str
    """Devices and precision, in words."""


def even_batch_size(examples: int, batch_size: int, replicas: int) -> int:
    """The largest batch size up to `batch_size` that gives every replica examples in every batch.

    tf.distribute gives larger parts to the first replicas and may leave the last one empty, which TF-Hub modules fail
    on.
    """

    def reaches_all(size: int) -> bool:
        return math.ceil(size / replicas) * (replicas - 1) < size

    sizes = range(batch_size, 0, -1)
    fitting = (size for size in sizes if reaches_all(size) and reaches_all(examples % size or size))
    return next(fitting, batch_size)


@contextlib.contextmanager
def training_devices(mixed_precision: str, one_device: bool = False) -> Iterator[Devices]:
    """All GPUs with MirroredStrategy if there are several, otherwise TensorFlow's default device.

    Mixed precision rewrites the graph (https://www.tensorflow.org/guide/graph_optimization, "auto mixed precision"),
    since Keras policies do not apply to the graph of a TF-Hub module. It ends with the context.

    Args:
      mixed_precision: `auto` or `off`.
      one_device: uses TensorFlow's default device in any case.
    """
    gpus = tf.config.list_logical_devices("GPU")
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    mixed = mixed_precision == "auto" and bool(capabilities) and min(capabilities) >= _TENSOR_CORES
    several = len(gpus) > 1 and not one_device
    strategy = tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()
    where = f"{len(gpus)} GPUs" if several else "one GPU" if gpus else "CPU"
    if len(gpus) > 1 and one_device:
        where += f" of {len(gpus)}, since a backbone cannot be taken apart on several"
    options = tf.config.optimizer.get_experimental_options()
    if mixed:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision": True})
    try:
        yield Devices(strategy, mixed, f"{where}, {'mixed float16' if mixed else 'float32'}")
    finally:
        if mixed:
            enabled = options.get("auto_mixed_precision", False)
            tf.config.optimizer.set_experimental_options({"auto_mixed_precision": enabled})
