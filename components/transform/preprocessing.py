"""The preprocessing function of TFX Transform: one graph for training, evaluation and serving.

Reference: https://www.tensorflow.org/tfx/guide/transform
"""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf
from pydantic import BaseModel, ConfigDict

from components.example_gen.photo_rules import Colour
from components.transform.image_ops import photos_to_unit_range
from schemas.features import IMAGE


class PreprocessingSettings(BaseModel):
    """`custom_config` of Transform: `image` of the configuration, which says what each key means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    resize_method: Literal["bilinear", "bicubic", "area"]
    antialias: bool
    background: str
    code: str


def preprocessing_fn(inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Decodes, resizes and rescales.

    Args:
      inputs: `image`, string [batch, 1]: a photo's file as it was found.
      custom_config: `PreprocessingSettings`.

    Returns:
      `image`: float32 [batch, size, size, 3], range [0, 1], upright.
    """
    settings = PreprocessingSettings.model_validate(custom_config)
    photo_bytes = tf.reshape(inputs[IMAGE], [-1])
    return {
        IMAGE: photos_to_unit_range(
            photo_bytes,
            size=settings.size,
            method=settings.resize_method,
            antialias=settings.antialias,
            background=Colour.of(settings.background),
        )
    }
