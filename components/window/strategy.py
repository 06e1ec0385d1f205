"""The resolver strategy that collects the earlier spans of a window."""

from __future__ import annotations

from ml_metadata import MetadataStore
from tfx import types
from tfx.dsl.components.common import resolver


class ChosenArtifacts(resolver.ResolverStrategy):
    """Of every input the artifacts with the given numbers, and nothing else; none is a valid answer.

    Which spans a window has is decided before the pipeline runs (`deploy/window.py`); TFX's own SpanRangeStrategy
    counts numbers, and would take four calendar days for four spans.
    """

    def __init__(self, ids: dict[str, list[int]]):
        """
        Args:
          ids: key of an input -> numbers of its artifacts in ML Metadata.
        """
        self._ids = ids

    def resolve_artifacts(
        self, store: MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Overrides ResolverStrategy.resolve_artifacts().

        Raises:
          LookupError: an artifact that was chosen is not there any more.
        """
        found = {}
        for key, artifacts in input_dict.items():
            wanted = self._ids.get(key, [])
            by_number = {artifact.id: artifact for artifact in artifacts}
            if missing := [number for number in wanted if number not in by_number]:
                raise LookupError(
                    f"artifacts {missing} of the window's {key} are not in ML Metadata any more; run again"
                )
            found[key] = [by_number[number] for number in wanted]
        return found
