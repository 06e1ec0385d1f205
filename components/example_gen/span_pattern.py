"""Patterns of paths with a span in them, such as `/photos/span-{SPAN}`: how they are written; see `spans.py`."""

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
    """A path with specs in it. dated: with {YYYY}, {MM} and {DD}, not {SPAN}. versioned: with {VERSION}."""

    text: str
    dated: bool
    versioned: bool


def parse_pattern(source: str) -> SpanPattern | None:
    """The pattern that a source is; None for a plain folder and for the names of TensorFlow Datasets.

    Raises:
      BadInput: a spec is misspelt, or specs do not go together. The message does not say where.
    """
    if source.startswith("tfds:"):
        return None
    specs: list[str] = []
    for found in _IN_BRACES.finditer(source):
        if match := SPEC.fullmatch(found[0]):
            specs.append(match[1] or match[3])
        elif difflib.get_close_matches(found[1].upper(), ("SPAN", "VERSION", *DATE_WIDTHS), n=1, cutoff=0.6):
            raise BadInput(
                f"{found[0]} is not understood; expected {{SPAN}}, or {{YYYY}}, {{MM}} and {{DD}}, and {{VERSION}} "
                "beside them; {SPAN:3} is a number of three digits"
            )
    if not specs:
        return None
    dates = [spec for spec in specs if spec in DATE_WIDTHS]
    if dates and "SPAN" in specs:
        raise BadInput(f"there are both {{SPAN}} and {{{dates[0]}}}; expected a number or a day, not both")
    if dates and sorted(dates) != sorted(DATE_WIDTHS):
        raise BadInput("a day is not whole; expected {YYYY}, {MM} and {DD}, each once")
    if set(specs) == {"VERSION"}:
        raise BadInput("there is a {VERSION} of no span; expected {SPAN}, or {YYYY}, {MM} and {DD}, beside it")
    for spec in ("SPAN", "VERSION"):
        if specs.count(spec) > 1:
            raise BadInput(f"{{{spec}}} is there {specs.count(spec)} times; expected it once")
    if re.search(r"\{SPAN\}[0-9]*\{VERSION\}|\{VERSION\}[0-9]*\{SPAN\}", source):
        raise BadInput(
            "{SPAN} and {VERSION} cannot be told apart; expected text between them, or a width such as {SPAN:3}"
        )
    if "://" in source and SPEC.search(source.split("://")[1].split("/")[0]):
        raise BadInput("the span is in the bucket's name; expected it in the name of a folder below")
    return SpanPattern(source, bool(dates), "VERSION" in specs)


def regular_expression(text: str, of_spec: Callable[[str, int | None], str]) -> re.Pattern[str]:
    """Of a part of a pattern. of_spec: from a spec's name and width, the regular expression in its place."""
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
