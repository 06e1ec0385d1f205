"""Writing decisions: the numbers and the sentence, and TFX's blessing artifacts."""

from __future__ import annotations

import json
import os
from typing import Any

from tfx.dsl.io import fileio
from tfx.types import Artifact

VERDICT_FILE = "verdict.json"
# What ReleaseGate leaves in its blessing's folder for Pusher.
RELEASE_FILE = "release.json"
# TFX's sign that an InfraBlessing carries the model, with what was put beside it.
HAS_MODEL = "has_model"


def write_verdict(folder: str, verdict: dict[str, Any]) -> None:
    """Writes `verdict.json`; `verdict` holds at least `text`, one sentence with the numbers."""
    fileio.makedirs(folder)
    with fileio.open(os.path.join(folder, VERDICT_FILE), "w") as file:
        file.write(json.dumps(verdict, indent=2))


def read_verdict(folder: str) -> dict[str, Any]:
    """Reads `verdict.json`."""
    with fileio.open(os.path.join(folder, VERDICT_FILE), "r") as file:
        return json.loads(file.read())


def bless(blessing: Artifact, blessed: bool, prefix: str = "") -> None:
    """Marks a ModelBlessing, or with prefix `INFRA_` an InfraBlessing, as TFX's own components do."""
    name = f"{prefix}BLESSED" if blessed else f"{prefix}NOT_BLESSED"
    fileio.makedirs(blessing.uri)
    with fileio.open(os.path.join(blessing.uri, name), "w") as file:
        file.write("")
    blessing.set_int_custom_property("blessed", int(blessed))
