"""Copies of folders whose files nobody changes, such as exported models: hard links where that is possible."""

from __future__ import annotations

import os
import shutil

from tfx.utils import io_utils


def copy_folder(source: str, target: str) -> None:
    """Copies the files of a folder, and of the folders in it, to another, which is removed first. Never for a folder in
    production.

    On one disk the copies are hard links, which take no space: a new file in one of the folders is in that one alone,
    and a file that is replaced stays as it is in the other.
    """
    if "://" in source or "://" in target:
        io_utils.copy_dir(source, target)
        return
    shutil.rmtree(target, ignore_errors=True)  # of a try that failed
    shutil.copytree(source, target, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
