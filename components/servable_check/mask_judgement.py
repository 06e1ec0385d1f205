"""What is wrong with a segmentation model's answers, in sentences."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageOps

from components.servable_check.judgement import wrong_images_and_vectors

# Shares and sums in float32 are exact but for rounding.
_ROUNDING = 1e-4


def largest_difference(answers: Mapping[str, np.ndarray], expected: np.ndarray) -> float:
    """Largest share of a photo's pixels that get another class than expected; infinite if the shapes differ.

    Args:
      answers: see `probe`.
      expected: uint8 [n, size, size], of the first n photos.
    """
    found = answers["ids"][: len(expected)]
    if found.shape != expected.shape:
        return float("inf")
    return float(np.max(np.mean(found != expected, axis=(1, 2))))


def largest_disagreement(answers: Mapping[str, np.ndarray]) -> float:
    """Of the probabilities of `probabilities` from those of `transform_features`' images."""
    return float(np.max(answers["probability_differences"]))


def wrong_answers(
    answers: Mapping[str, np.ndarray], photos: Mapping[str, bytes], tolerance: float, probability_tolerance: float
) -> list[str]:
    """Whatever contradicts itself, or what the signatures promise.

    Args:
      answers: see `probe`; and `labels`, the model's classes.
      photos: name of each photo -> its bytes, in order.
      tolerance: largest share of a photo's pixels that may get another class.
      probability_tolerance: largest difference of a probability allowed.

    Returns:
      Parts of a sentence, one for each kind of fault; empty for a model without fault.
    """
    kinds = list(photos)
    sizes = np.array([_upright_size(photo) for photo in photos.values()])
    wrong = {
        "a mask of another size than the upright photo": np.any(answers["mask_sizes"] != sizes, axis=1),
        f"an id that is none of its {len(answers['labels'])} classes": (
            answers["mask_highest_ids"] >= len(answers["labels"])
        ),
        "class_shares that are not those of the mask": ~(answers["mask_share_errors"] <= _ROUNDING),
        "another mask than serve_examples": ~(answers["mask_differences"] <= tolerance),
    }
    faults = [
        f"serving_default gives {what}, first for the photo {kinds[int(np.argmax(rows))]!r}"
        for what, rows in wrong.items()
        if np.any(rows)
    ]
    low, high = answers["probability_sums"]
    if not (low >= 1 - _ROUNDING and high <= 1 + _ROUNDING):
        faults.append(f"probabilities gives sums from {low:.3g} to {high:.3g} for a pixel, not 1")
    disagreement = largest_disagreement(answers)
    if not disagreement <= probability_tolerance:
        faults.append(
            f"the signatures disagree about a probability by {disagreement:.1e}, more than {probability_tolerance:.0e}"
        )
    faults += wrong_images_and_vectors(answers, len(kinds))
    if not answers["corrupt_error"]:
        faults.append("a JPEG that is cut in half got an answer and no error")
    after = np.max(np.abs(answers["after_corrupt"] - answers["serving_default_class_shares"][0]))
    if not after <= tolerance:
        faults.append("after a photo that could not be decoded the next one got another answer than before")
    return faults


def _upright_size(photo: bytes) -> tuple[int, int]:
    """Height and width as people see them, by another decoder than the model's."""
    width, height = ImageOps.exif_transpose(Image.open(io.BytesIO(photo))).size
    return height, width
