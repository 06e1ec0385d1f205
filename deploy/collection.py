"""Photos that a server or `predict` keeps because the model was not sure of them, with what it answered.

A folder with two files for each photo: the photo as it came, named by its content, and a JSON file beside it. Nothing
is kept twice, the folder never grows beyond its limits, and only its owner can read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from components.example_gen.photo import PhotoRejected, sniff
from components.example_gen.photo_folder import OUTPUT_MARK, mark_as_output
from components.whole_file import write_whole
from schemas.errors import BadInput
from schemas.findings import CLOSE
from schemas.json_records import from_json, to_json
from schemas.words import on_one_line


@dataclass(frozen=True, kw_only=True)
class CollectedPhoto:
    """What is known about a photo that was kept."""

    content_hash: str
    file: str
    name: str = ""
    """What it was called where it came from; empty: unknown."""
    when: str = ""
    """ISO 8601, UTC."""
    label: str = ""
    probability: float = 0.0
    abstains: bool = False
    probabilities: dict[str, float] = field(default_factory=dict)
    version: int | None = None
    """The version that answered; None: unknown."""
    new_label: str | None = None
    """What a person said: a class, or empty to leave the photo out; None: nothing yet."""


@dataclass(frozen=True)
class CollectionLimits:
    """share: of the photos that the model is sure of which are kept too, in [0, 1]."""

    photos: int = 1000
    bytes: int = 1_000_000_000
    share: float = 0.0


def is_unsure(probabilities: Mapping[str, float], abstains: bool) -> bool:
    """Whether a model is not sure: it abstains, or its two likeliest classes are close."""
    first, second, *_ = sorted([*probabilities.values(), 0.0], reverse=True)
    return abstains or first - second < CLOSE


class Collection:
    """The folder of collected photos."""

    def __init__(self, folder: Path, limits: CollectionLimits | None = None):
        """Opens the folder, and creates it if it does not exist; without limits nothing can be added.

        Raises:
          BadInput: it cannot be written, or it holds something else.
        """
        self.folder = folder
        self._limits = limits
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            mark_as_output(folder)
            if not (folder / OUTPUT_MARK).is_file():
                raise BadInput(f"{folder} holds other files; expected a new folder, or one of collected photos")
            self._sizes = {file.stem: file.stat().st_size for file in self._photo_files()}
            self._bytes = sum(self._sizes.values())
        except OSError as error:
            raise BadInput(
                f"the folder {folder} for collected photos cannot be written ({error.strerror}); choose another"
            ) from None

    def _photo_files(self) -> list[Path]:
        return [file for file in self.folder.iterdir() if not file.name.startswith(".") and file.suffix != ".json"]

    def offer(
        self,
        photo: bytes,
        label: str,
        probabilities: Mapping[str, float],
        abstains: bool,
        name: str = "",
        version: int | None = None,
    ) -> bool:
        """Keeps a photo if the model is not sure of it, and the limits allow it; says whether it was kept.

        Args:
          probabilities: class -> probability.

        Raises:
          OSError: it cannot be written.
        """
        content_hash = hashlib.sha256(photo).hexdigest()
        with self._lock:
            if content_hash in self._sizes or not self._wants(content_hash, len(photo), probabilities, abstains):
                return False
            self._sizes[content_hash] = len(photo)
            self._bytes += len(photo)
        kept = CollectedPhoto(
            content_hash=content_hash,
            file=f"{content_hash}{_ending(photo)}",
            name=name,
            version=version,
            when=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            label=label,
            probability=probabilities[label],
            abstains=abstains,
            probabilities=dict(probabilities),
        )
        try:
            write_whole(self.folder / kept.file, photo)
            self._write(kept)
        except OSError:
            self.remove(kept)
            raise
        return True

    def _wants(self, content_hash: str, size: int, probabilities: Mapping[str, float], abstains: bool) -> bool:
        limits = self._limits
        if limits is None or len(self._sizes) >= limits.photos or self._bytes + size > limits.bytes:
            return False
        # By content rather than by chance, so that the same photos give the same collection.
        drawn = int(content_hash[-8:], 16) / 2**32 < limits.share
        return drawn or is_unsure(probabilities, abstains)

    def _write(self, photo: CollectedPhoto) -> None:
        content = json.dumps(to_json(photo), ensure_ascii=False, allow_nan=False)
        write_whole(self.folder / f"{photo.content_hash}.json", content.encode("utf-8", "replace"))

    def photos(self) -> list[CollectedPhoto]:
        """All photos, the newest first; records that cannot be read, and photos that are gone, are passed over."""
        found = []
        for file in self.folder.glob("*.json"):
            with contextlib.suppress(OSError, ValueError):
                photo = from_json(CollectedPhoto, json.loads(file.read_text(encoding="utf-8")))
                if os.path.basename(photo.file) == photo.file and (self.folder / photo.file).is_file():
                    found.append(photo)
        return sorted(found, key=lambda photo: (photo.when, photo.content_hash), reverse=True)

    def say(self, photo: CollectedPhoto, new_label: str | None) -> CollectedPhoto:
        """Notes what a person said about a photo.

        Raises:
          OSError: it cannot be written.
        """
        said = CollectedPhoto(**{**vars(photo), "new_label": new_label})
        self._write(said)
        return said

    def remove(self, photo: CollectedPhoto) -> None:
        """Removes a photo from the folder.

        Raises:
          OSError: it cannot be removed.
        """
        (self.folder / f"{photo.content_hash}.json").unlink(missing_ok=True)
        (self.folder / photo.file).unlink(missing_ok=True)
        with self._lock:
            self._bytes -= self._sizes.pop(photo.content_hash, 0)


def _ending(photo: bytes) -> str:
    """Of the name of a photo's file: `.jpg`, or the name of its format."""
    try:
        known = sniff(photo)
    except PhotoRejected as rejected:  # a format that is converted
        known = rejected.convertible or "photo"
    return ".jpg" if known == "JPEG" else f".{known.lower()}"


def why_not_kept(error: OSError, folder: Path) -> str:
    """A sentence about a photo that could not be kept."""
    return f"a photo could not be kept in {folder}: {on_one_line(error)}"
