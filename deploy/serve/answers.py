"""What `/answer` says about one photo, as `warmstart predict --json` does, and what the page shows of a mask."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from components.overlays.drawing import palette_png
from components.overlays.palette import hex_colour
from deploy.prediction import shares_of

# Of the mask on the page, pixels; programs get all of it from `:predict`.
_LONGEST_SIDE = 1024


def answer_of(outputs: Mapping[str, np.ndarray], labels: Sequence[str]) -> dict[str, Any]:
    """The answer to one photo, ready for JSON.

    Args:
      outputs: of the signature `serving_default`: name -> array [1, ...].
    """
    if "mask_png_bytes" in outputs:
        return {
            "shares": shares_of(labels, outputs["class_shares"][0]),
            "colours": {label: hex_colour(i, labels) for i, label in enumerate(labels)},
            "mask": _for_page(outputs["mask_png_bytes"][0], labels),
        }
    probabilities = [float(p) for p in outputs["probabilities"][0]]
    return {
        "label": outputs["label"][0].decode(),
        "probability": float(outputs["probability"][0]),
        "abstains": bool(outputs["abstains"][0]) if "abstains" in outputs else False,
        "probabilities": dict(zip(labels, probabilities, strict=True)),
    }


def _for_page(png: bytes, labels: Sequence[str]) -> str:
    """A data URI of a PNG to lay over the photo: ids as indices, tints as colours."""
    image: Image.Image = Image.open(io.BytesIO(png))
    if max(image.size) > _LONGEST_SIDE:
        smaller = _LONGEST_SIDE / max(image.size)
        size = (max(1, round(image.width * smaller)), max(1, round(image.height * smaller)))
        image = image.resize(size, Image.Resampling.NEAREST)
    drawn = palette_png(np.array(image), labels, transparent=True)
    return "data:image/png;base64," + base64.b64encode(drawn).decode()
