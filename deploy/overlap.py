"""Refuses folders to read and folders to write that are inside each other."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path

from schemas.errors import BadInput

# Beam and TFX turn the path of the root into file patterns.
_SIGNS_OF_PATTERNS = "*?["


def refuse_overlap(inputs: Mapping[str, str], outputs: Mapping[str, str | Path]) -> None:
    """Refuses a folder inside another one, where reading the outer one would read the inner one too.

    Args:
      inputs: purpose, such as `the photos` -> folder to read; remote folders are not checked.
      outputs: purpose -> folder to write, which need not exist.

    Raises:
      BadInput: two inputs, or an input and an output, are the same folder, or one is inside the other.
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
        remedy = "choose another root with --root" if "the root" in (what, other) else "choose separate folders"
        if "the pictures" in (what, other):
            remedy = "choose another folder with --out"
        how = "is the same as" if inner[1] == outer[1] else "is inside"
        raise BadInput(
            f"the folder of {inner[0]} ({inner[1]}) {how} that of {outer[0]} ({outer[1]}), so one would be read as "
            f"part of the other; {remedy}"
        )


def _local(folder: str | Path) -> str:
    return str(folder).removeprefix("file://")


def _lies_in(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(outer.rstrip(os.sep) + os.sep)


def refuse_pattern(what: str, path: str | Path) -> None:
    """Refuses a path that Beam and TFX would read as a file pattern.

    Raises:
      BadInput: the path contains `*`, `?` or `[`.
    """
    found = [sign for sign in _SIGNS_OF_PATTERNS if sign in str(path)]
    if found:
        raise BadInput(
            f"the path of {what}, {path}, contains {' and '.join(found)}, which Apache Beam reads as a pattern; choose "
            "another folder with --root"
        )
