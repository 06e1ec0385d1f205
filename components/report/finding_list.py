"""The list of findings of a run (`schemas/findings.py`): also what the page has no room for."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tfx.types import Artifact, artifact_utils

from components.evaluator.stored_predictions import read_predictions
from components.example_gen.copies import CONTRADICTORY_LABEL as CONTRADICTORY_REASON
from components.records import read_records, split_files
from components.report.near_duplicates import HASH, Pair
from components.report.suspected_labels import Suspect
from schemas import features as f
from schemas.findings import (
    CLOSE,
    CONTRADICTORY_LABEL,
    FAR_PHOTO,
    KINDS,
    LOW_CONFIDENCE,
    MISTAKE,
    NEAR_DUPLICATE,
    REJECTED,
    SUSPECTED_LABEL,
    SUSPECTED_MASK,
    Finding,
    Findings,
)
from schemas.summary import RejectedFile
from schemas.verdicts import DriftVerdict
from schemas.words import spelled

MOST_PAIRS = 1000
_READ_BATCH = 256
_HELD_BACK_LEAST_FIRST = ("train", "eval", "test")
# How a window names the files of a span (`components.window.merge`).
_SPAN_OF_FILE = re.compile(r"span-(\d{20})-")


class SeenPhoto(NamedTuple):
    """A photo as the findings know it."""

    content_hash: str
    split: str
    path: str
    label: str


class SuspectedMask(NamedTuple):
    """A photo whose mask every model contradicts; the rest is about the model that does so least."""

    split: str
    row: int  # of the split's stored answers
    loss: float  # natural-log, of a pixel
    model: str
    wrong: float  # share of the pixels that are answered otherwise
    label: str  # the most frequent pair of classes among these
    answer: str


class SpanOfRun(NamedTuple):
    """The span of a run, or the newest one of its window. dated: its number counts days."""

    number: int
    dated: bool

    def shown(self, number: int) -> str:
        """A span of this kind as a person writes it."""
        if not self.dated:
            return str(number)
        return str(datetime.date(1970, 1, 1) + datetime.timedelta(days=number))


class FindingList:
    """Collects findings.

    Attributes:
      counts: kind -> number found, which may be more than are listed.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._by_kind: dict[str, list[Finding]] = {kind: [] for kind in KINDS}

    def add_suspects(self, suspects: Iterable[tuple[SeenPhoto, Suspect]], labels: Sequence[str]) -> None:
        """Adds all suspected labels, most urgent first."""
        for photo, suspect in suspects:
            proposal = labels[suspect.suggested]
            self._add(
                SUSPECTED_LABEL,
                photo,
                proposal=proposal,
                probability=suspect.probability,
                detail=f"{photo.path} is labelled {photo.label!r}, but a model that has not seen it takes it for "
                f"{proposal!r} ({suspect.probability:.0%} against {suspect.of_label:.0%}).",
            )

    def add_suspected_masks(self, suspects: Iterable[tuple[SeenPhoto, SuspectedMask]]) -> None:
        """Adds all suspected masks, most urgent first."""
        for photo, suspect in suspects:
            self._add(
                SUSPECTED_MASK,
                photo,
                detail=f"the mask of {photo.path} is far from what every model answers: {spelled(suspect.model)} gives "
                f"{suspect.wrong:.0%} of its pixels another class, most of them {suspect.answer!r} in place of "
                f"{suspect.label!r}.",
            )

    def add_pairs(self, pairs: Iterable[tuple[SeenPhoto, SeenPhoto, Pair]], found: int) -> None:
        """Adds near-duplicates, the closest first; the photo that is held back less is the one that may go."""
        for first, second, pair in pairs:
            photo, other = sorted((first, second), key=lambda each: _HELD_BACK_LEAST_FIRST.index(each.split))
            distance = f"{pair.distance:.0f} of 64 bits apart" if pair.method == HASH else f"{pair.distance:.2f} apart"
            differs = photo.label != other.label
            self._add(
                NEAR_DUPLICATE,
                photo,
                proposal=other.label if differs else "",
                reason=pair.method,
                detail=f"{photo.path} ({photo.split}) looks like {other.path} ({other.split}"
                f"{f', labelled {other.label!r}' if differs else ''}), by {pair.method}: {distance}.",
            )
        self.counts[NEAR_DUPLICATE] = found

    def add_answers(self, predictions: Artifact, labels: Sequence[str], winner: str, abstain_below: float) -> None:
        """Adds the winner's mistakes on the test split, and the answers that it is not sure of."""
        stored = read_predictions(predictions, "test")
        probabilities = stored.probabilities.get(winner)
        if probabilities is None or not len(probabilities):
            return
        highest = np.sort(probabilities, axis=1)
        for row in sorted(range(len(stored.keys)), key=lambda row: (-highest[row, -1], row)):
            label = labels[stored.classes[row]]
            photo = SeenPhoto(stored.keys[row], "test", stored.file_names[row], label)
            *_, second, first = np.argsort(probabilities[row], kind="stable")
            answer, sure = labels[first], float(probabilities[row, first])
            close = highest[row, -1] - highest[row, -2] < CLOSE
            if answer != label:
                detail = f"{photo.path} is labelled {label!r}, but {spelled(winner)} answers {answer!r} ({sure:.0%})."
                self._add(MISTAKE, photo, proposal=answer, probability=sure, detail=detail)
            elif close or sure < abstain_below:
                detail = (
                    f"{spelled(winner)} is not sure of {photo.path}: {answer!r} {sure:.0%}, "
                    f"{labels[second]!r} {float(probabilities[row, second]):.0%}."
                )
                self._add(LOW_CONFIDENCE, photo, probability=sure, detail=detail)
        self._by_kind[LOW_CONFIDENCE].reverse()  # the least sure first

    def add_far(self, drift: DriftVerdict) -> None:
        """Adds the photos that are far from every earlier one."""
        for far in drift.far_photos:
            nearest = far.neighbours[0] if far.neighbours else None
            photo = SeenPhoto(far.content_hash, "", far.file_name, far.label)
            detail = f"{far.file_name} is far from every earlier photo (distance {far.distance:.2f})"
            if nearest:
                detail += f"; the nearest is {nearest.file_name}, labelled {nearest.label!r}"
            self._add(FAR_PHOTO, photo, detail=f"{detail}.")
        self.counts[FAR_PHOTO] = drift.far_photos_found

    def add_rejected(self, files: Iterable[RejectedFile], span: str) -> None:
        """Adds rejected files, and photos with two labels."""
        for file in files:
            kind = CONTRADICTORY_LABEL if file.reason == CONTRADICTORY_REASON else REJECTED
            finding = Finding(
                kind=kind,
                dataset=file.dataset,
                path=file.file_name,
                span=span,
                content_hash=file.content_hash or "",
                label=file.label or "",
                reason=file.reason,
                detail=file.detail,
            )
            self._by_kind[kind].append(finding)

    def locate(self, examples: Artifact, span: SpanOfRun | None) -> None:
        """Adds data set, split and span to the findings."""
        wanted = {one.content_hash for one in self._all() if one.content_hash and not one.dataset}
        places = _locate(examples, wanted, span) if wanted else {}
        self._by_kind = {kind: [_placed(one, places) for one in found] for kind, found in self._by_kind.items()}

    def findings(self, run_id: str, labels: Sequence[str]) -> Findings:
        """All of them, for the files of a run with these classes."""
        counts = {kind: self.counts.get(kind, len(found)) for kind, found in self._by_kind.items()}
        return Findings(run_id=run_id, labels=list(labels), counts=counts, findings=self._all())

    def _all(self) -> list[Finding]:
        return [one for found in self._by_kind.values() for one in found]

    def _add(self, kind: str, photo: SeenPhoto, **more: str | float) -> None:
        known = {"content_hash": photo.content_hash, "split": photo.split, "path": photo.path, "label": photo.label}
        self._by_kind[kind].append(Finding(kind=kind, **known, **more))  # type: ignore[arg-type]


class _Place(NamedTuple):
    dataset: str
    split: str
    span: str


def _placed(finding: Finding, places: Mapping[str, _Place]) -> Finding:
    place = places.get(finding.content_hash)
    if place is None or finding.dataset:
        return finding
    return replace(finding, dataset=place.dataset, span=place.span, split=finding.split or place.split)


def _locate(examples: Artifact, wanted: Collection[str], span: SpanOfRun | None) -> dict[str, _Place]:
    """Content hash -> where the photo is; of copies, the first one."""
    spec = {name: tf.io.FixedLenFeature([], tf.string, "") for name in (f.CONTENT_HASH, f.DATASET)}
    places: dict[str, _Place] = {}
    for split in artifact_utils.decode_split_names(examples.split_names):
        for file in split_files(examples, split):
            of_window = _SPAN_OF_FILE.match(os.path.basename(file))
            number = int(of_window[1]) if of_window else span.number if span else 0
            shown = span.shown(number) if span else ""
            records = read_records([file]).batch(_READ_BATCH)
            for batch in records.map(lambda records: tf.io.parse_example(records, spec)).as_numpy_iterator():
                for content_hash, dataset in zip(batch[f.CONTENT_HASH], batch[f.DATASET], strict=True):
                    if (key := content_hash.decode()) in wanted:
                        places.setdefault(key, _Place(dataset.decode(), split, shown))
    return places
