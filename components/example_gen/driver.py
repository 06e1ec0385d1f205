"""The driver of ImageExampleGen. It also runs where photos come from the cache, so it imports nothing that is slow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tfx.components.example_gen import utils
from tfx.components.example_gen.driver import Driver
from tfx.types import standard_component_specs

from components.example_gen import spans
from components.example_gen.settings import PHOTOS_KEY, IngestSettings
from schemas.corrections import fingerprint_of, read_corrections, with_corrections


@dataclass(frozen=True)
class SpanSettings(IngestSettings):
    """The settings of the driver: sources may be patterns here, which it resolves to folders for the executor."""

    span: int | None = None
    settle_seconds: float = spans.SETTLE_SECONDS


class ImageExampleGenDriver(Driver):
    """Chooses the span's folder for each source, and fingerprints every file in it.

    Both are part of the cache key and of the executor's input, so that exactly the spans that are new or have changed
    are read. Corrections of labels are part of both too. A span that was requested and the same span found as the
    latest are one execution. Span and version are written to the examples, where TFX's resolvers look for them.
    """

    def resolve_exec_properties(self, exec_properties, pipeline_info, component_info):
        del pipeline_info, component_info
        settings = SpanSettings.from_json(exec_properties[PHOTOS_KEY])
        rules = settings.folder_rules
        span = spans.resolve_sources(
            settings.sources,
            settings.span,
            success_file=rules.success_file,
            settle_seconds=settings.settle_seconds,
        )
        corrections = fingerprint_of(read_corrections(Path(settings.corrections))) if settings.corrections else ""
        path = settings.corrections if corrections else ""  # a file that changes nothing is none
        found = IngestSettings(span.folders, settings.label_from, settings.rules, rules, path, corrections)
        exec_properties[PHOTOS_KEY] = found.to_json()
        exec_properties[standard_component_specs.INPUT_BASE_KEY] = input_base(span.folders)
        fingerprint = spans.fingerprint(span, rules.success_file)
        exec_properties[utils.FINGERPRINT_PROPERTY_NAME] = with_corrections(fingerprint, corrections)
        exec_properties[utils.SPAN_PROPERTY_NAME] = span.number
        exec_properties[utils.VERSION_PROPERTY_NAME] = span.version
        return exec_properties


def input_base(sources: dict[str, str]) -> str:
    """TFX requires one folder; nothing reads it."""
    return sorted(sources.values())[0]
