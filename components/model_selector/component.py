"""The ModelSelector component."""

from dataclasses import asdict

from tfx.components.util import model_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.artifacts import Verdict
from components.evaluator.stored_predictions import ENSEMBLE, FEATURE_EXTRACTION, FINE_TUNED, read_predictions
from components.linked_copy import copy_folder
from components.model_selector.paired_comparison import (
    are_identical,
    compare,
    compare_losses,
    describe,
    describe_loss,
    is_better_calibrated,
    is_gain,
    loss_confidence,
    photos_to_show,
)
from components.verdict import write_verdict
from schemas.verdicts import Comparison, EnsembleComparison, SelectionVerdict
from schemas.words import spelled


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
    ensemble: InputArtifact[standard_artifacts.Model] = None,
):
    """Hands on the winner of the eval split.

    The cheapest model, feature extraction, reigns until a dearer one proves a gain: at least `minimum_gain` in
    accuracy, with an interval that lies above zero. First the fine-tuned model, which Evaluator must also have
    blessed, then the ensemble where there is one, against the model that reigns by then. Evaluator does not see
    the ensemble.

    Where the accuracy shows neither gain nor loss, and no `minimum_gain` is asked for, the fine-tuned model also wins
    by a log loss that is shown to be lower: its probabilities are better. It costs no more to serve, and Evaluator,
    whose threshold is on the accuracy, has no say in this. The ensemble takes twice the time and nearly always has a
    somewhat lower loss, so it has to be right more often.

    With two comparisons there are two chances of a wrong promotion, so each interval is raised to the level
    1 - (1 - `confidence`) / 2: all in all the chance is what it is with one (Bonferroni; Dunn 1961, "Multiple
    Comparisons Among Means").

    Args:
      predictions: of the Predictions component.
      blessing: Evaluator's, of the fine-tuned model.
      feature_extraction: the cheaper model.
      fine_tuned: the model warm-started from it.
      model: a copy of the winner.
      verdict: the numbers of fine-tuned against feature extraction, below `ensemble` those of the ensemble `against`
        the model that reigned, `photos_to_show` (how many eval photos would show the gain that this many did not), and
        one sentence.
      minimum_gain: least gain in accuracy, in [0, 1]; above 0 the accuracy alone decides.
      fine_tuning_epochs: out of how many, at most, the fine-tuned model is the one with the lowest loss.
      confidence: level of the interval, and of both together where there is an ensemble.
      bootstrap_samples: draws for the interval.
      seed: of the draws.
      code: fingerprint of the code this step runs; part of the cache key.
      ensemble: both models as one, the dearest.
    """
    del code
    stored = read_predictions(predictions, "eval")
    models = {FEATURE_EXTRACTION: feature_extraction, FINE_TUNED: fine_tuned}
    level = confidence if ensemble is None else 1 - (1 - confidence) / 2

    def against(baseline: str, candidate: str) -> Comparison:
        return compare(stored.correct(candidate), stored.correct(baseline), level, bootstrap_samples, seed)

    comparison = against(FEATURE_EXTRACTION, FINE_TUNED)
    blessed = model_utils.is_model_blessed(blessing)
    identical = are_identical(stored.probabilities[FINE_TUNED], stored.probabilities[FEATURE_EXTRACTION])
    losses = compare_losses(
        stored.probabilities[FINE_TUNED],
        stored.probabilities[FEATURE_EXTRACTION],
        stored.classes,
        loss_confidence(level, fine_tuning_epochs),
    )
    decided_by = None
    if is_gain(comparison, minimum_gain):
        decided_by = "accuracy" if blessed else None
    elif minimum_gain == 0 and is_better_calibrated(comparison, losses):
        decided_by = "loss"
    winner = FINE_TUNED if decided_by else FEATURE_EXTRACTION
    text = f"fine-tuned against feature extraction: {describe(comparison, level)}"
    if identical:
        why = "no epoch was better than the start" if fine_tuning_epochs else "it had no epochs"
        text += f"; fine-tuning changed nothing: {why}"
    elif comparison.low <= 0 <= comparison.high:
        text += f"; {describe_loss(losses)}"
    if decided_by == "loss":
        text += ", so fine-tuned is better calibrated where accuracy cannot tell them apart"
    against_reigning, to_show = None, None
    if ensemble is not None:
        models[ENSEMBLE] = ensemble
        reigning = winner
        second = against(reigning, ENSEMBLE)
        against_reigning = EnsembleComparison(**asdict(second), against=reigning)
        text += f"; the ensemble against {spelled(reigning)}: {describe(second, level)}"
        if is_gain(second, minimum_gain):
            winner, decided_by = ENSEMBLE, "accuracy"
    if winner == FEATURE_EXTRACTION:
        text += "; no proven gain, so the cheaper feature extraction wins"
        if comparison.difference >= minimum_gain and comparison.low <= 0:
            to_show = photos_to_show(comparison, level)
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
        **asdict(comparison),
    )
    write_verdict(verdict.uri, selected)
    copy_folder(models[winner].uri, model.uri)
