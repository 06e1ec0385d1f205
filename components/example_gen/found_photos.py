"""The contents of a data folder, and the rules for reading it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from components.example_gen.mask_classes import MaskClasses
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
# The splits that a data set gives -> what each of them is here; what is not given is drawn from train.
_GIVEN_SPLITS = {
    frozenset({"train", "eval", "test"}): {"train": "train", "eval": "eval", "test": "test"},
    frozenset({"train", "test"}): {"train": "trainval", "test": "test"},
    frozenset({"train", "eval"}): {"train": "traintest", "eval": "eval"},
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
    masks: bool = False
    """Whether each photo needs a mask; Oxford-IIIT Pets' trimaps are passed over without it."""
    ignore: tuple[str, ...] = ()
    """Names or ids of the classes of masks that are not counted."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ignore", tuple(self.ignore))  # a list, where it was read from JSON


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
    mask: str = ""  # full path or URI of its mask; empty: there is none, or `mask_bytes` has it
    mask_name: str = ""  # of its mask, relative to the data folder
    mask_bytes: bytes = b""  # once read


@dataclass
class FolderContents:
    """Everything that was found in a data folder."""

    layout: str
    photos: list[Photo]
    rejected: list[UnusedFile]
    left_out: list[UnusedFile] = field(default_factory=list)
    """Files whose name or place says that they are not photos of the data set: sidecars, lists, unlabelled photos."""
    classes: list[str] = field(default_factory=list)
    """All classes, including those without photos."""
    labels_from: str = "folders"
    """`folders`, or the table that holds the labels."""
    splits: dict[str, list[str]] = field(default_factory=dict)
    """Splits that the data set defines: `train`, `eval` or `test` -> the folders or lists that define it."""
    own_output: list[str] = field(default_factory=list)
    mask_classes: MaskClasses | None = None
    """What the masks hold; None: there are none, or only reading them tells."""


def official_splits(given: Iterable[str]) -> dict[str, str]:
    """Split that a data set defines -> its key in `OFFICIAL_SPLITS`; empty if it defines only one."""
    return _GIVEN_SPLITS.get(frozenset(given), {})


def series_of(rules: FolderRules, path: str, within: str) -> str:
    """The series that a photo's path puts it in; empty for none. `within` is the folder of its class."""
    folder, _, name = path.rpartition("/")
    if rules.group == "folder" and folder != within:
        below = folder[len(within) :].strip("/").split("/")[0]
        return f"{within}/{below}"
    if rules.group.startswith("prefix:"):
        prefix, separator, _ = name.partition(rules.group.removeprefix("prefix:"))
        return prefix if separator else ""
    return ""
