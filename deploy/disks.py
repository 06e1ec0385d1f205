"""The disks that a run writes to: the root's, that of temporary files, and that of the cache of backbones."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from components.backbone.registry import cache_folder
from schemas.errors import BadInput

# Less than this is full: a step that needs more has removed what it had begun.
_FULL_BYTES = 20_000_000
# Measured with EfficientNet-Lite0: what a run writes below its root whatever the photos, and for each photo besides
# its own bytes: vectors and activations, once by content and once with the step.
_RUN_BYTES, _BYTES_A_PHOTO = 150_000_000, 60_000
# Files of the fresh processes that ask the model.
_TEMPORARY_BYTES = 50_000_000


@dataclass(frozen=True)
class Disk:
    """A folder that a run writes to, on whatever disk it is. what: in words. remedy: how to have it elsewhere."""

    what: str
    folder: Path
    remedy: str

    @property
    def free(self) -> int | None:
        """Bytes that can be written there; None: nobody tells."""
        try:
            return shutil.disk_usage(nearest_existing(self.folder)).free
        except OSError:
            return None


def disks_of(root: Path) -> tuple[Disk, Disk, Disk]:
    """Where a run on the root folder `root` writes: there, temporarily, and into the cache; often it is one disk."""
    return (
        Disk("the root", root, "give another root with --root"),
        Disk("temporary files", Path(tempfile.gettempdir()), "set TMPDIR to another folder"),
        Disk("the cache of backbones", cache_folder(), "set WARMSTART_CACHE to another folder"),
    )


def nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    place = Path(os.path.expanduser(folder)).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def is_full(error: BaseException) -> bool:
    """Whether a full disk made the error, as Python, SQLite or TensorFlow says it."""
    text = str(error)
    return (
        (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT))
        or "No space left on device" in text
        or "disk is full" in text
        or (error.__cause__ is not None and is_full(error.__cause__))
    )


def full_disk(root: Path) -> str:
    """Which of the disks is full, in words; that of the root where none is any more."""
    full = [disk for disk in disks_of(root) if disk.free is not None and disk.free < _FULL_BYTES]
    disk = full[0] if full else disks_of(root)[0]
    return f"the disk of {disk.what} ({disk.folder})"


def bytes_of_run(photos: int, photo_bytes: int) -> int:
    """What a run on new photos writes below its root, about; photo_bytes: of all their files."""
    return _RUN_BYTES + photo_bytes + _BYTES_A_PHOTO * photos


def refuse_too_full(root: Path, photos: int, photo_bytes: int) -> None:
    """Asks before a run whether its files will find room.

    Raises:
      BadInput: they will not, by the estimate.
    """
    of_root, temporary, _ = disks_of(root)
    for disk, needed in ((of_root, bytes_of_run(photos, photo_bytes)), (temporary, _TEMPORARY_BYTES)):
        if disk.free is not None and disk.free < needed:
            raise BadInput(
                f"the disk of {disk.what} ({disk.folder}) has {_size(disk.free)} free, and this run needs about "
                f"{_size(needed)} there; free some (`warmstart clean` removes what nobody needs), or {disk.remedy}"
            )


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
