"""The DataGate component."""

import os
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts

from components.artifacts import IngestReport
from components.data_gate.checks import find_mask_problems, find_problems
from components.example_gen.report import read_report
from schemas import schema_files
from schemas.class_names import refuse_twins
from schemas.errors import DataRefused

# ExampleValidator's own file name.
_ANOMALIES_FILE = "SchemaDiff.pb"


@component
def DataGate(
    ingest_report: InputArtifact[IngestReport],
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    curated_schema: InputArtifact[standard_artifacts.Schema],
    schema: OutputArtifact[standard_artifacts.Schema],
    max_rejected_fraction: Parameter[float],
    max_contradictions: Parameter[float],
    of_window: Parameter[int],
    code: Parameter[str],
):
    """Lets good data pass, and writes the schema of this run: the curated schema with every class named.

    `of_window` is 1 if the photos are one span of a window, in which classes and splits may be missing.

    Raises:
      DataRefused: no photo was accepted, there is only one class, a split is empty, too many files were rejected
        overall or in one class, too many photos have two labels or two masks, a class is in no mask to train on, or
        ExampleValidator found an ERROR. The message names every problem.
    """
    del code
    report, rejected = read_report(ingest_report.uri)
    found = _error_anomalies(anomalies)
    if of_window:  # of a split without photos every feature is missing
        found = {split: errors for split, errors in found.items() if report["splits"].get(split)}
    curated = os.path.join(curated_schema.uri, schema_files.SCHEMA_FILE)
    problems = find_problems(report, rejected, found, max_rejected_fraction, max_contradictions, whole=not of_window)
    problems += find_mask_problems(report, schema_files.mask_classes(schema_files.read_schema(curated)), not of_window)
    if problems:
        raise DataRefused("the data gate stopped the run: " + "; ".join(problems))
    run_schema = schema_of_run(curated, report)
    schema_files.write_schema(run_schema, os.path.join(schema.uri, schema_files.SCHEMA_FILE))


def schema_of_run(curated_schema_file: str, report: dict[str, Any]) -> schema_pb2.Schema:
    """The curated schema with the classes of the report where it leaves them open, or where some are not counted."""
    run_schema = schema_files.read_schema(curated_schema_file)
    of_masks = schema_files.mask_classes_feature(run_schema)
    if of_masks is not None:
        ignored = report["masks"].get("ignored", [])
        if ignored or not of_masks.string_domain.value:
            of_masks.string_domain.value[:] = report["masks"]["classes"]
        of_masks.annotation.tag.extend(ignored)
    elif not schema_files.labels(run_schema):
        found = sorted({label for counts in report["splits"].values() for label in counts})
        refuse_twins(found)  # those of one folder differ, but spans are from different days and machines
        schema_files.label_feature(run_schema).string_domain.value.extend(found)
    return run_schema


def _error_anomalies(artifact: standard_artifacts.ExampleAnomalies) -> dict[str, dict[str, str]]:
    """split -> feature -> description, of severity ERROR."""
    found: dict[str, dict[str, str]] = {}
    for split in artifact_utils.decode_split_names(artifact.split_names):
        path = os.path.join(artifact_utils.get_split_uri([artifact], split), _ANOMALIES_FILE)
        with fileio.open(path, "rb") as file:
            anomalies = anomalies_pb2.Anomalies.FromString(file.read())
        errors = {
            feature or "the data set": info.description
            for feature, info in anomalies.anomaly_info.items()
            if info.severity == anomalies_pb2.AnomalyInfo.ERROR
        }
        if anomalies.HasField("dataset_anomaly_info"):
            info = anomalies.dataset_anomaly_info
            if info.severity == anomalies_pb2.AnomalyInfo.ERROR:
                errors["the data set"] = info.description
        if errors:
            found[split] = errors
    return found
