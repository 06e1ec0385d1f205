"""Photos that arrive as spans: which folder `/photos/span-{SPAN}` or `/photos/{YYYY}-{MM}-{DD}` means now.

| in the path              | stands for                                                 | the span's number     |
|--------------------------|------------------------------------------------------------|-----------------------|
| `{SPAN}`                 | a number; `{SPAN:3}`: of three digits                      | that number           |
| `{YYYY}`, `{MM}`, `{DD}` | a day, in four, two and two digits, in any folders' names  | days since 1970-01-01 |
| `{VERSION}`              | a number beside one of the two; a width goes as with SPAN  |                       |

The latest span is read, and of it the latest version; both are compared as numbers. Syntax and choice are those of
TFX's file-based ExampleGen (tfx/components/example_gen/utils.py), for folders in place of files, and without importing
TFX, which takes longer than all other checks before a run. Where TFX would go on with a folder that it did not mean,
this refuses: a name longer than its width or its date, and one span in two folders.
"""

from __future__ import annotations

import datetime
import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from schemas.errors import BadInput

_SPEC = re.compile(r"\{(SPAN|VERSION)(?::([1-9]|1[0-8]))?\}|\{(YYYY|MM|DD)\}")
_IN_BRACES = re.compile(r"\{ *([A-Za-z]*)[^{}/]*\}?")
_DATE_WIDTHS = {"YYYY": 4, "MM": 2, "DD": 2}
_MOST_DIGITS = 18  # ML Metadata keeps a span in 64 bits; the widest {SPAN:18} is the same
_EPOCH = datetime.date(1970, 1, 1)


@dataclass(frozen=True)
class SpanPattern:
    """A path with specs in it. dated: with {YYYY}, {MM} and {DD}, not {SPAN}. versioned: with {VERSION}."""

    text: str
    dated: bool
    versioned: bool


@dataclass(frozen=True)
class Resolved:
    """What is to be read. folders: by data set. span: 0 without patterns. version: None without {VERSION}."""

    folders: dict[str, str]
    span: int
    version: int | None


@dataclass(frozen=True)
class _Span:
    """A folder that fits a pattern. name: how it writes its span. version: 0 without {VERSION}."""

    folder: str
    name: tuple[str, ...]
    number: int
    version: int


def parse_pattern(source: str) -> SpanPattern | None:
    """The pattern that a source is; None for a plain folder and for the names of TensorFlow Datasets.

    Raises:
      BadInput: a spec is misspelt, or specs do not go together. The message does not say where.
    """
    if source.startswith("tfds:"):
        return None
    specs: list[str] = []
    for found in _IN_BRACES.finditer(source):
        if match := _SPEC.fullmatch(found[0]):
            specs.append(match[1] or match[3])
        elif difflib.get_close_matches(found[1].upper(), ("SPAN", "VERSION", *_DATE_WIDTHS), n=1, cutoff=0.6):
            raise BadInput(
                f"{found[0]} is not understood; expected {{SPAN}}, or {{YYYY}}, {{MM}} and {{DD}}, and {{VERSION}} "
                "beside them; {SPAN:3} is a number of three digits"
            )
    if not specs:
        return None
    dates = [spec for spec in specs if spec in _DATE_WIDTHS]
    if dates and "SPAN" in specs:
        raise BadInput(f"there are both {{SPAN}} and {{{dates[0]}}}; expected a number or a day, not both")
    if dates and sorted(dates) != sorted(_DATE_WIDTHS):
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
    if "://" in source and _SPEC.search(source.split("://")[1].split("/")[0]):
        raise BadInput("the span is in the bucket's name; expected it in the name of a folder below")
    return SpanPattern(source, bool(dates), "VERSION" in specs)


def span_number(span: int | datetime.date | None) -> int | None:
    """TFX's number of a span: of a day, the days since 1970-01-01."""
    return (span - _EPOCH).days if isinstance(span, datetime.date) else span


def resolve_sources(sources: Mapping[str, str], span: int | datetime.date | None = None) -> Resolved:
    """The folders that the sources mean now: of each pattern the latest span, or the one asked for.

    Args:
      sources: data set -> folder or pattern; a local path, or an address such as `gs://bucket/span-{SPAN}`.
      span: number or day; None: the latest.

    Raises:
      BadInput: no folder fits a pattern, one that nearly does has no number or day in its name, one span lies in two
        folders, the span asked for is not there, or the patterns lead to different spans or versions.
    """
    patterns = {dataset: pattern for dataset, source in sources.items() if (pattern := parse_pattern(source))}
    if not patterns:
        return Resolved(dict(sources), 0, None)
    found = {dataset: _find_span(pattern, span_number(span)) for dataset, pattern in patterns.items()}
    first, *others = found
    chosen = found[first]
    for other in others:
        if (found[other].number, found[other].version) != (chosen.number, chosen.version):
            raise BadInput(
                f"the data sets are not at the same span: {first} is at {_said(patterns[first], chosen)} "
                f"({chosen.folder}), {other} at {_said(patterns[other], found[other])} ({found[other].folder}); add "
                "what is missing, or ask with data.span for a span that all of them have"
            )
    folders = {dataset: found[dataset].folder if dataset in found else source for dataset, source in sources.items()}
    return Resolved(folders, chosen.number, chosen.version if patterns[first].versioned else None)


def _find_span(pattern: SpanPattern, asked: int | None) -> _Span:
    """The span asked for, or the latest; of its versions the latest."""
    spans = [_read_span(pattern, folder) for folder in _looking_like(pattern, asked)]
    if not spans:
        if asked is None:
            raise _none_fits(pattern)
        latest = _find_span(pattern, None)
        raise BadInput(
            f"no folder of {pattern.text} is span {_day_or_number(pattern, asked)}, which data.span asks for; the "
            f"latest there is {_day_or_number(pattern, latest.number)}; choose another, or leave data.span empty"
        )
    number = max(span.number for span in spans)
    spans = [span for span in spans if span.number == number]
    _refuse_twins(pattern, list({span.name: span for span in spans}.values()), _day_or_number(pattern, number))
    version = max(span.version for span in spans)
    spans = [span for span in spans if span.version == version]
    _refuse_twins(pattern, spans, _said(pattern, spans[0]))
    return spans[0]


def _looking_like(pattern: SpanPattern, asked: int | None) -> list[str]:
    """Every folder that fits the pattern with any text in the place of each spec, or with the span asked for."""
    values = {}
    if asked is not None and pattern.dated:
        values = dict(zip(_DATE_WIDTHS, _day_or_number(pattern, asked).split("-"), strict=True))
    elif asked is not None:
        values = {"SPAN": str(asked)}

    def any_text_or_asked(spec: str, width: int | None) -> str:
        if spec not in values:
            return ".*"
        return values[spec].zfill(width) if width else "0*" + values[spec]

    base, components = _base_and_components(pattern.text)
    folders = [base]
    for component in components:
        regular_expression = _regular_expression(component, any_text_or_asked)
        folders = [
            _join(folder, name)
            for folder in folders
            for name in _folders_in(folder)
            if regular_expression.fullmatch(name) and (component.startswith(".") or not name.startswith("."))
        ]
    return sorted(folders)


def _read_span(pattern: SpanPattern, folder: str) -> _Span:
    """What the name of a folder that looks like the pattern says."""
    base, components = _base_and_components(pattern.text)
    expected = _regular_expression(
        "/".join(components), lambda _, width: f"[0-9]{{{width}}}" if width else f"[0-9]{{1,{_MOST_DIGITS}}}"
    )
    try:
        match = expected.fullmatch(folder[len(_join(base, "")) :])
        if match is None:
            raise ValueError
        version = int(match["VERSION"]) if pattern.versioned else 0
        if not pattern.dated:
            return _Span(folder, (match["SPAN"],), int(match["SPAN"]), version)
        year, month, day = name = tuple(match[spec] for spec in _DATE_WIDTHS)
        number = (datetime.date(int(year), int(month), int(day)) - _EPOCH).days  # a ValueError on the 30th of February
        return _Span(folder, name, number, version)
    except ValueError:
        raise BadInput(
            f"the folder {folder} looks like {pattern.text}, but does not have {_what(pattern)}; rename it, or move "
            "it elsewhere"
        ) from None


def _regular_expression(text: str, of_spec: Callable[[str, int | None], str]) -> re.Pattern[str]:
    """Of a part of a pattern. of_spec: from a spec's name and width, the regular expression in its place."""
    parts, end = [], 0
    for spec in _SPEC.finditer(text):
        name = spec[1] or spec[3]
        width = int(spec[2]) if spec[2] else _DATE_WIDTHS.get(name)
        parts += [re.escape(text[end : spec.start()]), f"(?P<{name}>{of_spec(name, width)})"]
        end = spec.end()
    return re.compile("".join([*parts, re.escape(text[end:])]), re.DOTALL)


def _base_and_components(text: str) -> tuple[str, list[str]]:
    """The folder above the first spec, and the names below it."""
    names = text.rstrip("/").split("/")
    first = next(i for i, name in enumerate(names) if _SPEC.search(name))
    return "/".join(names[:first]) or ("/" if first else "."), names[first:]


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _folders_in(folder: str) -> list[str]:
    """Names of the folders in a folder; links to folders are some."""
    try:
        if "://" not in folder:
            return [name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name))]
        import tensorflow as tf

        try:
            names = [name for name in tf.io.gfile.listdir(folder) if name.strip("/")]
            # Object stores end the names of folders with a slash.
            return [n.rstrip("/") for n in names if n.endswith("/") or tf.io.gfile.isdir(_join(folder, n))]
        except tf.errors.OpError as error:
            raise OSError(None, error.message) from error
    except OSError as error:
        raise BadInput(
            f"the folder {folder}, in which spans are looked for, cannot be read ({error.strerror}); check the path "
            "and its permissions"
        ) from error


def _none_fits(pattern: SpanPattern) -> BadInput:
    base, _ = _base_and_components(pattern.text)
    names = sorted(_folders_in(base))
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return BadInput(
        f"no folder fits {pattern.text}: {base} holds {f'the folders {shown}' if names else 'no folders'}; expected "
        f"one with {_what(pattern)}; check the path"
    )


def _refuse_twins(pattern: SpanPattern, spans: list[_Span], said: str) -> None:
    if len(spans) > 1:
        raise BadInput(
            f"{' and '.join(span.folder for span in spans)} are each span {said} of {pattern.text}; expected "
            "one folder; rename or remove the others"
        )


def _what(pattern: SpanPattern) -> str:
    specs = list(_SPEC.finditer(pattern.text))
    width = ", in so many digits" if any(spec[2] for spec in specs) else ""
    return f"a {'day' if pattern.dated else 'number'} in the place of {', '.join(spec[0] for spec in specs)}{width}"


def _said(pattern: SpanPattern, span: _Span) -> str:
    version = f", version {span.version}" if pattern.versioned else ""
    return f"{_day_or_number(pattern, span.number)}{version}"


def _day_or_number(pattern: SpanPattern, number: int) -> str:
    return str(_EPOCH + datetime.timedelta(days=number)) if pattern.dated else str(number)
