"""Writes and reads verdicts, releases and TFX's blessing artifacts."""

from __future__ import annotations

import json
import os

from tfx.dsl.io import fileio
from tfx.types import Artifact

from schemas.json_records import Record, from_json, to_json
from schemas.release import Release

VERDICT_FILE = "verdict.json"
# What ReleaseGate leaves in its blessing's folder for Pusher.
RELEASE_FILE = "release.json"
# TFX's sign that an InfraBlessing carries the model, with what was put beside it.
HAS_MODEL = "has_model"


def write_verdict(folder: str, verdict: Record) -> None:
    """Writes `verdict.json`; `verdict` is one of `schemas.verdicts`."""
    fileio.makedirs(folder)
    with fileio.open(os.path.join(folder, VERDICT_FILE), "w") as file:
        file.write(json.dumps(to_json(verdict), indent=2))


def read_verdict(kind: type[Record], folder: str) -> Record:
    """Reads `verdict.json` as a verdict of this kind.

    Raises:
      ValueError: it is not such a verdict.
    """
    with fileio.open(os.path.join(folder, VERDICT_FILE), "r") as file:
        return from_json(kind, json.loads(file.read()))


def write_release(blessing: Artifact, release: Release) -> None:
    """Writes the release into ReleaseGate's blessing, for Pusher."""
    with fileio.open(os.path.join(blessing.uri, RELEASE_FILE), "w") as file:
        file.write(json.dumps(to_json(release), indent=2))


def read_release(blessing: Artifact) -> Release | None:
    """Reads what `write_release` wrote; None if it wrote nothing."""
    path = os.path.join(blessing.uri, RELEASE_FILE)
    if not fileio.exists(path):
        return None
    with fileio.open(path, "r") as file:
        return from_json(Release, json.loads(file.read()))


def bless(blessing: Artifact, blessed: bool, prefix: str = "") -> None:
    """Marks a ModelBlessing, or with prefix `INFRA_` an InfraBlessing, as TFX's own components do."""
    name = f"{prefix}BLESSED" if blessed else f"{prefix}NOT_BLESSED"
    fileio.makedirs(blessing.uri)
    with fileio.open(os.path.join(blessing.uri, name), "w") as file:
        file.write("")
    blessing.set_int_custom_property("blessed", int(blessed))
