"""The ingest report: counts of what was read, and every rejected file with its reason."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from tfx.dsl.io import fileio

from components.example_gen import layouts
from schemas import features as f

REPORT_FILE = "report.json"
REJECTED_FILE = "rejected.jsonl"
# What the workers write: JSON lines, below PARTS.
PARTS, REJECTED, FACTS = "parts", "rejected", "facts"


def write_report(report_uri: str, found_layouts: dict[str, str], not_photos: list[layouts.Rejected]) -> None:
    """Joins what the workers wrote into `report.json` and `rejected.jsonl`."""
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
    with fileio.open(os.path.join(report_uri, REJECTED_FILE), "w") as file:
        for line in lines:
            file.write(json.dumps(line, sort_keys=True) + "\n")
    with fileio.open(os.path.join(report_uri, REPORT_FILE), "w") as file:
        file.write(json.dumps(report, indent=2))
    fileio.rmtree(parts)


def _lines(folder: str, prefix: str) -> Iterable[str]:
    for path in sorted(fileio.glob(os.path.join(folder, prefix + "*"))):
        with fileio.open(path, "r") as file:
            yield from (line for line in file.read().splitlines() if line)


def read_report(report_uri: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The counts and the rejected files of an ingest report artifact."""
    with fileio.open(os.path.join(report_uri, REPORT_FILE), "r") as file:
        report = json.loads(file.read())
    return report, [json.loads(line) for line in _lines(report_uri, REJECTED_FILE)]
