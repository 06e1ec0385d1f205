"""What is wrong with a segmentation model's answers, in sentences."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from components.servable_check.judgement import ROUNDING, Answers, Judging, of_first


@dataclass(frozen=True)
class OfMasks(Judging):
    """Of a model that gives masks: ids, uint8 [n, size, size]; a difference is a share of a photo's pixels.

    Two processes that run the same model may differ in the last bits, so pixels between two classes tip over.
    """

    tolerance: float = 1e-3
    what, of_masks = "the masks differ in a share of their pixels", True
    _first_output = "serving_default_class_shares"
    _most_disagreement = 1e-4

    def difference(self, answers: Answers, expected: np.ndarray) -> float:
        found = answers["ids"][: len(expected)]
        if found.shape != expected.shape:
            return float("inf")
        return float(np.max(np.mean(found != expected, axis=(1, 2))))

    def disagreement(self, answers: Answers) -> float:
        """Of `probabilities` from the model of `transform_features`' images."""
        return float(np.max(answers["probability_differences"]))

    def _wrong_outputs(self, answers: Answers, photos: Mapping[str, bytes]) -> list[str]:
        sizes = np.array([_upright_size(photo) for photo in photos.values()])
        wrong = {
            "a mask of another size than the upright photo": np.any(answers["mask_sizes"] != sizes, axis=1),
            f"an id that is none of its {len(answers['labels'])} classes": (
                answers["mask_highest_ids"] >= len(answers["labels"])
            ),
            "class_shares that are not those of the mask": ~(answers["mask_share_errors"] <= ROUNDING),
            "another mask than serve_examples": ~(answers["mask_differences"] <= self.tolerance),
        }
        faults = of_first("serving_default", wrong, list(photos))
        low, high = answers["probability_sums"]
        if not (low >= 1 - ROUNDING and high <= 1 + ROUNDING):
            faults.append(f"probabilities gives sums from {low:.3g} to {high:.3g} for a pixel, not 1")
        return faults


def _upright_size(photo: bytes) -> tuple[int, int]:
    """Height and width as people see them, by another decoder than the model's."""
    width, height = ImageOps.exif_transpose(Image.open(io.BytesIO(photo))).size
    return height, width
