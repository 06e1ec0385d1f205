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
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from components.example_gen.photo_folder import FileEntry, PhotoFolder, read_bytes, split_path
from components.example_gen.splits_by_name import says_split, split_of_path
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
_SPLIT_COLUMNS = ("split", "splits", "dataset", "subset", "partition", "set", "usage", "isvalid")
_LARGEST_LIST = 256 * 2**20  # bytes
_DEEPEST = 3  # folders above a list
_SYNSET = re.compile(r"n\d{8}")
_TABLES, _TEXTS = (".csv", ".tsv"), (".txt",)
_MOST_TEXTS = 50  # in one folder
_SAMPLE = 200  # lines that show whether a list is of these photos


@dataclass
class LabelList:
    """The contents of a table of labels."""

    file: str
    column: str
    labels: dict[str, str] = field(default_factory=dict)
    """Path of a photo -> its class."""
    splits: dict[str, str] = field(default_factory=dict)
    """Path of a photo -> `train`, `eval` or `test`."""
    groups: dict[str, str] = field(default_factory=dict)
    """Path of a photo -> its series."""
    missing: dict[str, str] = field(default_factory=dict)
    """Listed name without a photo -> its class."""


def read_tables(photos: PhotoFolder, asked: str = "", group_column: str = "") -> tuple[LabelList | None, list[str]]:
    """Reads the tables of labels next to the photos.

    Args:
      asked: path of a table below the data folder, optionally followed by `:` and the column of the labels. Empty reads
        every table that has labels.
      group_column: column that names a photo's series; empty for none.

    Returns:
      All tables merged into one, or None without a usable table; and one sentence for each table that was not usable.

    Raises:
      BadInput: the requested table is missing or unusable, or two of its lines contradict each other.
    """
    file, _, column = asked.partition(":")
    file = os.path.normpath(file.removeprefix(photos.root.rstrip("/") + "/")) if file else ""
    known = [entry.file_name for entry in photos.left_out if entry.reason == "other_file"]
    tables = [path for path in known if path.lower().endswith(_TABLES) and path.count("/") <= _DEEPEST]
    if file and file not in known:
        raise BadInput(
            f"data.labels names {photos.shown(file)}, which does not exist; "
            f"{f'the tables found are {and_more(tables, 5)}' if tables else 'there are no tables in the folder'}"
        )
    chosen = [file] if file else [path for path in tables if not re.search("submission|sample", path.lower())]
    by_name = _ByName(photos.candidates)
    found: list[LabelList] = []
    problems: list[str] = []
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
    try:
        return (_joined(found) if found else None), problems
    except BadInput as error:  # tables that nobody asked for, of which one may be of something else
        return None, [*problems, str(error)]


def _read_table(photos: PhotoFolder, path: str, column: str, group_column: str, by_name: _ByName) -> LabelList:
    lines = _table_lines(photos, path)
    header, *some = _rows(photos, path, [lines[0], *lines[1 :: max(len(lines) // _SAMPLE, 1)]])
    columns = _columns(photos.shown(path), path, header, some, column, group_column, by_name)
    first = 2 if columns.has_header else 1
    rows = _rows(photos, path, lines)[first - 1 :]
    table = LabelList(path, header[columns.label] if columns.has_header else "2")
    splits = {cell for row in rows if (cell := _cell(row, columns.split))}
    unknown = sorted(cell for cell in splits if not _split_of_cell(cell))
    if unknown and len(unknown) < len(splits):
        raise BadInput(
            f"{photos.shown(path)}, column {header[columns.split or 0]}: found {and_more(unknown, 3)}, expected train, "
            "val or test"
        )
    seen_at: dict[str, int] = {}
    for number, row in enumerate(rows, start=first):
        name, label = _cell(row, columns.file), _cell(row, columns.label)
        if not name or not label or label.casefold() == "nan":
            continue
        label = class_name(label)
        photo = by_name.find(name, path)
        if photo is None:
            table.missing[name] = label
            continue
        if table.labels.get(photo, label) != label:
            raise BadInput(
                f"{photos.shown(path)}, line {number}: {name} is labelled {label!r} here and "
                f"{table.labels[photo]!r} on line {seen_at[photo]}; a photo can have only one label"
            )
        table.labels[photo] = label
        seen_at[photo] = number
        folders, _ = split_path(photo)
        said = _split_of_cell(_cell(row, columns.split))
        if split := said or split_of_path(folders) or says_split(os.path.splitext(split_path(path)[1])[0]):
            table.splits[photo] = split
        if group := _cell(row, columns.group):
            table.groups[photo] = group
    return table


class _Columns(NamedTuple):
    """Positions of the columns; None where a table has no such column."""

    has_header: bool
    file: int
    label: int
    split: int | None = None
    group: int | None = None


def _columns(
    where: str,
    path: str,
    header: Sequence[str],
    some: Sequence[Sequence[str]],
    column: str,
    group: str,
    by_name: _ByName,
) -> _Columns:
    """Finds the columns from a table's header and a sample of its rows."""
    if len(header) == 2 and by_name.find(header[0], path) is not None:
        return _Columns(False, 0, 1)
    keys = [re.sub(r"[\W_]+", "", cell.casefold()) for cell in header]
    candidates = [keys.index(key) for key in _FILE_COLUMNS if key in keys]
    hits = {at: sum(by_name.find(_cell(row, at), path) is not None for row in some) for at in candidates}
    file_at = max(candidates, key=lambda at: hits[at]) if any(hits.values()) else None
    label_at = _column(header, keys, column, _LABEL_COLUMNS, file_at)
    group_at = _column(header, keys, group, (), None)
    for asked, at, key in ((column, label_at, "data.labels"), (group, group_at, "data.group")):
        if asked and at is None:
            raise BadInput(f"{where} has no column {asked!r}, which {key} names; its columns are {and_more(header, 8)}")
    if file_at is None or label_at is None:
        lacking = "names photo files that exist" if file_at is None else "holds labels"
        raise BadInput(
            f"{where} has the columns {and_more(header, 8)}, and none of them {lacking}; expected columns such as file "
            "and label"
        )
    return _Columns(True, file_at, label_at, _column(header, keys, "", _SPLIT_COLUMNS, label_at), group_at)


def _split_of_cell(cell: str) -> str:
    """The split in a cell of a split column, or of a true/false column such as `is_valid`."""
    return {"true": "eval", "false": "train"}.get(cell.casefold()) or says_split(cell)


def _table_lines(photos: PhotoFolder, path: str) -> list[str]:
    lines = [line for line in re.split("\r?\n|\r", _text(photos, path)) if line.strip()]
    if lines and re.fullmatch("sep=.", lines[0]):  # Excel's word on the delimiter
        lines = lines[1:]
    if len(lines) < 2:
        raise BadInput(f"{photos.shown(path)} has no rows; expected a header such as file,label and one line per photo")
    return lines


def _rows(photos: PhotoFolder, path: str, lines: Sequence[str]) -> list[list[str]]:
    delimiter = max(",;\t|", key=lines[0].count)
    try:
        rows = list(csv.reader(lines, delimiter=delimiter))
    except csv.Error as error:
        raise BadInput(f"{photos.shown(path)} cannot be read as a table ({error}); save it again as CSV") from error
    if len(rows[0]) < 2:
        raise BadInput(f"{photos.shown(path)} has only one column; expected columns such as file and label")
    return rows


def _text(photos: PhotoFolder, path: str) -> str:
    where = photos.shown(path)
    content = read_bytes(photos.full_path(path), _LARGEST_LIST + 1)
    if len(content) > _LARGEST_LIST:
        raise BadInput(f"{where} is larger than {_LARGEST_LIST >> 20} MiB, which is too large for a list of photos")
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
                    f"{photo} is labelled {joined.labels[photo]!r} in one of {joined.file}, but {label!r} in "
                    f"{table.file}; name the right table in data.labels"
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
    def _found(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self._paths:
            parts = path.split("/")
            for start in range(len(parts)):
                name = "/".join(parts[start:])
                for key in {name, os.path.splitext(name)[0]}:
                    found.setdefault(key, []).append(path)
        # A whole path is meant before the end of another one.
        return {**found, **{path: [path] for path in self._paths}}

    def find(self, name: str, of_list: str = "") -> str | None:
        """The photo that a list means: by its path from the list's folder, or by the end of its path.

        Of several photos of a name, the one in the folder of the list's split. Of an address on another machine the end
        counts.
        """
        name = name.replace("\\", "/").removeprefix("./")
        above, _, list_name = of_list.rpartition("/")
        found = (above and self._found.get(f"{above}/{name}")) or self._known(name)
        if len(found) > 1:
            split = says_split(os.path.splitext(list_name)[0])
            found = [path for path in found if split and split_of_path(split_path(path)[0]) == split]
        return found[0] if len(found) == 1 else None

    def _known(self, name: str) -> list[str]:
        elsewhere = name.startswith(("/", "../")) or name[1:3] == ":/"
        parts = name.split("/")
        ends = ("/".join(parts[i:]) for i in range(len(parts) if elsewhere else 1))
        keys = (key for end in ends for key in (end, os.path.splitext(end)[0]))
        return next((self._found[key] for key in keys if key in self._found), [])


def read_splits(photos: PhotoFolder) -> dict[str, str]:
    """Path of a photo -> `train`, `eval` or `test`, from lists such as `meta/train.txt` with one photo per line.

    A list counts if nine of ten of its lines are photos. The result is empty without a list of test or eval photos.

    Raises:
      BadInput: two lists put a photo into different splits.
    """
    found: dict[str, str] = {}
    said_by: dict[str, str] = {}
    by_name = _ByName(photos.candidates)

    def photo_of(line: str, path: str) -> str | None:
        return by_name.find(line, path) or by_name.find(re.split(r"[\t,; ]", line)[0], path)

    for path, lines in _texts(photos):
        split = says_split(os.path.splitext(split_path(path)[1])[0])
        some = lines[:: max(len(lines) // _SAMPLE, 1)]
        if not split or sum(photo_of(line, path) is not None for line in some) < 0.9 * len(some):
            continue
        for photo in filter(None, (photo_of(line, path) for line in lines)):
            if found.setdefault(photo, split) != split:
                raise BadInput(
                    f"{photo} is listed in both {said_by[photo]} and {path} in {photos.root}; keep only one pair of "
                    "lists there, or set data.labels=folders to ignore them all"
                )
            said_by[photo] = path
    return found if set(found.values()) - {"train"} else {}


def read_labels_of(photos: PhotoFolder, below: str, classes: Iterable[str]) -> dict[str, str]:
    """Path of a photo below a folder -> its class, from a list in or next to that folder.

    Each line of the list begins with the photo's name and its class.
    """
    known = set(classes)
    by_name = _ByName(entry for entry in photos.candidates if entry.path.startswith(below))
    for _, lines in _texts(photos):
        some = lines[:: max(len(lines) // _SAMPLE, 1)]
        if not all(by_name.find(re.split(r"[\t,; ]+", line)[0]) for line in some):
            continue
        pairs = [re.split(r"[\t,; ]+", line)[:2] for line in lines]
        found = {by_name.find(pair[0]): pair[1] for pair in pairs if len(pair) == 2 and pair[1] in known}
        found.pop(None, None)
        if found and len(found) >= 0.9 * len(lines):
            return {photo: label for photo, label in found.items() if photo}
    return {}


def read_synset_names(photos: PhotoFolder, classes: Iterable[str]) -> dict[str, str]:
    """Name of a folder such as `n01440764` -> its readable name, from a list next to the photos; empty without one."""
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
    """Path and lines of the text files next to the photos, in order; captions, of which a folder has many, are not."""
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
