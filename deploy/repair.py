"""Repairs what was damaged between runs: the version in production, and the ML Metadata file.

Both are checked by their content: a version by the checksums in its manifest, the ML Metadata file by SQLite. Imports
neither TFX nor TensorFlow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy import metadata_file
from deploy.files import folders_in
from deploy.root import Root
from schemas.errors import BadInput

# Pusher keeps a copy of each model that it pushed, in `<artifacts>/Pusher/pushed_model/<execution>`.
_PUSHED_MODELS = os.path.join("Pusher", "pushed_model")


@dataclass(frozen=True)
class Repair:
    """Something that was wrong, and what was done about it."""

    text: str
    done: bool


def repair_production(root: Root) -> Repair | None:
    """Restores a damaged or missing version from an intact copy, as a new version.

    Returns:
      what was wrong; None: nothing.

    Raises:
      OSError: the copy cannot be written.
    """
    serving = root.serving_folder()
    standing = serving.standing()
    if not standing.problem:
        return None
    version = serving.restore(_pushed_models(root))
    if version is None:
        return Repair(
            f"{standing.sentence}; no intact copy is left, so restore it from a backup, or use `warmstart rollback` to "
            "go back to another version",
            False,
        )
    return Repair(f"{standing.sentence}; its content is in production again, as version {version}", True)


def repair_all(root: Root) -> Iterator[Repair]:
    """Repairs everything that is wrong, under the lock of the root; each repair is given once it is done.

    Raises:
      RunActiveError: a run is active here.
      OSError: the disk is full or read-only; repairs given before have been made.
    """
    with root.lock("repair"):
        if not root.store_mark().exists():
            try:
                if said := metadata_file.repair(root.metadata):
                    yield Repair(said, True)
            except BadInput as error:
                yield Repair(str(error), False)
        if production := repair_production(root):
            yield production


def set_aside_unknown(root: Root, run_id: str) -> None:
    """Moves artifacts away that ML Metadata does not know, because its file was deleted or restored.

    TFX then gives old numbers to new steps, which would write into the same folders. Call this under the lock of the
    root; housekeeping removes what was set aside.

    Args:
      run_id: name of the run, and of the folder below `set-aside`.
    """
    last = metadata_file.last_execution(root.metadata)
    for node in folders_in(root.artifacts):
        for key in folders_in(node):
            for kind in folders_in(key) if key.name == ".system" else [key]:
                for folder in folders_in(kind):
                    if folder.name.isascii() and folder.name.isdecimal() and int(folder.name) > last:
                        target = root.set_aside / run_id / folder.relative_to(root.artifacts)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        os.rename(folder, target)


def _pushed_models(root: Root) -> list[Path]:
    """Copies of pushed models, newest first."""
    folders = [root.artifacts / _PUSHED_MODELS, *(each / _PUSHED_MODELS for each in folders_in(root.set_aside))]
    found = [each for folder in folders for each in folders_in(folder) if each.name.isdecimal()]
    return sorted(found, key=lambda each: -int(each.name))
