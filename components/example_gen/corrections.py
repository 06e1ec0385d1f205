"""Applies `data.corrections` to photos as they are read: labels are changed, photos are dropped."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from components.example_gen.found_photos import Photo
from schemas.corrections import Correction, effective, fingerprint_of, read_corrections
from schemas.errors import BadInput
from schemas.summary import CorrectedPhoto
from schemas.words import and_more

_MOST_NAMED = 3


@dataclass(frozen=True)
class Corrections:
    """The corrections of a run, by photo."""

    by_hash: Mapping[str, Correction] = field(default_factory=dict)
    species_and_breed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Class -> species and breed of its photos."""

    @classmethod
    def read(cls, file: str, fingerprint: str, photos: Iterable[Photo]) -> Corrections:
        """Reads the file; an empty path stands for no corrections.

        Args:
          fingerprint: `fingerprint_of` its corrections when the step was planned.
          photos: photos that say which species and breed a class stands for.

        Raises:
          BadInput: as `read_corrections`, or the file has changed meanwhile.
        """
        if not file:
            return cls()
        found = read_corrections(Path(file))
        if fingerprint_of(found) != fingerprint:
            raise BadInput(f"the file of corrections {file} was changed while the run began; run again")
        return cls(
            {one.content_hash: one for one in effective(found)},
            {photo.label: (photo.species, photo.breed) for photo in photos},
        )

    def corrected(self, photo: Photo, content_hash: str, label_from: str) -> Photo | None:
        """The photo as it should be; None: it is dropped."""
        correction = self.by_hash.get(content_hash)
        if correction is None:
            return photo
        if correction.drops:
            return None
        label = correction.new_label
        if label_from == "species":
            return photo if label == photo.species else replace(photo, species=label, breed="")
        if label == photo.label:
            return photo
        unknown = (label if photo.species == photo.label else "", label if photo.breed == photo.label else "")
        species, breed = self.species_and_breed.get(label, unknown)
        return replace(photo, label=label, species=species, breed=breed)

    def line(self, photo: Photo, content_hash: str, split: str, label: str) -> dict[str, Any]:
        """What the ingest report says of a photo with a correction; `label` is the one that its folder gives."""
        correction = self.by_hash[content_hash]
        told = CorrectedPhoto(
            dataset=photo.dataset,
            file_name=photo.file_name,
            content_hash=content_hash,
            split=split,
            old_label=label,
            new_label=correction.new_label,
            who=correction.who,
            when=correction.when,
        )
        return {name: value for name, value in asdict(told).items() if value is not None}

    def counts(self, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The part `corrections` of the ingest report.

        Returns:
          `changed`, `dropped`: numbers of photos; `unmatched`: content hash -> file name of each correction without a
          photo.
        """
        matched = {line["content_hash"] for line in lines}
        unmatched = {key: one.file_name for key, one in self.by_hash.items() if key not in matched}
        return {**count_lines(lines), "unmatched": unmatched}


def count_lines(lines: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Numbers of photos that were `changed` and `dropped`; the others had the right label already."""
    found = {"changed": 0, "dropped": 0}
    for line in lines:
        if not line["new_label"]:
            found["dropped"] += 1
        elif line["new_label"] != line["old_label"]:
            found["changed"] += 1
    return found


def merge_counts(
    counts: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]], used: Collection[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The part `corrections` of a window's report, and its lines, each photo once.

    Args:
      counts: from `Corrections.counts`, one for each span.
      used: content hashes of the photos that the window uses; of the others only those that were dropped count.
    """
    by_hash = {line["content_hash"]: line for line in lines if line["content_hash"] in used or not line["new_label"]}
    merged = [dict(line) for line in by_hash.values()]
    matched = {line["content_hash"] for line in lines}
    unmatched = {key: name for each in counts for key, name in each["unmatched"].items() if key not in matched}
    return {**count_lines(merged), "unmatched": unmatched}, merged


def notes_on(counts: Mapping[str, Any] | None) -> list[str]:
    """What people are told: how many photos were corrected, and which corrections match no photo.

    Args:
      counts: from `Corrections.counts`; None: there were no corrections.
    """
    if counts is None:
        return []
    parts = []
    if changed := counts["changed"]:
        parts.append(f"{changed:,} {'label' if changed == 1 else 'labels'} corrected")
    if dropped := counts["dropped"]:
        parts.append(f"{dropped:,} {'photo' if dropped == 1 else 'photos'} dropped")
    notes = [f"by data.corrections: {', '.join(parts)}"] if parts else []
    if unmatched := counts["unmatched"]:
        named = and_more([name or f"{key[:12]}..." for key, name in sorted(unmatched.items())], _MOST_NAMED)
        notes.append(
            f"{len(unmatched):,} {'correction matches' if len(unmatched) == 1 else 'corrections match'} no photo here "
            f"({named}): the files are gone, were changed, or belong to other data"
        )
    return notes
