"""The rules for checking and reading photos, which a model needs again when it predicts.

They are stored with the model in `assets.extra/input.json`, together with a description of its signatures' input.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from schemas.errors import BadInput

INPUT_FILE = os.path.join("assets.extra", "input.json")
# What TensorFlow decodes, and what is converted to PNG first.
SUPPORTED = ("JPEG", "PNG", "GIF", "BMP")
CONVERTED = ("WebP", "TIFF", "AVIF", "HEIC")

_SIGNATURES_TAKE = (
    f"The signatures take the bytes of {', '.join(SUPPORTED)} files, in `image_bytes` or in the feature `image` of an "
    "example. The first frame of an animation is used. Transparent parts of a PNG are shown on `background`. "
    f"{', '.join(CONVERTED)} must be converted to upright PNG first; `warmstart predict` and `explain` do that."
)


class Colour(NamedTuple):
    """A colour; each value is 0 to 255."""

    red: int
    green: int
    blue: int

    @classmethod
    def of(cls, text: str) -> Colour:
        """Parses `#rrggbb`."""
        return cls(*bytes.fromhex(text.removeprefix("#")))

    def __str__(self) -> str:
        return "#" + bytes(self).hex()


WHITE = Colour(255, 255, 255)


@dataclass(frozen=True)
class PhotoRules:
    """The keys with these names in `data` and `image` of the configuration, where they are described."""

    min_side: int = 16
    max_pixels: int = 100_000_000
    max_file_megabytes: int = 100
    convert: bool = True
    background: str = str(WHITE)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> PhotoRules:
        """Picks the rules from a mapping that may have other keys; missing rules get their defaults."""
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})

    @property
    def colour(self) -> Colour:
        """Colour shown through transparent parts of a photo."""
        return Colour.of(self.background)


def as_json(rules: PhotoRules) -> str:
    """The contents of a model's `INPUT_FILE`."""
    return json.dumps({"input_formats": SUPPORTED, "description": _SIGNATURES_TAKE, **asdict(rules)}, indent=2) + "\n"


def read_rules(model_folder: str | os.PathLike[str]) -> PhotoRules:
    """The rules stored with a model; the defaults for a model from an older version, which has none.

    Raises:
      BadInput: the rules cannot be read.
    """
    import tensorflow as tf

    file = os.path.join(model_folder, INPUT_FILE)
    if not tf.io.gfile.exists(file):
        return PhotoRules()
    try:
        with tf.io.gfile.GFile(file) as stream:
            rules = PhotoRules.of({**json.loads(stream.read())})
        _ = rules.colour
    except (tf.errors.OpError, ValueError, TypeError, AttributeError):
        raise BadInput(f"{file} is damaged: expected the rules that warmstart wrote; push the model again") from None
    return rules
