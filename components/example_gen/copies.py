"""Finds files with the same bytes once all photos have been read, whichever worker read them.

- With two labels, or two masks: it is unknown which is right, so none of the copies is used.
- With one label in several splits, which only a data set's own lists and groups can cause: the copies in the test split
  stay, or else those in the eval split. The others are not used, since a model must not be tested on what it learnt.
- With one label in one split: all copies stay.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from components.example_gen.photo_folder import UnusedFile
from schemas.words import and_more

CONTRADICTORY_LABEL, CONTRADICTORY_MASK = "contradictory_label", "contradictory_mask"
CONTRADICTIONS = (CONTRADICTORY_LABEL, CONTRADICTORY_MASK)
# Reasons for leaving out a file although nothing is wrong with the photo itself.
REASONS = (*CONTRADICTIONS, "duplicate_of_test", "duplicate_of_eval")
# Sums of photos' identities stay numbers of 64 bits, whatever Beam does with them.
MODULUS = 2**61 - 1
_HELD_BACK_MOST_FIRST = ("test", "eval", "train")
_MOST_NAMED = 3


class Key(NamedTuple):
    """An accepted photo: SHA-256 of its bytes, its split and its label; for segmentation also its mask."""

    content_hash: str
    split: str
    label: str
    mask_hash: str = ""
    mask_pixels: tuple[tuple[int, int], ...] = ()
    """Pairs: id of a class in the mask, or 255, and its number of pixels; in the order of the ids."""

    @classmethod
    def of_json(cls, values: Sequence[Any]) -> Key:
        """A key from the list that `json` makes of one."""
        return cls(*values[:4], *(tuple((number, pixels) for number, pixels in pairs) for pairs in values[4:]))


class AcceptedPhoto(NamedTuple):
    """An accepted photo, as the workers record it."""

    content_hash: str
    split: str
    label: str
    dataset: str
    file_name: str
    image_format: str
    mask_hash: str = ""
    mask_pixels: Sequence[Sequence[int]] = ()

    @property
    def key(self) -> Key:
        return Key.of_json([*self[:3], self.mask_hash, self.mask_pixels])


def identity(content_hash: str, label: str, split: str, mask_hash: str = "") -> int:
    """A number for a photo with its label, split and mask. The sum over photos, modulo MODULUS, identifies the set."""
    text = " ".join([content_hash, label, split, *filter(None, [mask_hash])])
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % MODULUS


def find_removals(read: Callable[[], Iterable[AcceptedPhoto]]) -> list[tuple[AcceptedPhoto, UnusedFile]]:
    """The photos that must not be used because of their copies, each with its reason.

    Args:
      read: returns all photos. It is called twice, so that only content hashes and the affected photos are in memory.
    """
    first: dict[str, tuple[str, ...]] = {}
    pairs: dict[tuple[str, ...], tuple[str, ...]] = {}
    at_odds = set()
    for photo in read():
        said = (photo.label, photo.split, photo.mask_hash)
        pair = said if photo.mask_hash else pairs.setdefault(said, said)  # labels are few, masks are not
        if first.setdefault(photo.content_hash, pair) != pair:
            at_odds.add(photo.content_hash)
    by_content: dict[str, list[AcceptedPhoto]] = defaultdict(list)
    for photo in read() if at_odds else ():
        if photo.content_hash in at_odds:
            by_content[photo.content_hash].append(photo)
    found: list[tuple[AcceptedPhoto, UnusedFile]] = []
    for _, copies in sorted(by_content.items()):
        found += _removals_of(sorted(copies, key=lambda photo: (photo.dataset, photo.file_name, photo)))
    return found


def _removals_of(copies: Sequence[AcceptedPhoto]) -> Iterator[tuple[AcceptedPhoto, UnusedFile]]:
    first_of_label: dict[str, AcceptedPhoto] = {}
    for photo in copies:
        first_of_label.setdefault(photo.label, photo)
    masks = {photo.mask_hash for photo in copies}
    kept_split = min({photo.split for photo in copies}, key=_HELD_BACK_MOST_FIRST.index)
    kept = next(photo for photo in copies if photo.split == kept_split)
    for photo in copies:
        if len(first_of_label) > 1:
            reason, said = CONTRADICTORY_LABEL, _contradiction(photo, first_of_label)
        elif len(masks) > 1:
            other = next(each for each in copies if each.mask_hash != photo.mask_hash)
            reason = CONTRADICTORY_MASK
            said = (
                f"has another mask than the same photo, {_name(other, photo)}; none of them is used. Keep the right "
                "one and delete the others."
            )
        elif photo.split != kept_split:
            reason = f"duplicate_of_{kept_split}"
            said = f"is identical to the {kept_split} photo {_name(kept, photo)}."
        else:
            continue
        detail = f"{photo.file_name} {said}"
        yield photo, UnusedFile(photo.file_name, photo.dataset, reason, detail, photo.label, photo.content_hash)


def _contradiction(photo: AcceptedPhoto, first_of_label: dict[str, AcceptedPhoto]) -> str:
    others = [other for label, other in first_of_label.items() if label != photo.label]
    named = and_more([f"{other.label!r} ({_name(other, photo)})" for other in others], _MOST_NAMED)
    return (
        f"is labelled {photo.label!r}, but the same photo is also labelled {named}; none of them is used. "
        "Keep the right one and delete the others."
    )


def _name(other: AcceptedPhoto, beside: AcceptedPhoto) -> str:
    return other.file_name if other.dataset == beside.dataset else f"{other.file_name} of {other.dataset}"


def without_removed(facts: Iterable[str], removals: Iterable[tuple[AcceptedPhoto, UnusedFile]]) -> list[str]:
    """The workers' counts without the removed photos. Lines that count none of them stay exactly as they are.

    Args:
      facts: JSON lines with data set, split, label and format, the number of photos, and the sum of their identities.
      removals: from `find_removals`.
    """
    less: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for photo, _ in removals:
        group = (photo.dataset, photo.split, photo.label, photo.image_format)
        less[group].append(identity(photo.content_hash, photo.label, photo.split, photo.mask_hash))
    kept = []
    for line in facts:
        group, (count, total) = json.loads(line)
        removed = less.get(tuple(group), [])
        if removed:
            count, total = count - len(removed), (total - sum(removed)) % MODULUS
            line = json.dumps((group, (count, total)))
        if count:
            kept.append(line)
    return kept
