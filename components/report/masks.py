"""Compares models of masks: which photos fine-tuning won and lost, which are worst, and which masks are doubtful.

Masks and photos of those that are shown are drawn in the album's one pass, with one photo in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from tfx.types import Artifact

from components.evaluator import confusions
from components.evaluator.stored_masks import StoredMasks, png_ids, read_mask_ids
from components.evaluator.stored_predictions import FEATURE_EXTRACTION, FINE_TUNED, PRODUCTION
from components.overlays import drawing
from components.overlays.palette import colour_name, hex_colour
from components.report import gallery
from components.report.finding_list import FindingList, SeenPhoto, SuspectedMask
from components.report.thumbnails import Album, small_jpeg, small_photo
from components.task.judging import IntervalSettings
from schemas import features as f
from schemas.words import spelled

MOST_SHOWN = 5  # of those that fine-tuning won, of those that it lost, and of the worst
MOST_SUSPECTED = 8
_BARS = 20
# Conventions that other people's numbers have: name, and what becomes of each class; None: it is not counted.
_CONVENTIONS: dict[tuple[str, ...], dict[str, list[int | None]]] = {
    ("pet", "background", "border"): {
        "border counted as pet": [0, 1, 0],
        "border not counted": [0, 1, None],
    }
}


@dataclass(frozen=True)
class MaskRun:
    """What is compared."""

    stored: Mapping[str, StoredMasks]
    """Split (eval, test) -> answers of the run's models."""
    predictions: Artifact
    labels: Sequence[str]
    settings: IntervalSettings
    winner: str | None = None
    production: StoredMasks | None = None
    """Answers of the model in production to the test split; None if it cannot be compared."""
    confirmed: Collection[str] = ()
    """Content hashes of photos that somebody has confirmed; their masks are not suspected again."""


@dataclass
class _Shown:
    """A photo that is shown, with what its pictures need."""

    split: str
    row: int
    entry: dict[str, Any] = field(default_factory=dict)


def compare_masks(run: MaskRun, album: Album, listed: FindingList) -> dict[str, Any]:
    """The part `masks` of the findings (`components.report.findings`).

    Args:
      listed: gets every mask that is suspected.

    Returns:
      `labels`, `legend` (label, colour or None, name of the colour), `models`; `production`: metrics of the model in
      production, or None; `conventions`: name -> model -> mean IoU; `histogram`: `edges`, and `counts` by model, of
      the photos' mean IoU on the test split; `shown`: `won`, `lost`, `worst`, `suspected` -> entries with `photo`,
      `said` (a sentence) and `pictures` (title and data URI, filled in later); `suspects`: how many masks are doubtful;
      `gallery`: see `_gallery`.
    """
    stored, labels = run.stored["test"], run.labels
    photo_scores = {model: confusions.mean_iou(found) for model, found in stored.confusions.items()}
    worst_of = run.winner if run.winner in photo_scores else next(iter(photo_scores))
    suspects = _suspects(run)
    listed.add_suspected_masks((_seen(run, each.split, each.row), each) for each in suspects)
    shown = {
        **_won_and_lost(photo_scores, stored),
        "worst": [
            (_Shown("test", int(row)), f"{_percent(photo_scores[worst_of][row])} with {spelled(worst_of)}")
            for row in np.argsort(photo_scores[worst_of], kind="stable")[:MOST_SHOWN]
        ],
        "suspected": [
            (_Shown(each.split, each.row), f"{_percent(each.wrong)} of its pixels are answered otherwise")
            for each in suspects[:MOST_SUSPECTED]
        ],
    }
    entries = {
        part: [_entry(one, said, run, album) for one, said in chosen] for part, chosen in shown.items() if chosen
    }
    _draw_when_seen([one for chosen in shown.values() for one, _ in chosen], run, album, list(stored.models))
    return {
        "labels": list(labels),
        "legend": [(label, hex_colour(i, labels), colour_name(i, labels)) for i, label in enumerate(labels)],
        "models": list(photo_scores),
        "production": run.production.evaluate(PRODUCTION, labels, run.settings) if run.production else None,
        "conventions": _conventions(run),
        "histogram": _histogram(photo_scores),
        "shown": entries,
        "worst_of": worst_of,
        "suspects": len(suspects),
        "gallery": _gallery(worst_of, photo_scores[worst_of], run, album),
    }


def _gallery(model: str, scores: np.ndarray, run: MaskRun, album: Album) -> dict[str, Any]:
    """Test photos with their truth and the answer of one model, from the lowest to the highest score.

    Returns:
      `model`; `of` and `low`: how many photos there are, and in the quarter with the lowest mean IoU; `photos`: entries
      as in `shown`, and `classes` (those of the truth or of the answer) and `low`.
    """
    stored, low = run.stored["test"], gallery.is_low(scores)
    shown = [_Shown("test", row) for row in gallery.evenly(scores)]
    photos = []
    for one in shown:
        entry = _entry(one, _percent(scores[one.row]), run, album)
        confusion = stored.confusions[model][one.row]
        present = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
        entry |= {"classes": [run.labels[index] for index in present], "low": bool(low[one.row])}
        photos.append(entry)
    _draw_when_seen(shown, run, album, [model], mistakes=False)
    return {"model": model, "of": len(scores), "low": int(low.sum()), "photos": photos}


def _won_and_lost(scores: Mapping[str, np.ndarray], stored: StoredMasks) -> dict[str, list[tuple[_Shown, str]]]:
    """The photos whose mean IoU fine-tuning raised and lowered most."""
    if FINE_TUNED not in scores or FEATURE_EXTRACTION not in scores:
        return {"won": [], "lost": []}
    before, after = scores[FEATURE_EXTRACTION], scores[FINE_TUNED]
    gains = after - before
    order = np.argsort(-gains, kind="stable")

    def told(rows: np.ndarray) -> list[tuple[_Shown, str]]:
        return [
            (_Shown("test", int(row)), f"{_percent(before[row])} before fine-tuning, {_percent(after[row])} after")
            for row in rows[:MOST_SHOWN]
        ]

    return {"won": told(order[gains[order] > 0]), "lost": told(order[::-1][gains[order[::-1]] < 0])}


def _suspects(run: MaskRun) -> list[SuspectedMask]:
    """Photos whose mask every model contradicts, the largest loss first.

    No model has trained on the eval and test splits. A loss is suspicious if it is further above the upper quartile
    than three times the distance of the quartiles (Tukey 1977, "Exploratory Data Analysis", far out).
    """
    losses = {split: np.stack([*each.pixel_losses.values()]) for split, each in run.stored.items() if each.keys}
    if not losses:
        return []
    smallest = {split: of_split.min(axis=0) for split, of_split in losses.items()}
    low, high = np.quantile(np.concatenate([*smallest.values()]), [0.25, 0.75])
    limit = high + 3 * (high - low)
    found = []
    for split, of_split in smallest.items():
        stored = run.stored[split]
        for row in np.flatnonzero(of_split > limit):
            if stored.keys[row] in run.confirmed:
                continue
            better = [*stored.pixel_losses][int(losses[split][:, row].argmin())]
            found.append(_suspected(stored, int(row), split, better, run.labels))
    return sorted(found, key=lambda each: (-each.loss, each.split, each.row))


def _suspected(stored: StoredMasks, row: int, split: str, model: str, labels: Sequence[str]) -> SuspectedMask:
    shares = confusions.scaled(stored.confusions[model][row])
    elsewhere = np.where(np.eye(len(labels), dtype=bool), 0, shares)
    true, answered = divmod(int(elsewhere.argmax()), len(labels))
    return SuspectedMask(
        split=split,
        row=row,
        loss=float(stored.pixel_losses[model][row]),
        model=model,
        wrong=float(elsewhere.sum()),
        label=labels[true],
        answer=labels[answered],
    )


def _seen(run: MaskRun, split: str, row: int) -> SeenPhoto:
    stored = run.stored[split]
    return SeenPhoto(stored.keys[row], split, stored.file_names[row], stored.slices[f.LABEL][row])


def _entry(one: _Shown, said: str, run: MaskRun, album: Album) -> dict[str, Any]:
    stored = run.stored[one.split]
    label = stored.slices[f.LABEL][one.row]
    photo = album.photo(stored.keys[one.row], stored.file_names[one.row], label, one.split)
    one.entry.update({"photo": photo, "said": said, "pictures": []})
    return one.entry


def _draw_when_seen(
    shown: Sequence[_Shown], run: MaskRun, album: Album, models: Sequence[str], mistakes: bool = True
) -> None:
    """Has the album draw the truth and the models' answers over the photos, and where the chosen model is wrong."""
    for split in sorted({one.split for one in shown}):
        wanted = [one for one in shown if one.split == split]
        keys = {one.row: run.stored[split].keys[one.row] for one in wanted}
        masks = read_mask_ids(run.predictions, split, models, set(keys.values()))
        for one in wanted:
            answers = masks.get(keys[one.row], {})
            album.draw(one.entry["photo"], _drawing(one.entry, answers, run, album, mistakes))


def _drawing(
    entry: dict[str, Any], answers: Mapping[str, np.ndarray], run: MaskRun, album: Album, mistakes: bool
) -> Callable[[tf.train.Example], None]:
    def draw(example: tf.train.Example) -> None:
        feature = example.features.feature
        photo = small_photo(feature[f.IMAGE].bytes_list.value[0], background=album.background)
        truth = png_ids(feature[f.MASK].bytes_list.value[0])
        titled = {"truth": truth, **{spelled(model): ids for model, ids in answers.items()}}
        pictures = [
            {"title": title, "uri": small_jpeg(drawing.overlay(photo, ids, run.labels))}
            for title, ids in titled.items()
        ]
        chosen = run.winner if run.winner in answers else next(iter(answers), None)
        if mistakes and chosen is not None:
            wrong = small_jpeg(drawing.mistakes(photo, truth, answers[chosen]))
            pictures.append({"title": f"mistakes of {spelled(chosen)}", "uri": wrong})
        entry["pictures"] = pictures

    return draw


def _conventions(run: MaskRun) -> dict[str, dict[str, float]]:
    """Mean IoU of the same answers in the conventions of other people; empty for classes that have no others."""
    answers = dict(run.stored["test"].confusions)
    if run.production is not None:
        answers |= run.production.confusions
    return {
        name: {
            model: float(confusions.mean_iou(confusions.merged(confusions.scaled(found).sum(axis=0), into)))
            for model, found in answers.items()
        }
        for name, into in _CONVENTIONS.get(tuple(run.labels), {}).items()
    }


def _histogram(scores: Mapping[str, np.ndarray]) -> dict[str, Any]:
    edges = np.linspace(0, 1, _BARS + 1)
    return {
        "edges": [round(float(edge), 2) for edge in edges],
        "counts": {model: np.histogram(found, edges)[0].tolist() for model, found in scores.items()},
    }


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
