"""Finds the reasons why masks cannot be trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from schemas.words import and_more

_MOST_NAMED = 5


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
            f"no mask of the train split has pixels of {_listed(lacking)} to learn from{only}; add photos that show it"
        )
    return problems


def find_mask_notes(report: dict[str, Any], whole: bool = True) -> list[str]:
    """One sentence for each thing about the masks that does not stop the run but that the user should know.

    Args:
      report, whole: as for `find_mask_problems`.
    """
    masks = report.get("masks")
    if not masks:
        return []
    notes = list(masks["notes"])
    by_split = masks["splits"]
    seen = {name for of_split in by_split.values() for name in of_split}
    nowhere = [name for name in masks["classes"] if name not in seen]
    if whole and nowhere:
        notes.append(f"no mask has pixels of {_listed(nowhere)}, so no model can learn it")
    for split, so in (("eval", "the best epoch is chosen"), ("test", "the model is tested")):
        missing = [name for name in masks["classes"] if name in seen and name not in by_split[split]]
        if whole and missing and by_split[split]:
            notes.append(f"no mask of the {split} split has pixels of {_listed(missing)}, so {so} without any")
    ignored = sum(masks["ignored_pixels"].values())
    if ignored:
        counted = sum(counts["pixels"] for of_split in by_split.values() for counts in of_split.values())
        # A report of an older version names no classes that are not counted.
        why = (
            f"value 255, and by task.ignore {_listed(left_out)}" if (left_out := masks.get("ignored")) else "value 255"
        )
        notes.append(f"{ignored / (ignored + counted):.1%} of the pixels of the masks are not counted ({why})")
    return notes


def _listed(names: Sequence[str]) -> str:
    return and_more([repr(name) for name in names], _MOST_NAMED)
