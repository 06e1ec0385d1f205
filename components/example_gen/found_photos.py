"""What is found in a data folder, and by which rules."""

from __future__ import annotations

from dataclasses import dataclass, field

from components.example_gen.photo_folder import SUCCESS_FILE, Rejected

# What a data set says about a photo's split -> the splits among which the photo's hash chooses.
OFFICIAL_SPLITS = {
    "": ("train", "eval", "test"),
    "train": ("train",),
    "eval": ("eval",),
    "test": ("test",),
    "trainval": ("train", "eval"),
    "traintest": ("train", "test"),
}


@dataclass(frozen=True)
class FolderRules:
    """How a data folder is read.

    success_file: directly in the folder it is a marker, and no photo. labels: `auto`; `folders`, where tables and lists
    beside the photos are not looked at; or a table's path below the folder, perhaps with `:` and the labels' column.
    group: which photos are one series and share a split: `folder` (below the class), `prefix:SEPARATOR` (of the file's
    name, up to the first one) or `column:NAME` (of the table); empty: each stands for itself.
    """

    success_file: str = SUCCESS_FILE
    labels: str = "auto"
    group: str = ""


DEFAULT_RULES = FolderRules()


@dataclass(frozen=True)
class Photo:
    """A file that should be a photo, and what the layout says about it."""

    path: str  # full path or URI
    file_name: str  # relative to the data folder, with `/`
    dataset: str
    label: str
    species: str = ""
    breed: str = ""
    official_split: str = ""  # a key of OFFICIAL_SPLITS
    group: str = ""  # photos of one group share a split; empty: the photo stands for itself


@dataclass
class Found:
    """What a data folder holds.

    rejected: files that were meant as photos, and are not used. left_out: files that are no photos of the data set by
    their name or place, such as sidecars, lists, and photos without a label. classes: all classes that the folder
    names, also those without a photo. labels_from: `folders`, or the table that says them. splits: the splits that the
    data set gives, `train`, `eval` or `test` -> the folders or lists that say so. own_output: folders that warmstart
    wrote, and that are not read.
    """

    layout: str
    photos: list[Photo]
    rejected: list[Rejected]
    left_out: list[Rejected] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    labels_from: str = "folders"
    splits: dict[str, list[str]] = field(default_factory=dict)
    own_output: list[str] = field(default_factory=list)
