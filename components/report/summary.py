"""Writes `summary.json`, and makes the parts that come from the outputs of the nodes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfx.dsl.io import fileio
from tfx.types import Artifact

from components.data_gate.checks import find_notes
from components.evaluator.metrics import evaluate_slices
from components.evaluator.stored_answers import read_answers
from components.example_gen.report import read_corrected, read_report
from components.feature_vector_gen import PASS_FILE
from components.task.judging import IntervalSettings
from components.trainer import HISTORY_FILE
from components.whole_file import write_whole
from schemas import schema_files
from schemas.json_records import from_json, to_json
from schemas.run_end import SUMMARY_FILE
from schemas.summary import (
    CorrectedPhoto,
    CorrectionsSummary,
    DataSummary,
    ModelSummary,
    PixelClass,
    RejectedFile,
    Summary,
    TrainingSummary,
    VectorsSummary,
)


def describe_data(ingest_report_uri: str, whole: bool = True) -> DataSummary:
    """Accepted photos by split and class, every rejected file with its reason, and notes.

    Args:
      ingest_report_uri: folder of the ingest report artifact.
      whole: False for only a part of the data, in which classes may be missing.
    """
    report, rejected = read_report(ingest_report_uri)
    return DataSummary(
        layouts=report["layouts"],
        accepted={split: sum(counts.values()) for split, counts in report["splits"].items()},
        classes=report["splits"],
        formats=report["formats"],
        converted=report.get("converted", {}),
        rejected=report["reasons"],
        rejected_files=[from_json(RejectedFile, file) for file in rejected],
        left_out=report.get("left_out", {}),
        notes=find_notes(report, rejected, whole),
        pixel_classes=_pixel_classes(report["masks"]["splits"]) if "masks" in report else None,
        ignored_classes=report.get("masks", {}).get("ignored") or None,
        corrections=_corrections(ingest_report_uri, report),
    )


def _pixel_classes(splits: Mapping[str, Any]) -> dict[str, dict[str, PixelClass]]:
    return {
        split: {label: from_json(PixelClass, found) for label, found in classes.items()}
        for split, classes in splits.items()
    }


def _corrections(ingest_report_uri: str, report: dict[str, Any]) -> CorrectionsSummary | None:
    if (counts := report.get("corrections")) is None:
        return None
    photos = [from_json(CorrectedPhoto, line) for line in read_corrected(ingest_report_uri)]
    last_first = sorted(photos, key=lambda photo: photo.when, reverse=True)
    return CorrectionsSummary(**counts, photos=last_first)


def labels(schema_uri: str) -> list[str]:
    """The classes, in the order of their indices."""
    schema = schema_files.read_schema(os.path.join(schema_uri, schema_files.SCHEMA_FILE))
    return schema_files.classes(schema, schema_files.task_kind(schema))


def describe_models(
    predictions: Artifact,
    labels: list[str],
    confidence: float,
    samples: int,
    seed: int,
    minimum_slice_examples: int,
    abstain_below: float,
) -> dict[str, ModelSummary]:
    """Each model on the test split: every metric of `StoredAnswers.evaluate` with its interval, and what it reaches by
    slice.

    Args:
      minimum_slice_examples: slices with fewer photos are marked.
      abstain_below: confidence below which the served model abstains; with 0 it never does.
    """
    stored, settings = read_answers(predictions, "test"), IntervalSettings(confidence, samples, seed)
    return {
        model: from_json(
            ModelSummary,
            {
                "split": "test",
                "examples": len(stored.keys),
                **stored.evaluate(model, labels, settings, abstain_below),
                "slices": evaluate_slices(stored, model, minimum_slice_examples, confidence),
            },
        )
        for model in stored.models
    }


def describe_training(model_run_uri: str) -> TrainingSummary:
    """The history of a model's training, without the epochs."""
    return TrainingSummary.of_history(read_history(model_run_uri))


def read_history(model_run_uri: str) -> dict[str, Any]:
    """The history of a model's training."""
    return _read_json(os.path.join(model_run_uri, HISTORY_FILE))


def describe_vectors(feature_vectors_uri: str) -> VectorsSummary:
    """How the frozen backbone ran, where it is cut, and how many vectors were reused."""
    return from_json(VectorsSummary, _read_json(os.path.join(feature_vectors_uri, PASS_FILE)))


def _read_json(file: str) -> dict[str, Any]:
    with fileio.open(file, "r") as stream:
        return json.loads(stream.read())


def write_summary(summary: Summary, folder: Path) -> Path:
    """Writes `summary.json`, whole or not at all; bytes of file names that are not valid text become question marks."""
    path = folder / SUMMARY_FILE
    content = json.dumps(to_json(summary), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, content.encode("utf-8", "replace"))
    return path
