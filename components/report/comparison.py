"""Compares the models on the test split: where they are right, how confident they are, and where they disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.evaluator.metrics import evaluate
from components.evaluator.stored_predictions import PRODUCTION, StoredPredictions
from components.report.thumbnails import Album
from schemas.json_records import to_json
from schemas.summary import ModelSummary

BINS = 10
MOST_PAIRS, MOST_DISAGREEMENTS, MOST_MISTAKES = 15, 24, 12
_METRICS = ("accuracy", "loss", "calibration_error")


@dataclass(frozen=True)
class Answers:
    """The answers of one model, photo by photo."""

    labels: np.ndarray
    """Names of the top answers, [photos]."""
    probability: np.ndarray
    """Probabilities of the top answers, float [photos]."""
    known: np.ndarray
    """Whether the model knows the photo's class, bool [photos]; it is measured only on these photos."""


def answers_of(probabilities: np.ndarray, its_labels: Sequence[str], truth: np.ndarray) -> Answers:
    """The answers of a model.

    Args:
      probabilities: float [photos, classes of the model].
      its_labels: the model's classes, in the order of their indices.
      truth: label of each photo.
    """
    first = np.argmax(probabilities, axis=1)
    return Answers(np.array(its_labels)[first], probabilities.max(axis=1), np.isin(truth, its_labels))


def compare_models(
    stored: StoredPredictions,
    labels: Sequence[str],
    measured: Mapping[str, ModelSummary],
    production: StoredPredictions | None,
    production_labels: Sequence[str],
    intervals: Mapping[str, Any],
    album: Album,
) -> dict[str, Any]:
    """The part `comparison` of the findings (`components.report.findings`).

    Args:
      measured: model -> its metrics, as in the summary.
      production: answers of the model in production on the same split; None if it cannot be compared. Answers outside
        `labels` are in no confusion matrix. Photos of classes that it does not know do not count against it.
      intervals: `confidence`, `samples` and `seed` of `metrics.evaluate`.
    """
    truth = np.array(labels)[stored.classes]
    answers = {model: answers_of(p, labels, truth) for model, p in stored.probabilities.items()}
    metrics = {
        model: {name: to_json(getattr(measured[model], name)) for name in _METRICS}
        for model in answers
        if model in measured
    }
    if production is not None and PRODUCTION in production.probabilities:
        probabilities = production.probabilities[PRODUCTION]
        if production.keys != stored.keys:
            raise ValueError("the model in production and the run's models answered different photos")
        its = answers_of(probabilities, production_labels, truth)
        answers[PRODUCTION] = its
        if its.known.any():
            index = {label: i for i, label in enumerate(production_labels)}
            classes = np.array([index[label] for label in truth[its.known]])
            of_production = evaluate(probabilities[its.known], classes, production_labels, **intervals)
            metrics[PRODUCTION] = {name: of_production[name] for name in _METRICS}

    def photo(row: int) -> dict[str, Any]:
        return album.photo(stored.keys[row], stored.file_names[row], str(truth[row]), "test")

    return {
        "labels": list(labels),
        "split": "test",
        "models": list(answers),
        "metrics": metrics,
        "reliability": {model: reliability(its, truth) for model, its in answers.items()},
        "confusion": {model: confusion(its, truth, labels) for model, its in answers.items()},
        "confused_pairs": {model: confused_pairs(its, truth) for model, its in answers.items()},
        "disagreements": disagreements(answers, photo),
        "worst": {model: worst(its, truth, photo) for model, its in answers.items()},
    }


def reliability(its: Answers, truth: np.ndarray) -> dict[str, Any]:
    """Mean confidence and accuracy in 10 bins of equal width; None for an empty bin."""
    probability, right = its.probability[its.known], (its.labels == truth)[its.known]
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)

    def mean(values: np.ndarray) -> list[float | None]:
        sums = np.bincount(bins, values, BINS)
        return [float(total / count) if count else None for total, count in zip(sums, counts, strict=True)]

    edges = [round(i / BINS, 1) for i in range(BINS + 1)]
    return {"edges": edges, "confidence": mean(probability), "accuracy": mean(right), "count": counts.tolist()}


def confusion(its: Answers, truth: np.ndarray, labels: Sequence[str]) -> list[list[int]]:
    """Photos by true class (rows) and answer (columns), in the order of `labels`."""
    index = {label: i for i, label in enumerate(labels)}
    matrix = np.zeros((len(labels), len(labels)), int)
    for true, answer in zip(truth[its.known], its.labels[its.known], strict=True):
        if answer in index:
            matrix[index[true], index[answer]] += 1
    return matrix.tolist()


def confused_pairs(its: Answers, truth: np.ndarray) -> list[dict[str, Any]]:
    """Pairs of a true class and a wrong answer, those with the most photos first."""
    wrong = its.known & (its.labels != truth)
    pairs, counts = np.unique(np.stack([truth[wrong], its.labels[wrong]], axis=1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_PAIRS]
    return [{"true": str(pairs[i][0]), "predicted": str(pairs[i][1]), "count": int(counts[i])} for i in order]


def disagreements(answers: Mapping[str, Answers], photo: Any) -> dict[str, Any]:
    """The photos on which the models' top answers differ, the most confident answers first."""
    models = list(answers.values())
    differ = np.any([each.labels != models[0].labels for each in models[1:]], axis=0) if models[1:] else np.array([])
    sureness = np.mean([each.probability for each in models], axis=0) if models else np.array([])
    rows = sorted(np.flatnonzero(differ), key=lambda row: (-sureness[row], row))
    return {
        "found": len(rows),
        "photos": [
            {
                "photo": photo(row),
                "answers": {
                    model: {"label": str(its.labels[row]), "probability": float(its.probability[row])}
                    for model, its in answers.items()
                },
            }
            for row in rows[:MOST_DISAGREEMENTS]
        ],
    }


def worst(its: Answers, truth: np.ndarray, photo: Any) -> list[dict[str, Any]]:
    """The wrong answers that the model is most confident of; `heat_map` is filled in later."""
    rows = np.flatnonzero(its.known & (its.labels != truth))
    order = sorted(rows, key=lambda row: (-its.probability[row], row))[:MOST_MISTAKES]
    return [
        {
            "photo": photo(row),
            "predicted": str(its.labels[row]),
            "probability": float(its.probability[row]),
            "heat_map": None,
            "heat_map_method": None,
        }
        for row in order
    ]
