"""The corrections of a run: checked before it begins, and kept in the root as they were, so that they stay the same.

`ROOT/corrections/<fingerprint>.csv` holds the corrections that runs were made with, one file for each state that
changed labels differently. Its name is part of ML Metadata's record of the run.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from components.example_gen import spans
from components.whole_file import write_whole
from deploy.root import Root, shown
from pipeline.config import Config
from schemas.corrections import corrections_csv, effective, fingerprint_of, read_corrections
from schemas.errors import BadInput
from schemas.words import and_more, did_you_mean

_FOLDER = "corrections"
_MOST_NAMED = 5


def fingerprint(config: Config) -> str:
    """The fingerprint of a configuration's corrections; empty: nothing is corrected.

    Raises:
      BadInput: as `read_corrections`.
    """
    file = config.data.corrections
    return fingerprint_of(read_corrections(Path(file))) if file else ""


def pin(config: Config, root: Root) -> Config:
    """The configuration with a copy of its corrections that nobody changes.

    Raises:
      BadInput: as `read_corrections`.
    """
    if not config.data.corrections:
        return config
    found = effective(read_corrections(Path(config.data.corrections)))
    kept = root.folder / _FOLDER / f"{fingerprint_of(found)}.csv"
    if found and not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        write_whole(kept, corrections_csv(found))
    data = config.data.model_copy(update={"corrections": str(kept) if found else None})
    return config.model_copy(update={"data": data})


def confirmed(config: Config) -> set[str]:
    """Content hashes of the photos whose labels were confirmed.

    Raises:
      BadInput: as `read_corrections`.
    """
    file = config.data.corrections
    return {one.content_hash for one in read_corrections(Path(file)) if one.confirms} if file else set()


def check(config: Config, sources: Mapping[str, str], classes: Collection[str] | None) -> None:
    """Checks the corrections of a configuration.

    Args:
      sources: data set -> folder or pattern.
      classes: every class of the photos; None: they are known only once the photos are read.

    Raises:
      BadInput: as `read_corrections`, the file lies among the photos, or a photo is corrected to an unknown class.
    """
    if not config.data.corrections:
        return
    file = Path(config.data.corrections)
    found = effective(read_corrections(file))
    for source in sources.values():
        folder = spans.folder_of_all(source, str(file))
        outside = "://" in folder or ".." in folder.split("/")  # the latter is above the spans of a pattern
        if not outside and file.is_relative_to(os.path.abspath(folder)):
            raise BadInput(
                f"the file of corrections {shown(file)} is in the folder of photos {folder}, where it would be read as "
                "a list of them; move it elsewhere, such as into the root folder"
            )
    if classes is None:
        return
    for one in found:
        if one.new_label and one.new_label not in classes:
            near = did_you_mean(one.new_label, sorted(classes)).removesuffix("?")
            raise BadInput(
                f"{shown(file)} corrects {one.file_name or one.content_hash} to {one.new_label!r}, which is no class "
                f"of these photos{near}; expected one of {and_more(sorted(classes), _MOST_NAMED)}, or nothing to drop "
                "the photo"
            )
