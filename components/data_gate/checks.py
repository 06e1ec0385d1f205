"""Finds the reasons why data and their masks cannot be trained on; plain Python over counts and anomalies."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from components.example_gen.copies import CONTRADICTIONS, CONTRADICTORY_LABEL, CONTRADICTORY_MASK
from components.example_gen.copies import REASONS as COPIES
from components.example_gen.corrections import notes_on
from components.example_gen.overview import called
from schemas.features import SPLITS
from schemas.words import and_more

_MOST_NAMED = 5
# Split -> what is done by it.
_DONE_BY = {"eval": "the best epoch is chosen", "test": "the model is tested"}


def find_problems(
    report: dict[str, Any],
    rejected: list[dict[str, str]],
    anomalies: dict[str, dict[str, str]],
    max_rejected_fraction: float,
    max_contradictions: float = 1.0,
    whole: bool = True,
) -> list[str]:
    """One sentence for each reason to stop; empty if the data are good.

    Args:
      anomalies: split -> feature -> description of each ERROR anomaly from ExampleValidator.
      whole: False for only a part of the data, in which classes and splits may be missing.
    """
    accepted = report["accepted"]
    if accepted == 0:
        return [
            f"no photo could be used: all {len(rejected)} files were rejected ({_reasons(rejected)}); expected JPEG, "
            f"PNG, GIF or BMP photos; the first: {rejected[0]['detail']}"
            if rejected
            else "no photos were found; expected JPEG, PNG, GIF or BMP photos"
        ]
    problems = []
    refused = [line for line in rejected if line["reason"] not in COPIES]
    fraction = len(refused) / (accepted + len(refused))
    if fraction > max_rejected_fraction:
        problems.append(
            f"{len(refused)} of {accepted + len(refused)} files were rejected ({fraction:.1%}: {_reasons(refused)}), "
            f"more than data.max_rejected_fraction ({max_rejected_fraction:.1%}); replace the files or raise the "
            f"limit; the first: {refused[0]['detail']}"
        )
    contradictions = [line for line in rejected if line["reason"] in CONTRADICTIONS]
    fraction = len(contradictions) / (accepted + len(contradictions))
    if fraction > max_contradictions:
        problems.append(
            f"{len(contradictions)} of {accepted + len(contradictions)} photos ({fraction:.1%}) have the same bytes as "
            f"a photo {_of_another(contradictions)}, more than data.max_contradictions ({max_contradictions:.1%}); fix "
            f"the {_what(contradictions)}, or raise the limit to leave these photos out; the first: "
            f"{contradictions[0]['detail']}"
        )
    # With masks, labels only say what is reported, and `find_mask_problems` looks at the classes.
    of_labels = whole and "masks" not in report
    if "masks" not in report:
        problems += _lost_classes(report.get("classes", {}), rejected, max_rejected_fraction, whole)
    classes = sorted({label for counts in report["splits"].values() for label in counts})
    if of_labels and len(classes) == 1:
        problems.append(
            f"all {accepted} accepted photos are of one class, {classes[0]!r}; expected at least two classes, each in "
            "a folder of its own"
        )
    problems += [
        f"the {split} split got none of the {accepted} accepted photos; add photos or change data.splits"
        for split in SPLITS
        if whole and not report["splits"].get(split)
    ]
    not_trained = [repr(c) for c in classes if c not in report["splits"].get("train", {})]
    if of_labels and len(classes) > 1 and report["splits"].get("train") and not_trained:
        problems.append(f"the train split has no photos of {_listed(not_trained)} to learn from; add photos")
    for split, by_feature in anomalies.items():
        for feature, description in sorted(by_feature.items()):
            problems.append(f"the {split} split violates the schema at {feature!r}: {description}")
    return problems


def _lost_classes(
    classes: Mapping[str, Mapping[str, int]], rejected: Sequence[Mapping[str, str]], limit: float, whole: bool
) -> list[str]:
    """One sentence each for classes without a usable photo, without any file, and with too many rejected files.

    A class may always lose one file, however small the class is.
    """
    files: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for line in rejected:
        files[line["label"]].append(line)
    without = {label for label, counts in classes.items() if not counts["accepted"]}
    gone = [f"{label!r} ({_lost_all(files[label])})" for label in sorted(without) if files[label]]
    empty = [repr(label) for label in sorted(without) if not files[label]] if whole else []
    thinned = []
    for label in sorted(set(classes) - without):
        refused = [line for line in files[label] if line["reason"] not in COPIES]
        of = classes[label]["accepted"] + len(refused)
        if len(refused) > max(1, limit * of):
            thinned.append(f"{len(refused)} of the {of} files of {label!r} ({_reasons(refused)})")
    problems = []
    if gone:
        problems.append(
            f"the {_of_class(gone)} {_listed(gone)} {'has' if len(gone) == 1 else 'have'} no usable photos; replace "
            f"the files, or remove {_their_folder(gone)}"
        )
    if empty:
        problems.append(
            f"the {_of_class(empty)} {_listed(empty)} {'has' if len(empty) == 1 else 'have'} no photos at all; add "
            f"photos, or remove {_their_folder(empty)}"
        )
    if thinned:
        problems.append(
            f"{_listed(thinned)} were rejected, more than data.max_rejected_fraction ({limit:.1%}) allows per class; "
            "replace the files or raise the limit"
        )
    return problems


def _lost_all(files: Sequence[Mapping[str, str]]) -> str:
    return f"{'its only file was' if len(files) == 1 else f'all {len(files)} files were'} rejected: {_reasons(files)}"


def find_notes(report: dict[str, Any], rejected: Sequence[Mapping[str, str]], whole: bool = True) -> list[str]:
    """One sentence for each thing that does not stop the run but that the user should know."""
    notes = []
    if left_out := report.get("left_out"):
        notes.append("left out: " + ", ".join(called(reason, count) for reason, count in left_out.items()))
    for reason, has in ((CONTRADICTORY_LABEL, "is in two classes"), (CONTRADICTORY_MASK, "has two masks")):
        contradictions = [line for line in rejected if line["reason"] == reason]
        if contradictions:
            notes.append(
                f"{len(contradictions)} photos were left out because the same photo {has}: {_files(contradictions)}"
            )
    for split in ("test", "eval"):
        copies = [line for line in rejected if line["reason"] == f"duplicate_of_{split}"]
        if copies:
            which = "copy of a photo" if len(copies) == 1 else "copies of photos"
            notes.append(
                f"{len(copies)} {which} in the {split} split {'was' if len(copies) == 1 else 'were'} left out of the "
                f"other splits: {_files(copies)}"
            )
    if whole:
        notes += notes_on(report.get("corrections"))
    splits = report["splits"]
    classes = sorted({label for counts in splits.values() for label in counts})
    for split, so in _DONE_BY.items():
        missing = [repr(label) for label in classes if label not in splits.get(split, {})]
        if whole and missing and splits.get(split) and "masks" not in report:
            notes.append(f"the {split} split has no photos of {_listed(missing)}, so {so} without any; add photos")
    return notes + find_mask_notes(report, whole)


def _reasons(rejected: Iterable[Mapping[str, str]]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(r["reason"] for r in rejected).items()))


def _files(rejected: Sequence[Mapping[str, str]]) -> str:
    return _listed([line["file_name"] for line in rejected])


def _of_another(contradictions: Sequence[Mapping[str, str]]) -> str:
    return "with another mask" if _what(contradictions) == "masks" else "of another class"


def _what(contradictions: Sequence[Mapping[str, str]]) -> str:
    return "masks" if all(line["reason"] == CONTRADICTORY_MASK for line in contradictions) else "labels"


def _of_class(several: Sequence[str]) -> str:
    return "class" if len(several) == 1 else "classes"


def _their_folder(classes: Sequence[str]) -> str:
    return "its folder" if len(classes) == 1 else "their folders"


def _listed(several: Sequence[str]) -> str:
    return and_more(several, _MOST_NAMED)


def find_mask_problems(report: dict[str, Any], required: Sequence[str] = (), whole: bool = True) -> list[str]:
    """One sentence for each reason to stop; empty if the masks are good, or there are none.

    Args:
      required: classes of the curated schema, which have to be in the masks; empty where the data name the classes.
      whole: False for only a part of the data, in which classes may be missing.
    """
    masks = report.get("masks")
    if not masks or not report["accepted"] or not whole:
        return []
    by_split = masks["splits"]
    pixels: Counter[str] = Counter()
    for of_split in by_split.values():
        pixels.update({name: counts["pixels"] for name, counts in of_split.items()})
    problems = []
    if len(pixels) == 1:
        problems.append(
            f"all {sum(pixels.values()):,} pixels of the {report['accepted']} masks are of one class, "
            f"{next(iter(pixels))!r}; expected at least two classes: check what the values of the masks stand for"
        )
    not_learnt = [name for name in masks["classes"] if name not in by_split["train"]]
    lacking = [name for name in not_learnt if name in pixels or name in required]
    if lacking and len(pixels) > 1:
        held_back = [name for name in lacking if name in pixels]
        only = " (only masks of the other splits have it)" if held_back == lacking and len(lacking) == 1 else ""
        problems.append(
            f"no mask of the train split has pixels of {_quoted(lacking)} to learn from{only}; add photos that show it"
        )
    return problems


def find_mask_notes(report: dict[str, Any], whole: bool = True) -> list[str]:
    """One sentence for each thing about the masks that does not stop the run but that the user should know."""
    masks = report.get("masks")
    if not masks:
        return []
    notes = list(masks["notes"])
    by_split = masks["splits"]
    seen = {name for of_split in by_split.values() for name in of_split}
    nowhere = [name for name in masks["classes"] if name not in seen]
    if whole and nowhere:
        notes.append(f"no mask has pixels of {_quoted(nowhere)}, so no model can learn it")
    for split, so in _DONE_BY.items():
        missing = [name for name in masks["classes"] if name in seen and name not in by_split[split]]
        if whole and missing and by_split[split]:
            notes.append(f"no mask of the {split} split has pixels of {_quoted(missing)}, so {so} without any")
    ignored = sum(masks["ignored_pixels"].values())
    if ignored:
        counted = sum(counts["pixels"] for of_split in by_split.values() for counts in of_split.values())
        # A report of an older version names no classes that are not counted.
        why = (
            f"value 255, and by task.ignore {_quoted(left_out)}" if (left_out := masks.get("ignored")) else "value 255"
        )
        notes.append(f"{ignored / (ignored + counted):.1%} of the pixels of the masks are not counted ({why})")
    return notes


def _quoted(names: Sequence[str]) -> str:
    return and_more([repr(name) for name in names], _MOST_NAMED)
