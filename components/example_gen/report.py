"""The ingest report: counts of what was read, and every rejected file with its reason."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, NamedTuple

from tfx.dsl.io import fileio

from components.example_gen import layouts
from schemas import features as f

REPORT_FILE = "report.json"
REJECTED_FILE = "rejected.jsonl"
KEYS_FILE = "keys.jsonl"
# What the workers write: JSON lines, below PARTS.
PARTS, REJECTED, FACTS, KEYS = "parts", "rejected", "facts", "keys"


class Key(NamedTuple):
    """An accepted photo: SHA-256 of its bytes, its split and its label."""

    content_hash: str
    split: str
    label: str


def write_report(report_uri: str, found_layouts: dict[str, str], not_photos: list[layouts.Rejected]) -> None:
    """Joins what the workers wrote into `report.json`, `rejected.jsonl` and `keys.jsonl`."""
    parts = os.path.join(report_uri, PARTS)
    lines = [json.loads(line) for line in _lines(parts, REJECTED)] + [asdict(r) for r in not_photos]
    lines.sort(key=lambda line: (line["dataset"], line["file_name"]))
    by_split: dict[str, Counter[str]] = {split: Counter() for split in f.SPLITS}
    by_format: Counter[str] = Counter()
    facts = sorted(_lines(parts, FACTS))
    for line in facts:
        (_, split, label, image_format), (count, _) = json.loads(line)
        by_split[split][label] += count
        by_format[image_format] += count
    report = {
        "layouts": found_layouts,
        "accepted": sum(by_format.values()),
        "rejected": len(lines),
        "splits": {split: dict(sorted(counts.items())) for split, counts in by_split.items()},
        "formats": dict(sorted(by_format.items())),
        # Equal for equal photos with equal labels in equal splits, whatever their files are called.
        "data_fingerprint": hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16],
        "reasons": dict(sorted(Counter(line["reason"] for line in lines).items())),
    }
    write_counts(report_uri, report, lines, sorted(Key(*json.loads(line)) for line in _lines(parts, KEYS)))
    fileio.rmtree(parts)


def write_counts(
    report_uri: str, report: dict[str, Any], rejected: Iterable[dict[str, str]], keys: Iterable[Key]
) -> None:
    """Writes the files of an ingest report artifact."""
    fileio.makedirs(report_uri)
    for name, lines in ((REJECTED_FILE, rejected), (KEYS_FILE, keys)):
        with fileio.open(os.path.join(report_uri, name), "w") as file:
            for line in lines:
                file.write(json.dumps(line, sort_keys=True) + "\n")
    with fileio.open(os.path.join(report_uri, REPORT_FILE), "w") as file:
        file.write(json.dumps(report, indent=2))


def _lines(folder: str, prefix: str) -> Iterable[str]:
    for path in sorted(fileio.glob(os.path.join(folder, prefix + "*"))):
        with fileio.open(path, "r") as file:
            yield from (line for line in file.read().splitlines() if line)


def read_report(report_uri: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The counts and the rejected files of an ingest report artifact."""
    with fileio.open(os.path.join(report_uri, REPORT_FILE), "r") as file:
        report = json.loads(file.read())
    return report, [json.loads(line) for line in _lines(report_uri, REJECTED_FILE)]


def read_keys(report_uri: str) -> list[Key]:
    """The accepted photos of an ingest report artifact, in order."""
    return [Key(*json.loads(line)) for line in _lines(report_uri, KEYS_FILE)]
