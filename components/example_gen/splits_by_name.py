"""Recognises folders that are named like splits: `train`, `seg_train`, `training_set`, `Training`, `test1` ..."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORDS = {
    "train": "train", "training": "train", "trainval": "train", "trn": "train",
    "val": "eval", "valid": "eval", "validate": "eval", "validation": "eval", "vld": "eval",
    "eval": "eval", "evaluation": "eval", "dev": "eval",
    "test": "test", "testing": "test", "tst": "test", "holdout": "test",
}  # fmt: skip
# Words without meaning next to the name of a split.
_NEUTRAL = frozenset((
    "list", "lists", "label", "labels", "annotation", "annotations", "ids",
    "set", "sets", "data", "dataset", "datasets", "ds", "image", "images", "img", "imgs", "im", "photo",
    "photos", "pic", "pics", "picture", "pictures", "folder", "dir", "split", "splits", "seg", "cls",
    "classification", "file", "files", "sample", "samples", "subset", "new", "final", "all", "full", "my",
    "the", "original", "orig", "raw", "resized", "cropped", "processed", "preprocessed", "augmented", "aug",
    "clean", "cleaned", "small", "mini", "jpg", "jpeg", "png", "of", "for",
))  # fmt: skip
_SAYS_NOTHING_IN_CELLS = frozenset(("public", "private"))
_GLUED = re.compile(rf"({'|'.join(sorted(_WORDS, key=len, reverse=True))})({'|'.join(sorted(_NEUTRAL))})")


def split_names(names: Sequence[str], above: str = "") -> dict[str, str]:
    """Finds the folders named like a split among sibling folders: name -> `train`, `eval` or `test`.

    The word for a split counts if it stands alone (`Training`, `test1`), next to neutral words (`train_images`), next
    to words of the parent folder (`flowers/flowers_train`), or if two folders differ only in that word (`asl_train`,
    `asl_test`). So `train_station` and `test_tube` are classes.
    """
    read = {name: _read(name) for name in names}
    neutral = set(_tokens(above))
    splits_of_rest: dict[tuple[str, ...], set[str]] = {}
    for split, rest in read.values():
        splits_of_rest.setdefault(rest, set()).add(split)
    return {
        name: split
        for name, (split, rest) in read.items()
        if split and (splits_of_rest[rest] - {"", split} or neutral.issuperset(rest))
    }


def says_split(text: str) -> str:
    """The split named by a table cell or a file name, such as `train`, `PublicTest` or `val_list`; empty for none."""
    split, rest = _read(text)
    return split if set(rest) <= _SAYS_NOTHING_IN_CELLS else ""


def split_of_path(folders: Sequence[str]) -> str:
    """The split named by the folders above a photo, the topmost first; empty for none."""
    return next((split for name in folders for split in split_names([name]).values()), "")


def rest_of(name: str) -> tuple[str, ...]:
    """The words of a name without split words and neutral words: equal for `rps`, `rps-test-set` and `rps_train`."""
    return _read(name)[1]


def _read(name: str) -> tuple[str, tuple[str, ...]]:
    """The split that a name contains (empty for none or several), and its other meaningful words."""
    tokens = _tokens(name)
    splits = {_WORDS[token] for token in tokens if token in _WORDS}
    if splits == {"train", "eval"}:  # train_val: training photos that have not been divided yet
        splits = {"train"}
    rest = tuple(token for token in tokens if token not in _WORDS and token not in _NEUTRAL)
    return (splits.pop() if len(splits) == 1 else ""), rest


def _tokens(name: str) -> list[str]:
    """Words in lower case, split at non-letters and between a lower-case and an upper-case letter."""
    words = re.findall(r"[^\W\d_]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name))
    tokens: list[str] = []
    for word in (word.lower() for word in words):
        glued = _GLUED.fullmatch(word)
        tokens += glued.groups() if glued and word not in _WORDS else [word]
    return tokens
