"""What a data folder was understood to hold, in a few lines, before anything is learnt from it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.example_gen.found_photos import OFFICIAL_SPLITS, Found
from components.example_gen.layouts import TFDS
from components.example_gen.photo_folder import Rejected
from schemas.words import and_more

# Reason -> how so many files of it are called.
_CALLED = {
    "sidecar": ("sidecar of a desktop", "sidecars of a desktop"),
    "hidden_folder": ("file in a hidden folder", "files in hidden folders"),
    "no_file": ("link that leads nowhere", "links that lead nowhere"),
    "other_file": ("file that is no photo by its name", "files that are no photos by their names"),
    "unlabelled": ("photo without a label", "photos without a label"),
    "beside_splits": ("photo beside the splits", "photos beside the splits"),
    "copy": ("file of a copy", "files of a copy"),
}
_DRAWN = "drawn from the photos' content"
_MOST_CLASSES = 5


@dataclass(frozen=True)
class Overview:
    """What a data folder holds.

    classes: class -> files that are meant as photos of it, whatever is in them; None where only reading the photos
    tells. bytes: of their files, as far as they are on a disk. splits: `train`, `eval`, `test` -> where it comes from,
    in words. left_out, rejected: reason -> files. examples: reason -> the first such file. never_learnt: classes of
    whose photos none is given to train.
    """

    dataset: str
    folder: str
    layout: str
    photos: int
    bytes: int
    classes: dict[str, int] | None
    labels_from: str
    splits: dict[str, str]
    left_out: dict[str, int]
    rejected: dict[str, int]
    examples: dict[str, str]
    own_output: tuple[str, ...]
    groups: int
    never_learnt: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people: a line for the classes, the splits, and each kind of file that is not read."""
        if self.classes is None:
            return [f"{self.folder} was prepared by TensorFlow Datasets ({self.dataset})"]
        commonest = sorted(self.classes.items(), key=lambda item: (-item[1], item[0]))
        counts = and_more([f"{label} {count:,}" for label, count in commonest], _MOST_CLASSES)
        classes = f"{len(self.classes)} {'class' if len(self.classes) == 1 else 'classes'}"
        by = "" if self.labels_from == "folders" else f", by {self.labels_from}"
        lines = [f"{self.folder}: {self.photos:,} photos of {classes}{by} ({counts})"]
        if empty := [label for label, count in commonest if not count]:
            lines.append(f"  no photo: {and_more(empty, _MOST_CLASSES)}")
        if set(self.splits.values()) != {_DRAWN}:
            lines.append("  splits: " + "; ".join(f"{split} {where}" for split, where in self.splits.items()))
        if self.groups:
            lines.append(f"  series: {self.groups:,}, each in one split")
        for reason, count in self.left_out.items():
            first = f"{self.examples[reason]}{'' if count == 1 else ', ...'}"
            lines.append(f"  left out: {called(reason, count)} ({first})")
        lines += [f"  left out: {path}, which warmstart wrote" for path in self.own_output]
        lines += [
            f"  rejected: {count:,} {reason} ({self.examples[reason]})" for reason, count in self.rejected.items()
        ]
        return lines


def called(reason: str, count: int) -> str:
    """So many files that were left out for a reason, in words."""
    return f"{count:,} {_CALLED[reason][count != 1]}"


def make_overview(folder: str, dataset: str, found: Found, label_from: str = "label") -> Overview:
    """Of what `find_photos` found.

    Args:
      folder: as its user gave it.
      dataset: of `DATASETS`.
      found: of `find_photos`.
      label_from: `label` or `species`.
    """
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
        tuple(sorted(set(counts) - learnt)),
    )


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # remote, or gone by now
        return 0


def _splits(found: Found) -> dict[str, str]:
    if not found.splits:
        return dict.fromkeys(("train", "eval", "test"), _DRAWN)
    return {
        split: f"as given ({and_more(found.splits[split], 2)})" if split in found.splits else "drawn from train"
        for split in ("train", "eval", "test")
    }


def _counted(files: Sequence[Rejected]) -> dict[str, int]:
    return dict(Counter(file.reason for file in files).most_common())
