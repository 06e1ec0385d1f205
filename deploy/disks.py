"""The disks that a run writes to: for the root, for temporary files and for the cache of backbones."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from components.backbone.registry import cache_folder
from schemas.errors import BadInput

# A disk with less is full: a step that needed more has removed what it had written.
_FULL_BYTES = 20_000_000
# Measured with EfficientNet-Lite0: what a run writes below its root without any photos, and for each photo in addition
# to its own bytes: vectors and activations, once by content and once with the step.
_RUN_BYTES, _BYTES_A_PHOTO = 150_000_000, 60_000
# Files of the new processes that load the model.
_TEMPORARY_BYTES = 50_000_000


@dataclass(frozen=True)
class Disk:
    """The disk of a folder that a run writes to."""

    what: str
    folder: Path
    remedy: str
    """How to use another folder."""

    @property
    def free(self) -> int | None:
        """Free bytes; None: unknown."""
        try:
            return shutil.disk_usage(nearest_existing(self.folder)).free
        except OSError:
            return None


def disks_of(root: Path) -> tuple[Disk, Disk, Disk]:
    """The disks that a run in the root folder `root` writes to; often they are the same."""
    return (
        Disk("the root", root, "choose another root with --root"),
        Disk("temporary files", Path(tempfile.gettempdir()), "set TMPDIR to another folder"),
        Disk("the cache of backbones", cache_folder(), "set WARMSTART_CACHE to another folder"),
    )


def nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest folder above it that exists."""
    place = Path(os.path.expanduser(folder)).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def is_full(error: BaseException) -> bool:
    """Whether an error of Python, SQLite or TensorFlow comes from a full disk."""
    text = str(error)
    return (
        (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT))
        or "No space left on device" in text
        or "disk is full" in text
        or (error.__cause__ is not None and is_full(error.__cause__))
    )


def full_disk(root: Path) -> str:
    """Which of the disks is full, in words; if none is full any more, the disk of the root."""
    full = [disk for disk in disks_of(root) if disk.free is not None and disk.free < _FULL_BYTES]
    disk = full[0] if full else disks_of(root)[0]
    return f"the disk of {disk.what} ({disk.folder})"


def bytes_of_run(photos: int, photo_bytes: int) -> int:
    """Estimate of the bytes that a run on new photos writes below its root.

    Args:
      photo_bytes: bytes of all their files.
    """
    return _RUN_BYTES + photo_bytes + _BYTES_A_PHOTO * photos


def refuse_too_full(root: Path, photos: int, photo_bytes: int) -> None:
    """Checks before a run that the disks have room for its files.

    Raises:
      BadInput: by the estimate, a disk has too little space.
    """
    of_root, temporary, _ = disks_of(root)
    for disk, needed in ((of_root, bytes_of_run(photos, photo_bytes)), (temporary, _TEMPORARY_BYTES)):
        if disk.free is not None and disk.free < needed:
            raise BadInput(
                f"the disk of {disk.what} ({disk.folder}) has {_size(disk.free)} free, and this run needs about "
                f"{_size(needed)} there; free some space, for example with `warmstart clean`, or {disk.remedy}"
            )


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
