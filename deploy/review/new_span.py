"""Makes a new span of collected photos that a person has labelled, for the next run to learn from."""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from components.example_gen import spans
from components.example_gen.span_pattern import SPEC, SpanPattern, parse_pattern
from deploy.collection import CollectedPhoto, Collection
from pipeline.config import Config
from schemas.errors import BadInput

# Data sets whose photos may lie in one folder for each class.
_FOLDERS_OF_CLASSES = ("image_folder", "cats_vs_dogs")


@dataclass(frozen=True)
class NewSpan:
    """A span that was made."""

    folder: Path
    photos: int
    removed: int
    """Number of photos that were left out, and are no longer in the collection."""


def find_place(config: Config, into: str | None, today: date | None = None) -> Path:
    """The folder of the span that collected photos go into; it does not exist yet.

    Args:
      into: a folder instead of the next span.

    Raises:
      BadInput: there is no place for a new span, and why.
    """
    datasets = list(config.data.sources)
    if len(datasets) != 1 or datasets[0] not in _FOLDERS_OF_CLASSES:
        raise BadInput(
            f"collected photos can only be added to {' or '.join(_FOLDERS_OF_CLASSES)}, whose classes are folders; "
            f"this run learnt {' and '.join(datasets)}"
        )
    if into is not None:
        folder = Path(os.path.expanduser(into)).absolute()
        if folder.exists():
            raise BadInput(f"{folder} exists already; expected the name of a new folder")
        return folder
    source = config.data.sources[datasets[0]] or ""
    pattern = parse_pattern(source)
    if pattern is None or "://" in source:
        raise BadInput(
            f"the photos in {source} are not in spans on this machine, so there is no next one; name a new folder "
            "with --into"
        )
    if config.data.window is None:
        raise BadInput(
            "data.window is not set, so the next run would learn from the newest span alone; set it, or name a new "
            "folder with --into"
        )
    folder = Path(_fill(pattern, source, config, today or date.today()))
    if folder.exists():
        raise BadInput(f"the span of today, {folder}, exists already; name a new folder with --into")
    return folder


def _fill(pattern: SpanPattern, source: str, config: Config, today: date) -> str:
    """The pattern with the next number, or today, in its place."""
    values = {"YYYY": f"{today:%Y}", "MM": f"{today:%m}", "DD": f"{today:%d}", "VERSION": "1"}
    if not pattern.dated:
        found = spans.find_spans({"image_folder": source}, **config.data.completeness)
        known = [one.number for one in found.complete] + [one.number for one in found.unfinished]
        values["SPAN"] = str(max(known) + 1)
    return SPEC.sub(lambda spec: values[spec[1] or spec[3]].zfill(int(spec[2] or 0)), source)


def make_span(collection: Collection, place: Path, success_file: str) -> NewSpan:
    """Moves all photos that a person has spoken of out of the collection, those with a label into a new span.

    The span appears whole, with its marker, by one rename.

    Raises:
      BadInput: no photo has a label, or the folder cannot be written.
    """
    spoken_of = [photo for photo in collection.photos() if photo.new_label is not None]
    labelled = [photo for photo in spoken_of if photo.new_label]
    if not labelled:
        raise BadInput("no collected photo has a label yet; give at least one")
    # Hidden, so that it is no span before it is whole.
    draft = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
    try:
        for photo in labelled:
            _copy(photo, collection, draft)
        (draft / success_file).touch()
        if place.exists():
            raise BadInput(f"{place} exists already; expected the name of a new folder")
        os.rename(draft, place)
    except OSError as error:
        raise BadInput(
            f"the span {place} cannot be written ({error.strerror}); the photos stay in the collection"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    for photo in spoken_of:
        collection.remove(photo)
    return NewSpan(place, len(labelled), len(spoken_of) - len(labelled))


def _copy(photo: CollectedPhoto, collection: Collection, span: Path) -> None:
    folder = span / (photo.new_label or "")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(collection.folder / photo.file, folder / photo.file)


def is_folder_name(label: str) -> bool:
    """Whether a class can be a folder."""
    return bool(label) and "/" not in label and "\0" not in label and not label.startswith(".")
