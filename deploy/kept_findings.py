"""Keeps the findings of the latest run: they follow from the outputs of its steps, and take longer than a cached run.

Drawing the winner's heat maps loads a model, and with it TensorFlow. A run whose steps all come from the cache finds
the same, so its page is made of what was found before.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import traceback
from collections.abc import Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from tfx.types import Artifact

from components.report import findings
from components.report.finding_list import FindingList
from components.sealed import seal, unseal
from components.whole_file import write_whole
from pipeline.fingerprint import fingerprint_of_everything
from schemas.findings import Findings
from schemas.json_records import from_json, to_json
from schemas.summary import CorrectedPhoto

# Of the outputs of a run: they differ from run to run, and nothing is found by them.
_OF_THE_RUN = "peaks"


def find(outputs: findings.RunOutputs, seed: int, run_id: str, file: Path | None) -> tuple[dict[str, Any], Findings]:
    """What `findings.find` finds, and the list of all findings; or what it found before for the same outputs.

    Args:
      outputs, seed: of `findings.find`.
      run_id: name of the run, for the list.
      file: what was found before; it may be absent or damaged. None: nothing is kept.
    """
    key = _key(outputs, seed) if file else ""
    if file and (kept := _read(file, key)):
        found = kept["found"]
        found["cost"]["nodes"] = findings.cost_of_nodes(outputs)
        if "corrected" in found:
            found["corrected"] = [from_json(CorrectedPhoto, each) for each in found["corrected"]]
        return found, replace(from_json(Findings, kept["listed"]), run_id=run_id)
    collected = FindingList()
    found = findings.find(outputs, seed, collected)
    listed = collected.findings(run_id, outputs.labels)
    if file and not found["problems"]:
        content = json.dumps({"found": found, "listed": to_json(listed)}, default=_plain).encode()
        try:
            write_whole(file, seal(content, key))
        except OSError:  # the disk is full, for example
            traceback.print_exc()
    return found, listed


def _read(file: Path, key: str) -> dict[str, Any] | None:
    try:
        content = unseal(file.read_bytes(), key)
    except OSError:
        return None
    return None if content is None else json.loads(content)


def _key(outputs: findings.RunOutputs, seed: int) -> str:
    """A hash of everything that the findings follow from."""
    decides = {
        field.name: getattr(outputs, field.name) for field in dataclasses.fields(outputs) if field.name != _OF_THE_RUN
    }
    text = json.dumps([decides, seed, fingerprint_of_everything()], sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _plain(value: Any) -> Any:
    """What `json` does not know, as something it does."""
    if isinstance(value, Set):
        return sorted(value)
    if not isinstance(value, Artifact):
        return to_json(value)
    # With its time, for where ML Metadata was lost, addresses are used again.
    return [value.uri, os.stat(value.uri).st_mtime_ns if os.path.isdir(value.uri) else None]
