"""What a review needs, from the folder of a run."""

from __future__ import annotations

import getpass
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from deploy.collection import Collection
from deploy.commands.report import find_run, read_summary
from deploy.metadata_address import connect
from deploy.review.application import Reviewed
from deploy.review.decisions import Decisions
from deploy.review.items import make_items
from deploy.review.photo_finder import PhotoFinder
from deploy.root import CONFIG_FILE, Root, shown
from pipeline.config import Config, read_dumped_config
from schemas.corrections import CORRECTIONS_FILE
from schemas.errors import BadInput
from schemas.findings import FINDINGS_JSON, read_findings
from schemas.words import on_one_line

NEWEST = "latest"


def make_review(
    root: Root,
    run: str,
    corrections: str | None = None,
    who: str | None = None,
    collection: Collection | None = None,
    into: str | None = None,
) -> Reviewed:
    """Reads what a run has found.

    Args:
      run: its name, or the beginning of it, or `latest`.
      corrections: file to write; None: that of the run's configuration, or else `corrections.csv` in the root.
      who: name of the reviewer; None: that of the user on this machine.

    Raises:
      BadInput: there is no such run, it has no findings, or the file of corrections is wrong.
    """
    folder = find_run(root, None if run == NEWEST else run)
    try:
        config = read_dumped_config(folder / CONFIG_FILE)
        findings = read_findings(folder)
    except FileNotFoundError as error:
        raise BadInput(
            f"the run {folder.name} has no {Path(error.filename).name}: it has not ended, or an older version made it; "
            "choose another run, or run again"
        ) from None
    except Exception as error:  # YAML, pydantic and JSON each raise their own
        raise BadInput(
            f"{shown(folder / CONFIG_FILE)} or {FINDINGS_JSON} beside it cannot be read ({on_one_line(error)}); choose "
            "another run"
        ) from None
    given = Path(corrections) if corrections else Path(config.data.corrections or root.folder / CORRECTIONS_FILE)
    file = Path(os.path.expanduser(given)).absolute()
    if not file.parent.is_dir():
        raise BadInput(f"{file} cannot be written: there is no folder {file.parent}; choose another with --corrections")
    items = make_items(findings.findings)
    of_photos, of_pixels = ([], findings.labels) if config.mask_size else (findings.labels, [])
    finder = PhotoFinder(config, items, lambda: _examples(root, folder), of_pixels)
    return Reviewed(
        folder.name,
        config,
        items,
        Decisions(file, who or _user(), of_photos),
        finder,
        _command(root, folder, config, file),
        collection,
        into,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return ""


def _command(root: Root, folder: Path, config: Config, file: Path) -> str:
    known = config.data.corrections == str(file)
    setting = [] if known else ["--set", f"data.corrections={shown(file)}"]
    config_file = shown(folder / CONFIG_FILE)
    return shlex.join(["warmstart", "retrain", "--config", config_file, "--root", shown(root.folder), *setting])


def _examples(root: Root, folder: Path) -> Sequence[str]:
    """Folders of the photos that the run read; none if another machine keeps the record of them."""
    lineage = read_summary(folder).lineage
    window, span = lineage.get("Window", {}), lineage.get("ImageExampleGen", {})
    numbers = window.get("window_photos") or span.get("examples") or []
    if not numbers or not root.metadata.exists():
        return []
    return [artifact.uri for artifact in connect(root.metadata_address).get_artifacts_by_id(numbers)]
