"""Names of classes as people read them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from schemas.errors import BadInput

# What no line of a list of classes can hold: control characters, and the separators of lines and paragraphs.
_NO_TEXT = ("Cc", "Zl", "Zp")


def class_name(written: str) -> str:
    """The class that a folder's name, or a cell of a list, stands for: in normal form C, without blanks at its ends.

    Raises:
      BadInput: it holds a control character or a line break, or nothing but blanks.
    """
    name = unicodedata.normalize("NFC", written).strip(" ")
    if any(unicodedata.category(character) in _NO_TEXT for character in name):
        raise BadInput(
            f"the class {written!a} has a control character or a line break in its name; rename its folder, or "
            "mend the list that it stands in"
        )
    if not name:
        raise BadInput(f"the class {written!a} has a name of blanks only; give it a name")
    return name


def refuse_twins(written: Iterable[str]) -> None:
    """Refuses names of classes that look the same.

    Args:
      written: names of folders, or of classes.

    Raises:
      BadInput: two of them differ in case, normal form, blanks or invisible characters only.
    """
    seen: dict[str, str] = {}
    for name in sorted(set(written)):
        first = seen.setdefault(_looks(name), name)
        if first != name:
            both = [
                f"{name!r}" if first.isascii() and name.isascii() else f"{name!r} ({name!a})" for name in (first, name)
            ]
            raise BadInput(
                f"the classes {both[0]} and {both[1]} look the same: they differ in case, blanks or the form of their "
                "letters only; put their photos together, or rename one"
            )


def _looks(name: str) -> str:
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(
        c for c in unicodedata.normalize("NFKC", folded) if not c.isspace() and unicodedata.category(c) != "Cf"
    )
