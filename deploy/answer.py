"""The answer of a model for a photo on disk. Imports nothing slow."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Answer:
    """The model's answer for a photo, or why there is none."""

    file: str
    label: str = ""
    probability: float = 0.0
    """Probability of `label`, range [0, 1]."""
    abstains: bool = False
    """Whether the probability is too low for an answer that counts."""
    probabilities: dict[str, float] | None = None
    """Probability of each label, range [0, 1]; None: there is no answer, or it is a mask."""
    shares: dict[str, float] | None = None
    """Of a mask: share of the pixels of each class, range [0, 1]."""
    mask_png: bytes = field(default=b"", repr=False)
    """The mask: a PNG with one grey channel, the ids of the classes at the photo's upright size."""
    photo: bytes = field(default=b"", repr=False)
    """Of a mask: the photo as the model saw it."""
    reason: str = ""
    """Why there is no answer, as a word of `summary.json`."""
    error: str = ""
    """Why there is no answer, as a sentence."""

    @property
    def mask(self) -> np.ndarray | None:
        """The mask: uint8 [height, width], the ids of the classes at the photo's upright size; None: there is none."""
        if not self.mask_png:
            return None
        import numpy as np
        from PIL import Image

        return np.array(Image.open(io.BytesIO(self.mask_png)))
