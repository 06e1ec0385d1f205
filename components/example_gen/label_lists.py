"""Lists that lie beside photos: tables of labels, lists of splits, names of ImageNet's classes.

| list                                                  | says                                          |
|-------------------------------------------------------|-----------------------------------------------|
| `labels.csv`: a header with a file and a label        | the class of each photo, where no folder does |
| `train.txt`, `test.txt`, in a folder such as `meta/`  | the split of each photo, a line each          |
| `words.txt`, `LOC_synset_mapping.txt`: `n01440764 tench` | a name for a folder such as `n01440764`    |
| `val_annotations.txt`: `val_0.JPEG n03444034`         | the class of each photo of one split          |
"""

from __future__ import annotations

import csv
import functools
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from components.example_gen.photo_folder import FileEntry, PhotoFolder, read_bytes, split_path
from components.example_gen.splits_by_name import says_split
from schemas.class_names import class_name
from schemas.errors import BadInput
from schemas.words import and_more

# Headers, without blanks and signs, the likeliest first.
_FILE_COLUMNS = (
    "file", "filename", "filepath", "filepaths", "path", "paths", "imagepath", "image", "images", "imagename",
    "imagefile", "imageid", "imageindex", "img", "imgname", "imgid", "photo", "photoid", "picture", "id", "idcode",
    "name",
)  # fmt: skip
_LABEL_COLUMNS = (
    "label", "labels", "class", "classes", "classname", "classlabel", "labelname", "category", "categoryname", "target",
    "breed", "species", "dx", "diagnosis", "findinglabels", "disease", "type", "tag", "y",
)  # fmt: skip
_SPLIT_COLUMNS = ("split", "splits", "dataset", "subset", "partition", "set")
_LARGEST_LIST = 256 * 2**20  # bytes
_DEEPEST = 3  # folders above a list
_SYNSET = re.compile(r"n\d{8}")
_TABLES, _TEXTS = (".csv", ".tsv"), (".txt",)
_MOST_TEXTS = 50  # in one folder


@dataclass
class LabelList:
    """What a table says. file: its path. column: of the labels.

    labels: path of a photo -> its class. splits: path -> `train`, `eval` or `test`. groups: path -> its series.
    missing: names that no photo has, with their classes.
    """

    file: str
    column: str
    labels: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def read_tables(photos: PhotoFolder, asked: str = "", group_column: str = "") -> tuple[LabelList | None, list[str]]:
    """The table of labels beside the photos, of several all together; and what is wrong with those that say nothing.

    Args:
      photos: the files.
      asked: a table's path below the data folder, and perhaps `:` and the column of the labels; empty: every table that
        has a label.
      group_column: column of a photo's series; empty: none.

    Raises:
      BadInput: the table that is asked for is not there or cannot be used, or two lines contradict each other.
    """
    file, _, column = asked.partition(":")
    known = [entry.file_name for entry in photos.left_out if entry.reason == "other_file"]
    tables = [path for path in known if path.lower().endswith(_TABLES) and path.count("/") <= _DEEPEST]
    if file and file not in known:
        raise BadInput(
            f"{photos.shown(file)}, which data.labels asks for, is not there; there are "
            f"{and_more(tables, 5) or 'no tables'}"
        )
    chosen = [file] if file else [path for path in tables if not re.search("submission|sample", path.lower())]
    by_name = _ByName(photos.candidates)
    found: list[LabelList] = []
    problems = []
    for path in chosen:
        try:
            table = _read_table(photos, path, column, group_column, by_name)
        except BadInput as error:
            if file:
                raise
            problems.append(str(error))
            continue
        if table.labels:
            found.append(table)
    return (_joined(found) if found else None), problems


def _read_table(photos: PhotoFolder, path: str, column: str, group_column: str, by_name: _ByName) -> LabelList:
    where = photos.shown(path)
    rows = _rows(photos, path)
    header = rows[0]
    keys = [re.sub(r"[\W_]+", "", cell.casefold()) for cell in header]
    has_header = by_name.find(header[0], path) is None
    if not has_header:
        file_at: int | None = 0
        label_at: int | None = 1
        split_at: int | None = None
        group_at: int | None = None
        lines = list(enumerate(rows, start=1))
    else:
        lines = list(enumerate(rows[1:], start=2))
        candidates = [keys.index(key) for key in _FILE_COLUMNS if key in keys]
        some = [row for _, row in lines[:: max(len(lines) // 200, 1)]]
        found_in = {at: sum(by_name.find(_cell(row, at), path) is not None for row in some) for at in candidates}
        file_at = max(candidates, key=lambda at: found_in[at]) if any(found_in.values()) else None
        label_at = _column(header, keys, column, _LABEL_COLUMNS, file_at)
        split_at = _column(header, keys, "", _SPLIT_COLUMNS, label_at)
        group_at = _column(header, keys, group_column, (), None)
        if column and label_at is None:
            raise BadInput(f"{where} has no column {column!r}; it has {', '.join(header)}")
        if group_column and group_at is None:
            raise BadInput(
                f"{where} has no column {group_column!r}, which data.group asks for; it has {', '.join(header)}"
            )
        if file_at is None or label_at is None:
            what = "a photo's file that is there" if file_at is None else "a label"
            raise BadInput(
                f"{where} has the columns {and_more(header, 8)}, none with {what}; expected columns such as file and "
                "label"
            )
    table = LabelList(path, header[label_at or 0] if has_header else "2")
    seen_at: dict[str, int] = {}
    for number, row in lines:
        name, label = _cell(row, file_at), _cell(row, label_at)
        if not name or not label:
            continue
        label = class_name(label)
        photo = by_name.find(name, path)
        if photo is None:
            table.missing[name] = label
            continue
        if table.labels.get(photo, label) != label:
            raise BadInput(
                f"{where}, line {number}: {name} is {label!r}, and was {table.labels[photo]!r} on line "
                f"{seen_at[photo]}; a photo has one label"
            )
        table.labels[photo] = label
        seen_at[photo] = number
        split = says_split(_cell(row, split_at) if split_at is not None else split_path(path)[1])
        if split:
            table.splits[photo] = split
        if group_at is not None and (group := _cell(row, group_at)):
            table.groups[photo] = group
    return table


def _rows(photos: PhotoFolder, path: str) -> list[list[str]]:
    text = _text(photos, path)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t|", key=first.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
    except csv.Error as error:
        raise BadInput(f"{photos.shown(path)} cannot be read as a table ({error}); save it again as a CSV") from error
    if len(rows) < 2 or len(rows[0]) < 2:
        raise BadInput(f"{photos.shown(path)} has no rows of two columns; expected columns such as file and label")
    return rows


def _text(photos: PhotoFolder, path: str) -> str:
    where = photos.shown(path)
    content = read_bytes(photos.full_path(path), _LARGEST_LIST + 1)
    if len(content) > _LARGEST_LIST:
        raise BadInput(f"{where} has more than {_LARGEST_LIST >> 20} MiB, too many for a list of photos")
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadInput(f"{where} is not UTF-8 text; save it again as CSV in UTF-8") from error


def _cell(row: Sequence[str], at: int | None) -> str:
    return row[at].strip() if at is not None and at < len(row) else ""


def _column(
    header: Sequence[str], keys: Sequence[str], asked: str, usual: Iterable[str], but: int | None
) -> int | None:
    if asked:
        names = [cell.strip() for cell in header]
        return names.index(asked) if asked in names else None
    return next((keys.index(key) for key in usual if key in keys and keys.index(key) != but), None)


def _joined(tables: list[LabelList]) -> LabelList:
    joined = LabelList(", ".join(table.file for table in tables), tables[0].column)
    for table in tables:
        for photo, label in table.labels.items():
            if joined.labels.setdefault(photo, label) != label:
                raise BadInput(
                    f"{photo} is {joined.labels[photo]!r} by one of {joined.file}, and {label!r} by {table.file}; name "
                    "the right one in data.labels"
                )
        joined.splits.update(table.splits)
        joined.groups.update(table.groups)
        joined.missing.update(table.missing)
    joined.missing = {name: label for name, label in joined.missing.items() if name not in joined.labels}
    return joined


class _ByName:
    """Photos by what lists call them: their path, their name, or either without its ending; none where several fit."""

    def __init__(self, candidates: Iterable[FileEntry]):
        self._paths = [entry.path for entry in candidates]

    @functools.cached_property
    def _found(self) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for path in self._paths:
            parts = path.split("/")
            for start in range(len(parts)):
                name = "/".join(parts[start:])
                for key in {name, os.path.splitext(name)[0]}:
                    found[key] = path if key not in found else None
        # A whole path is meant before the end of another one.
        return {**found, **{path: path for path in self._paths}}

    def find(self, name: str, of_list: str = "") -> str | None:
        """The photo that a list means: by its path from the list's folder, or by the end of its path."""
        name = name.replace("\\", "/").removeprefix("./")
        above = of_list.rpartition("/")[0]
        near = self._found.get(f"{above}/{name}") if above else None
        return near or self._found.get(name)


def read_splits(photos: PhotoFolder) -> dict[str, str]:
    """Path of a photo -> `train`, `eval` or `test`, by lists such as `meta/train.txt`, a photo a line.

    Only where there is a list of test or eval photos, and nine of ten of its lines are photos.
    """
    found: dict[str, str] = {}
    by_name = _ByName(photos.candidates)
    for path, lines in _texts(photos):
        split = says_split(os.path.splitext(split_path(path)[1])[0])
        if not split:
            continue
        named = [by_name.find(line, path) or by_name.find(re.split(r"[\t,; ]", line)[0], path) for line in lines]
        there = [photo for photo in named if photo]
        if lines and len(there) >= 0.9 * len(lines):
            found.update(dict.fromkeys(there, split))
    return found if set(found.values()) - {"train"} else {}


def read_labels_of(photos: PhotoFolder, below: str, classes: Iterable[str]) -> dict[str, str]:
    """Path of a photo below a folder -> its class, by a list in or beside that folder whose lines begin with both."""
    known = set(classes)
    by_name = _ByName(entry for entry in photos.candidates if entry.path.startswith(below))
    for _, lines in _texts(photos):
        pairs = [re.split(r"[\t,; ]+", line)[:2] for line in lines]
        found = {by_name.find(pair[0]): pair[1] for pair in pairs if len(pair) == 2 and pair[1] in known}
        found.pop(None, None)
        if found and len(found) >= 0.9 * len(lines):
            return {photo: label for photo, label in found.items() if photo}
    return {}


def read_synset_names(photos: PhotoFolder, classes: Iterable[str]) -> dict[str, str]:
    """Name of a folder such as `n01440764` -> what it stands for, by a list beside the photos; empty without one."""
    wanted = set(classes)
    if not wanted or not all(_SYNSET.fullmatch(name) for name in wanted):
        return {}
    for _, lines in _texts(photos):
        names = {}
        for line in lines:
            number, _, said = line.partition("\t") if "\t" in line else line.partition(" ")
            if number in wanted and said.strip():
                names[number] = said.split(",")[0].strip()
        if set(names) == wanted:
            several = {name for name in names.values() if list(names.values()).count(name) > 1}
            return {number: f"{name} ({number})" if name in several else name for number, name in names.items()}
    return {}


def _texts(photos: PhotoFolder) -> Iterable[tuple[str, list[str]]]:
    """Path and lines of the text files beside the photos, in order; not of captions, of which a folder has many."""
    paths = [file.file_name for file in photos.left_out if file.reason == "other_file"]
    paths = [path for path in paths if path.lower().endswith(_TEXTS) and path.count("/") <= _DEEPEST]
    in_folder = Counter(path.rpartition("/")[0] for path in paths)
    for path in paths:
        if in_folder[path.rpartition("/")[0]] <= _MOST_TEXTS:
            try:
                text = _text(photos, path)
            except BadInput:  # a text that nobody asked for
                continue
            yield path, [line.strip() for line in text.split("\n") if line.strip()]
