"""The preprocessing function of TFX Transform: one graph for training, evaluation and serving.

Reference: https://www.tensorflow.org/tfx/guide/transform
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from components.example_gen.photo_rules import Colour
from components.transform.image_ops import photos_to_unit_range
from schemas.features import IMAGE


def preprocessing_fn(inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Decodes, resizes and rescales.

    Args:
      inputs: `image`, string [batch, 1]: a photo's file as it was found.
      custom_config: `size`, `resize_method`, `antialias` and `background` of the configuration's `image`.

    Returns:
      `image`: float32 [batch, size, size, 3], range [0, 1], upright.
    """
    photo_bytes = tf.reshape(inputs[IMAGE], [-1])
    return {
        IMAGE: photos_to_unit_range(
            photo_bytes,
            size=custom_config["size"],
            method=custom_config["resize_method"],
            antialias=custom_config["antialias"],
            background=Colour.of(custom_config["background"]),
        )
    }
