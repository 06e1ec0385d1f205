"""May the winner be released? Floors on the test split, and no loss against the model in production."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, replace

import numpy as np

from components.evaluator.metrics import share_interval
from components.evaluator.stored_predictions import PRODUCTION, StoredPredictions
from components.model_selector.paired_comparison import compare, describe, is_loss
from schemas.verdicts import (
    Comparison,
    ConstantComparison,
    FurtherAccuracy,
    LookAlikes,
    ProductionComparison,
    ProductionStanding,
    SliceComparison,
)
from schemas.words import spelled

# What can be said of the model in production.
NONE, SAME, COMPARABLE = "none", "same", "comparable"
UNREADABLE, OTHER_SIGNATURE, OTHER_LABELS = "unreadable", "other_signature", "other_labels"


def floors(
    stored: StoredPredictions,
    winner: str,
    look_alikes: LookAlikes,
    minimum_accuracy: float,
    minimum_slice_accuracy: dict[str, float],
    minimum_slice_examples: int,
) -> tuple[str, list[str]]:
    """What the winner reaches on the test split in words, and each floor it misses.

    Args:
      stored: the predictions of the test split.
      winner: which of its models.
      look_alikes: of `among_look_alikes`.
      minimum_accuracy: of all photos together, in [0, 1].
      minimum_slice_accuracy: feature of `SLICES` -> of each of its values with `minimum_slice_examples` photos.
      minimum_slice_examples: with fewer photos a slice decides nothing.
    """
    correct = stored.correct(winner)
    accuracy = float(np.mean(correct))
    reached = accuracy >= minimum_accuracy
    text = (
        f"{spelled(winner)}: accuracy {accuracy:.1%} on {len(correct)} test photos{_but_for(look_alikes)}, "
        f"{'at least' if reached else 'below'} release.minimum_accuracy ({minimum_accuracy:.1%})"
    )
    missed = [] if reached else [text]
    for feature, floor in minimum_slice_accuracy.items():
        for value, rows in stored.rows_by_value(feature).items():
            share = float(np.mean(correct[rows]))
            if len(rows) >= minimum_slice_examples and share < floor:
                missed.append(
                    f"accuracy {share:.1%} on the {len(rows)} test photos with {feature} {value!r}, below "
                    f"release.minimum_slice_accuracy.{feature} ({floor:.1%})"
                )
    return text, missed


def enough_photos(photos: int, minimum: int, confidence: float) -> list[str]:
    """What speaks against a release where the test photos are too few to judge by.

    Args:
      photos: of the test split.
      minimum: least number of them; 0: any will do.
      confidence: level of the interval.
    """
    if photos >= minimum:
        return []
    best = share_interval(photos, photos, confidence)
    shown = f", and even {photos} correct answers would only show an accuracy of {best['low']:.1%}" if best else ""
    return [
        f"{photos} test photos, expected at least {minimum} (release.minimum_test_photos){shown}; add photos, or give "
        "the test split a larger share (data.splits.test)"
    ]


def undecided_floor(stored: StoredPredictions, winner: str, minimum_accuracy: float, confidence: float) -> str | None:
    """A sentence where the interval of the winner's accuracy has its floor inside; None where it has not.

    Args:
      stored: the predictions of the test split.
      winner: which of its models.
      minimum_accuracy: the floor, in [0, 1].
      confidence: level of the interval.
    """
    correct = stored.correct(winner)
    accuracy = share_interval(int(correct.sum()), len(correct), confidence)
    if accuracy is None or not accuracy["low"] < minimum_accuracy < accuracy["high"]:
        return None
    return (
        f"{len(correct)} test photos are too few to tell this accuracy from release.minimum_accuracy "
        f"({100 * confidence:.4g}% interval {100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f})"
    )


def among_look_alikes(stored: StoredPredictions, winner: str, look_alikes: Collection[str]) -> LookAlikes:
    """How many test photos look like training photos, and what the winner reaches on the others.

    Args:
      stored: the predictions of the test split.
      winner: which of its models.
      look_alikes: content hashes, of `find_look_alikes`.
    """
    others = ~np.isin(stored.keys, list(look_alikes))
    count = int(others.sum())
    return LookAlikes(
        photos=len(others) - count,
        others=count,
        accuracy_of_others=float(np.mean(stored.correct(winner)[others])) if count else None,
    )


def _but_for(look_alikes: LookAlikes) -> str:
    photos, others = look_alikes.photos, look_alikes.others
    if not photos:
        return ""
    if not others:
        return ", all of which look like training photos"
    which = (
        "one of which looks like a training photo" if photos == 1 else f"{photos} of which look like training photos"
    )
    return f", {which} ({look_alikes.accuracy_of_others:.1%} on the other {others})"


def against_constant(
    stored: StoredPredictions,
    winner: str,
    labels: list[str],
    evidence: str,
    confidence: float,
    bootstrap_samples: int,
    seed: int,
) -> tuple[ConstantComparison, list[str]]:
    """The winner against always giving the commonest class of the test photos, and what speaks against a release.

    Of the test photos, not of the train split: on these photos no other constant is right more often, so whoever beats
    it has learnt to tell classes apart, whatever the train split is made of.

    The difference itself counts; with evidence `proven`, the worse end of its interval. Where all test photos are of
    one class nothing can be shown, and nothing is released.

    Args:
      stored: the predictions of the test split.
      winner: which of its models.
      labels: its classes in the order of their indices.
      evidence: of `release` in the configuration.
      confidence: level of the interval.
      bootstrap_samples, seed: of the draws.
    """
    commonest = int(np.argmax(np.bincount(stored.classes)))
    its = stored.classes == commonest
    comparison = compare(stored.correct(winner), its, confidence, bootstrap_samples, seed)
    share = float(np.mean(its))
    found = ConstantComparison(label=labels[commonest], accuracy=share, **asdict(comparison))
    if (comparison.low if evidence == "proven" else comparison.difference) > 0:
        return found, []
    which = "no better than" if comparison.difference <= 0 else "not shown to be better than"
    said = f"{which} always answering {labels[commonest]!r}, which is right for {share:.1%} of the test photos"
    if share == 1:
        return found, [f"{said}, so nothing shows that it knows another class; add test photos of the others"]
    return found, [f"{said} ({describe(comparison, confidence)})"]


def further_floor(
    further: StoredPredictions, winner: str, floor: float | None
) -> tuple[dict[str, FurtherAccuracy], list[str]]:
    """Accuracy on each further data set, and the data sets on which it is below the floor.

    Args:
      further: the predictions of the further data sets.
      winner: which of its models.
      floor: least accuracy in [0, 1]; None: any.
    """
    found, missed = {}, []
    correct = further.correct(winner)
    for dataset, rows in further.rows_by_value("dataset").items():
        accuracy = float(np.mean(correct[rows]))
        found[dataset] = FurtherAccuracy(examples=len(rows), accuracy=accuracy)
        if floor is not None and accuracy < floor:
            missed.append(
                f"accuracy {accuracy:.1%} on {len(rows)} photos of {dataset}, below "
                f"evaluation.further_minimum_accuracy ({floor:.1%})"
            )
    return found, missed


def against_production(
    stored: StoredPredictions,
    winner: str,
    labels: list[str],
    answers: StoredPredictions | None,
    standing: ProductionStanding,
    *,
    tolerated_loss: float,
    evidence: str,
    guarded_slices: list[str],
    minimum_slice_examples: int,
    incomparable: str,
    confidence: float,
    bootstrap_samples: int,
    seed: int,
) -> tuple[ProductionComparison, list[str]]:
    """The winner against the model in production on the same test photos, and what speaks against a release.

    Overall the loss itself counts (with evidence `proven`, the worse end of its interval). On a guarded slice, of which
    there are many and each has few photos, it counts only if it is shown: larger than tolerated, with an interval
    below zero at the level 1 - (1 - `confidence`) / slices (Bonferroni), so that many slices make no more false alarms
    than one.

    Photos of a class that production does not know are left out: it could not answer them.

    Args:
      stored: the predictions of the test split.
      winner: which of its models.
      labels: its classes in the order of their indices.
      answers: production's, of the same split; None unless the two can be compared.
      standing: of ProductionPredictions.
      tolerated_loss, evidence, guarded_slices, incomparable: of `release` in the configuration.
      minimum_slice_examples: with fewer photos a slice decides nothing.
      confidence: level of the overall interval.
      bootstrap_samples, seed: of the draws.
    """
    state = standing.state
    found = ProductionComparison(version=standing.version, state=state, text=standing.text)
    if state in (NONE, SAME):
        return found, []
    if state != COMPARABLE:
        if incomparable == "floors":
            return replace(found, text=f"{found.text}, so the floors alone decide (release.incomparable)"), []
        return found, [f"{found.text}; set release.incomparable=floors, or push with --force-push REASON"]
    if answers is None or answers.keys != stored.keys:
        raise ValueError("production must answer the photos that the winner answers, in the same order")
    its_labels = standing.labels or []
    known = np.isin(stored.classes, [i for i, label in enumerate(labels) if label in its_labels])
    if not known.any():
        return found, ["no test photo is of a class that the model in production knows, so the two cannot be compared"]
    truth = np.array(labels)[stored.classes]
    its_answers = np.array(its_labels)[np.argmax(answers.probabilities[PRODUCTION], axis=1)]
    ours, its = stored.correct(winner), its_answers == truth

    def compared(rows: np.ndarray, level: float) -> Comparison:
        return compare(ours[rows], its[rows], level, bootstrap_samples, seed)

    overall = compared(np.flatnonzero(known), confidence)
    text = f"{spelled(winner)} against version {found.version} in production: {describe(overall, confidence)}"
    against = []
    worst = -overall.low if evidence == "proven" else -overall.difference
    # Differences of shares are sums of floats: a loss of exactly what is tolerated is no more than that.
    if worst > tolerated_loss + 1e-9:
        which = "a loss that may be as large as" if evidence == "proven" else "a loss of"
        against.append(
            f"{text}: {which} {100 * worst:.1f} points, more than release.tolerated_loss ({tolerated_loss:g})"
        )
    slices = [
        (feature, value, rows[known[rows]])
        for feature in guarded_slices
        for value, rows in stored.rows_by_value(feature).items()
        if known[rows].sum() >= minimum_slice_examples
    ]
    level = 1 - (1 - confidence) / max(len(slices), 1)
    compared_slices = []
    for feature, value, rows in slices:
        comparison = compared(rows, level)
        lost = is_loss(comparison, tolerated_loss)
        compared_slices.append(SliceComparison(feature=feature, value=value, lost=lost, **asdict(comparison)))
        if lost:
            against.append(
                f"on the guarded slice {feature} {value!r}, against version {found.version} in production: "
                + describe(comparison, level)
            )
    left_out = int(len(known) - known.sum())
    if left_out:
        text += f" ({left_out} photos of classes that it does not know are left out)"
    return replace(found, text=text, slices=compared_slices, **asdict(overall)), against
