"""Folders that are read and folders that are written never lie in each other."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path

from schemas.errors import BadInput

# Beam and TFX make file patterns out of the root's path.
_SIGNS_OF_PATTERNS = "*?["


def refuse_overlap(inputs: Mapping[str, str], outputs: Mapping[str, str | Path]) -> None:
    """Refuses a folder that lies in another one, where reading one would read what the other is for.

    Args:
      inputs: what a folder is to be read for, such as `the photos` -> the folder; remote ones are not looked at.
      outputs: what a folder is to be written for -> the folder, which need not be there.

    Raises:
      BadInput: two inputs, or an input and an output, are the same folder or one lies in the other.
    """
    read, written = (
        {what: os.path.realpath(local) for what, folder in given.items() if "://" not in (local := _local(folder))}
        for given in (inputs, outputs)
    )
    for (what, folder), (other, other_folder) in itertools.chain(
        itertools.combinations(read.items(), 2), itertools.product(read.items(), written.items())
    ):
        if _lies_in(other_folder, folder):
            inner, outer = (other, other_folder), (what, folder)
        elif _lies_in(folder, other_folder):
            inner, outer = (what, folder), (other, other_folder)
        else:
            continue
        remedy = "give another with --root" if "the root" in (what, other) else "give folders apart from each other"
        if "the pictures" in (what, other):
            remedy = "give another with --out"
        how = "is" if inner[1] == outer[1] else "lies in"
        raise BadInput(
            f"the folder of {inner[0]} ({inner[1]}) {how} that of {outer[0]} ({outer[1]}), so one would be read as the "
            f"other; {remedy}"
        )


def _local(folder: str | Path) -> str:
    return str(folder).removeprefix("file://")


def _lies_in(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(outer.rstrip(os.sep) + os.sep)


def refuse_pattern(what: str, path: str | Path) -> None:
    """Refuses a path that Beam and TFX would read as a pattern of paths.

    Raises:
      BadInput: it has a `*`, `?` or `[`.
    """
    found = [sign for sign in _SIGNS_OF_PATTERNS if sign in str(path)]
    if found:
        raise BadInput(
            f"{what} {path} has {' and '.join(found)} in its path, which Apache Beam reads as a pattern; give a folder "
            "without, with --root"
        )
