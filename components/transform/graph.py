"""Applying the Transform graph to photos, wherever they are read."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
import tensorflow_transform as tft

from schemas.features import IMAGE


def load_transform(transform_graph_uri: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """The graph that Transform traced, as a function of photos alone.

    Returns:
      A function from string [batch] to float32 [batch, size, size, 3], range [0, 1]. It keeps the layer that
      holds the graph as its attribute `layer`, for models that are exported with it.
    """
    layer = tft.TFTransformOutput(transform_graph_uri).transform_features_layer()

    def transform(photo_bytes: tf.Tensor) -> tf.Tensor:
        return layer({IMAGE: photo_bytes[:, tf.newaxis]})[IMAGE]

    transform.layer = layer  # type: ignore[attr-defined]
    return transform
