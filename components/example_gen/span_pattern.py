"""The syntax of paths with a span in them, such as `/photos/span-{SPAN}`; `spans.py` finds the folders."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass

from schemas.errors import BadInput

SPEC = re.compile(r"\{(SPAN|VERSION)(?::([1-9]|1[0-8]))?\}|\{(YYYY|MM|DD)\}")
_IN_BRACES = re.compile(r"\{ *([A-Za-z]*)[^{}/]*\}?")
DATE_WIDTHS = {"YYYY": 4, "MM": 2, "DD": 2}


@dataclass(frozen=True)
class SpanPattern:
    """A path with specs such as {SPAN} in it."""

    text: str
    dated: bool  # with {YYYY}, {MM} and {DD} instead of {SPAN}
    versioned: bool  # with {VERSION}


def parse_pattern(source: str) -> SpanPattern | None:
    """Parses a source as a pattern; None for a plain folder or a name from TensorFlow Datasets.

    Raises:
      BadInput: a spec is misspelt, or the specs do not go together. The message does not name the source.
    """
    if source.startswith("tfds:"):
        return None
    specs: list[str] = []
    for found in _IN_BRACES.finditer(source):
        if match := SPEC.fullmatch(found[0]):
            specs.append(match[1] or match[3])
        elif difflib.get_close_matches(found[1].upper(), ("SPAN", "VERSION", *DATE_WIDTHS), n=1, cutoff=0.6):
            raise BadInput(
                f"{found[0]} is not a known placeholder; expected {{SPAN}}, or {{YYYY}}, {{MM}} and {{DD}}, optionally "
                "with {VERSION}; {SPAN:3} is a three-digit number"
            )
    if not specs:
        return None
    dates = [spec for spec in specs if spec in DATE_WIDTHS]
    if dates and "SPAN" in specs:
        raise BadInput(f"the path has both {{SPAN}} and {{{dates[0]}}}; expected a number or a day, not both")
    if dates and sorted(dates) != sorted(DATE_WIDTHS):
        raise BadInput("the day is incomplete; expected {YYYY}, {MM} and {DD}, each once")
    if set(specs) == {"VERSION"}:
        raise BadInput("{VERSION} has no span; expected {SPAN}, or {YYYY}, {MM} and {DD}, in the path as well")
    for spec in ("SPAN", "VERSION"):
        if specs.count(spec) > 1:
            raise BadInput(f"{{{spec}}} appears {specs.count(spec)} times; expected it once")
    if re.search(r"\{SPAN\}[0-9]*\{VERSION\}|\{VERSION\}[0-9]*\{SPAN\}", source):
        raise BadInput(
            "{SPAN} and {VERSION} cannot be told apart; expected text between them, or a width such as {SPAN:3}"
        )
    if "://" in source and SPEC.search(source.split("://")[1].split("/")[0]):
        raise BadInput("the span is in the bucket's name; expected it in the name of a folder below")
    return SpanPattern(source, bool(dates), "VERSION" in specs)


def regular_expression(text: str, of_spec: Callable[[str, int | None], str]) -> re.Pattern[str]:
    """The regular expression for a part of a pattern.

    Args:
      of_spec: maps a spec's name and width to the regular expression that replaces it.
    """
    parts, end = [], 0
    for spec in SPEC.finditer(text):
        name = spec[1] or spec[3]
        width = int(spec[2]) if spec[2] else DATE_WIDTHS.get(name)
        parts += [re.escape(text[end : spec.start()]), f"(?P<{name}>{of_spec(name, width)})"]
        end = spec.end()
    return re.compile("".join([*parts, re.escape(text[end:])]), re.DOTALL)


def base_and_components(text: str) -> tuple[str, list[str]]:
    """The folder above the first spec, and the names below it."""
    names = text.rstrip("/").split("/")
    first = next(i for i, name in enumerate(names) if SPEC.search(name))
    return "/".join(names[:first]) or ("/" if first else "."), names[first:]
