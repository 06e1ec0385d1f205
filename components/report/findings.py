"""What the page of a run shows beyond `summary.json`: photos, curves, and anything worth a second look.

Every part may be missing: a run that was stopped has no model, and one that failed may have no photos. Nothing here may
fail a run that has ended: errors are reported in `problems`.

Memory: photos are read a few at a time, and a limited number is remembered (`MOST_COMPARED`, `MOST_JUDGED`), chosen by
content hash, so that the choice is the same every time.
"""

from __future__ import annotations

import os
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from tfx.dsl.io import fileio
from tfx.types import Artifact, artifact_utils

from components.evaluator.stored_answers import read_answers
from components.evaluator.stored_masks import StoredMasks
from components.evaluator.stored_predictions import StoredPredictions, read_predictions
from components.example_gen.perceptual_hash import bits
from components.example_gen.photo_rules import PhotoRules
from components.records import read_records, split_files
from components.report import corrected_photos, near_duplicates, suspected_labels
from components.report.comparison import compare_models
from components.report.finding_list import MOST_PAIRS as MOST_LISTED_PAIRS
from components.report.finding_list import FindingList, SeenPhoto, SpanOfRun
from components.report.gallery import gallery
from components.report.masks import MaskRun, compare_masks
from components.report.summary import read_history
from components.report.thumbnails import Album, thumbnail_of_rejected
from components.task.judging import IntervalSettings
from schemas import features as f
from schemas.summary import CorrectedPhoto, ModelSummary, RejectedFile
from schemas.verdicts import DriftVerdict, ServableVerdict
from schemas.words import spelled, with_kind

MOST_COMPARED = 20_000  # photos; of which near-duplicates are looked for
MOST_JUDGED = 10_000  # photos; whose labels are looked at
MOST_REJECTED, MOST_PAIRS, MOST_SUSPECTS, MOST_HEAT_MAPS = 50, 20, 20, 6
_MOST_BARS = 24
_READ_BATCH = 32
_HASHES = 2**64


@dataclass(frozen=True)
class RunOutputs:
    """The outputs of a run; anything missing is None or empty."""

    photos: Artifact | None = None
    """Examples with photos; with a window, those of all its spans."""
    vectors: Artifact | None = None
    """Examples with feature vectors; with a window, those of all its spans."""
    of_masks: bool = False
    predictions: Artifact | None = None
    production_predictions: Artifact | None = None
    labels: Sequence[str] = ()
    production_labels: Sequence[str] = ()
    measured: Mapping[str, ModelSummary] = field(default_factory=dict)
    """Model -> its metrics, as in the summary."""
    intervals: Mapping[str, Any] = field(default_factory=dict)
    """`confidence`, `samples` and `seed` of `metrics.evaluate`."""
    histories: Mapping[str, str] = field(default_factory=dict)
    """Model -> folder of its `model_run`."""
    rejected: Sequence[RejectedFile] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    """Data set -> its folder."""
    rules: PhotoRules = field(default_factory=PhotoRules)
    models: Mapping[str, str] = field(default_factory=dict)
    """Model -> folder of its SavedModel."""
    winner: str | None = None
    servable: ServableVerdict | None = None
    peaks: Mapping[str, float | None] = field(default_factory=dict)
    """Node -> its peak memory, MB."""
    drift: DriftVerdict | None = None
    span: SpanOfRun | None = None
    """The newest span; None without spans."""
    abstain_below: float = 0.0
    """The probability below which the models abstain."""
    corrected: Sequence[CorrectedPhoto] = ()
    """The photos that corrections are about, the last corrected first, as in the summary."""
    confirmed: Collection[str] = ()
    """Content hashes of photos whose labels were confirmed; neither these nor their masks are suspected again."""


def find(run: RunOutputs, seed: int, listed: FindingList | None = None) -> dict[str, Any]:
    """Everything that the page of a run shows beyond the summary, ready for JSON.

    Args:
      seed: of the folds that suspected labels are found with.
      listed: gets every finding, also those that the page has no room for.

    Returns:
      `data`: `sizes`, `rejected`, `near_duplicates`, `suspected_labels`; `training`: model -> its history;
      `comparison` and `gallery`, or `masks` in their place; `cost`: of `nodes` and `models`; and `problems`, one
      sentence for each part that could not be made. With corrections also `corrected` in `data`, and `corrected`, the
      `CorrectedPhoto`s with the winner's answers. A part that the run has no outputs for is None. A photo has `name`,
      `label`, `split` and `thumbnail`, a data URI or None. Each part is described where it is made.
    """
    problems: list[str] = []

    def part(what: str, make: Callable[..., Any], *given: Any) -> Any:
        """The result of `make`; None if it fails or if any of `given` is missing."""
        if any(each is None for each in given):
            return None
        try:
            return make(*given)
        except Exception as error:  # such as artifacts that somebody deleted
            traceback.print_exc()
            problems.append(f"{what} could not be shown: {with_kind(error)}")
            return None

    album, every = Album(run.rules.colour), listed or FindingList()
    # FeatureVectorGen's examples have all that is looked at, and not the photos, which are far larger.
    seen = part("the feature vectors", _look_at_photos, run.vectors)
    seen = seen or part("the photos", _look_at_photos, run.photos)
    answers = None if run.of_masks else part("the stored answers", read_predictions, run.predictions, "test")
    found: dict[str, Any] = {
        "data": {
            "sizes": part("the sizes of the photos", lambda seen: sizes(seen.sides), seen),
            "rejected": part("the rejected files", _rejected, run.rejected, run.sources, run.rules),
            "near_duplicates": part("near-duplicates", _near_duplicates, seen, album, every),
            "suspected_labels": part(
                "the suspected labels",
                _suspected_labels,
                None if run.of_masks else seen,
                seed,
                album,
                run,
                every,
            ),
        },
        "training": {
            model: part(f"the learning curves of {spelled(model)}", read_history, folder)
            for model, folder in run.histories.items()
        },
        "comparison": None if run.of_masks else part("the comparison of the models", _comparison, run, answers, album),
        "gallery": None if run.of_masks else part("the gallery of the test photos", _gallery, run, answers, album),
        "cost": {
            "nodes": cost_of_nodes(run),
            "models": part("the sizes of the models", _model_costs, run),
        },
    }
    if run.of_masks:
        found["masks"] = part("the comparison of the masks", _masks, run, run.predictions, album, every)
    if run.corrected:
        model = None if run.of_masks else run.models.get(run.winner or "")
        asked = part("the answers for corrected photos", corrected_photos.ask, run.corrected, run.photos, model)
        found["corrected"] = asked or list(run.corrected)
        found["data"]["corrected"] = corrected_photos.shown(found["corrected"], album)
    mistakes = _mistakes_of_winner(run, found["comparison"])
    for mistake in mistakes:
        album.keep(mistake["photo"])
    part("the thumbnails", album.fill, run.photos)
    if listed is not None:
        part("the list of findings", _complete, listed, run)
    if mistakes:
        part("the heat maps of the worst mistakes", _draw_heat_maps, mistakes, run.models[run.winner or ""], album)
    return {**found, "problems": problems}


def cost_of_nodes(run: RunOutputs) -> dict[str, Any]:
    """Node -> `peak_megabytes`."""
    return {node: {"peak_megabytes": peak} for node, peak in run.peaks.items()}


class _Subset:
    """A sample of at most `most` photos by content hash, independent of their order.

    Photos are kept up to a limit of their hash, which is halved whenever there are too many.
    """

    def __init__(self, most: int):
        self._most, self._limit = most, _HASHES
        self.seen = 0  # photos; not counting those that are identical to one that is kept
        self.kept: dict[tuple[str, str], Any] = {}  # by content hash and split

    def takes(self, content_hash: str, split: str) -> bool:
        """Counts the photo, and says whether to keep it."""
        if (content_hash, split) in self.kept:
            return False
        self.seen += 1
        return int(content_hash[:16], 16) < self._limit

    def keep(self, content_hash: str, split: str, value: Any) -> None:
        self.kept[content_hash, split] = value
        while len(self.kept) > self._most:
            self._limit //= 2
            self.kept = {key: kept for key, kept in self.kept.items() if int(key[0][:16], 16) < self._limit}


@dataclass(frozen=True)
class _PhotoSample:
    """The photos that are compared with each other, in the order of `keys`, and the sizes of all photos."""

    sides: Counter[int]
    """Shorter side in pixels -> number of photos, over all photos."""
    keys: list[tuple[str, str]]
    """Content hash and split."""
    names: list[str]
    labels: list[str]
    hashes: list[str]
    vectors: np.ndarray | None
    """float16 [photos, width], or None without vectors."""
    of: int


def _look_at_photos(examples: Artifact) -> _PhotoSample:
    """Samples the photos, without their augmented views."""
    texts = (f.CONTENT_HASH, f.FILE_NAME, f.LABEL, f.PERCEPTUAL_HASH)
    spec: dict[str, Any] = {name: tf.io.FixedLenFeature([], tf.string) for name in texts}
    spec |= {name: tf.io.FixedLenFeature([], tf.int64) for name in (f.WIDTH, f.HEIGHT)}
    spec[f.VIEW] = tf.io.FixedLenFeature([], tf.int64, 0)
    spec[f.PERCEPTUAL_HASH] = tf.io.FixedLenFeature([], tf.string, "")  # a run of an older version has none
    spec[f.FEATURE_VECTOR] = tf.io.FixedLenSequenceFeature([], tf.float32, True)
    sides: Counter[int] = Counter()
    subset = _Subset(MOST_COMPARED)
    width = 0
    for split in artifact_utils.decode_split_names(examples.split_names):
        records = read_records(split_files(examples, split)).batch(_READ_BATCH)
        for batch in records.map(lambda records: tf.io.parse_example(records, spec)).as_numpy_iterator():
            halves = np.clip(batch[f.FEATURE_VECTOR], -65504, 65504).astype(np.float16)
            width = halves.shape[1]
            for i in np.flatnonzero(batch[f.VIEW] == 0):
                sides[min(int(batch[f.WIDTH][i]), int(batch[f.HEIGHT][i]))] += 1
                content_hash, *others = (batch[name][i].decode("utf-8", "replace") for name in texts)
                if subset.takes(content_hash, split):
                    subset.keep(content_hash, split, (*others, halves[i].copy()))
    keys = sorted(subset.kept)
    names, labels, hashes = ([subset.kept[key][i] for key in keys] for i in range(3))
    vectors = np.zeros((len(keys), width), np.float16) if width else None
    for i, key in enumerate(keys):  # each is let go as soon as it is copied
        *_, half = subset.kept.pop(key)
        if vectors is not None:
            vectors[i] = half
    return _PhotoSample(sides, keys, names, labels, hashes, vectors, subset.seen)


def sizes(sides: Mapping[int, int]) -> dict[str, list[int]]:
    """A histogram of the photos' shorter sides.

    Args:
      sides: pixels -> number of photos.

    Returns:
      `edges`, evenly spaced, in pixels, one more than `counts`; a photo on an edge counts in the bin above it.
    """
    if not sides:
        return {"edges": [], "counts": []}
    least, most = min(sides), max(sides)
    wide = (most - least + 1) / _MOST_BARS
    step = next(step for power in range(10) for step in (10**power, 2 * 10**power, 5 * 10**power) if step >= wide)
    first = least // step * step
    counts = np.zeros((most - first) // step + 1, int)
    for side, photos in sides.items():
        counts[(side - first) // step] += photos
    return {"edges": [first + i * step for i in range(len(counts) + 1)], "counts": counts.tolist()}


def _rejected(rejected: Sequence[RejectedFile], sources: Mapping[str, str], rules: PhotoRules) -> list[dict[str, Any]]:
    """Rejected files with a thumbnail where possible; the reasons take turns, so that each one is shown."""
    turns: Counter[str] = Counter()
    by_turn = []
    for i, file in enumerate(rejected):
        by_turn.append((turns[file.reason], i, file))
        turns[file.reason] += 1
    shown = [file for _, _, file in sorted(by_turn, key=lambda each: each[:2])[:MOST_REJECTED]]
    return [
        {
            "name": file.file_name,
            "reason": file.reason,
            "detail": file.detail,
            "thumbnail": thumbnail_of_rejected(os.path.join(sources[file.dataset], file.file_name), rules)
            if file.dataset in sources
            else None,
        }
        for file in shown
    ]


def _complete(listed: FindingList, run: RunOutputs) -> None:
    """Adds what is not found by looking at the photos."""
    if run.predictions is not None and run.winner and not run.of_masks:
        listed.add_answers(run.predictions, run.labels, run.winner, run.abstain_below)
    if run.drift is not None:
        listed.add_far(run.drift)
    listed.add_rejected(run.rejected, run.span.shown(run.span.number) if run.span else "")
    if examples := run.vectors or run.photos:
        listed.locate(examples, run.span)


def _near_duplicates(seen: _PhotoSample, album: Album, listed: FindingList) -> dict[str, Any]:
    found, pairs = near_duplicates.find_pairs(
        [bits(each) for each in seen.hashes], seen.vectors, [split for _, split in seen.keys], MOST_LISTED_PAIRS
    )
    listed.add_pairs([(_seen(seen, pair.first), _seen(seen, pair.second), pair) for pair in pairs], found)
    return {
        "looked_at": len(seen.keys),
        "of": seen.of,
        "found": found,
        "pairs": [
            {
                "method": pair.method,
                "distance": pair.distance,
                "photos": [_shown(seen, row, album) for row in (pair.first, pair.second)],
            }
            for pair in pairs[:MOST_PAIRS]
        ],
    }


def _suspected_labels(
    seen: _PhotoSample, seed: int, album: Album, run: RunOutputs, listed: FindingList
) -> dict[str, Any] | None:
    """None without vectors, or if fewer than two classes have two photos."""
    if seen.vectors is None:
        return None
    judged = _Subset(MOST_JUDGED)
    for row, (content_hash, split) in enumerate(seen.keys):
        judged.keep(content_hash, split, row)
    photos = Counter(seen.labels[row] for row in judged.kept.values())
    labels = sorted(label for label, count in photos.items() if count > 1)
    if len(labels) < 2:
        return None
    index = {label: i for i, label in enumerate(labels)}
    rows = np.array([row for row in sorted(judged.kept.values()) if seen.labels[row] in index])
    classes = np.array([index[seen.labels[row]] for row in rows])
    vectors = seen.vectors if len(rows) == len(seen.vectors) else seen.vectors[rows]
    suspects = [
        suspect
        for suspect in suspected_labels.suspects(suspected_labels.out_of_fold(vectors, classes, seed), classes)
        if seen.keys[rows[suspect.row]][0] not in run.confirmed
    ]
    listed.add_suspects([(_seen(seen, int(rows[suspect.row])), suspect) for suspect in suspects], labels)
    return {
        "looked_at": len(rows),
        "of": seen.of,
        "found": len(suspects),
        "photos": [
            {
                "photo": _shown(seen, int(rows[suspect.row]), album),
                "suggested": labels[suspect.suggested],
                "probability": suspect.probability,
                "probability_of_label": suspect.of_label,
            }
            for suspect in suspects[:MOST_SUSPECTS]
        ],
    }


def _seen(seen: _PhotoSample, row: int) -> SeenPhoto:
    return SeenPhoto(*seen.keys[row], seen.names[row], seen.labels[row])


def _shown(seen: _PhotoSample, row: int, album: Album) -> dict[str, Any]:
    content_hash, split = seen.keys[row]
    return album.photo(content_hash, seen.names[row], seen.labels[row], split)


def _comparison(run: RunOutputs, stored: StoredPredictions, album: Album) -> dict[str, Any]:
    production = read_predictions(run.production_predictions, "test") if run.production_predictions else None
    return compare_models(stored, run.labels, run.measured, production, run.production_labels, run.intervals, album)


def _gallery(run: RunOutputs, stored: StoredPredictions, album: Album) -> dict[str, Any] | None:
    return gallery(stored, run.labels, run.winner, run.abstain_below, album)


def _masks(run: RunOutputs, predictions: Artifact, album: Album, listed: FindingList) -> dict[str, Any]:
    stored = {split: read_answers(predictions, split) for split in ("eval", "test")}
    production = read_answers(run.production_predictions, "test") if run.production_predictions else None
    of_masks = {split: each for split, each in stored.items() if isinstance(each, StoredMasks)}
    return compare_masks(
        MaskRun(
            stored=of_masks,
            predictions=predictions,
            labels=run.labels,
            settings=IntervalSettings(**run.intervals),
            winner=run.winner,
            production=production if isinstance(production, StoredMasks) else None,
            confirmed=run.confirmed,
        ),
        album,
        listed,
    )


def _mistakes_of_winner(run: RunOutputs, comparison: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The winner's worst mistakes to explain. Only the winner's, since that takes loading a model."""
    if comparison is None or run.winner not in run.models:
        return []
    return comparison["worst"].get(run.winner, [])[:MOST_HEAT_MAPS]


def _draw_heat_maps(mistakes: Sequence[dict[str, Any]], folder: str, album: Album) -> None:
    """Sets `heat_map`, a data URI of the evidence for the wrong answer over the photo, and `heat_map_method`."""
    from components.explanation import heat_maps, pictures
    from components.explanation.explained_model import load_model

    model = load_model(folder)
    photos = [(mistake, photo) for mistake in mistakes if (photo := album.kept(mistake["photo"]))]
    if not photos:
        return
    classes = [model.labels.index(mistake["predicted"]) for mistake, _ in photos]
    found = heat_maps.heat_maps(model, model.images([photo for _, photo in photos]), classes)
    for (mistake, photo), heat in zip(photos, found.maps, strict=True):
        mistake["heat_map"] = pictures.jpeg_uri(pictures.overlay_jpeg(photo, heat, background=album.background))
        mistake["heat_map_method"] = found.method


def _model_costs(run: RunOutputs) -> dict[str, dict[str, float | None]]:
    """Size of each SavedModel in millions of bytes, and the winner's latency as ServableCheck measured it."""
    latency = run.servable.latency_milliseconds if run.servable else None
    return {
        model: {
            "megabytes": _megabytes(folder),
            "latency_milliseconds": latency if model == run.winner else None,
        }
        for model, folder in run.models.items()
    }


def _megabytes(folder: str) -> float | None:
    """Total size of all files below a folder in millions of bytes; None without files."""
    files = [os.path.join(parent, name) for parent, _, names in fileio.walk(folder) for name in names]
    return sum(tf.io.gfile.stat(file).length for file in files) / 1e6 if files else None
