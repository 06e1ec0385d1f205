"""Normalises the names of classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from schemas.errors import BadInput

# Unicode categories that a line in a list of classes cannot hold: control characters, line and paragraph separators.
_NO_TEXT = ("Cc", "Zl", "Zp")


def class_name(written: str) -> str:
    """The class that a folder name or a table cell stands for: in normal form C, without leading or trailing blanks.

    Raises:
      BadInput: the name has a control character or a line break, or is blank.
    """
    name = unicodedata.normalize("NFC", written).strip(" ")
    if any(unicodedata.category(character) in _NO_TEXT for character in name):
        raise BadInput(
            f"the class {written!a} has a control character or a line break in its name; rename its folder, or "
            "correct the list that contains it"
        )
    if not name:
        raise BadInput(f"the class {written!a} has a blank name; give it a name")
    return name


def refuse_twins(written: Iterable[str]) -> None:
    """Refuses class names that look the same.

    Args:
      written: names of folders or classes.

    Raises:
      BadInput: two names differ only in case, normal form, blanks or invisible characters.
    """
    seen: dict[str, str] = {}
    for name in sorted(set(written)):
        first = seen.setdefault(_looks(name), name)
        if first != name:
            both = [
                f"{name!r}" if first.isascii() and name.isascii() else f"{name!r} ({name!a})" for name in (first, name)
            ]
            raise BadInput(
                f"the classes {both[0]} and {both[1]} look the same: they differ only in case, blanks or the form of "
                "their letters; put their photos together, or rename one"
            )


def _looks(name: str) -> str:
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(
        c for c in unicodedata.normalize("NFKC", folded) if not c.isspace() and unicodedata.category(c) != "Cf"
    )
