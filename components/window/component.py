"""The Window component."""

import os
from typing import List  # noqa: UP035  (TFX reads this very type)

from ml_metadata import MetadataStore
from tfx import types
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common import resolver
from tfx.types import standard_artifacts

from components.artifacts import IngestReport, Verdict
from components.data_gate.checks import find_mask_problems, find_problems
from components.data_gate.component import schema_of_run
from components.drift_gate.drift import stop_if_told
from components.example_gen.corrections import merge_counts
from components.example_gen.report import read_corrected, read_keys, read_report, write_counts
from components.feature_vector_gen import PHOTOS_PROPERTY
from components.verdict import read_verdict
from components.window.merge import Part, choose_photos, merge_files, merge_reports
from schemas import schema_files
from schemas.errors import BadInput
from schemas.verdicts import DriftVerdict


class ChosenArtifacts(resolver.ResolverStrategy):
    """Resolves every input to the artifacts with the given ids, which may be none.

    The spans of a window are chosen before the pipeline runs (`deploy/data_folders.py`). TFX's own SpanRangeStrategy
    counts numbers, and would take four calendar days for four spans.
    """

    def __init__(self, ids: dict[str, list[int]]):
        """
        Args:
          ids: key of an input -> ids of its artifacts in ML Metadata.
        """
        self._ids = ids

    def resolve_artifacts(
        self, store: MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Overrides ResolverStrategy.resolve_artifacts().

        Raises:
          LookupError: a chosen artifact no longer exists.
        """
        found = {}
        for key, artifacts in input_dict.items():
            wanted = self._ids.get(key, [])
            by_number = {artifact.id: artifact for artifact in artifacts}
            if missing := [number for number in wanted if number not in by_number]:
                raise LookupError(f"artifacts {missing} of the window's {key} are no longer in ML Metadata; run again")
            found[key] = [by_number[number] for number in wanted]
        return found


@component
def Window(
    photos: InputArtifact[standard_artifacts.Examples],
    vectors: InputArtifact[standard_artifacts.Examples],
    ingest_report: InputArtifact[IngestReport],
    drift: InputArtifact[Verdict],
    curated_schema: InputArtifact[standard_artifacts.Schema],
    window_photos: OutputArtifact[standard_artifacts.Examples],
    window_vectors: OutputArtifact[standard_artifacts.Examples],
    window_report: OutputArtifact[IngestReport],
    window_schema: OutputArtifact[standard_artifacts.Schema],
    trained: Parameter[list[int]],
    tested: Parameter[list[int]],
    planned: Parameter[list[str]],
    code: Parameter[str],
    earlier_photos: InputArtifact[List[standard_artifacts.Examples]] = None,  # noqa: UP006
    earlier_vectors: InputArtifact[List[standard_artifacts.Examples]] = None,  # noqa: UP006
    earlier_reports: InputArtifact[List[IngestReport]] = None,  # noqa: UP006
):
    """Combines the spans of the window for training and evaluation.

    Args:
      photos, vectors, ingest_report: of the newest span, from ImageExampleGen and FeatureVectorGen.
      curated_schema: the classes, or none if the photos define them.
      window_photos, window_vectors: the examples of all spans, in order; linked instead of copied where possible.
      window_report: counts of the photos that are used, and under `spans` how many each span contributes.
      planned: the spans that the window was planned from; ML Metadata keeps them with the execution.

    Raises:
      BadInput: DriftGate stops the newest span, or all spans together have only one class or no photos in a split.
    """
    del code, planned
    stop_if_told(read_verdict(DriftVerdict, drift.uri))
    all_vectors = {
        each.get_string_custom_property(PHOTOS_PROPERTY): each.uri for each in [vectors, *(earlier_vectors or [])]
    }
    # Both outputs of one execution of ImageExampleGen lie in folders with its number.
    all_reports = {os.path.basename(each.uri): each.uri for each in [ingest_report, *(earlier_reports or [])]}
    parts, reports, corrected = [], {}, []
    for each in [*(earlier_photos or []), photos]:
        span = int(each.get_string_custom_property("span") or each.get_int_custom_property("span"))
        report_uri = all_reports[os.path.basename(each.uri)]
        reports[span] = read_report(report_uri)[0]
        corrected += read_corrected(report_uri)
        keys = read_keys(report_uri)
        parts.append(Part(span, each.uri, all_vectors[each.uri], keys, span in trained, span in tested))
    left_out = choose_photos(parts)
    merged, keys = merge_reports(parts, left_out, reports)
    if counts := [report["corrections"] for report in reports.values() if "corrections" in report]:
        merged["corrections"], corrected = merge_counts(counts, corrected, {key.content_hash for key in keys})
    curated = os.path.join(curated_schema.uri, schema_files.SCHEMA_FILE)
    required = schema_files.mask_classes(schema_files.read_schema(curated))
    if problems := find_problems(merged, [], {}, 1.0) + find_mask_problems(merged, required):
        shown = ", ".join(str(part.span) for part in parts)
        raise BadInput(f"the window of spans {shown} cannot be trained on: " + "; ".join(problems))
    merge_files(parts, left_out, window_photos.uri, window_vectors.uri)
    for source, target in ((photos, window_photos), (vectors, window_vectors)):
        target.split_names = source.split_names
        for name in ("payload_format", "file_format"):
            target.set_string_custom_property(name, source.get_string_custom_property(name))
    write_counts(window_report.uri, merged, [], keys, corrected=corrected)
    schema = schema_of_run(curated, merged)
    schema_files.write_schema(schema, os.path.join(window_schema.uri, schema_files.SCHEMA_FILE))
