"""The serving page with a model that looks at the colour only, for the browser: `python -m tests.browser.serving`.

Prints the address. A photo whose mean is dark is one on which it abstains. With the argument `masks` the model gives a
class for each pixel.
"""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
from PIL import Image

from components.evaluator.stored_masks import ids_png
from components.example_gen.conversion import read_photo
from components.example_gen.photo_rules import PhotoRules
from deploy.serve.application import Application, Limits
from deploy.serve.model import ReadyPhoto
from deploy.serve.server import address, bind, listen, run

LABELS = ["<b>cat</b>", "dog", "hen", "owl", "pig", "rat", "yak"]


class ColourVersion:
    """Stands in for a `ModelVersion`."""

    number = 1790000001
    labels = LABELS
    signatures = ("serving_default",)

    def read(self, photo: bytes) -> ReadyPhoto:
        return ReadyPhoto(read_photo(photo, PhotoRules()).photo_bytes, 1)

    def run(self, signature: str, photos: list[bytes]) -> list[dict[str, Any]]:
        return [self._answer(np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"))) for photo in photos]

    def _answer(self, pixels: np.ndarray) -> dict[str, Any]:
        red, blue = pixels[..., 0].mean() + 1, pixels[..., 2].mean() + 1
        probabilities = np.full(len(LABELS), 0.01, np.float32)
        probabilities[:2] = np.array([red, blue]) / (red + blue) * 0.95
        best = int(probabilities.argmax())
        return {
            "label": LABELS[best].encode(),
            "probability": probabilities[best],
            "probabilities": probabilities,
            "abstains": pixels.mean() < 60,
        }


class MaskVersion(ColourVersion):
    """Gives a mask in three stripes."""

    labels = ["<b>cat</b>", "background", "owl"]  # noqa: RUF012

    def _answer(self, pixels: np.ndarray) -> dict[str, Any]:
        ids = np.repeat(np.arange(pixels.shape[1]) * 3 // pixels.shape[1], pixels.shape[0])
        ids = ids.reshape(pixels.shape[1::-1]).T.astype(np.uint8)
        shares = np.bincount(ids.ravel(), minlength=3) / ids.size
        return {"mask_png_bytes": ids_png(ids), "class_shares": shares.astype(np.float32)}


class ColourModel:
    """Stands in for a `ServedModel`."""

    name = "pets & <i>more</i>"
    current = MaskVersion() if sys.argv[1:] == ["masks"] else ColourVersion()

    def update(self, on_change: Any) -> None:
        pass


if __name__ == "__main__":
    with bind("127.0.0.1", 0) as listener:
        listen(listener)
        print(address(listener), flush=True)
        run(Application(ColourModel(), Limits(body_bytes=200_000)), listener)
