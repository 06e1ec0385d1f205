"""Photos that arrive as spans: which folders `/photos/span-{SPAN}` or `/photos/{YYYY}-{MM}-{DD}` means now.

| in the path              | stands for                                                 | the span's number     |
|--------------------------|------------------------------------------------------------|-----------------------|
| `{SPAN}`                 | a number; `{SPAN:3}`: of three digits                      | that number           |
| `{YYYY}`, `{MM}`, `{DD}` | a day, in four, two and two digits, in any folders' names  | days since 1970-01-01 |
| `{VERSION}`              | a number beside one of the two; a width goes as with SPAN  |                       |

The latest span is read, or a window of the newest ones; of each the latest version; all are compared as numbers. Syntax
and choice are those of TFX's file-based ExampleGen (tfx/components/example_gen/utils.py), for folders in place of
files, and without importing TFX, which takes longer than all other checks before a run. Where TFX would go on with a
folder that it did not mean, this refuses: a name longer than its width or its date, and one span in two folders.

Only complete folders are read: those with the marker `success_file` directly in them, and those in which no file or
folder, nor they themselves, have changed for `settle_seconds`. With {VERSION} that is asked of each version's folder.

| a span that is ... | is treated so                                                                               |
|--------------------|---------------------------------------------------------------------------------------------|
| half-written       | is not read; `Spans.unfinished` has it with the reason; an earlier version stays in force   |
| late               | takes its place in the order of numbers, whenever it came                                   |
| missing            | is not missed: a window counts the spans that are there, not the numbers or days            |
| empty              | a window passes it over, `Spans.empty` has it; a run of one span that comes to it stops     |
| duplicate          | two folders of one span, or of one version of it, are refused by name                       |
| withdrawn          | its folder is gone, so it is in no window any more                                          |
| replaced           | the newest complete version is read, and none of the others                                 |

Of several data sets with patterns a span, and a version, is complete when all of them have it complete; one whose
folder is empty is left out of that span. A data set without a pattern goes with every span.
"""

from __future__ import annotations

import datetime
import difflib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from components.example_gen import photo_folder
from components.example_gen.photo_folder import SUCCESS_FILE
from schemas.errors import BadInput
from schemas.words import and_more

_SPEC = re.compile(r"\{(SPAN|VERSION)(?::([1-9]|1[0-8]))?\}|\{(YYYY|MM|DD)\}")
_IN_BRACES = re.compile(r"\{ *([A-Za-z]*)[^{}/]*\}?")
_DATE_WIDTHS = {"YYYY": 4, "MM": 2, "DD": 2}
_MOST_DIGITS = 18  # ML Metadata keeps a span in 64 bits; the widest {SPAN:18} is the same
SETTLE_SECONDS = 300.0
_EPOCH = datetime.date(1970, 1, 1)


@dataclass(frozen=True)
class SpanPattern:
    """A path with specs in it. dated: with {YYYY}, {MM} and {DD}, not {SPAN}. versioned: with {VERSION}."""

    text: str
    dated: bool
    versioned: bool


@dataclass(frozen=True)
class SpanFolders:
    """A complete span.

    number: of a day, the days since 1970-01-01; 0 without patterns. version: None without {VERSION}. folders: by data
    set. shown: the span as a person writes it, 17 or 2026-11-22. empty: there is no file in it but markers.
    passed_over: what `resolve_sources` would have chosen, were it complete.
    """

    number: int
    version: int | None
    folders: dict[str, str]
    shown: str
    empty: bool = False
    passed_over: tuple[Unfinished, ...] = ()

    @property
    def span(self) -> int | datetime.date:
        """As `data.span` asks for it."""
        return datetime.date.fromisoformat(self.shown) if "-" in self.shown else self.number


@dataclass(frozen=True)
class Unfinished:
    """A folder that is not read yet.

    reason: goes on from the folder's name. number: of its span. settling: True where time, or the marker, completes it;
    False where another data set lacks the span.
    """

    folder: str
    reason: str
    number: int
    settling: bool


@dataclass(frozen=True)
class Spans:
    """What has arrived. complete, unfinished: the oldest span first, and the latest version of an unfinished one."""

    complete: tuple[SpanFolders, ...]
    unfinished: tuple[Unfinished, ...]

    @property
    def empty(self) -> tuple[SpanFolders, ...]:
        """The complete spans without photos, oldest first."""
        return tuple(span for span in self.complete if span.empty)


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


def find_spans(
    sources: Mapping[str, str],
    success_file: str = SUCCESS_FILE,
    settle_seconds: float = SETTLE_SECONDS,
    now: float | None = None,
) -> Spans:
    """All spans that have arrived.

    Args:
      sources: data set -> folder or pattern; a local path, or an address such as `gs://bucket/span-{SPAN}`. Without any
        pattern they are one complete span, number 0, and are not looked at.
      success_file: name of the marker.
      settle_seconds: 0: every folder is complete.
      now: seconds since 1970; None: the clock of this machine.

    Raises:
      BadInput: no folder fits a pattern, one that nearly does has no number or day in its name, one span lies in two
        folders, or a folder cannot be read.
    """
    search = _search(sources, None, success_file, settle_seconds, now)
    if not search.patterns:
        return Spans((_without_patterns(sources),), ())
    complete: list[SpanFolders] = []
    unfinished: list[Unfinished] = []
    for number in search.numbers():
        span, waiting = search.newest_version(number)
        complete += [span] if span else []
        unfinished += waiting
    return Spans(tuple(complete), tuple(unfinished))


def choose_window(
    spans: Spans, size: int | Literal["all"], as_of: int | datetime.date | None = None
) -> tuple[SpanFolders, ...]:
    """The spans to train on, oldest first: the newest complete ones that hold photos.

    Args:
      spans: of `find_spans`.
      size: how many, at least 1; there may be fewer.
      as_of: number or day; no span is newer. None: the latest there is.

    Raises:
      BadInput: there is none.
    """
    latest = span_number(as_of)
    holding = [span for span in spans.complete if not span.empty]
    window = [span for span in holding if latest is None or span.number <= latest]
    if window:
        return tuple(window if size == "all" else window[-size:])
    if holding:
        raise BadInput(
            f"no complete span with photos is {as_of} or older, which data.span asks for; the oldest there is "
            f"{holding[0].shown}; choose another, or leave data.span empty"
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
    """The one span that the sources mean now: the latest complete one, or the one asked for.

    Args:
      sources, success_file, settle_seconds, now: as of `find_spans`.
      span: number or day; None: the latest.

    Raises:
      BadInput: no folder fits a pattern, one that nearly does has no number or day in its name, one span lies in two
        folders, or the span asked for is not there or not complete.
    """
    search = _search(sources, span_number(span), success_file, settle_seconds, now)
    if not search.patterns:
        return _without_patterns(sources)
    unfinished: list[Unfinished] = []
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
        what = f"span {asked} of {texts}, which data.span asks for, is not complete yet"
    found = and_more([f"{waiting.folder} {waiting.reason}" for waiting in unfinished], 3, "; ")
    raise BadInput(f"{what}: {found}; {_remedy(unfinished)}")


def fingerprint(span: SpanFolders, success_file: str = SUCCESS_FILE) -> str:
    """`<data set>:<hash>,...` over path, size and modification time of every file but markers.

    Raises:
      BadInput: a folder is missing, empty or cannot be read.
    """
    prints = []
    for dataset, folder in sorted(span.folders.items()):
        prints.append(f"{dataset}:{photo_folder.fingerprint_of_folder(folder, success_file)}")
    return ",".join(prints)


def folder_of_all(source: str, other: str) -> str:
    """The folder of a source without spans; of one with spans the span's that `other` lies in, or the pattern itself.

    Args:
      source: a folder, or a pattern.
      other: another folder, absolute.
    """
    if parse_pattern(source) is None:
        return source
    base, components = _base_and_components(source)
    below = os.path.relpath(other, base).split(os.sep)
    expected = _regular_expression("/".join(components), lambda _spec, _width: "[^/]*")
    span = "/".join(below[: len(components)])
    return _join(base, span) if expected.fullmatch(span) else source


def _without_patterns(sources: Mapping[str, str]) -> SpanFolders:
    return SpanFolders(0, None, dict(sources), "0")


@dataclass(frozen=True)
class _Search:
    """Folders by data set and span's number, and when they count as complete."""

    sources: Mapping[str, str]
    patterns: Mapping[str, SpanPattern]
    found: Mapping[str, Mapping[int, list[_Span]]]
    success_file: str
    settle_seconds: float
    now: float

    def numbers(self) -> list[int]:
        """Of every span that any data set has, in order."""
        return sorted(set().union(*self.found.values()))

    def newest_version(self, number: int) -> tuple[SpanFolders | None, list[Unfinished]]:
        """A span's newest complete version, None without any; and the folders of all newer ones."""
        by_version: dict[int, dict[str, list[_Span]]] = {}
        for dataset, pattern in self.patterns.items():
            spans = self.found[dataset].get(number, [])
            names = list({span.name: span for span in spans}.values())
            _refuse_twins(pattern, names, _day_or_number(pattern, number))
            for span in spans:
                by_version.setdefault(span.version, {}).setdefault(dataset, []).append(span)
        unfinished: list[Unfinished] = []
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

    def _unfinished(self, number: int, version: int, folders: dict[str, str]) -> list[Unfinished]:
        waiting = []
        lacking = [dataset for dataset in self.patterns if dataset not in folders]
        for dataset, folder in folders.items():
            pattern = self.patterns[dataset]
            if reason := self._why_settling(folder):
                waiting.append(Unfinished(folder, reason, number, True))
            elif lacking:
                said = _said(pattern, _Span(folder, (), number, version))
                reason = f"waits for {' and '.join(lacking)}, where there is no span {said}"
                waiting.append(Unfinished(folder, reason, number, False))
        return waiting

    def _why_settling(self, folder: str) -> str:
        """Why a folder may not be whole; empty: it is."""
        if self.settle_seconds == 0 or photo_folder.has_marker(folder, self.success_file):
            return ""
        seconds = self.now - photo_folder.last_change(folder)
        if seconds >= self.settle_seconds:
            return ""
        changed = f"changed {seconds:.0f} s ago" if seconds >= 0 else f"changed {-seconds:.0f} s in the future"
        return (
            f"{changed}, and has no {self.success_file}; it counts as complete after {self.settle_seconds:g} s without "
            "a change"
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
    """Looks for the folders that fit the patterns: of the span asked for, or of all."""
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
        f"no folder of {pattern.text} is span {_day_or_number(pattern, asked)}, which data.span asks for; the "
        f"latest there is {_day_or_number(pattern, latest)}; choose another, or leave data.span empty"
    )


def _remedy(unfinished: Sequence[Unfinished]) -> str:
    if any(waiting.settling for waiting in unfinished):
        return "wait, put that file into the folder if it is whole, or set data.settle_seconds=0"
    return "add what is missing"


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
    shown = and_more(names, 5)
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
