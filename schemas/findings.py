"""`findings.json` and `findings.csv` beside the page of a run: everything in the data that is worth a second look.

`findings.json` holds a `Findings`; `findings.csv` holds its findings, one row each, with the fields of `Finding` as
columns.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from schemas.json_records import from_json, to_json
from schemas.safe_csv import csv_bytes, read_csv

FINDINGS_JSON, FINDINGS_CSV = "findings.json", "findings.csv"
SCHEMA_VERSION = 1
# An answer is unsure if the probabilities of its two likeliest classes differ by less (margin sampling; Scheffer,
# Decomain & Wrobel 2001, "Active Hidden Markov Models for Information Extraction").
CLOSE = 0.2

SUSPECTED_LABEL = "suspected_label"
CONTRADICTORY_LABEL = "contradictory_label"
SUSPECTED_MASK = "suspected_mask"
NEAR_DUPLICATE = "near_duplicate"
MISTAKE = "mistake"
LOW_CONFIDENCE = "low_confidence"
FAR_PHOTO = "far_photo"
REJECTED = "rejected"
# In the order of the files.
KINDS = (
    CONTRADICTORY_LABEL,
    SUSPECTED_LABEL,
    SUSPECTED_MASK,
    MISTAKE,
    LOW_CONFIDENCE,
    NEAR_DUPLICATE,
    FAR_PHOTO,
    REJECTED,
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One photo or file, and what is odd about it. A photo may be in several findings."""

    kind: str
    """One of `KINDS`."""
    dataset: str = ""
    path: str = ""
    """Below the folder of its data set."""
    span: str = ""
    """As a person writes it, such as 17 or 2026-11-22; empty without spans."""
    split: str = ""
    """Empty for a file that is not used."""
    content_hash: str = ""
    """SHA-256 of the file, hexadecimal; empty for a file that could not be read."""
    label: str = ""
    proposal: str = ""
    """Another class that the photo may belong to; empty: none is proposed."""
    probability: float | None = None
    """Of the proposal, in [0, 1]; where the answer is the label itself, of that."""
    reason: str = ""
    """Why a file was rejected, or by which measure two photos are alike."""
    detail: str = ""
    """One sentence."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All findings of a run."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    labels: list[str] = field(default_factory=list)
    """The classes of the run, in the order of their indices; of masks those of the pixels."""
    counts: dict[str, int] = field(default_factory=dict)
    """Kind -> number found, which may be more than are listed."""
    findings: list[Finding] = field(default_factory=list)
    """Sorted by kind; within a kind, the most urgent first."""


def findings_json(findings: Findings) -> bytes:
    """The content of `findings.json`; bytes of file names that are not UTF-8 become question marks."""
    content = json.dumps(to_json(findings), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return content.encode("utf-8", "replace")


def findings_csv(findings: Findings) -> bytes:
    """The content of `findings.csv`."""
    columns = [each.name for each in dataclasses.fields(Finding)]
    return csv_bytes(columns, (vars(finding) for finding in findings.findings))


def read_findings(folder: Path) -> Findings:
    """The findings of a run, from the folder of its report.

    Raises:
      OSError: there is no such file, or it cannot be read.
      ValueError: it is not what this version writes; the message names the key.
    """
    return from_json(Findings, json.loads((folder / FINDINGS_JSON).read_text(encoding="utf-8")))


def read_findings_csv(file: Path) -> list[Finding]:
    """The findings of a `findings.csv`.

    Raises:
      OSError: it cannot be read.
      ValueError: it is not such a file.
    """
    names = {each.name for each in dataclasses.fields(Finding)}
    found = []
    for row in read_csv(file)[1]:
        cells = {name: text for name, text in row.cells.items() if name in names}
        probability = cells.pop("probability", "")
        found.append(from_json(Finding, {**cells, "probability": float(probability) if probability else None}))
    return found
