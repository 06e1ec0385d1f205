"""CSV that spreadsheets open as text, and that reads back as it was written.

A spreadsheet takes a cell that starts with `=`, `+`, `-`, `@`, a tab or a carriage return for a formula (OWASP, "CSV
Injection"). Such a cell is written with an apostrophe before it, and read without it. A cell that has apostrophes
before such a character gets one more, so every text reads back as it was.

The file is UTF-8 with a header. Bytes of file names that are not UTF-8 are written as they are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")
# A cell is the name of a file, a class or a sentence.
_LONGEST_CELL = 1_000_000


class Row(NamedTuple):
    """A row of a file. number: of its first line, from 1. cells: column -> text."""

    number: int
    cells: dict[str, str]


def csv_bytes(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> bytes:
    """The content of a file.

    Args:
      columns: the header.
      rows: column -> value; None and missing columns are empty cells.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([_guarded(column) for column in columns])
    for row in rows:
        writer.writerow(["" if row.get(column) is None else _guarded(str(row[column])) for column in columns])
    return text.getvalue().encode("utf-8", "surrogateescape")


def read_csv(file: Path) -> tuple[list[str], list[Row]]:
    """The header and the rows of a file. A semicolon between cells and a byte order mark are taken too, since
    spreadsheets write them; blank lines are passed over, and missing cells are empty.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is not CSV; the message is the rest of a sentence that begins with the file.
    """
    text = file.read_bytes().decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    first, _, _ = text.partition("\n")
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in first and "," not in first else ",")
        header: list[str] = []
        rows: list[Row] = []
        last = 0
        for cells in reader:
            number, last = last + 1, reader.line_num
            if not any(cells):
                continue
            cells = [cell[1:] if _GUARDED.match(cell) else cell for cell in cells]
            if not header:
                header = [cell.strip() for cell in cells]
            elif len(cells) > len(header):
                raise ValueError(f"has {len(cells)} cells in line {number}, and {len(header)} in its header")
            else:
                rows.append(Row(number, dict.fromkeys(header, "") | dict(zip(header, cells, strict=False))))
    except csv.Error as error:
        raise ValueError(f"is not CSV: {error}") from None
    finally:
        csv.field_size_limit(before)
    return header, rows


def _guarded(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) else cell
