"""A few lines on how a data folder is read, before any training."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.example_gen.found_photos import OFFICIAL_SPLITS, FolderContents
from components.example_gen.layouts import TFDS
from components.example_gen.photo_folder import UnusedFile
from schemas.words import and_more

# Reason -> singular and plural.
_CALLED = {
    "sidecar": ("desktop system file", "desktop system files"),
    "hidden_folder": ("file in a hidden folder", "files in hidden folders"),
    "no_file": ("broken link", "broken links"),
    "other_file": ("file that is not a photo", "files that are not photos"),
    "unlabelled": ("photo without a label", "photos without a label"),
    "beside_splits": ("photo outside the splits", "photos outside the splits"),
    "copy": ("file in a copied folder", "files in copied folders"),
    "beside_masks": ("picture beside photos and masks", "pictures beside photos and masks"),
}
_DRAWN = "drawn by content hash"
_MOST_CLASSES = 5


@dataclass(frozen=True)
class Overview:
    """A summary of what a data folder contains."""

    dataset: str
    folder: str
    layout: str
    photos: int
    bytes: int
    """Total size of the photos' files on local disks."""
    classes: dict[str, int] | None
    """Class -> number of files meant as its photos; None if only reading the photos tells."""
    labels_from: str
    splits: dict[str, str]
    """`train`, `eval`, `test` -> where the split comes from, in words."""
    left_out: dict[str, int]
    """Reason -> number of files."""
    rejected: dict[str, int]
    """Reason -> number of files."""
    examples: dict[str, str]
    """Reason -> the first such file."""
    own_output: tuple[str, ...]
    groups: int
    never_learnt: tuple[str, ...]
    """Classes without a photo that may go to the train split."""
    masks: bool = False
    mask_classes: tuple[str, ...] | None = None
    """Classes of the pixels, in the order of their ids; None if there are no masks, or only reading them tells."""
    ignored_classes: tuple[str, ...] = ()
    """Classes of the pixels that are not counted."""

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        of_masks = () if self.masks else ("masks", "mask_classes", "ignored_classes")
        return {name: value for name, value in asdict(self).items() if name not in of_masks}

    def lines(self) -> list[str]:
        """For people: a line for the classes, the splits, and each kind of file that is not read."""
        if self.classes is None:
            masks = ", with masks" if self.masks else ""
            return [f"{self.folder} was prepared by TensorFlow Datasets ({self.dataset}){masks}"]
        if self.masks:
            return [f"{self.folder}: {self.photos:,} photos with masks{self._of_pixels()}", *self._further_lines()]
        commonest = sorted(self.classes.items(), key=lambda item: (-item[1], item[0]))
        counts = and_more([f"{label} {count:,}" for label, count in commonest], _MOST_CLASSES)
        classes = f"{len(self.classes)} {'class' if len(self.classes) == 1 else 'classes'}"
        by = "" if self.labels_from == "folders" else f", by {self.labels_from}"
        lines = [f"{self.folder}: {self.photos:,} photos of {classes}{by} ({counts})"]
        if empty := [label for label, count in commonest if not count]:
            lines.append(f"  without photos: {and_more(empty, _MOST_CLASSES)}")
        return lines + self._further_lines()

    def _of_pixels(self) -> str:
        if self.mask_classes is None:
            return ", whose values give the classes"
        classes = f"{len(self.mask_classes)} {'class' if len(self.mask_classes) == 1 else 'classes'}"
        by = "" if self.labels_from in ("folders", "masks") else f", by {self.labels_from}"
        without = f"; without {and_more(self.ignored_classes, _MOST_CLASSES)}" if self.ignored_classes else ""
        return f" of {classes}{by} ({and_more(self.mask_classes, _MOST_CLASSES)}{without})"

    def _further_lines(self) -> list[str]:
        """Lines for the splits, and for each kind of file that is not read."""
        lines = []
        if set(self.splits.values()) != {_DRAWN}:
            lines.append("  splits: " + "; ".join(f"{split} {where}" for split, where in self.splits.items()))
        if self.groups:
            lines.append(f"  series: {self.groups:,}, each kept in one split")
        for reason, count in self.left_out.items():
            first = f"{self.examples[reason]}{'' if count == 1 else ', ...'}"
            lines.append(f"  left out: {called(reason, count)} ({first})")
        lines += [f"  left out: {path}, written by warmstart" for path in self.own_output]
        lines += [
            f"  rejected: {count:,} {reason} ({self.examples[reason]})" for reason, count in self.rejected.items()
        ]
        return lines


def called(reason: str, count: int) -> str:
    """The number of files that were left out for a reason, in words: `2 broken links`."""
    return f"{count:,} {_CALLED[reason][count != 1]}"


def make_overview(
    folder: str, dataset: str, found: FolderContents, label_from: str = "label", masks: bool = False
) -> Overview:
    """Sums up the result of `find_photos`."""
    by_species = label_from == "species"
    counts = Counter(photo.species if by_species else photo.label for photo in found.photos)
    learnt = {
        photo.species if by_species else photo.label
        for photo in found.photos
        if "train" in OFFICIAL_SPLITS[photo.official_split]
    }
    classes = {label: counts[label] for label in sorted({*counts, *(() if by_species else found.classes)})}
    return Overview(
        dataset,
        folder,
        found.layout,
        len(found.photos),
        sum(_size(photo.path) for photo in found.photos),
        None if found.layout == TFDS else classes,
        found.labels_from,
        _splits(found),
        _counted(found.left_out),
        _counted(found.rejected),
        {file.reason: file.file_name for file in reversed([*found.rejected, *found.left_out])},
        tuple(found.own_output),
        len({photo.group for photo in found.photos if photo.group}),
        () if masks else tuple(sorted(set(counts) - learnt)),
        masks,
        found.mask_classes.names if found.mask_classes else None,
        found.mask_classes.ignored if found.mask_classes else (),
    )


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # remote, or gone by now
        return 0


def _splits(found: FolderContents) -> dict[str, str]:
    if not found.splits:
        return dict.fromkeys(("train", "eval", "test"), _DRAWN)
    return {
        split: f"as given ({and_more(found.splits[split], 2)})" if split in found.splits else "drawn from train"
        for split in ("train", "eval", "test")
    }


def _counted(files: Sequence[UnusedFile]) -> dict[str, int]:
    return dict(Counter(file.reason for file in files).most_common())
