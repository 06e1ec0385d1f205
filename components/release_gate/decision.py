"""May the winner be released? Floors on the test split, and no loss against the model in production."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace

import numpy as np

from components.evaluator.metrics import share_interval
from components.model_selector.paired_comparison import (
    Guard,
    compare_guarded,
    describe,
    describe_lost,
    is_loss,
)
from components.task.judging import IntervalSettings, StoredAnswers
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
    stored: StoredAnswers,
    winner: str,
    look_alikes: LookAlikes,
    minimum: float,
    minimum_slice_accuracy: dict[str, float],
    minimum_slice_examples: int,
) -> tuple[str, list[str]]:
    """What the winner reaches on the test split in words, and each floor it misses.

    Args:
      minimum: of all photos together, in [0, 1].
      minimum_slice_accuracy: feature of `SLICES` -> of each of its values with `minimum_slice_examples` photos.
      minimum_slice_examples: with fewer photos a slice decides nothing.
    """
    scores, measure = stored.scores(winner), stored.measure
    overall = measure.value(scores)
    reached = overall >= minimum
    text = (
        f"{spelled(winner)}: {measure.name} {overall:.1%} on {len(scores)} test photos{_but_for(look_alikes)}, "
        f"{'at least' if reached else 'below'} release.minimum_{measure.key} ({minimum:.1%})"
    )
    missed = [] if reached else [text]
    for feature, floor in minimum_slice_accuracy.items():
        for value, rows in stored.rows_by_value(feature).items():
            share = measure.value(scores[rows])
            if len(rows) >= minimum_slice_examples and share < floor:
                missed.append(
                    f"{measure.name} {share:.1%} on the {len(rows)} test photos with {feature} {value!r}, below "
                    f"release.minimum_slice_accuracy.{feature} ({floor:.1%})"
                )
    return text, missed


def enough_photos(stored: StoredAnswers, minimum: int, confidence: float) -> list[str]:
    """What speaks against a release where the test photos are too few to judge by.

    Args:
      minimum: least number of them; 0: any will do.
    """
    photos = len(stored.keys)
    if photos >= minimum:
        return []
    best = share_interval(photos, photos, confidence) if stored.measure.key == "accuracy" else None
    shown = f", and even {photos} correct answers would only show an accuracy of {best['low']:.1%}" if best else ""
    return [
        f"{photos} test photos, expected at least {minimum} (release.minimum_test_photos){shown}; add photos, or give "
        "the test split a larger share (data.splits.test)"
    ]


def undecided_floor(stored: StoredAnswers, winner: str, minimum: float, confidence: float) -> str | None:
    """A sentence where the interval of what the winner reaches has its floor inside; None where it has not."""
    scores, measure = stored.scores(winner), stored.measure
    reached = measure.interval(scores, confidence)
    if reached is None or not reached.low < minimum < reached.high:
        return None
    return (
        f"{len(scores)} test photos are too few to tell this {measure.name} from release.minimum_{measure.key} "
        f"({100 * confidence:.4g}% interval {100 * reached.low:.1f} to {100 * reached.high:.1f})"
    )


def among_look_alikes(stored: StoredAnswers, winner: str, look_alikes: Collection[str]) -> LookAlikes:
    """How many test photos look like training photos, and what the winner reaches on the others.

    Args:
      look_alikes: content hashes, of `find_look_alikes`.
    """
    others = ~np.isin(stored.keys, list(look_alikes))
    count = int(others.sum())
    return LookAlikes(
        photos=len(others) - count,
        others=count,
        accuracy_of_others=stored.measure.value(stored.scores(winner)[others]) if count else None,
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
    stored: StoredAnswers, winner: str, labels: list[str], evidence: str, settings: IntervalSettings
) -> tuple[ConstantComparison, list[str]]:
    """The winner against always giving the commonest class of the test photos, and what speaks against a release.

    Of the test photos, not of the train split: on these photos no other constant is right more often, so whoever beats
    it has learnt to tell classes apart, whatever the train split is made of. Of masks it is the class that reaches the
    highest mean IoU when it is answered for every pixel.

    The difference itself counts; with evidence `proven`, the worse end of its interval. Where all test photos are of
    one class nothing can be shown, and nothing is released.
    """
    measure = stored.measure
    commonest, its = stored.constant_scores()
    comparison = measure.compare(stored.scores(winner), its, settings.confidence, settings.samples, settings.seed)
    share = measure.value(its)
    found = ConstantComparison(label=labels[commonest], accuracy=share, **asdict(comparison))
    if (comparison.low if evidence == "proven" else comparison.difference) > 0:
        return found, []
    which = "no better than" if comparison.difference <= 0 else "not shown to be better than"
    if measure.key == "accuracy":
        said = f"{which} always answering {labels[commonest]!r}, which is right for {share:.1%} of the test photos"
    else:
        said = f"{which} answering {labels[commonest]!r} for every pixel, with a {measure.name} of {share:.1%}"
    if share == 1:
        return found, [f"{said}, so nothing shows that it knows another class; add test photos of the others"]
    return found, [f"{said} ({describe(comparison, settings.confidence, measure.prefix)})"]


def further_floor(
    further: StoredAnswers, winner: str, floor: float | None
) -> tuple[dict[str, FurtherAccuracy], list[str]]:
    """Accuracy on each further data set, and the data sets on which it is below the floor.

    Args:
      floor: least accuracy in [0, 1]; None: any.
    """
    found, missed = {}, []
    scores, measure = further.scores(winner), further.measure
    for dataset, rows in further.rows_by_value("dataset").items():
        accuracy = measure.value(scores[rows])
        found[dataset] = FurtherAccuracy(examples=len(rows), accuracy=accuracy)
        if floor is not None and accuracy < floor:
            missed.append(
                f"{measure.name} {accuracy:.1%} on {len(rows)} photos of {dataset}, below "
                f"evaluation.further_minimum_accuracy ({floor:.1%})"
            )
    return found, missed


@dataclass(frozen=True)
class ProductionRules:
    """How much may be lost against the model in production; of `release` in the configuration."""

    tolerated_loss: float
    evidence: str
    guarded_slices: list[str]
    guarded_classes: list[str]
    incomparable: str
    minimum_slice_examples: int
    """With fewer photos a slice or a class decides nothing."""


def against_production(
    stored: StoredAnswers,
    winner: str,
    labels: list[str],
    answers: StoredAnswers | None,
    standing: ProductionStanding,
    rules: ProductionRules,
    settings: IntervalSettings,
) -> tuple[ProductionComparison, list[str]]:
    """The winner against the model in production on the same test photos, and what speaks against a release.

    Overall the loss itself counts (with evidence `proven`, the worse end of its interval). On a guarded slice, of which
    there are many and each has few photos, it counts only if it is shown: larger than tolerated, with an interval
    below zero at the level 1 - (1 - `confidence`) / slices (Bonferroni), so that many slices make no more false alarms
    than one. The same holds for each guarded class of the pixels of masks.

    Photos of a class that production does not know are left out: it could not answer them.

    Args:
      labels: its classes in the order of their indices.
      answers: production's, of the same split; None unless the two can be compared.
      settings: of the intervals; the level is that of the overall one.
    """
    state = standing.state
    found = ProductionComparison(version=standing.version, state=state, text=standing.text)
    if state in (NONE, SAME):
        return found, []
    if state != COMPARABLE:
        if rules.incomparable == "floors":
            return replace(found, text=f"{found.text}, so the floors alone decide (release.incomparable)"), []
        return found, [f"{found.text}; set release.incomparable=floors, or push with --force-push REASON"]
    if answers is None or answers.keys != stored.keys:
        raise ValueError("production must answer the photos that the winner answers, in the same order")
    production = answers.production_scores(labels, standing.labels or [], stored)
    known, measure = production.known, stored.measure
    if not known.any():
        return found, ["no test photo is of a class that the model in production knows, so the two cannot be compared"]
    ours, its = stored.scores(winner), production.scores

    def compared(rows: np.ndarray, level: float) -> Comparison:
        return measure.compare(ours[rows], its[rows], level, settings.samples, settings.seed)

    overall = compared(np.flatnonzero(known), settings.confidence)
    against = f"against version {found.version} in production"
    text = f"{spelled(winner)} {against}: {describe(overall, settings.confidence, measure.prefix)}"
    refusals = _too_large_a_loss(text, overall, rules)
    slices = [
        (feature, value, rows[known[rows]])
        for feature in rules.guarded_slices
        for value, rows in stored.rows_by_value(feature).items()
        if known[rows].sum() >= rules.minimum_slice_examples
    ]
    level = 1 - (1 - settings.confidence) / max(len(slices), 1)
    compared_slices = []
    for feature, value, rows in slices:
        comparison = compared(rows, level)
        lost = is_loss(comparison, rules.tolerated_loss)
        compared_slices.append(SliceComparison(feature=feature, value=value, lost=lost, **asdict(comparison)))
        if lost:
            said = describe(comparison, level, measure.prefix)
            refusals.append(f"on the guarded slice {feature} {value!r}, {against}: {said}")
    guard = Guard(tuple(rules.guarded_classes), rules.tolerated_loss, rules.minimum_slice_examples)
    classes, level = compare_guarded(measure, ours[known], its[known], labels, guard, settings.confidence)
    refusals += [f"on the guarded class {lost}, {against}" for lost in describe_lost(classes, level)]
    left_out = int(len(known) - known.sum())
    if left_out:
        text += f" ({left_out} photos of classes that it does not know are left out)"
    return replace(found, text=text, slices=compared_slices, classes=classes or None, **asdict(overall)), refusals


def _too_large_a_loss(text: str, overall: Comparison, rules: ProductionRules) -> list[str]:
    """What speaks against a release where more is lost than tolerated over all photos; `text` says how much."""
    worst = -overall.low if rules.evidence == "proven" else -overall.difference
    # Differences of shares are sums of floats: a loss of exactly what is tolerated is no more than that.
    if worst <= rules.tolerated_loss + 1e-9:
        return []
    which = "a loss that may be as large as" if rules.evidence == "proven" else "a loss of"
    return [f"{text}: {which} {100 * worst:.1f} points, more than release.tolerated_loss ({rules.tolerated_loss:g})"]
