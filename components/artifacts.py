"""Artifact types of our own; everything else is a standard TFX artifact."""

from tfx.types.artifact import Artifact


class IngestReport(Artifact):
    """What ImageExampleGen read: `report.json` (counts) and `rejected.jsonl` (one rejected file a line)."""

    TYPE_NAME = "WarmstartIngestReport"


class Verdict(Artifact):
    """A decision with its numbers and one sentence of reason: `verdict.json`."""

    TYPE_NAME = "WarmstartVerdict"
