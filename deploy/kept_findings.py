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
from pathlib import Path
from typing import Any

from tfx.types import Artifact

from components.report import findings
from components.sealed import seal, unseal
from components.whole_file import write_whole
from pipeline.fingerprint import fingerprint_of_everything

# Of the outputs of a run: they differ from run to run, and nothing is found by them.
_OF_THE_RUN = "peaks"


def find(outputs: findings.RunOutputs, seed: int, file: Path | None) -> dict[str, Any]:
    """`findings.find`, or what it found before for the same outputs.

    Args:
      outputs, seed: of `findings.find`.
      file: what was found before; it may be absent or damaged. None: nothing is kept.
    """
    if file is None:
        return findings.find(outputs, seed)
    key = _key(outputs, seed)
    try:
        content = unseal(file.read_bytes(), key)
    except OSError:
        content = None
    if content is not None:
        found = json.loads(content)
        found["cost"]["nodes"] = findings.cost_of_nodes(outputs)
        return found
    found = findings.find(outputs, seed)
    if not found["problems"]:
        try:
            write_whole(file, seal(json.dumps(found).encode(), key))
        except OSError:  # the disk is full, for example
            traceback.print_exc()
    return found


def _key(outputs: findings.RunOutputs, seed: int) -> str:
    """A hash of everything that the findings follow from."""
    decides = {
        field.name: getattr(outputs, field.name) for field in dataclasses.fields(outputs) if field.name != _OF_THE_RUN
    }
    text = json.dumps([decides, seed, fingerprint_of_everything()], sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _plain(value: Any) -> Any:
    """What `json` does not know, as something it does."""
    if not isinstance(value, Artifact):
        return dataclasses.asdict(value)
    # With its time, for where ML Metadata was lost, addresses are used again.
    return [value.uri, os.stat(value.uri).st_mtime_ns if os.path.isdir(value.uri) else None]
