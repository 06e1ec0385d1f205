"""Photos that arrive as spans: finds the folders that match `/photos/span-{SPAN}` or `/photos/{YYYY}-{MM}-{DD}`.

| in the path              | stands for                                                 | the span's number     |
|--------------------------|------------------------------------------------------------|-----------------------|
| `{SPAN}`                 | a number; `{SPAN:3}`: of three digits                      | that number           |
| `{YYYY}`, `{MM}`, `{DD}` | a day, in four, two and two digits, in any folders' names  | days since 1970-01-01 |
| `{VERSION}`              | a number next to one of the two; widths work as in SPAN    |                       |

The latest span is read, or a window of the newest spans, each in its latest version; all are compared as numbers.
Syntax and choice follow TFX's file-based ExampleGen (tfx/components/example_gen/utils.py), but for folders instead of
files, and without importing TFX, which takes longer than all other checks before a run. This module refuses two cases
that TFX accepts by accident: a name that does not fit its width or date, and one span in two folders.

Only complete folders are read: those that contain the marker `success_file`, and those in which nothing has changed for
`settle_seconds`. With {VERSION} this applies to the folder of each version.

| a span that is ... | is handled like this                                                                        |
|--------------------|---------------------------------------------------------------------------------------------|
| half-written       | it is not read; `Spans.unfinished` gives the reason; an earlier version stays in use        |
| late               | it is sorted by its number, whenever it arrives                                             |
| missing            | it is ignored: a window counts the spans that exist, not the numbers or days                |
| empty              | a window skips it and `Spans.empty` lists it; a run on this span alone stops                |
| duplicate          | two folders for one span, or for one version of it, are an error that names them            |
| withdrawn          | its folder is gone, so no window contains it any more                                       |
| replaced           | only the newest complete version is read                                                    |

With several data sets, a span or version is complete once every data set with a pattern has it complete; a data set
whose folder is empty is left out of that span. A data set without a pattern is part of every span.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from components.example_gen import photo_folder
from components.example_gen.photo_folder import SUCCESS_FILE
from components.example_gen.span_pattern import (
    DATE_WIDTHS,
    SPEC,
    SpanPattern,
    base_and_components,
    parse_pattern,
    regular_expression,
)
from schemas.errors import BadInput
from schemas.words import and_more

_MOST_DIGITS = 18  # ML Metadata keeps a span in 64 bits; the widest {SPAN:18} is the same
SETTLE_SECONDS = 300.0
_EPOCH = datetime.date(1970, 1, 1)


@dataclass(frozen=True)
class SpanFolders:
    """A complete span."""

    number: int
    """For a day, the days since 1970-01-01; 0 without patterns."""
    version: int | None
    """None without {VERSION}."""
    folders: dict[str, str]
    """Data set -> folder."""
    shown: str
    """The span as a person writes it: 17 or 2026-11-22."""
    empty: bool = False
    """Whether the folders contain nothing but markers."""
    passed_over: tuple[UnfinishedFolder, ...] = ()
    """Newer folders that `resolve_sources` did not choose because they are not complete."""

    @property
    def span(self) -> int | datetime.date:
        """The value of `data.span` that selects this span."""
        return datetime.date.fromisoformat(self.shown) if "-" in self.shown else self.number


@dataclass(frozen=True)
class UnfinishedFolder:
    """A folder that is not read yet."""

    folder: str
    reason: str
    """The rest of a sentence that begins with the folder's name."""
    number: int
    settling: bool
    """True if time or the marker will complete it; False if another data set lacks the span."""


@dataclass(frozen=True)
class Spans:
    """The spans that have arrived, oldest first."""

    complete: tuple[SpanFolders, ...]
    unfinished: tuple[UnfinishedFolder, ...]
    """Several versions of a span are listed latest first."""

    @property
    def empty(self) -> tuple[SpanFolders, ...]:
        """The complete spans that contain no files, oldest first."""
        return tuple(span for span in self.complete if span.empty)


@dataclass(frozen=True)
class _Span:
    """A folder that matches a pattern."""

    folder: str
    name: tuple[str, ...]  # the digits of its span, as the folder's name writes them
    number: int
    version: int  # 0 without {VERSION}


def span_number(span: int | datetime.date | None) -> int | None:
    """TFX's number for a span; a day counts the days since 1970-01-01."""
    return (span - _EPOCH).days if isinstance(span, datetime.date) else span


def find_spans(
    sources: Mapping[str, str],
    success_file: str = SUCCESS_FILE,
    settle_seconds: float = SETTLE_SECONDS,
    now: float | None = None,
) -> Spans:
    """Finds all spans that have arrived.

    Args:
      sources: data set -> folder or pattern; a local path, or an address such as `gs://bucket/span-{SPAN}`. Without any
        pattern the folders form one complete span, number 0, and are not read.
      settle_seconds: a folder without changes for this long is complete; with 0 every folder is.
      now: seconds since 1970; None for this machine's clock.

    Raises:
      BadInput: no folder matches a pattern, a folder almost matches but has no number or day in its name, two folders
        hold one span, or a folder cannot be read.
    """
    search = _search(sources, None, success_file, settle_seconds, now)
    if not search.patterns:
        return Spans((_without_patterns(sources),), ())
    complete: list[SpanFolders] = []
    unfinished: list[UnfinishedFolder] = []
    for number in search.numbers():
        span, waiting = search.newest_version(number)
        complete += [span] if span else []
        unfinished += waiting
    return Spans(tuple(complete), tuple(unfinished))


def choose_window(
    spans: Spans, size: int | Literal["all"], as_of: int | datetime.date | None = None
) -> tuple[SpanFolders, ...]:
    """The spans to train on, oldest first: the newest complete ones that are not empty.

    Args:
      spans: from `find_spans`.
      size: the largest number of spans, at least 1; `all` has no limit.
      as_of: number or day of the newest span allowed; None for no limit.

    Raises:
      BadInput: there is no such span.
    """
    latest = span_number(as_of)
    holding = [span for span in spans.complete if not span.empty]
    window = [span for span in holding if latest is None or span.number <= latest]
    if window:
        return tuple(window if size == "all" else window[-size:])
    if holding:
        raise BadInput(
            f"data.span asks for spans up to {as_of}, but no complete span with photos is that old; the oldest is "
            f"{holding[0].shown}; choose a later one, or leave data.span empty"
        )
    found = [f"{span.shown} is empty" for span in spans.empty]
    found += [f"{waiting.folder} {waiting.reason}" for waiting in spans.unfinished]
    raise BadInput(f"there is no complete span with photos: {and_more(found, 3, '; ')}; {_remedy(spans.unfinished)}")


def resolve_sources(
    sources: Mapping[str, str],
    span: int | datetime.date | None = None,
    *,
    success_file: str = SUCCESS_FILE,
    settle_seconds: float = SETTLE_SECONDS,
    now: float | None = None,
) -> SpanFolders:
    """The latest complete span, or the requested one.

    Args:
      span: number or day; None for the latest.

    Raises:
      BadInput: as in `find_spans`, or the requested span does not exist or is not complete.
    """
    search = _search(sources, span_number(span), success_file, settle_seconds, now)
    if not search.patterns:
        return _without_patterns(sources)
    unfinished: list[UnfinishedFolder] = []
    for number in reversed(search.numbers()):
        chosen, waiting = search.newest_version(number)
        if chosen:
            return replace(chosen, passed_over=(*unfinished, *waiting))
        unfinished += waiting
    patterns = list(search.patterns.values())
    texts = " and ".join(pattern.text for pattern in patterns)
    what = f"no span of {texts} is complete yet"
    if span is not None:
        asked = _day_or_number(patterns[0], search.numbers()[0])
        what = f"span {asked} of {texts}, requested by data.span, is not complete yet"
    found = and_more([f"{waiting.folder} {waiting.reason}" for waiting in unfinished], 3, "; ")
    raise BadInput(f"{what}: {found}; {_remedy(unfinished)}")


def fingerprint(span: SpanFolders, success_file: str = SUCCESS_FILE) -> str:
    """`<data set>:<hash>,...`, where each hash covers path, size and modification time of every file except markers.

    Raises:
      BadInput: a folder is missing or empty, or cannot be read.
    """
    prints = []
    for dataset, folder in sorted(span.folders.items()):
        prints.append(f"{dataset}:{photo_folder.fingerprint_of_folder(folder, success_file)}")
    return ",".join(prints)


def folder_of_all(source: str, other: str) -> str:
    """The folder that holds all files of a source, as seen from `other`.

    Args:
      source: a folder or a pattern.
      other: absolute path of another folder.

    Returns:
      A plain folder as it is. For a pattern, the span's folder that contains `other`, or else the pattern itself.
    """
    if parse_pattern(source) is None:
        return source
    base, components = base_and_components(source)
    below = os.path.relpath(other, base).split(os.sep)
    expected = regular_expression("/".join(components), lambda _spec, _width: "[^/]*")
    span = "/".join(below[: len(components)])
    return _join(base, span) if expected.fullmatch(span) else source


def _without_patterns(sources: Mapping[str, str]) -> SpanFolders:
    return SpanFolders(0, None, dict(sources), "0")


@dataclass(frozen=True)
class _Search:
    """Folders by data set and span number, and the rules for when they are complete."""

    sources: Mapping[str, str]
    patterns: Mapping[str, SpanPattern]
    found: Mapping[str, Mapping[int, list[_Span]]]
    success_file: str
    settle_seconds: float
    now: float

    def numbers(self) -> list[int]:
        """Numbers of the spans that any data set has, in order."""
        return sorted(set().union(*self.found.values()))

    def newest_version(self, number: int) -> tuple[SpanFolders | None, list[UnfinishedFolder]]:
        """The newest complete version of a span, or None; and the unfinished folders of all newer versions."""
        by_version: dict[int, dict[str, list[_Span]]] = {}
        for dataset, pattern in self.patterns.items():
            spans = self.found[dataset].get(number, [])
            names = list({span.name: span for span in spans}.values())
            _refuse_twins(pattern, names, _day_or_number(pattern, number))
            for span in spans:
                by_version.setdefault(span.version, {}).setdefault(dataset, []).append(span)
        unfinished: list[UnfinishedFolder] = []
        for version in sorted(by_version, reverse=True):
            folders = {}
            for dataset, spans in by_version[version].items():
                _refuse_twins(self.patterns[dataset], spans, _said(self.patterns[dataset], spans[0]))
                folders[dataset] = spans[0].folder
            waiting = self._unfinished(number, version, folders)
            if not waiting:
                return self._complete(number, version, folders), unfinished
            unfinished += waiting
        return None, unfinished

    def _unfinished(self, number: int, version: int, folders: dict[str, str]) -> list[UnfinishedFolder]:
        waiting = []
        lacking = [dataset for dataset in self.patterns if dataset not in folders]
        for dataset, folder in folders.items():
            pattern = self.patterns[dataset]
            if reason := self._why_settling(folder):
                waiting.append(UnfinishedFolder(folder, reason, number, True))
            elif lacking:
                said = _said(pattern, _Span(folder, (), number, version))
                reason = f"is waiting for span {said} of {' and '.join(lacking)}"
                waiting.append(UnfinishedFolder(folder, reason, number, False))
        return waiting

    def _why_settling(self, folder: str) -> str:
        """Why a folder may not be complete; empty if it is."""
        if self.settle_seconds == 0 or photo_folder.has_marker(folder, self.success_file):
            return ""
        seconds = self.now - photo_folder.last_change(folder)
        if seconds >= self.settle_seconds:
            return ""
        changed = f"changed {seconds:.0f} s ago" if seconds >= 0 else f"changed {-seconds:.0f} s in the future"
        return (
            f"{changed} and has no {self.success_file} file; it counts as complete after {self.settle_seconds:g} s "
            "without a change"
        )

    def _complete(self, number: int, version: int, folders: dict[str, str]) -> SpanFolders:
        holding = {
            dataset: folder
            for dataset, folder in folders.items()
            if photo_folder.holds_files(folder, self.success_file)
        }
        read = {
            dataset: (holding or folders).get(dataset, source)
            for dataset, source in self.sources.items()
            if not holding or dataset in holding or dataset not in self.patterns
        }
        pattern = next(iter(self.patterns.values()))
        return SpanFolders(
            number, version if pattern.versioned else None, read, _day_or_number(pattern, number), not holding
        )


def _search(
    sources: Mapping[str, str], asked: int | None, success_file: str, settle_seconds: float, now: float | None
) -> _Search:
    """Finds the folders that match the patterns: those of the requested span, or all."""
    patterns = {dataset: pattern for dataset, source in sources.items() if (pattern := parse_pattern(source))}
    found = {dataset: _by_number(pattern, asked) for dataset, pattern in patterns.items()}
    return _Search(sources, patterns, found, success_file, settle_seconds, time.time() if now is None else now)


def _by_number(pattern: SpanPattern, asked: int | None) -> dict[int, list[_Span]]:
    by_number: dict[int, list[_Span]] = {}
    for folder in _looking_like(pattern, asked):
        span = _read_span(pattern, folder)
        by_number.setdefault(span.number, []).append(span)
    if by_number:
        return by_number
    if asked is None:
        raise _none_fits(pattern)
    latest = max(_by_number(pattern, None))
    raise BadInput(
        f"data.span asks for span {_day_or_number(pattern, asked)}, but {pattern.text} has no folder for it; the "
        f"latest is {_day_or_number(pattern, latest)}; choose another, or leave data.span empty"
    )


def _remedy(unfinished: Sequence[UnfinishedFolder]) -> str:
    if any(waiting.settling for waiting in unfinished):
        return "wait, add that file if the folder is complete, or set data.settle_seconds=0"
    return "add what is missing"


def _looking_like(pattern: SpanPattern, asked: int | None) -> list[str]:
    """Every folder that matches the pattern with any text for each spec, or with the requested span."""
    values = {}
    if asked is not None and pattern.dated:
        values = dict(zip(DATE_WIDTHS, _day_or_number(pattern, asked).split("-"), strict=True))
    elif asked is not None:
        values = {"SPAN": str(asked)}

    def any_text_or_asked(spec: str, width: int | None) -> str:
        if spec not in values:
            return ".*"
        return values[spec].zfill(width) if width else "0*" + values[spec]

    base, components = base_and_components(pattern.text)
    folders = [base]
    for component in components:
        fitting = regular_expression(component, any_text_or_asked)
        folders = [
            _join(folder, name)
            for folder in folders
            for name in _folders_in(folder)
            if fitting.fullmatch(name) and (component.startswith(".") or not name.startswith("."))
        ]
    return sorted(folders)


def _read_span(pattern: SpanPattern, folder: str) -> _Span:
    """Reads the span from the name of a folder that looks like the pattern."""
    base, components = base_and_components(pattern.text)
    expected = regular_expression(
        "/".join(components), lambda _, width: f"[0-9]{{{width}}}" if width else f"[0-9]{{1,{_MOST_DIGITS}}}"
    )
    try:
        match = expected.fullmatch(folder[len(_join(base, "")) :])
        if match is None:
            raise ValueError
        version = int(match["VERSION"]) if pattern.versioned else 0
        if not pattern.dated:
            return _Span(folder, (match["SPAN"],), int(match["SPAN"]), version)
        year, month, day = name = tuple(match[spec] for spec in DATE_WIDTHS)
        number = (datetime.date(int(year), int(month), int(day)) - _EPOCH).days  # a ValueError on the 30th of February
        return _Span(folder, name, number, version)
    except ValueError:
        raise BadInput(
            f"the folder {folder} looks like {pattern.text} but does not have {_what(pattern)}; rename it or move it "
            "elsewhere"
        ) from None


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _folders_in(folder: str) -> list[str]:
    """Names of the folders in a folder, including links to folders."""
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
            f"the folder {folder}, which should contain spans, cannot be read ({error.strerror}); check the path and "
            "its permissions"
        ) from error


def _none_fits(pattern: SpanPattern) -> BadInput:
    base, _ = base_and_components(pattern.text)
    names = sorted(_folders_in(base))
    shown = and_more(names, 5)
    return BadInput(
        f"no folder matches {pattern.text}: {base} contains {f'the folders {shown}' if names else 'no folders'}; "
        f"expected one with {_what(pattern)}; check the path"
    )


def _refuse_twins(pattern: SpanPattern, spans: list[_Span], said: str) -> None:
    if len(spans) > 1:
        raise BadInput(
            f"{' and '.join(span.folder for span in spans)} are each span {said} of {pattern.text}; expected "
            "one folder; rename or remove the others"
        )


def _what(pattern: SpanPattern) -> str:
    specs = list(SPEC.finditer(pattern.text))
    width = ", with that many digits" if any(spec[2] for spec in specs) else ""
    return f"a {'day' if pattern.dated else 'number'} in place of {', '.join(spec[0] for spec in specs)}{width}"


def _said(pattern: SpanPattern, span: _Span) -> str:
    version = f", version {span.version}" if pattern.versioned else ""
    return f"{_day_or_number(pattern, span.number)}{version}"


def _day_or_number(pattern: SpanPattern, number: int) -> str:
    return str(_EPOCH + datetime.timedelta(days=number)) if pattern.dated else str(number)
