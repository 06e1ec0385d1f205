"""The spans of photos of a run: the newest complete ones to train on, and those to test on."""

from __future__ import annotations

from collections.abc import Sequence

from components.example_gen import spans
from components.example_gen.spans import SpanFolders, Spans
from pipeline.config import Config
from schemas.errors import BadInput


def find_window(config: Config) -> tuple[list[SpanFolders], list[SpanFolders], Spans]:
    """With `data.window`: the spans to train on, oldest first; further spans to test on; and all that were found.

    Raises:
      BadInput: as `spans.find_spans` and `spans.choose_window`, or a test span does not exist.
    """
    data = config.data
    assert data.window is not None
    found = spans.find_spans(data.folders, **data.completeness)
    window = list(spans.choose_window(found, data.window, data.span))
    by_number = {one.number: one for one in found.complete if not one.empty}
    further = []
    for span in data.test_spans or ():
        number = spans.span_number(span)
        if number not in by_number:
            raise BadInput(
                f"data.test_spans asks for span {span}, which does not exist, is empty or is not complete; choose from "
                f"{', '.join(one.shown for one in by_number.values())}"
            )
        if number not in {one.number for one in window}:
            further.append(by_number[number])
    return window, further, found


def planned(
    window: Sequence[SpanFolders], further: Sequence[SpanFolders], success_file: str, corrections: str = ""
) -> list[str]:
    """The spans of a window as ML Metadata records them: role, number, version and files of each.

    The corrections have a line of their own, with their fingerprint (`schemas.corrections`); without any there is none.
    """
    return [
        f"{part} {one.number} {'-' if one.version is None else one.version} {spans.fingerprint(one, success_file)}"
        for part, parts in (("train", window), ("test", further))
        for one in parts
    ] + ([f"corrections {corrections}"] if corrections else [])
