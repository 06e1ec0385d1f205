"""What a person says about photos, written into the file of corrections at once.

The file is read anew for every decision, under a lock, so that two people, or a person with a spreadsheet, do not
overwrite each other's lines. It is replaced by one rename. No photo is ever touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import filelock

from components.whole_file import write_whole
from deploy.review.items import Item
from schemas.corrections import Correction, corrections_csv, read_corrections

Kind = Literal["keep", "change", "drop", "undo"]
_LOCK_SECONDS = 10


class DecisionError(ValueError):
    """A decision makes no sense; the message is a sentence."""


class Decisions:
    """The decisions of one reviewer."""

    def __init__(self, file: Path, who: str, labels: Sequence[str]):
        """
        Args:
          file: the file of corrections, which need not exist.
          who: is written beside each decision.

        Raises:
          BadInput: there is such a file, and it is wrong.
        """
        self.file = file
        self.labels = list(labels)
        self._who = who
        self._before: dict[str, Correction | None] = {}
        self.read()

    def read(self) -> dict[str, Correction]:
        """Content hash -> what the file says of the photo.

        Raises:
          BadInput: the file is wrong.
        """
        return {one.content_hash: one for one in read_corrections(self.file)} if self.file.exists() else {}

    def decide(self, item: Item, kind: Kind, label: str = "") -> Correction | None:
        """Writes a decision, and returns what the file says of the photo now; None: nothing.

        Args:
          kind: keep its label, change it, drop the photo, or take back the last decisions on it.

        Raises:
          DecisionError: the photo cannot be decided upon like this.
          BadInput: the file is wrong.
          OSError: it cannot be written.
        """
        with self._locked():
            corrections = self.read()
            known = corrections.get(item.content_hash)
            if kind == "undo":
                decided = self._before.pop(item.content_hash, None)
            else:
                decided = self._correction(item, kind, label, known)
                self._before.setdefault(item.content_hash, known)
            if decided is None:
                corrections.pop(item.content_hash, None)
            else:
                corrections[item.content_hash] = decided
            write_whole(self.file, corrections_csv(corrections.values()))
        return decided

    def _correction(self, item: Item, kind: Kind, label: str, known: Correction | None) -> Correction:
        if kind == "keep" and not item.labels:
            raise DecisionError(f"{item.path} has no label to keep; leave it as it is, or drop the photo.")
        if kind == "keep" and len(item.labels) != 1:
            raise DecisionError(f"{item.path} is in several classes; choose one of them, or drop the photo.")
        if kind == "change" and label not in self.labels and label not in item.labels:
            raise DecisionError(f"{label[:80]!r} is not a class of this run.")
        new = {"keep": item.labels[0] if item.labels else "", "change": label}.get(kind, "")
        # The label that the photo's place gives it: the run may have had the correction of a former review.
        old = known.old_label if known and known.old_label else next((one for one in item.labels if one != new), new)
        when = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Correction(
            content_hash=item.content_hash,
            file_name=item.path,
            old_label=old if kind != "drop" or known else next(iter(item.labels), ""),
            new_label=new,
            who=self._who,
            when=when,
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = filelock.FileLock(self.file.with_name(f".{self.file.name}.lock"))
        with lock.acquire(timeout=_LOCK_SECONDS, poll_interval=0.02):
            yield
