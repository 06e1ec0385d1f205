"""The ReleaseGate component."""

import numpy as np
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.artifacts import Verdict
from components.evaluator.stored_predictions import read_predictions
from components.verdict import bless, read_verdict, write_verdict


@component
def ReleaseGate(
    predictions: InputArtifact[standard_artifacts.Examples],
    selection: InputArtifact[Verdict],
    model: InputArtifact[standard_artifacts.Model],
    blessing: OutputArtifact[standard_artifacts.ModelBlessing],
    verdict: OutputArtifact[Verdict],
    minimum_accuracy: Parameter[float],
    code: Parameter[str],
):
    """Blesses the winner if its accuracy on the test split reaches the floor.

    Args:
      predictions: of the Predictions component.
      selection: ModelSelector's verdict; it names the winner.
      model: the winner.
      blessing: of the winner; Pusher asks for it.
      verdict: the numbers and one sentence.
      minimum_accuracy: `release.minimum_accuracy`, in [0, 1].
      code: fingerprint of the code this step runs; part of the cache key.
    """
    del code
    winner = read_verdict(selection.uri)["winner"]
    stored = read_predictions(predictions, "test")
    accuracy = float(np.mean(stored.correct(winner)))
    released = accuracy >= minimum_accuracy
    text = (
        f"{winner.replace('_', ' ')} answers {accuracy:.1%} of {len(stored.keys)} test photos rightly, "
        f"{'at least' if released else 'less than'} release.minimum_accuracy ({minimum_accuracy:.1%})"
    )
    write_verdict(verdict.uri, {"text": text, "released": released, "accuracy": accuracy, "split": "test"})
    bless(blessing, released)
    # What TFX's resolvers for blessed models look for.
    blessing.set_string_custom_property("current_model", model.uri)
    blessing.set_int_custom_property("current_model_id", model.id)
