"""How photos are judged and read: what a model has to know of its run's configuration where it answers.

The rules lie beside the model, in `assets.extra/input.json`, together with what its signatures take.
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
    "example; of an animation the first frame is seen, and transparent parts of a PNG are seen on `background`. "
    f"{', '.join(CONVERTED)} have to be converted to PNG first, upright; `warmstart predict` and `explain` do that."
)


class Colour(NamedTuple):
    """Each 0 to 255."""

    red: int
    green: int
    blue: int

    @classmethod
    def of(cls, text: str) -> Colour:
        """The colour that is written as `#rrggbb`."""
        return cls(*bytes.fromhex(text.removeprefix("#")))

    def __str__(self) -> str:
        return "#" + bytes(self).hex()


WHITE = Colour(255, 255, 255)


@dataclass(frozen=True)
class PhotoRules:
    """The keys of these names in `data` and `image` of the configuration, which says what they mean."""

    min_side: int = 16
    max_pixels: int = 100_000_000
    max_file_megabytes: int = 100
    convert: bool = True
    background: str = str(WHITE)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> PhotoRules:
        """The rules among values that have other names too; the defaults where a rule is missing."""
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})

    @property
    def colour(self) -> Colour:
        """What transparent parts of a photo are seen on."""
        return Colour.of(self.background)


def as_json(rules: PhotoRules) -> str:
    """What `INPUT_FILE` of a model holds."""
    return json.dumps({"input_formats": SUPPORTED, "description": _SIGNATURES_TAKE, **asdict(rules)}, indent=2) + "\n"


def read_rules(model_folder: str | os.PathLike[str]) -> PhotoRules:
    """The rules that came with a model; the defaults for a model of an older version, which has none.

    Raises:
      BadInput: they cannot be read.
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
        raise BadInput(f"{file} is damaged: expected what warmstart wrote beside the model; push it again") from None
    return rules
