"""The file of `data.corrections`: what a person says about single photos, by the content of their files.

CSV in UTF-8 (`schemas/safe_csv.py`), with a header and one line for each photo. Only the first column and `new_label`
are required.

| column         | holds                                                                                            |
|----------------|--------------------------------------------------------------------------------------------------|
| `content_hash` | SHA-256 of the photo's file, 64 hexadecimal digits, as in `findings.csv` and from `sha256sum`    |
| `file_name`    | where the photo was, for people                                                                  |
| `old_label`    | its label when it was looked at                                                                  |
| `new_label`    | its right label; empty: the photo is dropped; the same as `old_label`: the label is confirmed    |
| `who`, `when`  | for people; `when` in ISO 8601, UTC                                                              |

A photo with a new label has it wherever its file lies, also in two classes. A confirmed label changes nothing: the
photo is only not suspected again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from schemas.class_names import class_name
from schemas.errors import BadInput
from schemas.safe_csv import Row, csv_bytes, read_csv

CORRECTIONS_FILE = "corrections.csv"
_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What somebody said about one photo; the fields are the columns of the file."""

    content_hash: str
    file_name: str = ""
    old_label: str = ""
    new_label: str = ""
    who: str = ""
    when: str = ""

    @property
    def drops(self) -> bool:
        return not self.new_label

    @property
    def confirms(self) -> bool:
        """Whether the label stays as it is."""
        return bool(self.new_label) and self.new_label == self.old_label


COLUMNS = tuple(each.name for each in dataclasses.fields(Correction))


def read_corrections(file: Path) -> list[Correction]:
    """The corrections in a file, in its order, each photo once; an empty file has none.

    Raises:
      BadInput: it is missing or no such file, a line is wrong, or two lines contradict each other.
    """
    try:
        header, rows = read_csv(file)
    except FileNotFoundError:
        raise BadInput(
            f"the file of corrections {file} does not exist; expected a CSV file with the columns "
            f"{', '.join(COLUMNS)}, or an empty file if nothing is corrected yet"
        ) from None
    except (OSError, ValueError) as error:
        reason = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        raise BadInput(
            f"the file of corrections {file} {reason}; expected CSV with the columns {', '.join(COLUMNS)}"
        ) from None
    missing = [name for name in ("content_hash", "new_label") if header and name not in header]
    unknown = [name for name in header if name not in COLUMNS]
    if missing or unknown or len(set(header)) < len(header):
        wrong = f"has the column {unknown[0]!r}" if unknown else "has a column twice"
        wrong = f"has no column {missing[0]}" if missing else wrong
        raise BadInput(f"the header of {file} {wrong}; expected the columns {', '.join(COLUMNS)}, each once")
    found: dict[str, tuple[int, Correction]] = {}
    for row in rows:
        correction = _of_row(row, file)
        number, first = found.get(correction.content_hash, (row.number, correction))
        if first.new_label != correction.new_label:
            raise BadInput(
                f"lines {number} and {row.number} of {file} contradict each other ({_said(first)}, "
                f"{_said(correction)}); keep the right one and delete the other"
            )
        found[correction.content_hash] = (row.number, correction)
    return [correction for _, correction in found.values()]


def _said(correction: Correction) -> str:
    name = correction.file_name or f"photo {correction.content_hash[:12]}..."
    return f"{name} is dropped" if correction.drops else f"{name} is {correction.new_label!r}"


def _of_row(row: Row, file: Path) -> Correction:
    cells = row.cells
    content_hash = cells["content_hash"].strip().lower()
    if not _HASH.fullmatch(content_hash):
        raise BadInput(
            f"line {row.number} of {file} has the content_hash {cells['content_hash'][:80]!r}; expected the SHA-256 of "
            "a photo's file, 64 hexadecimal digits, as findings.csv has it"
        )
    labels = {}
    for name in ("old_label", "new_label"):
        try:
            labels[name] = class_name(cells[name]) if cells.get(name, "").strip() else ""
        except BadInput as error:
            raise BadInput(f"line {row.number} of {file}: {error}") from None
    return Correction(**{**cells, **labels, "content_hash": content_hash})


def corrections_csv(corrections: Iterable[Correction]) -> bytes:
    """The content of a file that `read_corrections` reads."""
    return csv_bytes(COLUMNS, (vars(correction) for correction in corrections))


def effective(corrections: Iterable[Correction]) -> list[Correction]:
    """Those that change something, sorted by photo."""
    return sorted((one for one in corrections if not one.confirms), key=lambda one: one.content_hash)


def fingerprint_of(corrections: Iterable[Correction]) -> str:
    """16 hexadecimal digits, equal for equal changes of labels; empty: nothing is changed."""
    lines = [f"{one.content_hash} {one.new_label}" for one in effective(corrections)]
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16] if lines else ""


def with_corrections(data_fingerprint: str, corrections_fingerprint: str) -> str:
    """The fingerprint of photos under these corrections; without any it is that of the photos."""
    return f"{data_fingerprint},corrections:{corrections_fingerprint}" if corrections_fingerprint else data_fingerprint


def without_corrections(data_fingerprint: str) -> str:
    """The fingerprint of the photos alone, from one by `with_corrections`."""
    return data_fingerprint.partition(",corrections:")[0]
