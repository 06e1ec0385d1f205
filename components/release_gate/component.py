"""The ReleaseGate component."""

import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.artifacts import IngestReport, Verdict
from components.evaluator.metrics import evaluate
from components.evaluator.stored_predictions import read_predictions
from components.example_gen.report import read_report
from components.release_gate.decision import (
    COMPARABLE,
    against_constant,
    against_production,
    among_look_alikes,
    enough_photos,
    floors,
    further_floor,
    undecided_floor,
)
from components.release_gate.look_alikes import find_look_alikes
from components.verdict import bless, read_verdict, write_release, write_verdict
from schemas import schema_files
from schemas.release import Interval, Release
from schemas.verdicts import ProductionStanding, ReleaseVerdict, SelectionVerdict


@component
def ReleaseGate(
    predictions: InputArtifact[standard_artifacts.Examples],
    selection: InputArtifact[Verdict],
    model: InputArtifact[standard_artifacts.Model],
    production_predictions: InputArtifact[standard_artifacts.Examples],
    production_standing: InputArtifact[Verdict],
    ingest_report: InputArtifact[IngestReport],
    schema: InputArtifact[standard_artifacts.Schema],
    vectors: InputArtifact[standard_artifacts.Examples],
    blessing: OutputArtifact[standard_artifacts.ModelBlessing],
    verdict: OutputArtifact[Verdict],
    minimum_accuracy: Parameter[float],
    minimum_test_photos: Parameter[int],
    minimum_slice_accuracy: Parameter[dict[str, float]],
    tolerated_loss: Parameter[float],
    evidence: Parameter[str],
    guarded_slices: Parameter[list[str]],
    incomparable: Parameter[str],
    minimum_slice_examples: Parameter[int],
    confidence: Parameter[float],
    bootstrap_samples: Parameter[int],
    seed: Parameter[int],
    force_push: Parameter[str],
    code: Parameter[str],
    further_minimum_accuracy: Parameter[float] = None,
    further_predictions: InputArtifact[standard_artifacts.Examples] = None,
):
    """Blesses the winner if it reaches every floor on the test split, is better than always giving the commonest class,
    and loses nothing against production.

    Args:
      predictions: of the Predictions component.
      selection: ModelSelector's verdict; it names the winner.
      model: the winner.
      production_predictions, production_standing: of ProductionPredictions.
      ingest_report: of ImageExampleGen; the data's fingerprint is in it.
      schema: of DataGate; its label domain is the winner's classes.
      vectors: of FeatureVectorGen; test photos that look like training photos are told.
      blessing: of the winner; Pusher asks for it. In it lies `release.json`, a `Release`.
      verdict: the numbers, one sentence, and `refusals`, a sentence each.
      minimum_accuracy, minimum_test_photos, minimum_slice_accuracy, tolerated_loss, evidence, guarded_slices,
        incomparable: of `release` in the configuration.
      minimum_slice_examples: with fewer photos a slice decides nothing.
      confidence: level of the intervals.
      bootstrap_samples, seed: of the draws.
      force_push: why the winner is released whatever speaks against it; empty: it is not.
      code: fingerprint of the code this step runs; part of the cache key.
      further_minimum_accuracy: what the winner must reach on each further data set; None: nothing.
      further_predictions: of the further data sets.
    """
    del code
    labels = schema_files.labels(schema_files.read_schema(os.path.join(schema.uri, schema_files.SCHEMA_FILE)))
    winner = read_verdict(SelectionVerdict, selection.uri).winner
    stored = read_predictions(predictions, "test")
    look_alikes = among_look_alikes(stored, winner, find_look_alikes(vectors))
    text, refusals = floors(
        stored, winner, look_alikes, minimum_accuracy, minimum_slice_accuracy, minimum_slice_examples
    )
    refusals = enough_photos(len(stored.keys), minimum_test_photos, confidence) + refusals
    undecided = undecided_floor(stored, winner, minimum_accuracy, confidence)
    if undecided:
        text += f"; {undecided}"
    constant, no_better = against_constant(stored, winner, labels, evidence, confidence, bootstrap_samples, seed)
    if minimum_accuracy > 0:  # 0 asks for nothing
        refusals += no_better
    further = None
    if further_predictions is not None:
        further, missed = further_floor(read_predictions(further_predictions, "test"), winner, further_minimum_accuracy)
        refusals += missed
    standing = read_verdict(ProductionStanding, production_standing.uri)
    production, against = against_production(
        stored,
        winner,
        labels,
        read_predictions(production_predictions, "test") if standing.state == COMPARABLE else None,
        standing,
        tolerated_loss=tolerated_loss,
        evidence=evidence,
        guarded_slices=guarded_slices,
        incomparable=incomparable,
        minimum_slice_examples=minimum_slice_examples,
        confidence=confidence,
        bootstrap_samples=bootstrap_samples,
        seed=seed,
    )
    refusals += against
    forced = force_push if refusals else ""
    released = not refusals or bool(forced)
    if not refusals:
        sentence = f"{text}; {production.text}"
    elif forced:
        sentence = f"pushed by force ({forced}), although {'; '.join(refusals)}"
    else:
        sentence = "; ".join([*refusals, undecided] if undecided else refusals)
    metrics = evaluate(stored.probabilities[winner], stored.classes, labels, confidence, bootstrap_samples, seed)
    decided = ReleaseVerdict(
        text=sentence,
        released=released,
        refusals=refusals,
        forced=forced or None,
        accuracy=metrics["accuracy"]["value"],
        split="test",
        undecided=undecided,
        look_alikes=look_alikes,
        constant=constant,
        production=production,
        further=further,
    )
    write_verdict(verdict.uri, decided)
    bless(blessing, released)
    # What TFX's resolvers for blessed models look for.
    blessing.set_string_custom_property("current_model", model.uri)
    blessing.set_int_custom_property("current_model_id", model.id)
    of_version = Release(
        winner=winner,
        reason=sentence,
        forced=forced or None,
        metrics={key: Interval(**metrics[key]) for key in ("accuracy", "loss", "calibration_error")},
        data_fingerprint=read_report(ingest_report.uri)[0]["data_fingerprint"],
        compared_with=production.version,
    )
    write_release(blessing, of_version)
