"""The ingest report: counts of the photos that were read, and every rejected file with its reason."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfx.dsl.io import fileio

from components.example_gen.copies import AcceptedPhoto, Key, without_removed
from components.example_gen.corrections import Corrections
from components.example_gen.found_photos import FolderContents
from components.example_gen.photo_folder import UnusedFile
from schemas import features as f

REPORT_FILE = "report.json"
REJECTED_FILE = "rejected.jsonl"
LEFT_OUT_FILE = "left_out.jsonl"
KEYS_FILE = "keys.jsonl"
CORRECTED_FILE = "corrected.jsonl"
# What the workers write: JSON lines, below PARTS. Those of KEYS are `AcceptedPhoto`s, of CONVERTED the bare format, of
# MASK_VALUES the values of a mask and the number of masks with just these.
PARTS, REJECTED, FACTS, KEYS, CONVERTED, CORRECTED = "parts", "rejected", "facts", "keys", "converted", "corrected"
MASK_VALUES = "mask_values"
# What the workers read: the photos to look at.
PHOTO_LIST = "photos.jsonl"


NO_CORRECTIONS = Corrections()


def write_report(
    report_uri: str,
    found: Mapping[str, FolderContents],
    label_from: str,
    removals: Sequence[tuple[AcceptedPhoto, UnusedFile]] = (),
    corrections: Corrections = NO_CORRECTIONS,
) -> None:
    """Merges the workers' files into `report.json`, `rejected.jsonl`, `left_out.jsonl` and `keys.jsonl`.

    Args:
      report_uri: folder of the artifact, with the workers' files below `PARTS`.
      found: data set -> contents of its folder.
      label_from: which label the photos were read with, `label` or `species`.
      removals: from `copies.find_removals`: photos that were read but are not used.
    """
    parts = os.path.join(report_uri, PARTS)
    not_read = [_meant(rejected, one, label_from) for one in found.values() for rejected in one.rejected]
    removed = [rejected.as_line() for _, rejected in removals]
    rejected = _sorted([*(json.loads(line) for line in _lines(parts, REJECTED)), *not_read, *removed])
    left_out = _sorted(file.as_line() for one in found.values() for file in one.left_out)
    by_split: dict[str, Counter[str]] = {split: Counter() for split in f.SPLITS}
    by_format: Counter[str] = Counter()
    facts = sorted(without_removed(_lines(parts, FACTS), removals))
    for line in facts:
        (_, split, label, image_format), (count, _) = json.loads(line)
        by_split[split][label] += count
        by_format[image_format] += count
    accepted: Counter[str] = sum(by_split.values(), Counter())
    lost = Counter(line["label"] for line in rejected if line["label"])
    corrected = _sorted(json.loads(line) for line in _lines(parts, CORRECTED))
    # A class that corrections have emptied, such as a misspelt one, is no class.
    emptied = {line["old_label"] for line in corrected} - set(accepted) - set(lost)
    classes = {label for one in found.values() for label in _classes(one, label_from)} | set(accepted) | set(lost)
    classes -= emptied | {""}  # the latter of photos with masks
    report = {
        "layouts": {dataset: one.layout for dataset, one in found.items()},
        "accepted": sum(by_format.values()),
        "rejected": len(rejected),
        "splits": {split: dict(sorted(counts.items())) for split, counts in by_split.items()},
        # Of every class that was meant, also one without a photo.
        "classes": {label: {"accepted": accepted[label], "rejected": lost[label]} for label in sorted(classes)},
        "formats": dict(sorted(by_format.items())),
        # Those among them that the examples hold as PNG.
        "converted": dict(sorted(Counter(_lines(parts, CONVERTED)).items())),
        # Equal for equal photos with equal labels in equal splits, whatever their files are called.
        "data_fingerprint": hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16],
        "reasons": _counted(rejected),
        "left_out": _counted(left_out),
    }
    if corrections.by_hash:
        report["corrections"] = corrections.counts(corrected)
    gone = {photo[:3] for photo, _ in removals}
    keys = sorted(photo.key for photo in read_photos(report_uri) if photo[:3] not in gone)
    for one in found.values():
        if one.mask_classes:
            report["masks"] = count_masks(
                keys, one.mask_classes.names, one.mask_classes.notes, one.mask_classes.ignored
            )
    write_counts(report_uri, report, rejected, keys, left_out, corrected)
    fileio.rmtree(parts)


def read_photos(report_uri: str) -> Iterable[AcceptedPhoto]:
    """The photos that the workers accepted; only before `write_report`, which deletes the workers' files."""
    return (AcceptedPhoto(*json.loads(line)) for line in _lines(os.path.join(report_uri, PARTS), KEYS))


def read_lines(prefix: str) -> Iterable[str]:
    """The lines of the workers' files whose paths begin with `prefix`."""
    return _lines(os.path.dirname(prefix), os.path.basename(prefix))


def _sorted(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(lines, key=lambda line: (line["dataset"], line["file_name"]))


def _counted(lines: Iterable[dict[str, str]]) -> dict[str, int]:
    return dict(sorted(Counter(line["reason"] for line in lines).items()))


def _species_of(found: FolderContents) -> dict[str, str]:
    return {photo.label: photo.species for photo in found.photos}


def _classes(found: FolderContents, label_from: str) -> list[str]:
    return found.classes if label_from == "label" else sorted(set(_species_of(found).values()))


def _meant(rejected: UnusedFile, found: FolderContents, label_from: str) -> dict[str, str]:
    line = rejected.as_line()
    if label_from == "species":
        line["label"] = _species_of(found).get(rejected.label, "")
    return line


def write_counts(
    report_uri: str,
    report: dict[str, Any],
    rejected: Iterable[dict[str, str]],
    keys: Iterable[Key],
    left_out: Iterable[dict[str, str]] = (),
    corrected: Iterable[Mapping[str, Any]] = (),
) -> None:
    """Writes the files of an ingest report artifact to `report_uri`."""
    fileio.makedirs(report_uri)
    kept = (key if key.mask_hash else key[:3] for key in keys)
    for name, lines in (
        (REJECTED_FILE, rejected),
        (LEFT_OUT_FILE, left_out),
        (KEYS_FILE, kept),
        (CORRECTED_FILE, corrected),
    ):
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
    """The counts and the rejected files of an ingest report artifact; reports from older versions lack `classes`."""
    with fileio.open(os.path.join(report_uri, REPORT_FILE), "r") as file:
        report = json.loads(file.read())
    return report, [json.loads(line) for line in _lines(report_uri, REJECTED_FILE)]


def read_corrected(report_uri: str) -> list[dict[str, Any]]:
    """The photos of an ingest report artifact that corrections are about, in order."""
    return [json.loads(line) for line in _lines(report_uri, CORRECTED_FILE)]


def read_keys(report_uri: str) -> list[Key]:
    """The accepted photos of an ingest report artifact, in order."""
    return [Key.of_json(json.loads(line)) for line in _lines(report_uri, KEYS_FILE)]


def count_masks(
    keys: Iterable[Key], classes: Sequence[str], notes: Sequence[str] = (), ignored: Sequence[str] = ()
) -> dict[str, Any]:
    """Counts the masks of photos.

    Args:
      classes: names of the classes, in the order of their ids.
      notes: sentences on how the masks were read.

    Returns:
      `classes`; `splits`: split -> class -> `photos` that show it and their `pixels` of it; `ignored_pixels`: split ->
      pixels that are not counted; `notes`; `ignored`.
    """
    counts: dict[str, dict[int, list[int]]] = {split: {} for split in f.SPLITS}
    for key in keys:
        for number, pixels in key.mask_pixels:
            of_class = counts[key.split].setdefault(number, [0, 0])
            of_class[0] += 1
            of_class[1] += pixels
    return {
        "classes": list(classes),
        "splits": {
            split: {
                classes[number]: {"photos": photos, "pixels": pixels}
                for number, (photos, pixels) in sorted(of_split.items())
                if number != f.IGNORE
            }
            for split, of_split in counts.items()
        },
        "ignored_pixels": {split: of_split.get(f.IGNORE, [0, 0])[1] for split, of_split in counts.items()},
        "notes": list(notes),
        "ignored": list(ignored),
    }
