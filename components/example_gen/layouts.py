"""Which files of a data folder are photos, and what their place in the folder says about them.

Only names, sizes and the Oxford lists are read here; what is inside a photo is judged in `photo.py`. Every
file below the folder ends up as a `Photo`, as a `Rejected` with its reason, or belongs to the layout itself
(the Oxford annotations, markers of completeness such as `_SUCCESS`, the shards of TensorFlow Datasets).

| layout          | looks like                                             | datasets                      |
|-----------------|--------------------------------------------------------|-------------------------------|
| `class_folders` | `<class>/**/photo`                                     | cats_vs_dogs, image_folder    |
| `kaggle_flat`   | `cat.0.jpg`, `dog.0.jpg`, or the same in `train/`      | cats_vs_dogs                  |
| `oxford`        | `images/*.jpg`, `annotations/{list,trainval,test}.txt` | oxford_iiit_pet               |
| `tfds`          | `dataset_info.json`, or `<version>/dataset_info.json`  | cats_vs_dogs, oxford_iiit_pet |

Each may lie in one folder of its own (`PetImages/Cat`, `oxford_iiit_pet/images`); `tfds` may not.
"""

import hashlib
import json
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.errors import BadInput
from schemas.features import DATASETS

CLASS_FOLDERS, KAGGLE_FLAT, OXFORD, TFDS = "class_folders", "kaggle_flat", "oxford", "tfds"
# The marker that Hadoop and Spark put into every folder that is complete.
SUCCESS_FILE = "_SUCCESS"
OXFORD_LISTS = ("list.txt", "trainval.txt", "test.txt")
# What a data set says about a photo's split -> the splits among which the photo's hash chooses.
OFFICIAL_SPLITS = {
    "": ("train", "eval", "test"),
    "train": ("train",),
    "eval": ("eval",),
    "test": ("test",),
    "trainval": ("train", "eval"),
    "traintest": ("train", "test"),
}

_EXPECTED = {
    "cats_vs_dogs": "folders cat/ and dog/ (or Cat/, cats/, ...), or files cat.0.jpg and dog.0.jpg, "
    "or the same in train/",
    "oxford_iiit_pet": "images/*.jpg with annotations/list.txt, trainval.txt and test.txt",
    "image_folder": "one folder of photos for each class",
}
_SPECIES_BY_FOLDER = {"cat": "cat", "cats": "cat", "dog": "dog", "dogs": "dog"}
_SPLIT_FOLDER = re.compile(r"train(ing|val)?|val(id|idation)?|eval|dev|test(ing)?", re.IGNORECASE)
_PHOTO_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".heic")
_DESKTOP_FILES = {"thumbs.db", "desktop.ini"}
_KAGGLE_NAME = re.compile(r"(cat|dog)\.\d+\.jpe?g", re.IGNORECASE)
_OXFORD_NAME = re.compile(r"(?P<breed>.+)_\d+")
_OXFORD_SPECIES = {"1": "cat", "2": "dog"}
_NOT_A_FILE, _FOLDER = -1, -2


@dataclass(frozen=True)
class FileEntry:
    """One file below a folder; `path` is relative, with `/`.

    `size` is -1 for what cannot be read as a file: a dangling link, a link back to a folder above, a pipe. Within this
    module folders are entries too, of size -2; `path` is "" for the folder itself.
    """

    path: str
    size: int
    mtime_ns: int


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


@dataclass(frozen=True)
class Rejected:
    """A file that is not used, and why."""

    file_name: str
    dataset: str
    reason: str  # short code in snake_case
    detail: str  # one sentence, with the file name
    label: str = ""  # the class that the file was meant for, where its place says so


@dataclass
class Found:
    """What a data folder holds.

    rejected: files that were meant as photos, and are not used. left_out: files that are no photos of the data set by
    their name or place, such as sidecars, lists, and photos without a label. classes: all classes that the folder
    names, also those without a photo.
    """

    layout: str
    photos: list[Photo]
    rejected: list[Rejected]
    left_out: list[Rejected] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)


def list_files(root: str) -> list[FileEntry]:
    """All files below `root`, sorted by path.

    `root` is a local folder, or an address such as `gs://bucket/folder` (then TensorFlow reads it). Links are
    followed.

    Raises:
      BadInput: the folder is missing, no folder, cannot be read, or holds no file.
    """
    entries = [entry for entry in _walk(root) if entry.size != _FOLDER]
    if not entries:
        raise _is_empty(root)
    return sorted(entries, key=lambda entry: entry.path)


def is_marker(path: str, success_file: str) -> bool:
    """Whether a file, by its path below the data folder, says that a folder is complete, and is no photo.

    `success_file` directly in the data folder is one, and `_SUCCESS` anywhere.
    """
    return path == success_file or _split(path)[1] == SUCCESS_FILE


def has_marker(root: str, success_file: str) -> bool:
    """Whether the file `success_file` is in the folder."""
    path = f"{root.rstrip('/')}/{success_file}"
    if "://" not in root:
        return os.path.isfile(path)
    import tensorflow as tf

    try:
        return tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path)
    except tf.errors.OpError as error:
        raise BadInput(f"{path} cannot be looked for ({error.message}); check the folder's permissions.") from error


def holds_files(root: str, success_file: str) -> bool:
    """Whether there is any file below `root` besides markers.

    Raises:
      BadInput: as `list_files`, but for empty folders.
    """
    return any(entry.size != _FOLDER and not is_marker(entry.path, success_file) for entry in _walk(root))


def last_change(root: str) -> float:
    """When the youngest of the files and folders below `root`, and of `root` itself, was changed: seconds since 1970.

    Raises:
      BadInput: as `list_files`, but for empty folders.
    """
    return max(entry.mtime_ns for entry in _walk(root)) / 1e9


def _is_empty(root: str) -> BadInput:
    return BadInput(f"The data folder {root} is empty, photos were expected; check the path in the configuration.")


def fingerprint(entries: Iterable[FileEntry]) -> str:
    """SHA-256 over path, size and modification time of each file: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for entry in entries:
        path = entry.path.encode("utf-8", "surrogateescape")
        digest.update(b"%d:%s%d,%d;" % (len(path), path, entry.size, entry.mtime_ns))
    return digest.hexdigest()


def find_photos(root: str, dataset: str, success_file: str = SUCCESS_FILE) -> Found:
    """The photos below `root`, and the files that are none; both sorted by file name.

    `success_file` directly in `root` is neither, as is `_SUCCESS` anywhere.

    Raises:
      BadInput: the folder cannot be read, its layout is not one of `dataset`, it holds no photo, or an Oxford
        list is missing or malformed.
    """
    if dataset not in DATASETS:
        raise BadInput(f"The dataset {dataset!r} is unknown; expected one of {', '.join(DATASETS)}.")
    folder = _Folder(root, dataset, success_file)
    if _is_tfds(folder):
        return Found(TFDS, [], [])
    find = {
        "cats_vs_dogs": _find_cats_vs_dogs,
        "oxford_iiit_pet": _find_oxford,
        "image_folder": _find_image_folder,
    }[dataset]
    found = find(folder)
    if not found.photos:
        first = found.rejected[0]
        raise BadInput(
            f"The data folder {root} holds no photo of {dataset}: all {len(found.rejected)} files were "
            f"rejected, the first because {first.detail} Expected {_EXPECTED[dataset]}."
        )
    found.photos.sort(key=lambda photo: photo.file_name)
    found.rejected.sort(key=lambda rejected: (rejected.file_name, rejected.reason))
    return found


def _walk(root: str) -> Iterator[FileEntry]:
    """Every file and folder below `root`, and `root` itself; links are followed, but to none of the folders above."""
    return _walk_remote(root) if "://" in root else _walk_local(root)


def _walk_local(root: str) -> Iterator[FileEntry]:
    if not os.path.lexists(root):
        raise BadInput(f"The data folder {root} does not exist; check the path in the configuration.")
    if not os.path.isdir(root):
        raise BadInput(f"The data folder {root} is not a folder; give the folder that holds the photos.")
    # Folder, its path below the root, and the folders above it by device and inode: a link to one is a loop.
    waiting: list[tuple[str, str, frozenset[tuple[int, int]]]] = [(root, "", frozenset())]
    while waiting:
        folder, relative, above = waiting.pop()
        try:
            status = os.stat(folder)
            with os.scandir(folder) as scan:
                children = list(scan)
        except OSError as error:
            raise BadInput(f"The folder {folder} cannot be read ({error.strerror}); check its permissions.") from error
        yield FileEntry(relative.rstrip("/"), _FOLDER, status.st_mtime_ns)
        here = above | {(status.st_dev, status.st_ino)}
        for child in children:
            path = relative + child.name
            try:
                status = child.stat()
            except OSError:  # a dangling link, or a link to itself
                yield FileEntry(path, _NOT_A_FILE, 0)
                continue
            if stat.S_ISREG(status.st_mode):
                yield FileEntry(path, status.st_size, status.st_mtime_ns)
            elif stat.S_ISDIR(status.st_mode) and (status.st_dev, status.st_ino) not in here:
                waiting.append((child.path, path + "/", here))
            else:
                yield FileEntry(path, _NOT_A_FILE, 0)


def _walk_remote(root: str) -> Iterator[FileEntry]:
    import tensorflow as tf

    base = root.rstrip("/")

    def fail(error: Exception) -> None:
        raise error

    try:
        if not tf.io.gfile.exists(base):
            raise BadInput(f"The data folder {root} does not exist; check the address in the configuration.")
        if not tf.io.gfile.isdir(base):
            raise BadInput(f"The data folder {root} is not a folder; give the folder that holds the photos.")
        for folder, _, names in tf.io.gfile.walk(base, onerror=fail):
            below = folder.rstrip("/")[len(base) :].lstrip("/")
            try:
                changed = tf.io.gfile.stat(folder).mtime_nsec
            except tf.errors.NotFoundError:  # an object store keeps no folders
                changed = 0
            yield FileEntry(below, _FOLDER, changed)
            for name in names:
                path = f"{below}/{name}" if below else name
                status = tf.io.gfile.stat(f"{base}/{path}")
                yield FileEntry(path, status.length, status.mtime_nsec)
    except tf.errors.OpError as error:
        raise BadInput(
            f"The data folder {root} cannot be read ({error.message}); check the address and its permissions."
        ) from error


def _read_bytes(path: str) -> bytes:
    try:
        if "://" in path:
            import tensorflow as tf

            with tf.io.gfile.GFile(path, "rb") as remote_file:
                return remote_file.read()
        with open(path, "rb") as local_file:
            return local_file.read()
    except Exception as error:  # OSError, or one of TensorFlow's
        raise BadInput(f"{path} cannot be read ({error}); check its permissions.") from error


class _Folder:
    """The files of one data folder. What is no photo under any layout is sorted out at once."""

    def __init__(self, root: str, dataset: str, success_file: str) -> None:
        self.root = root
        self.dataset = dataset
        self._base = root.rstrip("/") if "://" in root else os.path.abspath(root)
        self.candidates: list[FileEntry] = []
        self.rejected: list[Rejected] = []
        for entry in list_files(root):
            folders, name = _split(entry.path)
            if is_marker(entry.path, success_file):
                continue
            if not _is_utf8(entry.path):
                self.reject(entry.path, "name_not_utf8", "has a name that is not UTF-8; rename it.")
            elif any(part.startswith(".") or part == "__MACOSX" for part in folders):
                self.reject(entry.path, "hidden_folder", "lies in a hidden folder.")
            elif entry.size == _NOT_A_FILE:
                self.reject(entry.path, "unreadable", "is a dangling or circular link, or no file.")
            elif name.startswith("."):
                self.reject(entry.path, "not_a_photo", "is a hidden file, a sidecar.")
            elif name.lower() in _DESKTOP_FILES:
                self.reject(entry.path, "not_a_photo", "is a file of the desktop.")
            else:
                self.candidates.append(entry)
        if not self.candidates and not self.rejected:
            raise _is_empty(root)

    def reject(self, path: str, reason: str, detail: str) -> None:
        readable = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        self.rejected.append(Rejected(readable, self.dataset, reason, f"{readable} {detail}"))

    def photo(self, path: str, label: str, species: str = "", breed: str = "", split: str = "") -> Photo:
        return Photo(self.full_path(path), path, self.dataset, label, species, breed, split)

    def full_path(self, path: str) -> str:
        return f"{self._base}/{path}" if "://" in self._base else os.path.join(self._base, path)

    def top(self, prefix: str = "") -> tuple[list[str], list[str]]:
        """Names of the folders that hold a candidate, and of the candidates, directly below `prefix`."""
        folders, files = set(), []
        for entry in self.candidates:
            if entry.path.startswith(prefix):
                first, slash, _ = entry.path[len(prefix) :].partition("/")
                if slash:
                    folders.add(first)
                else:
                    files.append(first)
        return sorted(folders), files

    def wrapper(self) -> str:
        """`"name/"` where everything lies in that one folder (beside files that are no photos), else `""`."""
        folders, files = self.top()
        if len(folders) == 1 and not any(name.lower().endswith(_PHOTO_ENDINGS) for name in files):
            return folders[0] + "/"
        return ""

    def prefixes(self) -> list[str]:
        return list(dict.fromkeys(["", self.wrapper()]))

    def wrong_layout(self, hint: str = "") -> BadInput:
        folders, files = self.top()
        names = [name + "/" for name in folders] + sorted(files) or [r.file_name for r in self.rejected]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        return BadInput(
            f"The data folder {self.root} does not look like {self.dataset}: found {shown}; expected "
            f"{_EXPECTED[self.dataset]}. {hint or 'Check the path and the dataset in the configuration.'}"
        )


def _split(path: str) -> tuple[list[str], str]:
    *folders, name = path.split("/")
    return folders, name


def _is_utf8(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_tfds(folder: _Folder) -> bool:
    info = re.compile(r"(\d+\.\d+\.\d+/)?dataset_info\.json")
    infos = [entry.path for entry in folder.candidates if info.fullmatch(entry.path)]
    if not infos:
        return False
    where = folder.full_path(infos[0])
    try:
        name = json.loads(_read_bytes(where))["name"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{where} cannot be read as TensorFlow Datasets write it; prepare it again.") from error
    if name != folder.dataset:
        raise folder.wrong_layout(f"It holds the TensorFlow Datasets' {name!r}; set the dataset to that.")
    return True


def _find_cats_vs_dogs(folder: _Folder) -> Found:
    for prefix in [p + train for p in folder.prefixes() for train in ("", "train/")]:
        folders, files = folder.top(prefix)
        if any(name.lower() in _SPECIES_BY_FOLDER for name in folders):
            return _find_class_folders(folder, prefix, _SPECIES_BY_FOLDER)
        if any(_KAGGLE_NAME.fullmatch(name) for name in files):
            return _find_kaggle_flat(folder, prefix)
    if any(_looks_like_oxford(folder, prefix) for prefix in folder.prefixes()):
        raise folder.wrong_layout("It looks like Oxford-IIIT Pets; set the dataset to oxford_iiit_pet.")
    raise folder.wrong_layout()


def _find_kaggle_flat(folder: _Folder, prefix: str) -> Found:
    photos = []
    for entry in folder.candidates:
        name = entry.path[len(prefix) :] if entry.path.startswith(prefix) else ""
        if match := _KAGGLE_NAME.fullmatch(name):
            species = match[1].lower()
            photos.append(folder.photo(entry.path, species, species))
        else:
            folder.reject(entry.path, "unlabelled", "is not named like cat.0.jpg or dog.0.jpg.")
    return Found(KAGGLE_FLAT, photos, folder.rejected)


def _find_image_folder(folder: _Folder) -> Found:
    for prefix in folder.prefixes():
        if _looks_like_oxford(folder, prefix):
            raise folder.wrong_layout("It looks like Oxford-IIIT Pets; set the dataset to oxford_iiit_pet.")
    prefix = folder.wrapper()
    folders, files = folder.top(prefix)
    # A sole folder is a wrapper if it holds classes, and the only class if it holds photos.
    if len(folders) < 2 or any(name.lower().endswith(_PHOTO_ENDINGS) for name in files):
        prefix = ""
        folders, files = folder.top()
    if not folders:
        kaggle = any(_KAGGLE_NAME.fullmatch(name) for name in files)
        raise folder.wrong_layout("It looks like cats_vs_dogs; set the dataset to that." if kaggle else "")
    if len(folders) > 1 and all(_SPLIT_FOLDER.fullmatch(name) for name in folders):
        raise folder.wrong_layout(
            "These folders are named like splits, not classes; give one of them as the data folder, or put "
            "the photos of each class together: the splits are made by the pipeline."
        )
    return _find_class_folders(folder, prefix, None)


def _find_class_folders(folder: _Folder, prefix: str, species_by_folder: dict[str, str] | None) -> Found:
    """With `species_by_folder` only its classes count; without, each folder's name is a class."""
    photos = []
    for entry in folder.candidates:
        class_folder, slash, _ = entry.path[len(prefix) :].partition("/")
        if not entry.path.startswith(prefix) or not slash:
            folder.reject(entry.path, "outside_class_folder", "does not lie in the folder of a class.")
        elif species_by_folder is None:
            photos.append(folder.photo(entry.path, class_folder))
        elif species := species_by_folder.get(class_folder.lower()):
            photos.append(folder.photo(entry.path, species, species))
        else:
            folder.reject(entry.path, "unknown_class", f"lies in {class_folder!r}, neither cat nor dog.")
    return Found(CLASS_FOLDERS, photos, folder.rejected)


def _looks_like_oxford(folder: _Folder, prefix: str) -> bool:
    lists = {f"{prefix}annotations/{name}" for name in OXFORD_LISTS}
    return any(entry.path in lists for entry in folder.candidates) and "images" in folder.top(prefix)[0]


class _Listed(NamedTuple):
    breed: str
    species: str
    official_split: str


def _find_oxford(folder: _Folder) -> Found:
    prefix = next((p for p in folder.prefixes() if "images" in folder.top(p)[0]), None)
    if prefix is None:
        raise folder.wrong_layout()
    listed = _read_oxford_lists(folder, prefix)
    # The archives hold as many sidecars of trimaps as trimaps: they would drown the rejected photos.
    annotations = re.compile(re.escape(prefix) + r"annotations/((list|trainval|test)\.txt|README|trimaps/|xmls/)")
    folder.rejected = [file for file in folder.rejected if not annotations.match(file.file_name)]
    photos, sizes = [], {}
    for entry in folder.candidates:
        if annotations.match(entry.path):
            continue
        folders, file_name = _split(entry.path)
        name, ending = os.path.splitext(file_name)
        if "/".join(folders) != f"{prefix}images":
            folder.reject(entry.path, "outside_layout", "is neither in images/ nor a part of annotations/.")
        elif ending.lower() != ".jpg":
            folder.reject(entry.path, "not_a_photo", f"ends in {ending!r}, not in .jpg.")
        elif name not in listed:
            folder.reject(entry.path, "not_listed", "is in none of list.txt, trainval.txt and test.txt.")
        else:
            breed, species, split = listed[name]
            photos.append(folder.photo(entry.path, breed, species, breed, split))
            sizes[entry.path] = entry.size
    there = {photo.file_name.lower() for photo in photos} | {r.file_name.lower() for r in folder.rejected}
    for name in listed:
        if f"{prefix}images/{name}.jpg".lower() not in there:
            folder.reject(f"{prefix}images/{name}.jpg", "missing", "is listed but not in images/.")
    return Found(OXFORD, _without_copies_of_test(folder, photos, sizes), folder.rejected)


def _read_oxford_lists(folder: _Folder, prefix: str) -> dict[str, _Listed]:
    """What the lists say about each photo, by its name without `.jpg`."""
    present = {entry.path for entry in folder.candidates}
    missing = [name for name in OXFORD_LISTS if f"{prefix}annotations/{name}" not in present]
    if missing:
        raise BadInput(
            f"The data folder {folder.root} has {prefix}images/ but no {prefix}annotations/{missing[0]}; "
            f"expected {_EXPECTED['oxford_iiit_pet']}. Unpack annotations.tar.gz beside images/."
        )
    listed: dict[str, _Listed] = {}
    for list_name in OXFORD_LISTS:  # list.txt first: it has no split
        where = folder.full_path(f"{prefix}annotations/{list_name}")
        split = "" if list_name == "list.txt" else list_name.removesuffix(".txt")
        try:
            lines = _read_bytes(where).decode("utf-8-sig").split("\n")
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
                    f"{where}, line {number}: found {line[:80]!r}, expected a photo's name, class, "
                    "species (1 or 2) and breed such as 'Abyssinian_103 1 1 1'; mend it or unpack "
                    "annotations.tar.gz again."
                )
            facts = _Listed(name["breed"], _OXFORD_SPECIES[fields[2]], split)
            before = listed.get(fields[0], facts)
            if before.species != facts.species or before.official_split not in ("", split):
                raise BadInput(
                    f"{where}, line {number}: {fields[0]} was listed before as {before.species} in "
                    f"{before.official_split or 'list'}.txt, here as {facts.species}; a photo has one "
                    "species and one split. Mend the lists or unpack annotations.tar.gz again."
                )
            listed[fields[0]] = facts
    return listed


def _without_copies_of_test(folder: _Folder, photos: list[Photo], sizes: dict[str, int]) -> list[Photo]:
    """Only files of the same size are read and compared, so the cost stays small."""
    test_by_size = defaultdict(list)
    for photo in photos:
        if photo.official_split == "test":
            test_by_size[sizes[photo.file_name]].append(photo)
    test_digests: dict[int, dict[bytes, str]] = {}
    kept = []
    for photo in photos:
        size = sizes[photo.file_name]
        if photo.official_split != "test" and size in test_by_size:
            if size not in test_digests:
                test_digests[size] = {_digest(test): test.file_name for test in test_by_size[size]}
            twin = test_digests[size].get(_digest(photo))
            if twin:
                detail = f"has the same bytes as the test photo {twin}."
                folder.reject(photo.file_name, "duplicate_of_test", detail)
                continue
        kept.append(photo)
    return kept


def _digest(photo: Photo) -> bytes:
    return hashlib.sha256(_read_bytes(photo.path)).digest()
