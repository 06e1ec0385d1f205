"""How many masks and pixels of each class there are, as the ingest report keeps them under `masks`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from components.example_gen.copies import Key
from schemas.features import IGNORE, SPLITS


def count_masks(
    keys: Iterable[Key], classes: Sequence[str], notes: Sequence[str] = (), ignored: Sequence[str] = ()
) -> dict[str, Any]:
    """Counts the masks of photos.

    Args:
      classes: names of the classes, in the order of their ids.
      notes: sentences on how the masks were read.

    Returns:
      `classes`; `splits`: split -> class -> `photos` that show it and their `pixels` of it; `ignored_pixels`: split ->
      pixels that are not counted; `notes`; `ignored`.
    """
    counts: dict[str, dict[int, list[int]]] = {split: {} for split in SPLITS}
    for key in keys:
        for number, pixels in key.mask_pixels:
            of_class = counts[key.split].setdefault(number, [0, 0])
            of_class[0] += 1
            of_class[1] += pixels
    return {
        "classes": list(classes),
        "splits": {
            split: {
                classes[number]: {"photos": photos, "pixels": pixels}
                for number, (photos, pixels) in sorted(of_split.items())
                if number != IGNORE
            }
            for split, of_split in counts.items()
        },
        "ignored_pixels": {split: of_split.get(IGNORE, [0, 0])[1] for split, of_split in counts.items()},
        "notes": list(notes),
        "ignored": list(ignored),
    }
