"""The ModelSelector component."""

import os
from dataclasses import asdict

from tfx.components.util import model_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import Artifact, standard_artifacts

from components.artifacts import Verdict
from components.evaluator.stored_answers import read_answers
from components.evaluator.stored_predictions import ENSEMBLE, FEATURE_EXTRACTION, FINE_TUNED
from components.linked_copy import copy_folder
from components.model_selector.paired_comparison import (
    Guard,
    compare_guarded,
    describe,
    describe_loss,
    describe_lost,
    is_better_calibrated,
    is_gain,
    loss_confidence,
)
from components.verdict import write_verdict
from schemas import schema_files
from schemas.errors import BadInput
from schemas.verdicts import Comparison, EnsembleComparison, SelectionVerdict
from schemas.words import and_more, did_you_mean, spelled


@component
def ModelSelector(
    predictions: InputArtifact[standard_artifacts.Examples],
    blessing: InputArtifact[standard_artifacts.ModelBlessing],
    feature_extraction: InputArtifact[standard_artifacts.Model],
    fine_tuned: InputArtifact[standard_artifacts.Model],
    model: OutputArtifact[standard_artifacts.Model],
    verdict: OutputArtifact[Verdict],
    minimum_gain: Parameter[float],
    fine_tuning_epochs: Parameter[int],
    confidence: Parameter[float],
    bootstrap_samples: Parameter[int],
    seed: Parameter[int],
    code: Parameter[str],
    guarded_classes: Parameter[list[str]] = None,
    tolerated_loss: Parameter[float] = 0.0,
    minimum_slice_examples: Parameter[int] = 1,
    schema: InputArtifact[standard_artifacts.Schema] = None,
    ensemble: InputArtifact[standard_artifacts.Model] = None,
):
    """Hands on the winner of the eval split.

    The cheapest model, feature extraction, reigns until a dearer one proves a gain: at least `minimum_gain` in
    accuracy (of masks in mean IoU), with an interval that lies above zero. First the fine-tuned model, which Evaluator
    must also have blessed, then the ensemble where there is one, against the model that reigns by then. Evaluator does
    not see the ensemble.

    Of masks, the fine-tuned model must not be shown to lose more than `tolerated_loss` of a guarded class either: a
    gain in the mean may be paid for by a class that is small and matters.

    Where the accuracy shows neither gain nor loss, and no `minimum_gain` is asked for, the fine-tuned model also wins
    by a log loss that is shown to be lower: its probabilities are better. It costs no more to serve, and Evaluator,
    whose threshold is on the accuracy, has no say in this. The ensemble takes twice the time and nearly always has a
    somewhat lower loss, so it has to be right more often. Of masks the loss decides nothing, since ids are served and
    no probabilities.

    With two comparisons there are two chances of a wrong promotion, so each interval is raised to the level
    1 - (1 - `confidence`) / 2: all in all the chance is what it is with one (Bonferroni; Dunn 1961, "Multiple
    Comparisons Among Means").

    Args:
      blessing: Evaluator's, of the fine-tuned model.
      verdict: the numbers of fine-tuned against feature extraction, below `ensemble` those of the ensemble `against`
        the model that reigned, `photos_to_show` (how many eval photos would show the gain that this many did not), and
        one sentence.
      minimum_gain: least gain in accuracy or mean IoU, in [0, 1]; above 0 this alone decides.
      fine_tuning_epochs: out of how many, at most, the fine-tuned model is the one with the lowest loss.
      confidence: level of the interval, and of both together where there is an ensemble.
      guarded_classes, tolerated_loss: of `release` in the configuration; for masks.
      minimum_slice_examples: with fewer photos a class decides nothing; for masks.
      schema: of DataGate, with the classes of the pixels; None: whole photos are classified.
      ensemble: both models as one, the dearest.
    """
    del code
    stored = read_answers(predictions, "eval")
    measure, level = stored.measure, confidence if ensemble is None else 1 - (1 - confidence) / 2

    def against(baseline: str, candidate: str) -> Comparison:
        scores = stored.scores(candidate), stored.scores(baseline)
        return measure.compare(*scores, level, bootstrap_samples, seed)

    comparison = against(FEATURE_EXTRACTION, FINE_TUNED)
    guard = Guard(tuple(guarded_classes or ()), tolerated_loss, minimum_slice_examples)
    classes, class_level = compare_guarded(
        measure,
        stored.scores(FINE_TUNED),
        stored.scores(FEATURE_EXTRACTION),
        _pixel_classes(schema, guard),
        guard,
        level,
    )
    lost = describe_lost(classes, class_level)
    blessed = model_utils.is_model_blessed(blessing)
    losses = stored.compare_losses(FINE_TUNED, FEATURE_EXTRACTION, loss_confidence(level, fine_tuning_epochs))
    decided_by = None
    if is_gain(comparison, minimum_gain):
        decided_by = measure.key if blessed and not lost else None
    elif minimum_gain == 0 and stored.loss_decides and is_better_calibrated(comparison, losses):
        decided_by = "loss"
    winner = FINE_TUNED if decided_by else FEATURE_EXTRACTION
    identical = stored.are_identical(FINE_TUNED, FEATURE_EXTRACTION)
    text = f"fine-tuned against feature extraction: {describe(comparison, level, measure.prefix)}"
    if identical:
        why = "no epoch was better than the start" if fine_tuning_epochs else "it had no epochs"
        text += f"; fine-tuning changed nothing: {why}"
    elif comparison.low <= 0 <= comparison.high:
        text += f"; {describe_loss(losses)}"
    if lost:
        text += f"; it loses more than release.tolerated_loss ({tolerated_loss:g}) of {' and of '.join(lost)}"
    if decided_by == "loss":
        text += ", so fine-tuned is better calibrated where accuracy cannot tell them apart"
    models = {FEATURE_EXTRACTION: feature_extraction, FINE_TUNED: fine_tuned}
    against_reigning, to_show = None, None
    if ensemble is not None:
        models[ENSEMBLE] = ensemble
        reigning = winner
        second = against(reigning, ENSEMBLE)
        against_reigning = EnsembleComparison(**asdict(second), against=reigning)
        text += f"; the ensemble against {spelled(reigning)}: {describe(second, level, measure.prefix)}"
        if is_gain(second, minimum_gain):
            winner, decided_by = ENSEMBLE, measure.key
    if winner == FEATURE_EXTRACTION:
        shown = "a gain at the cost of a class" if lost and is_gain(comparison, minimum_gain) else "no proven gain"
        text += f"; {shown}, so the cheaper feature extraction wins"
        if comparison.difference >= minimum_gain and comparison.low <= 0:
            to_show = measure.photos_to_show(comparison, level)
        if to_show:
            text += f" (about {to_show:,} eval photos would show a gain of this size)"
    else:
        text += f"; {spelled(winner)} wins"
    selected = SelectionVerdict(
        winner=winner,
        text=text,
        blessed_by_evaluator=blessed,
        split="eval",
        photos_to_show=to_show,
        identical=identical,
        loss=losses,
        decided_by=decided_by,
        ensemble=against_reigning,
        classes=classes or None,
        **asdict(comparison),
    )
    write_verdict(verdict.uri, selected)
    copy_folder(models[winner].uri, model.uri)


def _pixel_classes(schema: Artifact | None, guard: Guard) -> list[str]:
    """The classes of the pixels; empty: whole photos are classified."""
    if schema is None:
        return []
    found = schema_files.mask_classes(schema_files.read_schema(os.path.join(schema.uri, schema_files.SCHEMA_FILE)))
    for name in guard.classes:
        if name not in found:
            raise BadInput(
                f"release.guarded_classes has {name!r}, which is no class of the masks{did_you_mean(name, found)}; "
                f"expected some of {and_more([repr(each) for each in found], 10)}; correct it and run again, which "
                "goes on after the training"
            )
    return found
