"""The resolver strategy that collects the earlier spans of a window."""

from __future__ import annotations

from ml_metadata import MetadataStore
from tfx import types
from tfx.dsl.components.common import resolver


class ChosenArtifacts(resolver.ResolverStrategy):
    """Resolves every input to the artifacts with the given ids, which may be none.

    The spans of a window are chosen before the pipeline runs (`deploy/window.py`). TFX's own SpanRangeStrategy counts
    numbers, and would take four calendar days for four spans.
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
