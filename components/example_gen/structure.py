"""Finds the classes and splits in a folder tree from what the folders contain.

    photos/cat/1.jpg                               classes
    photos/anything/photos/cat/1.jpg               classes, in folders that hold nothing else
    photos/seg_train/seg_train/cat/1.jpg           splits, then classes
    photos/cat/train/1.jpg                         classes, then splits

A name alone decides nothing: a split is a folder that is named like one and contains class folders. Where two folders
contain folders with the same names, either level could be the label, and nothing is guessed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from components.example_gen.photo_folder import FileEntry, PhotoFolder
from components.example_gen.splits_by_name import rest_of, split_names
from schemas.errors import BadInput
from schemas.words import and_more

# A folder is only a container if the folders below it hold this many times as many photos as it does directly.
_FEW = 20


@dataclass
class Folder:
    """A folder with candidates somewhere below, or an empty folder. `path` is "" or ends in `/`."""

    name: str
    path: str
    files: list[FileEntry] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)

    def everything(self) -> Iterator[FileEntry]:
        """All files below."""
        waiting = [self]
        while waiting:
            folder = waiting.pop()
            yield from folder.files
            waiting += reversed(folder.folders.values())

    def with_photos(self) -> dict[str, Folder]:
        return {name: folder for name, folder in self.folders.items() if folder.has_photos()}

    def has_photos(self) -> bool:
        return next(self.everything(), None) is not None


@dataclass(frozen=True)
class ClassFolder:
    """A folder whose photos all belong to one class."""

    folder: Folder
    name: str
    split: str = ""  # `train`, `eval` or `test`, if its place in the tree says so


@dataclass(frozen=True)
class SkippedFolder:
    """A folder that is not read, and why."""

    folder: Folder
    reason: str
    detail: str  # the rest of a sentence that begins with a file's name
    split: str = ""  # the split that its name says


@dataclass
class Structure:
    """The classes and splits of a folder tree."""

    classes: list[ClassFolder] = field(default_factory=list)
    beside: list[SkippedFolder] = field(default_factory=list)
    splits: dict[str, list[str]] = field(default_factory=dict)
    """`train`, `eval` or `test` -> the folders that hold it."""


class NoClasses(BadInput):
    """The tree has no class folders, or they are ambiguous."""


def build_tree(files: Iterable[FileEntry], empty_folders: Iterable[str] = ()) -> Folder:
    """The tree of the folders that hold candidates, and of the empty ones."""
    root = Folder("", "")

    def reach(names: list[str]) -> Folder:
        folder = root
        for name in names:
            if name not in folder.folders:
                folder.folders[name] = Folder(name, f"{folder.path}{name}/")
            folder = folder.folders[name]
        return folder

    for entry in files:
        *names, _ = entry.path.split("/")
        reach(names).files.append(entry)
    for path in empty_folders:
        reach(path.split("/"))
    return root


def read_structure(
    photos: PhotoFolder, is_class: Callable[[str], bool] | None = None, has_series: bool = False
) -> Structure:
    """Finds the class folders of a data folder.

    Args:
      is_class: whether a folder's name is a known class of the data set; None if the classes are not known.
      has_series: whether the user said that the folders below the classes are series of photos.

    Raises:
      NoClasses: there are no class folders, or they are ambiguous. The message says what to do.
    """
    reader = _Reader(photos, is_class, has_series)
    top = build_tree(photos.candidates, photos.empty_folders)
    structure = reader.read(top)
    structure.classes = [c for c in structure.classes if c.folder.has_photos() or not is_class or is_class(c.name)]
    return structure


class _Reader:
    def __init__(self, photos: PhotoFolder, is_class: Callable[[str], bool] | None, has_series: bool):
        self._photos, self._is_class, self._has_series = photos, is_class, has_series

    def read(self, folder: Folder) -> Structure:
        folder = self._unwrapped(folder)
        folders = folder.with_photos()
        structure = Structure()
        folders = self._without_copies(folder, folders, structure)
        splits = split_names(list(folders), folder.name)
        given = self._labelled(folders, splits)
        if given:
            self._read_splits(folder, folders, splits, given, structure)
        elif inner := self._one_level_down(folder, folders, splits):
            self._leave_beside(folder, folders, [inner], splits, structure)
            below = self.read(folders[inner])
            structure.classes, structure.splits = below.classes, below.splits
            structure.beside += below.beside
        elif splits:
            raise self._flat_splits(folder, folders, splits)
        elif self._splits_below_classes(folder, folders):
            self._read_splits_below(folders, structure)
        else:
            # Empty folders beside those of classes are classes without photos.
            structure.classes = [ClassFolder(below, name) for name, below in folder.folders.items()]
            structure.classes = [c for c in structure.classes if c.folder not in [b.folder for b in structure.beside]]
        if not any(c.folder.has_photos() for c in structure.classes):
            raise NoClasses(f"{self._photos.shown(folder.path)} contains no folders of photos")
        self._refuse_deeper_labels(structure)
        return structure

    def _knows(self, names: Iterable[str]) -> bool:
        return self._is_class is not None and any(self._is_class(name) for name in names)

    def _unwrapped(self, folder: Folder) -> Folder:
        """The first folder below that holds more than one folder, or photos; a class is not looked into."""
        start = folder
        while not folder.files and len(folder.with_photos()) == 1:
            (inner,) = folder.with_photos().values()
            if self._knows([inner.name]):
                return folder
            if not inner.with_photos() or not (_holds_folders(inner) or self._knows(inner.with_photos())):
                # A sole folder of photos: the only class there is, the topmost if the others hold nothing else.
                return folder if folder is start or split_names([inner.name], folder.name) else start
            folder = inner
        return folder

    def _labelled(self, folders: dict[str, Folder], splits: dict[str, str]) -> dict[str, Folder]:
        """Of the splits, those with folders of classes -> the folder that holds these."""
        levels = {name: self._class_level(folders[name], list(splits)) for name in splits}
        found = {name: level for name, level in levels.items() if level}
        several = {below for level in found.values() if len(level.with_photos()) > 1 for below in level.with_photos()}
        # `val/images/` beside `train/cat/` and `train/dog/` is no class.
        return {name: level for name, level in found.items() if not several or several & set(level.with_photos())}

    def _class_level(self, folder: Folder, splits: list[str]) -> Folder | None:
        """The folder whose folders are the classes of a split; None: its photos have no folders of classes."""
        while not folder.files and len(folder.with_photos()) == 1:
            (inner,) = folder.with_photos().values()
            if not inner.with_photos() or self._knows([inner.name]):
                same_name = inner.name == folder.name or inner.name in splits
                wrapper = same_name or split_names([inner.name], folder.name)
                return None if wrapper else folder
            folder = inner
        below = folder.with_photos()
        if not below or (self._is_class and not self._knows(below)):
            return None
        return folder

    def _without_copies(self, folder: Folder, folders: dict[str, Folder], structure: Structure) -> dict[str, Folder]:
        """Without a folder that holds what lies beside it once more, as archives packed twice do."""
        kept = dict(folders)
        for name, inner in folders.items():
            common = [other for other in inner.with_photos() if other != name and other in kept]
            if len(common) < 2 or not all(other in kept for other in inner.with_photos() if other != name):
                continue
            if all(_same_files(inner.folders[other], kept[other]) for other in common):
                detail = f"is in {inner.path}, a copy of the folders next to it."
                structure.beside.append(SkippedFolder(inner, "copy", detail))
                del kept[name]
            elif len(folders) > 2 and name not in split_names(list(folders), folder.name):
                raise NoClasses(
                    f"{self._photos.shown(inner.path)} contains folders with the same names as those next to it "
                    f"({and_more(common, 3)}), but with different photos; give {self._photos.shown(inner.path)} as the "
                    "data folder, or move it away"
                )
        by_name: dict[str, str] = {}
        for name in list(kept):  # the same folder twice, in two spellings
            first = by_name.setdefault(name.casefold(), name)
            if first != name and folders[name].with_photos() and _same_files(folders[name], folders[first]):
                structure.beside.append(SkippedFolder(kept.pop(name), "copy", f"is in {name}/, a copy of {first}/."))
        return kept

    def _read_splits(
        self,
        folder: Folder,
        folders: dict[str, Folder],
        splits: dict[str, str],
        given: dict[str, Folder],
        structure: Structure,
    ) -> None:
        class_names = {name for level in given.values() for name in level.folders}
        others = [name for name in folders if name not in splits]
        # `rps/` beside `rps-test-set/` and `rps-validation/`: what has no split's word is to learn from.
        for name in others:
            level = self._class_level(folders[name], list(splits))
            if level and len(class_names & set(level.with_photos())) > 1:
                if "train" in splits.values() or rest_of(name) not in {rest_of(split) for split in given}:
                    raise self._two_levels([name, *given], sorted(class_names), folders[name])
                splits, given = {**splits, name: "train"}, {**given, name: level}
        others = [name for name in others if name not in given]
        beside_classes = sorted(class_names & set(others))
        roles = {splits[name] for name in given}
        if beside_classes or (others and len(roles) == 1):
            a_split = min(given, key=lambda name: (splits[name] != "train", name))
            raise NoClasses(
                f"{self._photos.shown(folder.path)} contains {a_split}/, which looks like a split with the classes "
                f"{and_more(sorted(given[a_split].folders), 3)}, next to {and_more(sorted(others), 3)}; give "
                f"{self._photos.shown(folder.path + a_split)} as the data folder, or move the other folders away"
            )
        if "train" not in roles and len(splits) > 1:
            raise NoClasses(
                f"{self._photos.shown(folder.path)} contains {and_more([f'{name}/' for name in sorted(given)], 3)} "
                "with class folders, but no train/ with any; expected photos to train on"
            )
        for name, level in given.items():
            split = splits[name]
            structure.splits.setdefault(split, []).append(folders[name].path)
            structure.classes += [ClassFolder(below, label, split) for label, below in level.folders.items()]
        self._leave_beside(folder, folders, list(given), splits, structure)

    def _leave_beside(
        self, folder: Folder, folders: dict[str, Folder], read: list[str], splits: dict[str, str], structure: Structure
    ) -> None:
        for name, other in folders.items():
            if name not in read and (name in splits or not self._class_level(other, list(splits))):
                detail = f"is in {other.path}, where no folder gives its class."
                structure.beside.append(SkippedFolder(other, "unlabelled", detail, splits.get(name, "")))
            elif name not in read:
                detail = f"is in {other.path}, outside the splits."
                structure.beside.append(SkippedFolder(other, "beside_splits", detail))
        for inner in folder.folders.values():
            if inner.name in read:
                level = self._class_level(inner, list(splits)) or inner
                while inner is not level:  # photos on the way to the classes
                    structure.beside += self._loose(inner)
                    (inner,) = inner.with_photos().values()

    def _loose(self, folder: Folder) -> list[SkippedFolder]:
        if not folder.files:
            return []
        alone = Folder(folder.name, folder.path, folder.files)
        return [SkippedFolder(alone, "unlabelled", f"is in {folder.path}, above the class folders.")]

    def _one_level_down(self, folder: Folder, folders: dict[str, Folder], splits: dict[str, str]) -> str:
        """The one folder that holds splits with classes, where nothing beside it could be a class; or empty."""
        holding = [name for name, inner in folders.items() if self._splits_in(inner)]
        others = [name for name in folders if name not in holding and name not in splits]
        if holding and (others or len(holding) > 1):
            where = self._photos.shown(folder.path)
            within = self._splits_in(folders[holding[0]])
            raise NoClasses(
                f"{where} contains {holding[0]}/ with splits in it ({and_more(within, 3)}), next to "
                f"{and_more(sorted({*holding[1:], *others}), 3)}; give "
                f"{self._photos.shown(folders[holding[0]].path)} as the data folder"
            )
        return holding[0] if holding else ""

    def _splits_in(self, folder: Folder) -> list[str]:
        """Names of the folders in a folder that are splits with folders of classes."""
        inner = self._unwrapped(folder)
        below = inner.with_photos()
        return sorted(self._labelled(below, split_names(list(below), inner.name)))

    def _splits_below_classes(self, folder: Folder, folders: dict[str, Folder]) -> bool:
        """Whether each folder holds the photos of a class, in folders of splits."""
        named = {name: split_names(list(inner.with_photos()), name) for name, inner in folders.items()}
        holding = [name for name, splits in named.items() if len(set(splits.values())) > 1]
        if len(folders) < 2 or not holding:
            return False
        for name, inner in folders.items():
            if inner.files or set(named[name]) != set(inner.with_photos()) or "train" not in named[name].values():
                raise NoClasses(
                    f"{self._photos.shown(folder.path)} contains {holding[0]}/ with the splits "
                    f"{and_more(sorted(named[holding[0]]), 3)}, but {name}/ has no train/, or has photos outside its "
                    "splits; expected the same splits in every class"
                )
        return True

    def _read_splits_below(self, folders: dict[str, Folder], structure: Structure) -> None:
        for name, folder in folders.items():
            for below, split in split_names(list(folder.with_photos()), name).items():
                structure.classes.append(ClassFolder(folder.folders[below], name, split))
                structure.splits.setdefault(split, []).append(folder.folders[below].path)

    def _refuse_deeper_labels(self, structure: Structure) -> None:
        """Refuses classes in whose folders there are classes, or splits with classes."""
        if self._has_series or self._is_class:
            return
        for split in dict.fromkeys(c.split for c in structure.classes):
            of_split = {c.name: c.folder for c in structure.classes if c.split == split}
            for name, folder in of_split.items():
                if within := self._splits_in(folder):
                    raise NoClasses(
                        f"{self._photos.shown(folder.path)} contains splits ({and_more(within, 3)}) with class "
                        f"folders, so {name!r} is not a class; give {self._photos.shown(folder.path)} as the data "
                        "folder, or put all photos of a class into one folder"
                    )
            self._refuse_two_levels(of_split)

    def _refuse_two_levels(self, folders: dict[str, Folder]) -> None:
        """Refuses folders of which two hold two folders of the same names."""
        below = {name: self._unwrapped(folder).with_photos() for name, folder in folders.items()}
        holders: dict[str, list[str]] = {}
        for name, names in below.items():
            for inner in names:
                holders.setdefault(inner, []).append(name)
        first_common: dict[tuple[str, str], str] = {}
        for inner, of_inner in sorted(holders.items(), key=lambda item: len(item[1])):
            for pair in itertools.combinations(of_inner, 2):
                if first_common.setdefault(pair, inner) != inner:
                    common = set(below[pair[0]]) & set(below[pair[1]])
                    alike = [name for name, names in below.items() if len(set(names) & common) > 1]
                    raise self._two_levels(alike, sorted(common), next(iter(folders.values())))

    def _two_levels(self, holders: list[str], common: list[str], one: Folder) -> NoClasses:
        """`one` of the folders that hold the others, of which all lie in the same folder."""
        where = self._photos.shown(one.path.rstrip("/").rpartition("/")[0])
        splits = split_names(holders)
        best = min(holders, key=lambda name: (splits.get(name) != "train", name in splits, name))
        return NoClasses(
            f"in {where}, {and_more([f'{name}/' for name in holders], 3)} contain folders with the same names "
            f"({and_more(common, 3)}), so either level could be the classes; give one of them as the data folder, such "
            f"as {where}/{best}, or put all photos of a class into one folder; if the lower folders are series of "
            "photos, set data.group=folder"
        )

    def _flat_splits(self, folder: Folder, folders: dict[str, Folder], splits: dict[str, str]) -> NoClasses:
        where = self._photos.shown(folder.path)
        others = [name for name in folders if name not in splits]
        name = next(iter(splits))
        if others:
            return NoClasses(
                f"{where} contains {name}/, which is named like a split, next to {and_more(sorted(others), 3)}; if its "
                f"photos have no labels, move it away; if it is a class, rename it, for example to {name}s"
            )
        named = "is named like a split" if len(splits) == 1 else "are named like splits"
        return NoClasses(
            f"{where} contains {and_more([f'{name}/' for name in splits], 3)}, which {named}, with photos but no class "
            "folders in them; put the photos of each class into a folder of their own, or add a labels.csv with the "
            "columns file and label next to them"
        )


def _holds_folders(folder: Folder) -> bool:
    """Whether a folder is a container of folders; a few pictures next to them do not change that."""
    below = sum(1 for _ in folder.everything()) - len(folder.files)
    return not folder.files or (len(folder.with_photos()) > 1 and _FEW * len(folder.files) <= below)


def _same_files(one: Folder, other: Folder) -> bool:
    """Whether two folders contain files with the same names and sizes."""

    def named(folder: Folder) -> set[tuple[str, int]]:
        return {(entry.path[len(folder.path) :], entry.size) for entry in folder.everything()}

    return named(one) == named(other)
