"""The one walk of a photo folder: for a run, its fingerprint, spans, `predict` and `explain`.

Only names and sizes are looked at. A file is a candidate (it may be a photo), rejected (it was meant as a photo but
cannot be used), left out (its name says that it is not a photo: a sidecar, a list, a desktop system file), or a marker
such as `_SUCCESS` that says the folder is complete. Folders that warmstart wrote are never read.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import BadInput

# The marker that Hadoop and Spark put into every folder that is complete.
SUCCESS_FILE = "_SUCCESS"
# A file with this name is in every folder that warmstart writes pictures or models into.
OUTPUT_MARK = ".warmstart"
PHOTO_ENDINGS = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff",
    ".heic", ".heif", ".hif", ".avif",
))  # fmt: skip
# Of files that lie beside photos and are none. Raw photos, JPEG 2000 and the like are not here: they are meant as
# photos, and are rejected by name when they are read.
_OTHER_ENDINGS = frozenset((
    ".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".geojson", ".ndjson", ".xml", ".yaml", ".yml", ".toml",
    ".ini", ".cfg", ".html", ".htm", ".css", ".js", ".py", ".pyc", ".ipynb", ".sh", ".bat", ".m", ".r", ".c",
    ".h", ".cpp", ".java", ".mat", ".npy", ".npz", ".pkl", ".pickle", ".pt", ".pth", ".h5", ".hdf5", ".onnx",
    ".pb", ".tflite", ".tfrecord", ".parquet", ".arrow", ".db", ".sqlite", ".sqlite3", ".xls", ".xlsx", ".ods",
    ".doc", ".docx", ".pdf", ".ppt", ".pptx", ".log", ".aae", ".xmp", ".thm", ".lnk", ".url", ".zip", ".tar",
    ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".md5", ".sha1", ".sha256", ".sig", ".bak", ".tmp", ".part",
    ".crdownload", ".lock", ".names", ".data", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".3gp", ".mpg",
    ".mpeg", ".wmv", ".mp3", ".wav", ".m4a", ".identifier", ".license", ".gitignore", ".gitattributes", ".ply",
    ".obj", ".stl", ".dcm", ".nii", ".eml", ".torrent",
))  # fmt: skip
# Of those, what may say which photo is of which class.
LIST_ENDINGS = frozenset((".csv", ".tsv", ".txt", ".json"))
_OTHER_STEMS = frozenset((
    "readme", "license", "licence", "copying", "notice", "changelog", "authors", "makefile", "dockerfile",
    "manifest",
))  # fmt: skip
_DESKTOP_FILES = frozenset((
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "picasa.ini", ".picasa.ini",
))  # fmt: skip
_DESKTOP_FOLDERS = frozenset((
    "__macosx", "$recycle.bin", "system volume information", "@eadir", "lost+found",
))  # fmt: skip
_NOT_A_FILE, _FOLDER, _OWN_OUTPUT = -1, -2, -3


@dataclass(frozen=True)
class FileEntry:
    """One file below a folder; `path` is relative, with `/`.

    `size` is -1 for anything that cannot be read as a file: a dangling link, a link back to a folder above, a pipe.
    Within this module folders are entries too: their size is -2, or -3 for folders that warmstart wrote. `path` is ""
    for the root folder.
    """

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class UnusedFile:
    """A file that is rejected or left out, and why."""

    file_name: str
    dataset: str
    reason: str  # short code in snake_case
    detail: str  # one sentence, with the file name
    label: str = ""  # the class that the file was meant for, if its place says so
    content_hash: str = ""  # SHA-256 of the file, if it was read

    def as_line(self) -> dict[str, str]:
        """The line of an ingest report."""
        return {name: value for name, value in vars(self).items() if value or name != "content_hash"}


class EmptyFolder(BadInput):
    """A data folder contains no files."""

    def __init__(self, root: str) -> None:
        super().__init__(f"The data folder {root} is empty; expected photos. Check the path in the configuration.")


def list_files(root: str) -> list[FileEntry]:
    """All files below `root`, sorted by path, except those that warmstart wrote.

    Args:
      root: a local folder, or an address such as `gs://bucket/folder`, which TensorFlow reads. Links are followed.

    Raises:
      BadInput: the folder is missing, is not a folder, cannot be read, or contains no files.
    """
    entries = [entry for entry in _walk(root) if entry.size >= _NOT_A_FILE]
    if not entries:
        raise EmptyFolder(root)
    return sorted(entries, key=lambda entry: entry.path)


def is_marker(path: str, success_file: str) -> bool:
    """Whether a file only marks a folder as complete: `success_file` directly in the data folder, `_SUCCESS` anywhere.

    Args:
      path: of the file, relative to the data folder.
    """
    return path == success_file or split_path(path)[1] == SUCCESS_FILE


def has_marker(root: str, success_file: str) -> bool:
    """Whether the file `success_file` is in the folder."""
    path = f"{root.rstrip('/')}/{success_file}"
    if "://" not in root:
        return os.path.isfile(path)
    import tensorflow as tf

    try:
        return tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path)
    except tf.errors.OpError as error:
        raise BadInput(f"Cannot check for {path} ({error.message}); check the folder's permissions.") from error


def holds_files(root: str, success_file: str) -> bool:
    """Whether there are files below `root` other than markers.

    Raises:
      BadInput: as in `list_files`, except that an empty folder is no error.
    """
    return any(entry.size >= _NOT_A_FILE and not is_marker(entry.path, success_file) for entry in _walk(root))


def last_change(root: str) -> float:
    """Time of the latest change to `root` or to any file or folder below it, in seconds since 1970.

    Raises:
      BadInput: as in `list_files`, except that an empty folder is no error.
    """
    return max(entry.mtime_ns for entry in _walk(root)) / 1e9


def fingerprint(entries: Iterable[FileEntry]) -> str:
    """SHA-256 over path, size and modification time of each file: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for entry in entries:
        path = entry.path.encode("utf-8", "surrogateescape")
        digest.update(b"%d:%s%d,%d;" % (len(path), path, entry.size, entry.mtime_ns))
    return digest.hexdigest()


def fingerprint_of_folder(root: str, success_file: str) -> str:
    """`fingerprint` of the files that affect the data: photos and lists, not sidecars or markers."""

    def counts(path: str) -> bool:
        reason, _ = why_no_photo(path)
        is_list = reason == "other_file" and os.path.splitext(path)[1].lower() in LIST_ENDINGS
        return (is_list or not reason) and not is_marker(path, success_file)

    return fingerprint(entry for entry in list_files(root) if counts(entry.path))


def why_no_photo(path: str) -> tuple[str, str]:
    """Why a file is not a photo, judging by its path alone.

    Returns:
      A reason (`hidden_folder`, `sidecar` or `other_file`) and the rest of a sentence that begins with the file's name;
      two empty strings if the file may be a photo.
    """
    folders, name = split_path(path)
    lowered = name.lower()
    if any(part.startswith(".") or part.lower() in _DESKTOP_FOLDERS for part in folders):
        return "hidden_folder", "is in a hidden folder."
    if name.startswith("."):
        return "sidecar", "is a hidden file."
    if lowered in _DESKTOP_FILES or ":zone.identifier" in lowered:
        return "sidecar", "is a desktop system file."
    stem, ending = os.path.splitext(lowered)
    if ending in _OTHER_ENDINGS or (not ending and stem in _OTHER_STEMS) or name.endswith("~"):
        return "other_file", "is not a photo, judging by its name."
    return "", ""


def looks_like_photo(name: str) -> bool:
    """Whether a file's name has the extension of a photo."""
    return os.path.splitext(name)[1].lower() in PHOTO_ENDINGS


def split_path(path: str) -> tuple[list[str], str]:
    """The folders, and the file's name."""
    *folders, name = path.split("/")
    return folders, name


def mark_as_output(folder: Path) -> None:
    """Marks an empty folder that warmstart is about to write into, so that it is never read as photos.

    Raises:
      OSError: the mark cannot be written.
    """
    if not any(folder.iterdir()):
        (folder / OUTPUT_MARK).touch()


def read_bytes(path: str, at_most: int = -1) -> bytes:
    """The first `at_most` bytes of a local or remote file, or all of them with -1.

    Raises:
      BadInput: the file cannot be read.
    """
    try:
        if "://" in path:
            import tensorflow as tf

            with tf.io.gfile.GFile(path, "rb") as remote_file:
                return remote_file.read(at_most)
        with open(path, "rb") as local_file:
            return local_file.read(at_most)
    except Exception as error:  # OSError, or one of TensorFlow's
        raise BadInput(f"{path} cannot be read ({error}); check its permissions.") from error


class PhotoFolder:
    """The files of one data folder, sorted by path, each in one of three lists.

    Attributes:
      candidates: files that may be photos.
      rejected: files that were meant as photos but cannot be used.
      meant: paths of candidates and rejected files, exactly as the file system has them.
      empty_folders: paths of the topmost folders without any files below.
      own_output: paths of folders that warmstart wrote.
    """

    def __init__(self, root: str, dataset: str = "", success_file: str = SUCCESS_FILE) -> None:
        """
        Raises:
          BadInput: the folder is missing, is not a folder, cannot be read, or contains no files.
        """
        self.root = root
        self.dataset = dataset
        self._base = root.rstrip("/") if "://" in root else os.path.abspath(root)
        self.candidates: list[FileEntry] = []
        self.rejected: list[UnusedFile] = []
        self.left_out: list[UnusedFile] = []
        entries = sorted(_walk(root), key=lambda entry: entry.path)
        self.own_output = [entry.path for entry in entries if entry.size == _OWN_OUTPUT]
        self.empty_folders = _without_files(entries)
        files = [entry for entry in entries if entry.size >= _NOT_A_FILE]
        if all(is_marker(entry.path, success_file) for entry in files):
            raise EmptyFolder(root)
        unusable: list[str] = []
        for entry in files:
            if is_marker(entry.path, success_file):
                continue
            reason, detail = why_no_photo(entry.path)
            if reason == "other_file" and entry.size == _NOT_A_FILE:
                self.leave_out(entry.path, "no_file", "is a dangling or circular link, or not a regular file.")
            elif reason:
                self.leave_out(entry.path, reason, detail)
            elif not _is_utf8(entry.path):
                unusable.append(entry.path)
                self.reject(entry.path, "name_not_utf8", "has a name that is not UTF-8; rename it.")
            elif entry.size == _NOT_A_FILE:
                unusable.append(entry.path)
                self.reject(entry.path, "unreadable", "is a dangling or circular link, or not a regular file.")
            else:
                self.candidates.append(entry)
        self._leave_out_annotations()
        self.meant = sorted([*unusable, *(entry.path for entry in self.candidates)])

    def reject(self, path: str, reason: str, detail: str, label: str = "") -> None:
        """Records a file that was meant as a photo; `detail` is the rest of a sentence that begins with its name."""
        readable = _readable(path)
        self.rejected.append(UnusedFile(readable, self.dataset, reason, f"{readable} {detail}", label))

    def leave_out(self, path: str, reason: str, detail: str) -> None:
        """Records a file that is not a photo of the data set; `detail` as in `reject`."""
        readable = _readable(path)
        self.left_out.append(UnusedFile(readable, self.dataset, reason, f"{readable} {detail}"))

    def full_path(self, path: str) -> str:
        return f"{self._base.rstrip('/')}/{path}"

    def shown(self, path: str) -> str:
        """`path` below the data folder, which is written as the user gave it."""
        return f"{self.root.rstrip('/')}/{path}".rstrip("/")

    def top(self, prefix: str = "") -> tuple[list[str], list[str]]:
        """Directly below `prefix`: the names of the folders with candidates, and of the candidates."""
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
        """`"name/"` if all photos are in that one folder, else `""`."""
        folders, files = self.top()
        if len(folders) == 1 and not any(looks_like_photo(name) for name in files):
            return folders[0] + "/"
        return ""

    def prefixes(self) -> list[str]:
        return list(dict.fromkeys(["", self.wrapper()]))

    def _leave_out_annotations(self) -> None:
        """Leaves out files without an extension that are text; only folders in which no file has one are checked."""
        by_folder: dict[str, list[FileEntry]] = {}
        for entry in self.candidates:
            by_folder.setdefault(entry.path.rpartition("/")[0], []).append(entry)
        kept = []
        for entries in by_folder.values():
            nameless = all(not os.path.splitext(entry.path.rpartition("/")[2])[1] for entry in entries)
            if nameless and all(self._is_text(entry) for entry in entries[:3]):
                for entry in entries:
                    self.leave_out(entry.path, "other_file", "is a text file without an extension.")
            else:
                kept += entries
        self.candidates = sorted(kept, key=lambda entry: entry.path)

    def _is_text(self, entry: FileEntry) -> bool:
        if entry.size == 0:
            return False
        start = read_bytes(self.full_path(entry.path), 256)
        return b"\0" not in start and all(byte >= 32 or byte in b"\t\n\r\f" for byte in start) and start.isascii()


def _readable(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_utf8(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _without_files(entries: list[FileEntry]) -> list[str]:
    """The topmost folders without any file below."""
    above: set[str] = {""}
    for entry in entries:
        if entry.size >= _NOT_A_FILE or entry.size == _OWN_OUTPUT:
            parts = entry.path.split("/")
            above |= {"/".join(parts[:i]) for i in range(len(parts))}
    found = [entry.path for entry in entries if entry.size == _FOLDER and entry.path not in above]
    return [path for path in found if path.rpartition("/")[0] in above and not why_no_photo(path + "/x.jpg")[0]]


def _walk(root: str) -> Iterator[FileEntry]:
    """Every file and folder below `root`, and `root` itself. Links are followed, except to a folder above."""
    return _walk_remote(root) if "://" in root else _walk_local(root)


def _is_own_output(names: set[str]) -> bool:
    """Whether warmstart wrote the folder with these names in it: a root of any version, or a folder with the mark."""
    return OUTPUT_MARK in names or {".pipeline", "artifacts", "serving"} <= names


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
        if relative and _is_own_output({child.name for child in children}):
            yield FileEntry(relative.rstrip("/"), _OWN_OUTPUT, 0)
            continue
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
        own: list[str] = []
        for folder, below, names in tf.io.gfile.walk(base, onerror=fail):
            relative = folder.rstrip("/")[len(base) :].lstrip("/")
            if any(relative.startswith(path + "/") for path in own):
                continue
            if relative and _is_own_output({name.rstrip("/") for name in (*below, *names)}):
                own.append(relative)
                yield FileEntry(relative, _OWN_OUTPUT, 0)
                continue
            try:
                changed = tf.io.gfile.stat(folder).mtime_nsec
            except tf.errors.NotFoundError:  # an object store keeps no folders
                changed = 0
            yield FileEntry(relative, _FOLDER, changed)
            for name in names:
                path = f"{relative}/{name}" if relative else name
                status = tf.io.gfile.stat(f"{base}/{path}")
                yield FileEntry(path, status.length, status.mtime_nsec)
    except tf.errors.OpError as error:
        raise BadInput(
            f"The data folder {root} cannot be read ({error.message}); check the address and its permissions."
        ) from error
