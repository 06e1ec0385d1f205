"""The contents of a data folder, and the rules for reading it."""

from __future__ import annotations

from dataclasses import dataclass, field

from components.example_gen.photo_folder import SUCCESS_FILE, UnusedFile

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
    """How a data folder is read."""

    success_file: str = SUCCESS_FILE
    """Name of the marker directly in the folder that says the folder is complete."""
    labels: str = "auto"
    """`auto`; `folders`, which ignores tables and lists next to the photos; or the path of a table below the folder,
    optionally followed by `:` and the column of the labels."""
    group: str = ""
    """Which photos form a series and share a split: `folder` (the folder below the class), `prefix:SEPARATOR` (the file
    name up to the first separator) or `column:NAME` (a column of the table). Empty: every photo stands alone."""


DEFAULT_RULES = FolderRules()


@dataclass(frozen=True)
class Photo:
    """A file that should be a photo, with its labels and split from the folder layout."""

    path: str  # full path or URI
    file_name: str  # relative to the data folder, with `/`
    dataset: str
    label: str
    species: str = ""
    breed: str = ""
    official_split: str = ""  # a key of OFFICIAL_SPLITS
    group: str = ""  # photos of one group share a split; empty: the photo stands alone


@dataclass
class FolderContents:
    """Everything that was found in a data folder."""

    layout: str
    photos: list[Photo]
    rejected: list[UnusedFile]
    """Files that were meant as photos but cannot be used."""
    left_out: list[UnusedFile] = field(default_factory=list)
    """Files whose name or place says that they are not photos of the data set: sidecars, lists, unlabelled photos."""
    classes: list[str] = field(default_factory=list)
    """All classes, including those without photos."""
    labels_from: str = "folders"
    """`folders`, or the table that holds the labels."""
    splits: dict[str, list[str]] = field(default_factory=dict)
    """Splits that the data set defines: `train`, `eval` or `test` -> the folders or lists that define it."""
    own_output: list[str] = field(default_factory=list)
    """Folders that warmstart wrote. They are not read."""
