"""The ModelSelector component."""

from dataclasses import asdict

from tfx.components.util import model_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import io_utils

from components.artifacts import Verdict
from components.evaluator.stored_predictions import FEATURE_EXTRACTION, FINE_TUNED, read_predictions
from components.model_selector.paired_comparison import compare, describe
from components.verdict import write_verdict


@component
def ModelSelector(
    predictions: InputArtifact[standard_artifacts.Examples],
    blessing: InputArtifact[standard_artifacts.ModelBlessing],
    feature_extraction: InputArtifact[standard_artifacts.Model],
    fine_tuned: InputArtifact[standard_artifacts.Model],
    model: OutputArtifact[standard_artifacts.Model],
    verdict: OutputArtifact[Verdict],
    minimum_gain: Parameter[float],
    confidence: Parameter[float],
    bootstrap_samples: Parameter[int],
    seed: Parameter[int],
    code: Parameter[str],
):
    """Hands on the winner of the eval split.

    The fine-tuned model wins if Evaluator blessed it against the feature-extraction model, its gain in accuracy is
    at least `minimum_gain`, and the interval of the gain lies above zero; otherwise the feature-extraction model.

    Args:
      predictions: of the Predictions component.
      blessing: Evaluator's, of the fine-tuned model.
      feature_extraction: the cheaper model.
      fine_tuned: the model warm-started from it.
      model: a copy of the winner.
      verdict: the numbers and one sentence.
      minimum_gain: least gain in accuracy, in [0, 1].
      confidence: level of the interval.
      bootstrap_samples: draws for the interval.
      seed: of the draws.
      code: fingerprint of the code this step runs; part of the cache key.
    """
    del code
    stored = read_predictions(predictions, "eval")
    comparison = compare(
        stored.correct(FINE_TUNED), stored.correct(FEATURE_EXTRACTION), confidence, bootstrap_samples, seed
    )
    blessed = model_utils.is_model_blessed(blessing)
    wins = blessed and comparison.difference >= minimum_gain and comparison.low > 0
    winner = FINE_TUNED if wins else FEATURE_EXTRACTION
    text = describe(comparison, "fine-tuned", confidence)
    text += "; fine-tuned wins" if wins else "; no proven gain, so the cheaper feature extraction wins"
    write_verdict(
        verdict.uri,
        {"winner": winner, "text": text, "blessed_by_evaluator": blessed, "split": "eval", **asdict(comparison)},
    )
    io_utils.copy_dir((fine_tuned if wins else feature_extraction).uri, model.uri)
