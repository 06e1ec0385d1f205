"""Puts right what was damaged while nobody ran: production, and ML Metadata's file.

Whatever is repaired here is checked by its content: a version by the checksums that its manifest has, ML Metadata's
file by SQLite. Needs neither TFX nor TensorFlow.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from deploy import metadata_file
from deploy.files import folders_in
from deploy.root import Root
from schemas.errors import BadInput

# Of Pusher: `<artifacts>/Pusher/pushed_model/<execution>`, a copy of each model that it pushed.
_PUSHED_MODELS = os.path.join("Pusher", "pushed_model")


@dataclass(frozen=True)
class Repair:
    """Something that was wrong. text: what, and what became of it. done: whether all is well now."""

    text: str
    done: bool


def repair_production(root: Root) -> Repair | None:
    """Puts a whole copy of a damaged or missing version into production, as a new version; None: nothing was wrong.

    Raises:
      OSError: the copy cannot be written.
    """
    serving = root.serving_folder()
    standing = serving.standing()
    if not standing.problem:
        return None
    said = f"version {standing.version} {standing.problem}"
    version = serving.restore(_pushed_models(root))
    if version is None:
        return Repair(
            f"{said}; no whole copy of it is left, so put it back from a backup, or `warmstart rollback` to another "
            "version",
            False,
        )
    return Repair(f"{said}; its content is in production again, as version {version}", True)


def repair_all(root: Root) -> list[Repair]:
    """Repairs whatever is wrong, under the lock of the root.

    Raises:
      RunActiveError: a run is active here.
      OSError: the disk is full, or cannot be written.
    """
    with root.lock("repair"):
        repairs = []
        if not root.store_mark().exists():
            try:
                if said := metadata_file.repair(root.metadata):
                    repairs.append(Repair(said, True))
            except BadInput as error:
                repairs.append(Repair(str(error), False))
        if production := repair_production(root):
            repairs.append(production)
        return repairs


def set_aside_unknown(root: Root, run_id: str) -> None:
    """Moves away what steps wrote of which ML Metadata knows nothing, since its file was deleted or put back.

    TFX numbers steps anew then, and would write into the same folders. Call it under the lock of the root; housekeeping
    removes what was set aside.

    Args:
      root: of the run.
      run_id: its name, for the folder.
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
    """Copies of pushed models, the newest first."""
    folders = [root.artifacts / _PUSHED_MODELS, *(each / _PUSHED_MODELS for each in folders_in(root.set_aside))]
    found = [each for folder in folders for each in folders_in(folder) if each.name.isdecimal()]
    return sorted(found, key=lambda each: -int(each.name))
