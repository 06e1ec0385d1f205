"""Which files of a data folder are photos, and what their place in the folder says about them.

Only names, sizes and lists are read here; the contents of a photo are checked in `photo.py`. Every file below the
folder becomes a `Photo`; an `UnusedFile` that is rejected (it was meant as a photo) or left out (it was not); or it
belongs to the layout itself (the Oxford annotations, markers such as `_SUCCESS`, the shards of TensorFlow Datasets).

| layout          | looks like                                                | datasets                      |
|-----------------|-----------------------------------------------------------|-------------------------------|
| `class_folders` | `<class>/**/photo`, or the same in `train/`, `test/` ...  | cats_vs_dogs, image_folder    |
| `label_list`    | photos in any folders, and a table with file and label    | image_folder                  |
| `kaggle_flat`   | `cat.0.jpg`, `dog.0.jpg`, or the same in `train/`         | cats_vs_dogs                  |
| `oxford`        | `images/*.jpg`, `annotations/{list,trainval,test}.txt`    | oxford_iiit_pet               |
| `image_masks`   | `images/`, `masks/`, or as in `mask_layouts.py`           | image_masks                   |
| `tfds`          | `dataset_info.json`, or `<version>/dataset_info.json`     | cats_vs_dogs, oxford_iiit_pet |

Each may lie in folders of its own (`PetImages/Cat`, `oxford_iiit_pet/images`); `tfds` may not. `structure.py` reads the
folders of classes and splits, `label_lists.py` the tables, `mask_layouts.py` which mask belongs to which photo.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from components.example_gen import label_lists, mask_layouts
from components.example_gen.found_photos import (
    DEFAULT_RULES,
    FolderContents,
    FolderRules,
    Photo,
    official_splits,
    series_of,
)
from components.example_gen.mask_classes import TRIMAPS
from components.example_gen.photo_folder import (
    PhotoFolder,
    UnusedFile,
    read_bytes,
    split_path,
)
from components.example_gen.splits_by_name import split_of_path
from components.example_gen.structure import NoClasses, Structure, read_structure
from schemas.class_names import class_name, refuse_twins
from schemas.errors import BadInput
from schemas.features import DATASETS, MASK_DATASETS
from schemas.words import and_more

CLASS_FOLDERS, LABEL_LIST, KAGGLE_FLAT, OXFORD, TFDS = "class_folders", "label_list", "kaggle_flat", "oxford", "tfds"
OXFORD_LISTS = ("list.txt", "trainval.txt", "test.txt")
_EXPECTED = {
    "cats_vs_dogs": "folders cat/ and dog/ (or Cat/, cats/, ...), or files cat.0.jpg and dog.0.jpg, "
    "or the same in train/",
    "oxford_iiit_pet": "images/*.jpg with annotations/list.txt, trainval.txt and test.txt",
    "image_folder": "one folder of photos for each class, or a labels.csv with the columns file and label",
    "image_masks": mask_layouts.EXPECTED,
}
_SPECIES_BY_FOLDER = {"cat": "cat", "cats": "cat", "dog": "dog", "dogs": "dog"}
_KAGGLE_NAME = re.compile(r"(cat|dog)\.\d+\.jpe?g", re.IGNORECASE)
_OXFORD_NAME = re.compile(r"(?P<breed>.+)_\d+")
_MOST_PROBLEMS = 2  # with tables, of one sentence
_OXFORD_SPECIES = {"1": "cat", "2": "dog"}


def find_photos(root: str, dataset: str, rules: FolderRules = DEFAULT_RULES) -> FolderContents:
    """The photos below `root`, and the files that are not photos; all sorted by file name.

    Raises:
      BadInput: the folder cannot be read, its layout is not one of `dataset`, it contains no photos, the class folders
        are ambiguous, two class names look the same, a list is missing, malformed or contradictory, or there is no such
        class to ignore.
    """
    if dataset not in DATASETS:
        raise BadInput(f"Unknown dataset {dataset!r}; expected one of {', '.join(DATASETS)}.")
    if rules.masks and dataset not in MASK_DATASETS:
        raise BadInput(f"{dataset} has no masks; expected one of {', '.join(MASK_DATASETS)}.")
    of_tables = rules.labels not in ("auto", "folders") or rules.group.startswith("column:")
    if of_tables and dataset != "image_folder":
        raise BadInput(
            f"data.labels ({rules.labels}) or data.group ({rules.group or 'empty'}) needs a table, but {dataset} has "
            "none; set it only for image_folder"
        )
    folder = PhotoFolder(root, dataset, rules.success_file)
    if _is_tfds(folder):
        return FolderContents(TFDS, [], [], mask_classes=TRIMAPS.without(rules.ignore) if rules.masks else None)
    if not folder.candidates:
        raise _no_photo(folder)
    find = {
        "cats_vs_dogs": _find_cats_vs_dogs,
        "oxford_iiit_pet": _find_oxford,
        "image_folder": _find_image_folder,
        "image_masks": mask_layouts.find_image_masks,
    }[dataset]
    found = find(folder, rules)
    if not found.photos:
        raise _no_photo(folder)
    if found.mask_classes:
        found.mask_classes = found.mask_classes.without(rules.ignore)
    refuse_twins(found.classes)
    for files in (found.photos, found.rejected, found.left_out):
        files.sort(key=lambda file: file.file_name)
    return found


def guess_dataset(root: str) -> str:
    """The member of `DATASETS` that a folder looks like; `image_folder` if it looks like no other.

    Raises:
      BadInput: the folder cannot be read or is empty.
    """
    folder = PhotoFolder(root)
    if any(_looks_like_oxford(folder, prefix) for prefix in folder.prefixes()):
        return "oxford_iiit_pet"
    for dataset in ("cats_vs_dogs", "oxford_iiit_pet"):
        folder.dataset = dataset
        with contextlib.suppress(BadInput):
            if _is_tfds(folder):
                return dataset
    if mask_layouts.looks_like_masks(folder):
        return "image_masks"
    species = any(
        any(map(_is_species, folders)) or _KAGGLE_NAME.fullmatch(name)
        for folders, name in (split_path(entry.path) for entry in folder.candidates)
    )
    if species:
        with contextlib.suppress(BadInput):
            found = find_photos(root, "cats_vs_dogs")
            both = len(found.classes) == 2
            if both and not any(file.reason == "unknown_class" for file in found.rejected):
                return "cats_vs_dogs"
    return "image_folder"


def _no_photo(folder: PhotoFolder) -> BadInput:
    files = [*folder.rejected, *folder.left_out]
    if not files:
        return _wrong_layout(folder)
    return BadInput(
        f"The data folder {folder.root} has no usable photos for {folder.dataset} among its {len(files)} "
        f"{'file' if len(files) == 1 else 'files'}; the first cannot be used: {files[0].detail} Expected "
        f"{_EXPECTED[folder.dataset]}."
    )


def _wrong_layout(folder: PhotoFolder, hint: str = "") -> BadInput:
    folders, files = folder.top()
    others = sorted({f.file_name.split("/")[0] for f in (*folder.rejected, *folder.left_out)} - {*folders, *files})
    names = [name + "/" for name in folders] + sorted(files) + others
    return BadInput(
        f"The data folder {folder.root} does not look like {folder.dataset}: found {and_more(names, 5)}; expected "
        f"{_EXPECTED[folder.dataset]}. {hint or 'Check the path and the dataset in the configuration.'}"
    )


def _photo(folder: PhotoFolder, path: str, label: str, **more: Any) -> Photo:
    return Photo(folder.full_path(path), path, folder.dataset, label, **more)


def _found(folder: PhotoFolder, layout: str, photos: list[Photo], classes: list[str]) -> FolderContents:
    own = [folder.shown(path) for path in folder.own_output]
    return FolderContents(layout, photos, folder.rejected, folder.left_out, sorted(classes), own_output=own)


def _is_tfds(folder: PhotoFolder) -> bool:
    info = re.compile(r"(\d+\.\d+\.\d+/)?dataset_info\.json")
    infos = [file.file_name for file in folder.left_out if info.fullmatch(file.file_name)]
    if not infos:
        return False
    where = folder.full_path(infos[0])
    try:
        name = json.loads(read_bytes(where))["name"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{where} is not a valid TensorFlow Datasets file; prepare the data set again.") from error
    if name != folder.dataset:
        raise _wrong_layout(folder, f"It holds {name!r} from TensorFlow Datasets; set the dataset to that.")
    return True


def _find_cats_vs_dogs(folder: PhotoFolder, rules: FolderRules) -> FolderContents:
    refusal: NoClasses | None = None
    try:
        structure = read_structure(folder, _is_species)
        if any(_is_species(c.name) for c in structure.classes):
            return _find_class_folders(folder, structure, rules, _SPECIES_BY_FOLDER)
    except NoClasses as error:
        refusal = error
    known = any(_is_species(name) for entry in folder.candidates for name in split_path(entry.path)[0])
    if refusal and known:
        raise refusal
    if found := _find_kaggle_flat(folder, rules):
        return found
    if any(_looks_like_oxford(folder, prefix) for prefix in folder.prefixes()):
        raise _wrong_layout(folder, "It looks like Oxford-IIIT Pets; set the dataset to oxford_iiit_pet.")
    raise _wrong_layout(folder)


def _is_species(folder_name: str) -> bool:
    return _plain(folder_name) in _SPECIES_BY_FOLDER


def _plain(folder_name: str) -> str:
    return folder_name.strip().lower()


def _find_kaggle_flat(folder: PhotoFolder, rules: FolderRules) -> FolderContents | None:
    """`cat.0.jpg` and `dog.0.jpg`, also in folders of splits; None: there are none."""
    named = {entry.path: m for entry in folder.candidates if (m := _KAGGLE_NAME.fullmatch(split_path(entry.path)[1]))}
    if not named:
        return None
    splits = {path.rpartition("/")[0]: split_of_path(split_path(path)[0]) for path in named}
    given = {split or "train" for split in splits.values()}
    if "train" not in given and len(given) > 1:
        raise BadInput(
            f"{folder.root} holds photos such as cat.0.jpg in {and_more(sorted(splits), 3)}, and none in a folder to "
            "learn from; expected such in train/"
        )
    official = official_splits(given)
    photos = []
    for entry in folder.candidates:
        within = entry.path.rpartition("/")[0]
        if entry.path in named:
            species = named[entry.path][1].lower()
            split = official.get(splits[within] or "train", "")
            group = series_of(rules, entry.path, within)
            photos.append(_photo(folder, entry.path, species, species=species, official_split=split, group=group))
        elif within in splits:
            folder.reject(entry.path, "unlabelled", "is not named like cat.0.jpg or dog.0.jpg.")
        else:
            where = within or folder.root
            folder.leave_out(entry.path, "unlabelled", f"is in {where}, and its name does not give its class.")
    found = _found(folder, KAGGLE_FLAT, photos, sorted({photo.label for photo in photos}))
    found.splits = _by_split((split or "train", within + "/") for within, split in sorted(splits.items()))
    return found


def _by_split(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Split -> the places that define it; empty if there is only one split."""
    found: dict[str, list[str]] = {}
    for split, where in pairs:
        found.setdefault(split, []).append(where)
    return found if len(found) > 1 else {}


def _find_image_folder(folder: PhotoFolder, rules: FolderRules) -> FolderContents:
    for prefix in folder.prefixes():
        if _looks_like_oxford(folder, prefix):
            raise _wrong_layout(folder, "It looks like Oxford-IIIT Pets; set the dataset to oxford_iiit_pet.")
    column = rules.group.removeprefix("column:") if rules.group.startswith("column:") else ""
    table: label_lists.LabelList | None = None
    problems: list[str] = []
    if rules.labels != "folders" or column:
        asked = "" if rules.labels in ("auto", "folders") else rules.labels
        table, problems = label_lists.read_tables(folder, asked, column)
    if column and (table is None or not table.groups):
        raise BadInput(
            f"data.group names the column {column!r}, but no table in {folder.root} has it"
            + (f"; {and_more(problems, _MOST_PROBLEMS)}" if problems else "")
        )
    if table and rules.labels not in ("auto", "folders"):
        return _find_by_table(folder, table, rules)
    try:
        structure = read_structure(folder, has_series=rules.group == "folder")
    except NoClasses as refusal:
        if table and rules.labels == "auto":
            return _find_by_table(folder, table, rules)
        flat = any(_KAGGLE_NAME.fullmatch(split_path(entry.path)[1]) for entry in folder.candidates)
        said = f"; {and_more(problems, _MOST_PROBLEMS)}" if problems else ""
        if flat:
            raise _wrong_layout(folder, "It looks like cats_vs_dogs; set the dataset to that." + said) from None
        if not folder.top()[0]:
            raise _wrong_layout(folder, said.removeprefix("; ")) from None
        raise BadInput(f"{refusal}{said}") from None
    if len({c.name for c in structure.classes}) < 2 and rules.labels == "auto":
        if table:
            return _find_by_table(folder, table, rules)
        if problems:
            raise BadInput(
                f"all photos in {folder.root} are in one folder, and no table next to them can be read: "
                f"{and_more(problems, _MOST_PROBLEMS)}"
            )
    if table and rules.labels == "auto" and not _agree(structure, table):
        of_photos = len(table.labels) / (len(table.labels) + len(table.missing))
        if 2 * len(table.labels) >= len(folder.candidates) or of_photos >= 0.9:
            raise BadInput(
                f"the folders in {folder.root} and {table.file} (column {table.column}) disagree on the classes: the "
                f"folders have {and_more(sorted({c.name for c in structure.classes}), 3)}, the table has "
                f"{and_more(sorted(set(table.labels.values())), 3)}; set data.labels=folders or "
                f"data.labels={table.file.split(', ')[0]}"
            )
    return _find_class_folders(folder, structure, rules, None, table)


def _agree(structure: Structure, table: label_lists.LabelList) -> bool:
    """Whether folders and table divide the photos the same way, whatever they call the classes."""
    pairs = {
        (c.name, table.labels[entry.path])
        for c in structure.classes
        for entry in c.folder.everything()
        if entry.path in table.labels
    }
    return len(pairs) == len({folder for folder, _ in pairs}) == len({label for _, label in pairs})


def _find_by_table(folder: PhotoFolder, table: label_lists.LabelList, rules: FolderRules) -> FolderContents:
    """The classes come from a table; photos that it does not list have no label."""
    splits = table.splits if len(set(table.splits.values())) > 1 else label_lists.read_splits(folder)
    given = {*splits.values(), "train"} if splits else set()
    official = official_splits(given)
    photos = []
    for entry in folder.candidates:
        if label := table.labels.get(entry.path):
            within = entry.path.rpartition("/")[0]
            group = table.groups.get(entry.path) or series_of(rules, entry.path, within)
            split = official.get(splits.get(entry.path, "train"), "")
            photos.append(_photo(folder, entry.path, label, official_split=split, group=group))
        else:
            folder.leave_out(entry.path, "unlabelled", f"has no label in {table.file}.")
    for name, label in table.missing.items():
        folder.reject(name, "missing", f"is listed in {table.file} but does not exist.", label)
    classes = {*table.labels.values(), *table.missing.values()}
    found = _found(folder, LABEL_LIST, photos, sorted(classes))
    read = table.file.split(", ")
    found.left_out = [file for file in found.left_out if file.file_name not in read]
    found.labels_from = f"{table.file} (column {table.column})"
    says = table.file if splits is table.splits else "lists beside the photos"
    found.splits = {split: [says] for split in sorted(given)}
    return found


def _find_class_folders(
    folder: PhotoFolder,
    structure: Structure,
    rules: FolderRules,
    species_by_folder: Mapping[str, str] | None,
    table: label_lists.LabelList | None = None,
) -> FolderContents:
    """With `species_by_folder` only its classes count; without it, each folder's name is a class."""
    names = sorted({c.name for c in structure.classes})
    if species_by_folder is None:
        refuse_twins(names)
        spoken = label_lists.read_synset_names(folder, names)
        labels = {name: class_name(spoken.get(name, name)) for name in names}
    else:
        labels = {name: species_by_folder[_plain(name)] for name in names if _plain(name) in species_by_folder}
    placed = {
        entry.path: _Place(of_class.name, of_class.split, of_class.folder.path)
        for of_class in structure.classes
        for entry in of_class.folder.everything()
    }
    given = dict(structure.splits)
    for other in structure.beside:
        listed = label_lists.read_labels_of(folder, other.folder.path, names) if other.split else {}
        placed |= {path: _Place(name, other.split, other.folder.path) for path, name in listed.items()}
        if listed:
            given[other.split] = [*given.get(other.split, []), other.folder.path]
        for entry in other.folder.everything():
            if entry.path not in placed:
                folder.leave_out(entry.path, other.reason, other.detail)
    lists = {} if given or rules.labels == "folders" else label_lists.read_splits(folder)
    official = official_splits([*given, *lists.values(), *(["train"] if lists else [])])
    left_out = {file.file_name for file in folder.left_out}
    photos = []
    for entry in folder.candidates:
        place = placed.get(entry.path)
        if place and place.name in labels:
            label = labels[place.name]
            split = official.get(place.split or lists.get(entry.path, "train"), "")
            group = (table.groups.get(entry.path) if table else "") or series_of(rules, entry.path, place.within[:-1])
            species = label if species_by_folder else ""
            photos.append(_photo(folder, entry.path, label, species=species, official_split=split, group=group))
        elif place:
            folder.reject(entry.path, "unknown_class", f"is in {place.name!r}, which is neither cat nor dog.")
        elif entry.path not in left_out:
            folder.leave_out(entry.path, "unlabelled", "is not in a class folder.")
    meant = {c.folder.path: labels[c.name] for c in structure.classes if c.name in labels}
    folder.rejected = [replace(file, label=_meant_for(file, meant)) for file in folder.rejected]
    found = _found(folder, CLASS_FOLDERS, photos, sorted(set(labels.values())))
    found.splits = given if len(given) > 1 else {}
    if lists:
        found.splits = {split: ["lists beside the photos"] for split in sorted({*lists.values(), "train"})}
    return found


class _Place(NamedTuple):
    """The class folder that a photo is in."""

    name: str
    split: str  # as in `ClassFolder`
    within: str  # path of the class folder


def _meant_for(file: UnusedFile, class_folders: Mapping[str, str]) -> str:
    """The class of the folder that a rejected file is in; empty outside class folders."""
    parts = file.file_name.split("/")
    above = ("/".join(parts[:i]) + "/" for i in range(1, len(parts)))
    return file.label or next((class_folders[path] for path in above if path in class_folders), "")


def _looks_like_oxford(folder: PhotoFolder, prefix: str) -> bool:
    lists = {f"{prefix}annotations/{name}" for name in OXFORD_LISTS}
    return any(file.file_name in lists for file in folder.left_out) and "images" in folder.top(prefix)[0]


class _OxfordPhoto(NamedTuple):
    breed: str
    species: str
    official_split: str


def _find_oxford(folder: PhotoFolder, rules: FolderRules) -> FolderContents:
    prefix = next((p for p in folder.prefixes() if "images" in folder.top(p)[0]), None)
    if prefix is None:
        raise _wrong_layout(folder)
    listed = _read_oxford_lists(folder, prefix)
    # Trimaps are pictures too, and as many as photos.
    annotations = re.compile(re.escape(prefix) + r"annotations/((list|trainval|test)\.txt|README|trimaps/|xmls/)")
    for files in (folder.rejected, folder.left_out):
        files[:] = [file for file in files if not annotations.match(file.file_name)]
    photos = []
    for entry in folder.candidates:
        if annotations.match(entry.path):
            continue
        folders, file_name = split_path(entry.path)
        name, ending = os.path.splitext(file_name)
        breed = listed[name].breed if name in listed else ""
        if "/".join(folders) != f"{prefix}images":
            folder.reject(entry.path, "outside_layout", "is neither in images/ nor part of annotations/.")
        elif ending.lower() != ".jpg":
            folder.reject(entry.path, "not_a_photo", f"ends in {ending!r}, not .jpg.", breed)
        elif name not in listed:
            folder.reject(entry.path, "not_listed", "is not listed in list.txt, trainval.txt or test.txt.")
        else:
            breed, species, split = listed[name]
            group = series_of(rules, entry.path, "/".join(folders))
            facts = {"species": species, "breed": breed, "official_split": split, "group": group}
            photos.append(_photo(folder, entry.path, breed, **facts))
    there = {photo.file_name.lower() for photo in photos} | {r.file_name.lower() for r in folder.rejected}
    for name, of_photo in listed.items():
        if f"{prefix}images/{name}.jpg".lower() not in there:
            folder.reject(
                f"{prefix}images/{name}.jpg", "missing", "is listed but missing from images/.", of_photo.breed
            )
    if rules.masks:
        photos = mask_layouts.with_trimaps(folder, prefix, photos)
    found = _found(folder, OXFORD, photos, sorted({of_photo.breed for of_photo in listed.values()}))
    found.mask_classes = TRIMAPS if rules.masks else None
    found.splits = {"train": ["annotations/trainval.txt"], "test": ["annotations/test.txt"]}
    return found


def _read_oxford_lists(folder: PhotoFolder, prefix: str) -> dict[str, _OxfordPhoto]:
    """Name of a photo without `.jpg` -> its entry in the lists."""
    present = {file.file_name for file in folder.left_out}
    missing = [name for name in OXFORD_LISTS if f"{prefix}annotations/{name}" not in present]
    if missing:
        raise BadInput(
            f"The data folder {folder.root} has {prefix}images/ but no {prefix}annotations/{missing[0]}; "
            f"expected {_EXPECTED['oxford_iiit_pet']}. Unpack annotations.tar.gz next to images/."
        )
    listed: dict[str, _OxfordPhoto] = {}
    for list_name in OXFORD_LISTS:  # list.txt first: it has no split
        where = folder.full_path(f"{prefix}annotations/{list_name}")
        split = "" if list_name == "list.txt" else list_name.removesuffix(".txt")
        try:
            lines = read_bytes(where).decode("utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise BadInput(f"{where} is not UTF-8 text; unpack annotations.tar.gz again.") from error
        for number, line in enumerate(lines, start=1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            fields = line.split()
            name = _OXFORD_NAME.fullmatch(fields[0])
            numbers = len(fields) == 4 and all(field.isdecimal() for field in fields[1:])
            if not name or not numbers or fields[2] not in _OXFORD_SPECIES:
                raise BadInput(
                    f"{where}, line {number}: found {line[:80]!r}, expected a photo's name, class, species (1 or 2) "
                    "and breed, such as 'Abyssinian_103 1 1 1'; fix the line or unpack annotations.tar.gz again."
                )
            facts = _OxfordPhoto(name["breed"], _OXFORD_SPECIES[fields[2]], split)
            before = listed.get(fields[0], facts)
            if before.species != facts.species or before.official_split not in ("", split):
                raise BadInput(
                    f"{where}, line {number}: {fields[0]} is listed here as {facts.species}, and before as "
                    f"{before.species} in {before.official_split or 'list'}.txt; a photo can have only one species and "
                    "one split. Fix the lists or unpack annotations.tar.gz again."
                )
            listed[fields[0]] = facts
    return listed
