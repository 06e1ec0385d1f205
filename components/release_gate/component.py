"""The ReleaseGate component."""

import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.artifacts import IngestReport, Verdict
from components.evaluator.stored_answers import read_answers
from components.example_gen.report import read_report
from components.release_gate.decision import (
    COMPARABLE,
    ProductionRules,
    against_constant,
    against_production,
    among_look_alikes,
    enough_photos,
    floors,
    further_floor,
    undecided_floor,
)
from components.release_gate.look_alikes import find_look_alikes
from components.task.judging import IntervalSettings
from components.verdict import bless, read_verdict, write_release, write_verdict
from schemas import schema_files
from schemas.release import RELEASE_METRICS, Interval, Release
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
    minimum_mean_iou: Parameter[float],
    minimum_test_photos: Parameter[int],
    minimum_slice_accuracy: Parameter[dict[str, float]],
    tolerated_loss: Parameter[float],
    evidence: Parameter[str],
    guarded_slices: Parameter[list[str]],
    guarded_classes: Parameter[list[str]],
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
      selection: ModelSelector's verdict; it names the winner.
      production_predictions, production_standing: of ProductionPredictions.
      ingest_report: of ImageExampleGen; the data's fingerprint is in it.
      schema: of DataGate; it has the winner's classes.
      vectors: of FeatureVectorGen; test photos that look like training photos are told.
      blessing: of the winner; Pusher asks for it. In it lies `release.json`, a `Release`.
      verdict: the numbers, one sentence, and `refusals`, a sentence each.
      minimum_accuracy, minimum_mean_iou, minimum_test_photos, minimum_slice_accuracy, tolerated_loss, evidence,
        guarded_slices, guarded_classes, incomparable: of `release` in the configuration.
      minimum_slice_examples: with fewer photos a slice decides nothing.
      force_push: why the winner is released whatever speaks against it; empty: it is not.
      further_minimum_accuracy: what the winner must reach on each further data set; None: nothing.
    """
    del code
    read_schema = schema_files.read_schema(os.path.join(schema.uri, schema_files.SCHEMA_FILE))
    labels = schema_files.classes(read_schema, schema_files.task_kind(read_schema))
    settings = IntervalSettings(confidence, bootstrap_samples, seed)
    winner = read_verdict(SelectionVerdict, selection.uri).winner
    stored = read_answers(predictions, "test")
    look_alikes = among_look_alikes(stored, winner, find_look_alikes(vectors))
    minimum = minimum_accuracy if stored.measure.key == "accuracy" else minimum_mean_iou
    text, refusals = floors(stored, winner, look_alikes, minimum, minimum_slice_accuracy, minimum_slice_examples)
    refusals = enough_photos(stored, minimum_test_photos, confidence) + refusals
    undecided = undecided_floor(stored, winner, minimum, confidence)
    if undecided:
        text += f"; {undecided}"
    constant, no_better = against_constant(stored, winner, labels, evidence, settings)
    if minimum > 0:  # 0 asks for nothing
        refusals += no_better
    further = None
    if further_predictions is not None:
        further, missed = further_floor(read_answers(further_predictions, "test"), winner, further_minimum_accuracy)
        refusals += missed
    standing = read_verdict(ProductionStanding, production_standing.uri)
    production, against = against_production(
        stored,
        winner,
        labels,
        read_answers(production_predictions, "test") if standing.state == COMPARABLE else None,
        standing,
        ProductionRules(
            tolerated_loss, evidence, guarded_slices, guarded_classes, incomparable, minimum_slice_examples
        ),
        settings,
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
    metrics = stored.evaluate(winner, labels, settings)
    decided = ReleaseVerdict(
        text=sentence,
        released=released,
        refusals=refusals,
        forced=forced or None,
        accuracy=metrics["accuracy"]["value"],
        mean_iou=metrics["mean_iou"]["value"] if "mean_iou" in metrics else None,
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
        metrics={key: Interval(**metrics[key]) for key in RELEASE_METRICS if key in metrics},
        data_fingerprint=read_report(ingest_report.uri)[0]["data_fingerprint"],
        compared_with=production.version,
    )
    write_release(blessing, of_version)
