"""Combines the spans of a window: decides which span a photo counts for, and puts all files into one folder.

- A photo in several spans: the copy in the newest span counts, with its label; the others are left out.
- A photo in the test split of one span and in another split of another span: it is only tested on.
- With `data.test_spans`, only the test photos of these spans are used, even after the spans have left the window.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfx.dsl.io import fileio

from components.example_gen.copies import Key
from components.example_gen.report import count_masks
from components.records import copy_without, matching_files
from schemas import features as f
from schemas.errors import BadInput


@dataclass(frozen=True)
class Part:
    """One span of a window."""

    span: int
    photos: str
    vectors: str
    keys: Sequence[Key]
    trained: bool
    """Whether the window uses its train and eval splits."""
    tested: bool
    """Whether the window uses its test split."""

    def uses(self, split: str) -> bool:
        return self.tested if split == "test" else self.trained


def choose_photos(parts: Sequence[Part]) -> dict[int, set[str]]:
    """The photos to leave out: span -> content hashes of photos that count for another span or split."""
    newest_first = sorted(parts, key=lambda part: part.span, reverse=True)
    tested: set[str] = set()
    left_out: dict[int, set[str]] = {part.span: set() for part in parts}
    for of_test in (True, False):
        seen = set(tested)
        for part in newest_first:
            its = {key.content_hash for key in part.keys if (key.split == "test") is of_test and part.uses(key.split)}
            left_out[part.span] |= its & seen
            seen |= its
        if of_test:
            tested = seen
    return left_out


def merge_files(parts: Sequence[Part], left_out: Mapping[int, Collection[str]], photos: str, vectors: str) -> None:
    """Puts the files of all spans into `photos` and `vectors`, as links if the file system supports them.

    Files are rewritten only for splits with photos to leave out.
    """
    for part in parts:
        has_less = {key.split for key in part.keys if key.content_hash in left_out[part.span]}
        for source, target in ((part.photos, photos), (part.vectors, vectors)):
            for split in f.SPLITS:
                folder = os.path.join(target, f"Split-{split}")
                fileio.makedirs(folder)
                if not part.uses(split):
                    continue
                for file in matching_files([os.path.join(source, f"Split-{split}", "*")]):
                    # Spans are read in their order: of numbers, not of texts.
                    name = os.path.join(folder, f"span-{part.span:020d}-{os.path.basename(file)}")
                    if split in has_less:
                        copy_without(file, name, left_out[part.span])
                    else:
                        _link(file, name)


def _link(file: str, name: str) -> None:
    if "://" not in file and "://" not in name:
        try:
            os.link(file, name)
        except OSError:
            pass  # another disk, or a file system without links
        else:
            return
    fileio.copy(file, name)


def merge_reports(
    parts: Sequence[Part], left_out: Mapping[int, Collection[str]], reports: Mapping[int, Mapping[str, Any]]
) -> tuple[dict[str, Any], list[Key]]:
    """Counts of the photos that are used, in the form of an ingest report; and their keys, in order.

    Args:
      left_out: from `choose_photos`.
      reports: span -> its `report.json`.

    Raises:
      BadInput: the masks of two spans have other classes.
    """
    used = {part.span: [key for key in part.keys if part.uses(key.split)] for part in parts}
    counted = {
        span: [key for key in its_keys if key.content_hash not in left_out[span]] for span, its_keys in used.items()
    }
    keys = sorted({key for its_keys in counted.values() for key in its_keys})
    by_split: dict[str, Counter[str]] = {split: Counter() for split in f.SPLITS}
    for its_keys in counted.values():
        for key in its_keys:
            by_split[key.split][key.label] += 1
    formats: Counter[str] = Counter()
    converted: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for part in parts:
        formats.update(reports[part.span]["formats"])
        converted.update(reports[part.span].get("converted", {}))  # reports of older versions lack it
        reasons.update(reports[part.span]["reasons"])
    texts = (" ".join([*key[:3], *filter(None, [key.mask_hash])]) for key in keys)
    text = "\n".join(texts)
    merged = {
        "layouts": dict(reports[max(reports)]["layouts"]),
        "accepted": sum(sum(counts.values()) for counts in by_split.values()),
        "rejected": sum(reasons.values()),
        "splits": {split: dict(sorted(counts.items())) for split, counts in by_split.items()},
        "formats": dict(sorted(formats.items())),
        "converted": dict(sorted(converted.items())),
        "data_fingerprint": hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16],
        "reasons": dict(sorted(reasons.items())),
        "spans": {
            str(part.span): {
                "photos": len(used[part.span]),
                "left_out_as_in_another_span": len(used[part.span]) - len(counted[part.span]),
                "trained": part.trained,
                "tested": part.tested,
            }
            for part in sorted(parts, key=lambda part: part.span)
        },
    }
    if of_masks := {span: report["masks"] for span, report in reports.items() if "masks" in report}:
        notes = dict.fromkeys(note for span in sorted(of_masks) for note in of_masks[span]["notes"])
        newest = of_masks[max(of_masks)]
        merged["masks"] = count_masks(keys, _classes_of_all(of_masks), list(notes), newest.get("ignored", []))
    return merged, keys


def _classes_of_all(of_masks: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """The classes of the masks in all spans, in the order of their ids."""
    longest = max(sorted(of_masks), key=lambda span: len(of_masks[span]["classes"]))
    classes = of_masks[longest]["classes"]
    for span, masks in sorted(of_masks.items()):
        for number, (name, other) in enumerate(zip(masks["classes"], classes, strict=False)):
            if name != other:
                raise BadInput(
                    f"the masks of span {span} have the class {name!r} where those of span {longest} have {other!r} "
                    f"(id {number}); give all spans the same list of classes"
                )
    return classes
