"""What the values or colours in the masks of a data set stand for.

| the classes come from   | ids                                                                                  |
|-------------------------|--------------------------------------------------------------------------------------|
| Oxford-IIIT Pets        | the values 1, 2, 3 of a trimap are pet, background, border                           |
| `labelmap.txt`          | a line `name:red,green,blue::` for each class, as CVAT and Pascal VOC write it       |
| `classes.txt`           | a line with the name of each class; the first is that of value 0                     |
| no list                 | the values 0, 1, 2 ... that the masks hold, as `class_0`, `class_1` ...; masks of    |
|                         | only 0 and 255 are read as two classes                                               |

The value 255 is a pixel that is not counted, except in masks of only 0 and 255 without a list. `task.ignore` names
classes whose pixels are not counted either; the ids of the others close up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from components.example_gen.photo_folder import PhotoFolder, read_bytes, split_path
from components.example_gen.photo_rules import Colour
from schemas.class_names import class_name, refuse_twins
from schemas.errors import BadInput
from schemas.features import IGNORE
from schemas.words import and_more, did_you_mean

LABEL_MAP, CLASS_LIST = "labelmap.txt", "classes.txt"
# The edge of an object in Pascal VOC's masks.
VOC_VOID = Colour(224, 224, 192)
# Without a list of classes, more values are the soft edges of a drawing and not ids.
_MOST_UNLISTED = 64
_MOST_CLASSES = IGNORE
_SHOWN_VALUES = 8
# The line of labelme's list that stands for pixels that are not counted.
_IGNORED_NAME = "__ignore__"


@dataclass(frozen=True)
class MaskClasses:
    """The classes of the pixels, in the order of their ids, and how they are written in the masks."""

    names: tuple[str, ...]
    listed_in: str
    """Where the classes come from, in words; empty: from the masks themselves."""
    ids: dict[int, int] = field(default_factory=dict)
    """Value in a mask -> id of the class, or 255."""
    colours: dict[Colour, int] = field(default_factory=dict)
    """Colour in a mask -> id of the class, or 255; empty: no colours are known."""
    notes: tuple[str, ...] = ()
    """Sentences on how the masks were read that the user should know."""
    ignored: tuple[str, ...] = ()
    """Classes whose pixels are read as 255, in the order of their ids before; none of `names`."""

    def without(self, ignore: Sequence[str]) -> MaskClasses:
        """The same masks, of which some classes are not counted.

        Args:
          ignore: names of classes, or their ids; a name that is a number comes first.

        Raises:
          BadInput: there is no such class, or fewer than two are left.
        """
        if not ignore:
            return self
        gone = {self._id_of(wanted) for wanted in ignore}
        left = [number for number in range(len(self.names)) if number not in gone]
        if len(left) < 2:
            raise BadInput(
                f"task.ignore leaves {len(left)} of the {len(self.names)} classes of the masks "
                f"({and_more(list(self.names), _SHOWN_VALUES)}); expected at least two"
            )
        new = {number: place for place, number in enumerate(left)}
        return replace(
            self,
            names=tuple(self.names[number] for number in left),
            ids={value: new.get(number, IGNORE) for value, number in self.ids.items()},
            colours={colour: new.get(number, IGNORE) for colour, number in self.colours.items()},
            ignored=tuple(self.names[number] for number in sorted(gone)),
        )

    def _id_of(self, wanted: str) -> int:
        if wanted in self.names:
            return self.names.index(wanted)
        if wanted.isdecimal() and int(wanted) < len(self.names):
            return int(wanted)
        near = did_you_mean(wanted, self.names).removesuffix("?")
        raise BadInput(
            f"task.ignore has {wanted!r}, which is no class of the masks{near}; expected one of "
            f"{and_more(list(self.names), _SHOWN_VALUES)}, or an id from 0 to {len(self.names) - 1}"
        )

    def names_of(self, ids: Iterable[int]) -> list[str]:
        """Names of the classes with these ids; 255 has none."""
        return [self.names[number] for number in sorted(ids) if number != IGNORE]


TRIMAPS = MaskClasses(("pet", "background", "border"), "the trimaps", {1: 0, 2: 1, 3: 2, IGNORE: IGNORE})


def listed(names: Sequence[str], listed_in: str, colours: Mapping[Colour, int] | None = None) -> MaskClasses:
    """Classes whose id is the value in the mask.

    Raises:
      BadInput: there are too many classes, or two that look the same.
    """
    if not 1 <= len(names) <= _MOST_CLASSES:
        raise BadInput(f"{listed_in} lists {len(names)} classes; expected 1 to {_MOST_CLASSES}")
    refuse_twins(names)
    if repeated := [name for i, name in enumerate(names) if name in names[:i]]:
        raise BadInput(f"{listed_in} lists the class {repeated[0]!r} twice; remove one of the lines")
    ids = {**{number: number for number in range(len(names))}, IGNORE: IGNORE}
    return MaskClasses(tuple(names), listed_in, ids, dict(colours or {}))


def read_classes(folder: PhotoFolder, prefixes: Sequence[str]) -> MaskClasses | None:
    """The classes that a list below a data folder names; None if there is no list.

    Args:
      folder: the data folder. Lists are among the files that are left out, and no longer once they are read.
      prefixes: folders in which a list may lie; "" or ending in `/`.

    Raises:
      BadInput: the list is empty or malformed, two classes in it look the same, or two lists differ.
    """
    for name, read in ((LABEL_MAP, _read_label_map), (CLASS_LIST, _read_class_list)):
        there = [file.file_name for file in folder.left_out if split_path(file.file_name)[1].lower() == name]
        here = [path for path in there if path.rpartition("/")[0] in {prefix.rstrip("/") for prefix in prefixes}]
        found = [read(folder.shown(path), _lines(folder, path)) for path in here]
        for other in found[1:]:
            if (other.names, other.colours) != (found[0].names, found[0].colours):
                raise BadInput(f"{found[0].listed_in} and {other.listed_in} differ; keep one of them, or correct it")
        if found:
            folder.left_out[:] = [file for file in folder.left_out if file.file_name not in here]
            return found[0]
    return None


def _lines(folder: PhotoFolder, path: str) -> list[str]:
    where = folder.full_path(path)
    try:
        text = read_bytes(where).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{where} is not UTF-8 text; save it again as UTF-8.") from error
    lines = (line.strip() for line in text.split("\n"))
    return [line for line in lines if line and not line.startswith("#")]


def _read_class_list(where: str, lines: Sequence[str]) -> MaskClasses:
    return listed([class_name(line) for line in lines if line != _IGNORED_NAME], where)


def _read_label_map(where: str, lines: Sequence[str]) -> MaskClasses:
    """`name:red,green,blue:parts:actions`; a line without a colour gives only the name."""
    names: list[str] = []
    colours: dict[Colour, int] = {}
    for line in lines:
        written, _, rest = line.partition(":")
        colour_text = rest.split(":")[0].strip()
        colour = re.fullmatch(r"(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})", colour_text)
        if colour_text and (colour is None or any(int(value) > 255 for value in colour.groups())):
            raise BadInput(f"{where}: found {line[:80]!r}, expected a class and its colour, such as 'cat:64,0,0::'")
        if colour:
            of_line = Colour(*map(int, colour.groups()))
            if of_line in colours:
                first = names[colours[of_line]]
                raise BadInput(f"{where} gives the same colour ({colour_text}) to {first!r} and {written!r}")
            colours[of_line] = len(names)
        names.append(class_name(written))
    if colours:
        colours.setdefault(VOC_VOID, IGNORE)
    return listed(names, where, colours)


@dataclass(frozen=True)
class ValuesFound:
    """The values in all masks of a data set that has no list of classes."""

    masks_with: Mapping[int, int]
    """Value -> number of masks that hold it."""
    masks: int
    only_0_and_255: int
    """Number of masks that hold 255 and nothing else but 0."""


def classes_from_values(found: ValuesFound, where: str) -> MaskClasses:
    """The classes of masks without a list: the ids from 0 up to the first one that no mask holds.

    Args:
      where: the folder of the masks, for messages.

    Raises:
      BadInput: the values are not ids, or it is unclear whether 255 is a class.
    """
    values = set(found.masks_with)
    if values == {0, IGNORE}:
        note = (
            f"the masks in {where} hold only 0 and 255, so 255 was read as the second class and not as pixels to "
            f"leave out; a {CLASS_LIST} beside them changes that"
        )
        return MaskClasses(_unlisted(2), "", {0: 0, IGNORE: 1}, notes=(note,))
    ids = sorted(values - {IGNORE})
    count = next(number for number in range(len(ids) + 1) if number not in ids)
    shown = and_more([str(value) for value in sorted(values)], _SHOWN_VALUES)
    if ids and count < 2 and len(ids) > count:
        starts = ids == list(range(1, len(ids) + 1))
        hint = "subtract 1 from every value, or " if starts else ""
        raise BadInput(
            f"the masks in {where} hold the values {shown}, but no list says what they stand for; expected ids 0, 1, "
            f"2 ...; {hint}add a {CLASS_LIST} or {LABEL_MAP} beside them, and check that no program has turned a "
            "palette or soft edges into greys"
        )
    if count > _MOST_UNLISTED:
        raise BadInput(
            f"the masks in {where} hold {count} values from 0 on, and no list says what they stand for; they look "
            f"like soft edges: save the masks without anti-aliasing, or list all classes in a {CLASS_LIST}"
        )
    if count == 2 and 2 * found.only_0_and_255 > found.masks:
        raise BadInput(
            f"{found.only_0_and_255} of {found.masks} masks in {where} hold only 0 and 255, and others hold 1, so it "
            f"is unclear whether 255 is a class; save all masks alike, or add a {CLASS_LIST} if 255 is not to count"
        )
    known = {**{number: number for number in range(count)}, IGNORE: IGNORE}
    return MaskClasses(_unlisted(max(count, 1)), "", known)


def _unlisted(count: int) -> tuple[str, ...]:
    return tuple(f"class_{number}" for number in range(count))


def list_names(classes: MaskClasses) -> str:
    """Value and name of each class, for messages: `0 background, 1 cat`."""
    pairs = [f"{value} {classes.names[number]}" for value, number in sorted(classes.ids.items()) if number != IGNORE]
    return and_more(pairs, _SHOWN_VALUES)
