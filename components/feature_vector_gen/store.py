"""Stores vectors by photo, so that a photo seen before never passes through the backbone again."""

from __future__ import annotations

import os
import uuid

from tfx.dsl.io import fileio

from components.sealed import seal, unseal


class VectorStore:
    """A folder of small files, one per photo and view, named by the photo's content hash.

    Everything else that determines the values is in the folder's name, so an entry is valid forever. Any number of
    processes may read and write at once: an entry appears whole, and always with the same content. Each entry has a
    checksum; entries that were changed, truncated or swapped are ignored.

    Attributes:
      dropped: number of damaged entries that `get` has ignored.
    """

    def __init__(self, folder: str):
        self._folder = folder
        self._known: set[str] = set()
        self.dropped = 0

    def get(self, content_hash: str, view: int, size: int) -> bytes | None:
        """The entry; None if it does not exist, has another size than `size` bytes, or is damaged."""
        path = self._path(content_hash, view)
        if not fileio.exists(path):
            return None
        with fileio.open(path, "rb") as file:
            value = unseal(file.read(), self._name(path))
        if value is None or len(value) != size:
            # One of another size may be whole: photos change their splits, which are kept in different precision.
            self.dropped += value is None
            return None
        return value

    def put(self, content_hash: str, view: int, value: bytes) -> None:
        """Writes an entry, whole or not at all."""
        path = self._path(content_hash, view)
        folder = os.path.dirname(path)
        if folder not in self._known:
            fileio.makedirs(folder)
            self._known.add(folder)
        temporary = f"{path}.{uuid.uuid4().hex}"
        with fileio.open(temporary, "wb") as file:
            file.write(seal(value, self._name(path)))
        fileio.rename(temporary, path, overwrite=True)

    @staticmethod
    def _name(path: str) -> str:
        """The name that an entry's checksum covers: its store, its photo and its view."""
        return "/".join(path.split(os.sep)[-3:])

    def _path(self, content_hash: str, view: int) -> str:
        return os.path.join(self._folder, content_hash[:2], f"{content_hash}-{view}" if view else content_hash)
