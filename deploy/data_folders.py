"""Checks the data folders and the root of a configuration before anything slow is imported."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from components.example_gen import layouts, spans
from components.example_gen.overview import Overview, make_overview
from components.example_gen.spans import SpanFolders, Spans
from deploy import corrections
from deploy.overlap import refuse_overlap, refuse_pattern
from deploy.root import ROOTS_FOLDER, Root, shown
from pipeline.config import CompletenessOfSpans, Config
from schemas.errors import BadInput
from schemas.features import SEGMENTATION
from schemas.words import and_more


def check_places(config: Config, root: Root) -> None:
    """Checks the paths of the data folders and of the root before anything is written.

    Raises:
      BadInput: the path of the root would be read as a pattern, or one of the folders is inside another.
    """
    refuse_pattern("the root folder", root.folder)
    inputs = {}
    for what, sources in (
        ("the photos", config.data.sources),
        ("the photos to evaluate on", config.evaluation.further),
    ):
        for dataset, source in sources.items():
            if source and not source.startswith("tfds:"):
                inputs[f"{what} of {dataset}"] = spans.folder_of_all(source, str(root.folder))
    refuse_overlap(inputs, {"the root": root.folder})


@dataclass(frozen=True)
class DataSurvey:
    """What the data folders hold, as far as names and lists tell."""

    sources: dict[str, str]
    """Data set to train on -> folder, as `check_sources` gives them."""
    further: dict[str, str]
    """Data set to evaluate on -> folder."""
    classes: frozenset[str] | None
    """Classes of the photos to train on; None: they are known only once the photos are read."""
    whole: bool
    """Whether `classes` has all classes; of a window only the newest span is checked."""
    photos: int
    photo_bytes: int


def default_root(config: Config) -> Root:
    """The root of a run without --root: `runs/` and the name of the folder of photos.

    So two data sets have two roots, and neither replaces the other's production; nor do breeds and masks of one data
    set. A root named after the configuration, as older versions created it, remains in use until there is one named
    after the data.
    """
    names = [_name_of(source) for source in config.data.folders.values()]
    also_classified = config.task.kind == SEGMENTATION and "image_masks" not in config.data.sources
    name = "+".join(filter(None, names)) + ("-masks" if also_classified else "")
    of_data = Root(Path(ROOTS_FOLDER) / name) if any(names) else None
    of_config = Root(Path(ROOTS_FOLDER) / config.name)
    return of_config if of_data is None or (of_config.exists() and not of_data.exists()) else of_data


def _name_of(source: str) -> str:
    """The last part of a folder's path, without span patterns; the name in `tfds:NAME`; empty: there is no name."""
    if source.startswith("tfds:"):
        return source.split(":")[1]
    before, pattern, _ = source.partition("{")
    folder = os.path.dirname(before) if pattern else source
    if folder and "://" not in folder:
        folder = os.path.abspath(folder)
    return re.sub(r"[^\w.+-]+", "_", folder.rstrip("/").rpartition("/")[2]).strip("._")


def check_sources(
    config: Config, said: Callable[[str], None] = lambda text: None
) -> tuple[dict[str, str], dict[str, str]]:
    """Data set -> folder, for those to train on and for those to evaluate on only; see `survey_data`."""
    survey = survey_data(config, said)
    return survey.sources, survey.further


def survey_data(config: Config, said: Callable[[str], None] = lambda text: None) -> DataSurvey:
    """Checks every data folder before anything slow is imported.

    Args:
      said: called with a sentence on what each folder holds, and on each newer span that is skipped as incomplete.

    Returns:
      what the folders hold. In `sources` and `further` names with `tfds:` are resolved, and downloaded if needed; span
      patterns stay, since ImageExampleGen looks for the span again.

    Raises:
      BadInput: a folder or span is missing, unreadable, empty or in no known layout, there is only one class, or the
        model does not learn a class that it is to be evaluated on.
    """
    sources = resolve_tfds(config, config.data.sources)
    data, whole = config.data, config.data.window is None
    # The newest span need not have all classes.
    window = [] if whole else find_window(config)[0]
    newest = window[-1] if window else None
    folders = newest.folders if newest else _resolve(sources, data.span, data.completeness, said)
    overviews = look_at_folders(config, folders, config.task.label)
    found = _classes(overviews, said, whole)
    classes = found if whole else None
    if classes is not None and len(classes) == 1:
        raise BadInput(
            f"all photos in {', '.join(folders.values())} are of one class, {min(classes)!r}; expected at least two "
            "classes, for example in one folder each"
        )
    if data.corrections:
        of_all = found
        for span in window[:-1] if of_all is not None else ():
            more = _classes(look_at_folders(config, span.folders, config.task.label), lambda text: None, whole=False)
            of_all = None if of_all is None or more is None else of_all | more
        corrections.check(config, sources, of_all)
    further = resolve_tfds(config, config.evaluation.further)
    folders = _resolve(further, None, data.completeness, said)
    more = _classes(look_at_folders(config, folders, config.evaluation.further_label), said, whole=False)
    unknown = sorted(more - classes) if more is not None and classes is not None else []
    if unknown:
        raise BadInput(
            f"the photos to evaluate on, in {', '.join(folders.values())}, have classes that the model does not learn "
            f"({', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}; it learns "
            f"{', '.join(sorted(classes or ())[:5])}); choose another evaluation.further_label, or leave them out"
        )
    photos, photo_bytes = (sum(getattr(each, name) for each in overviews) for name in ("photos", "bytes"))
    return DataSurvey(sources, further, found, whole, photos, photo_bytes)


def refuse_other_classes(config: Config, root: Root, survey: DataSurvey) -> None:
    """Checks before training that the model in production is of the same task, and knows the classes of the photos.

    Raises:
      BadInput: it is of the other task, or was trained on other classes, so that no model could be compared with it.
    """
    version = root.production_version()
    if version is None or config.release.incomparable != "refuse":
        return
    manifest = root.serving_folder().manifest(int(version))
    known = set((manifest.labels if manifest else None) or ())
    if manifest and manifest.metrics and ("mean_iou" in manifest.metrics) != bool(config.mask_size):
        its, ours = ("photo", "pixel") if config.mask_size else ("pixel", "photo")
        classes = f" ({and_more(sorted(known), 5)})" if known else ""
        differ = f"gives a class for each {its}{classes}, but this run learns one for each {ours}"
    elif known and survey.classes is not None and not _are_comparable(config, survey, known):
        show = "these masks have" if config.mask_size else "these photos show"
        differ = f"knows {and_more(sorted(known), 5)}, but {show} {and_more(sorted(survey.classes), 5)}"
    else:
        return
    raise BadInput(
        f"the model in production in {root.folder} {differ}, so the two cannot be compared; give these photos a root "
        "of their own with --root, or set release.incomparable=floors to replace the model anyway"
    )


def _are_comparable(config: Config, survey: DataSurvey, known: Set[str]) -> bool:
    """Whether ReleaseGate could compare models of these classes with one that knows others."""
    assert survey.classes is not None
    if config.mask_size and survey.whole:  # a pixel of an unknown class would be wrong whatever is answered
        return survey.classes == known
    # A span may have a single class, and belongs to this root if production knows it.
    return len(survey.classes & known) >= (2 if survey.whole else 1)


def _resolve(
    sources: Mapping[str, str], span: int | date | None, completeness: CompletenessOfSpans, said: Callable[[str], None]
) -> dict[str, str]:
    """Data set -> folder of the span to read."""
    found = spans.resolve_sources(sources, span, **completeness)
    for waiting in found.passed_over:
        said(f"{waiting.folder} is not read yet: it {waiting.reason}")
    return found.folders


def resolve_tfds(config: Config, given: Mapping[Any, str | None]) -> dict[str, str]:
    """The source of each data set; those of TensorFlow Datasets are prepared first."""
    sources: dict[str, str] = {}
    for dataset, source in given.items():
        assert source is not None  # load_config has seen to it
        if source.startswith("tfds:"):
            from components.example_gen import tfds_source

            source = tfds_source.resolve_tfds(source, config.data.tfds_dir)
        sources[dataset] = source
    return sources


def look_at_folders(config: Config, folders: Mapping[str, str], label_from: str) -> list[Overview]:
    """An overview of the folder of each data set.

    Raises:
      BadInput: as `layouts.find_photos`.
    """
    overviews = []
    for dataset, folder in folders.items():
        found = layouts.find_photos(folder, dataset, config.folder_rules)
        name = folder if "://" in folder else shown(Path(folder))
        overviews.append(make_overview(name, dataset, found, label_from, config.folder_rules.masks))
    return overviews


def _classes(overviews: list[Overview], said: Callable[[str], None], whole: bool) -> frozenset[str] | None:
    """The classes of the photos in the folders, or of their masks; None: they are known only once they are read."""
    classes: frozenset[str] | None = frozenset()
    for overview in overviews:
        for line in overview.lines():
            said(line)
        if overview.never_learnt and whole:
            held_back = " and ".join(split for split, where in overview.splits.items() if split != "train")
            raise BadInput(
                f"all photos of {and_more(overview.never_learnt, 5)} in {overview.folder} belong to {held_back}; "
                "expected photos of every class in train"
            )
        if overview.masks:
            return None if overview.mask_classes is None else frozenset(overview.mask_classes)
        if overview.classes is None:
            classes = None
        elif classes is not None:
            classes |= {label for label, count in overview.classes.items() if count}
    return classes


def ways_out(config: Config) -> str:
    """What to do about a new span that was stopped, to append to the reason; empty: there is no span."""
    patterns = [source for source in config.data.sources.values() if source and spans.parse_pattern(source)]
    if not patterns or config.data.span is not None:
        return ""
    with contextlib.suppress(BadInput):
        if config.data.window is not None:
            newest = find_window(config)[0][-1]
        else:
            newest = spans.resolve_sources(config.data.folders, None, **config.data.completeness)
        folders = and_more(list(newest.folders.values()), 3)
        return f"; it is span {newest.shown} in {folders}, and renaming its folder leaves it out"
    return ""


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
