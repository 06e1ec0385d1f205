"""The root folder of a pipeline: all its files, and the lock that allows one run at a time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

import filelock

from components.example_gen.photo_folder import mark_as_output
from components.serving_folder.folder import ServingFolder
from deploy import disks
from schemas.errors import BadInput
from schemas.run_end import SUMMARY_FILE
from schemas.words import on_one_line

ROOTS_FOLDER = "runs"
# Status of a run -> exit code of the process.
EXIT_CODES = {"pushed": 0, "restored": 0, "skipped": 0, "failed": 1, "stopped": 2, "not_pushed": 3}
# Files of a run, next to `summary.json` in its folder below `reports`.
LOG_FILE, CONFIG_FILE = "run.log", "config.yaml"
_LOCK, _OWNER, _PIPELINE = ".lock", ".owner.json", ".pipeline"
# Key under which a command stores its root in click's context, for the sentence about a full disk.
CONTEXT_KEY = "warmstart.root"
# `is_active` holds the lock for an instant.
_PROBE_SECONDS = 0.5
# Holds the name of this root in a remote metadata store; absent if `metadata.sqlite` is in use.
_STORE = ".metadata-store"


def shown(path: Path) -> str:
    """The shortest form of a path that is valid in the working directory."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def failure(error: BaseException, root: Root | None) -> str:
    """Why a run failed, as a sentence; without a root, why another command failed."""
    if root is not None and disks.is_full(error):
        return (
            f"no space is left on {disks.full_disk(root.folder)}; free some and run again: the run continues after the "
            "last finished step"
        )
    return f"{type(error).__name__}: {on_one_line(error, 500)}"


class RunActiveError(BadInput):
    """Another run holds the root."""


class Root:
    """A root folder.

    Attributes:
      metadata: the SQLite file of ML Metadata.
      reports: one folder for each run.
      vectors: feature vectors by content hash.
      resume: state of interrupted trainings.
      findings: the file with the findings of the latest run.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(os.path.expanduser(folder)).absolute()
        self.metadata = self.folder / "metadata.sqlite"
        self.artifacts = self.folder / "artifacts"
        self.serving = self.folder / "serving"
        self.reports = self.folder / "reports"
        self.vectors = self.folder / "vectors"
        self.resume = self.folder / "resume"
        self.set_aside = self.folder / "set-aside"
        self.compiled = self.folder / ".compiled"
        self.findings = self.folder / ".findings"

    @property
    def metadata_address(self) -> str:
        """Of the SQLite file of ML Metadata, as `metadata_address.connect` takes it."""
        return f"sqlite://{quote(str(self.metadata))}"

    def prepare(self, pipeline_name: str) -> None:
        """Creates the folder.

        Raises:
          BadInput: it cannot be written, or belongs to another pipeline, whose production this one would replace.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            mark_as_output(self.folder)
            for folder in (self.artifacts, self.serving, self.reports):
                folder.mkdir(parents=True, exist_ok=True)
            mark = self.folder / _PIPELINE
            if not mark.exists() or not mark.read_text().strip():  # empty: killed while writing it
                mark.write_text(pipeline_name + "\n")
        except OSError as error:
            raise BadInput(
                f"the root folder {self.folder} cannot be written ({error.strerror}); choose another with --root"
            ) from None
        owner = mark.read_text().strip()
        if owner != pipeline_name:
            raise BadInput(
                f"the root folder {self.folder} belongs to the pipeline {owner!r}, and a run of {pipeline_name!r} "
                "would replace its model in production; choose another folder with --root"
            )

    def exists(self) -> bool:
        """Whether a pipeline uses this folder."""
        return (self.folder / _PIPELINE).is_file()

    def pipeline_name(self) -> str:
        """The name of the pipeline that keeps everything here; empty where there is none."""
        return (self.folder / _PIPELINE).read_text().strip() if self.exists() else ""

    def refuse_local_run(self) -> None:
        """Refuses a local run if the metadata of the root is in a remote store.

        Raises:
          BadInput: the root belongs to a pipeline on Kubeflow.
        """
        if (self.folder / _STORE).exists():
            raise BadInput(
                f"the root folder {self.folder} belongs to a pipeline on Kubeflow, which keeps its metadata there; run "
                "it there, or choose another folder with --root"
            )

    def store_mark(self) -> Path:
        """The file with the name of this root in a remote metadata store."""
        return self.folder / _STORE

    @contextmanager
    def node_lock(self, node_id: str, wait_seconds: float) -> Iterator[None]:
        """Allows one process at a time to run a step; the operating system frees the lock of a killed process.

        Raises:
          BadInput: another process held the lock for `wait_seconds`.
        """
        folder = self.folder / ".locks"
        folder.mkdir(exist_ok=True)
        lock = filelock.FileLock(folder / node_id)
        try:
            lock.acquire(timeout=wait_seconds, poll_interval=0.5)
        except filelock.Timeout:
            raise BadInput(
                f"another process has been running {node_id} in {self.folder} for {wait_seconds:.0f} s; wait for that "
                "run to end, and start this one again"
            ) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def lock(self, run_id: str) -> Iterator[None]:
        """Allows one run at a time; the operating system frees the lock of a killed run.

        Raises:
          RunActiveError: another run holds the lock.
        """
        lock = filelock.FileLock(self.folder / _LOCK)
        try:
            lock.acquire(timeout=_PROBE_SECONDS, poll_interval=0.02)
        except filelock.Timeout:
            run, process = self.last_owner()
            owner = f" ({run}, process {process})" if run else ""
            raise RunActiveError(
                f"another run is active in {self.folder}{owner}; wait for it to end, or choose another --root"
            ) from None
        try:
            (self.folder / _OWNER).write_text(json.dumps({"run_id": run_id, "pid": os.getpid()}))
            yield
        finally:
            lock.release()

    def is_active(self) -> bool:
        """Whether a run holds the root now."""
        lock = filelock.FileLock(self.folder / _LOCK)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            return True
        lock.release()
        return False

    def active_run(self) -> str:
        """The name of the run that holds the root now; empty: no run does."""
        return self.last_owner()[0] if self.exists() and self.is_active() else ""

    def last_owner(self) -> tuple[str, int | None]:
        """Run and process that took the lock last; empty and None: unknown."""
        try:
            owner = json.loads((self.folder / _OWNER).read_text(encoding="utf-8"))
            return str(owner["run_id"]), int(owner["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", None

    def new_run_id(self) -> str:
        """A new name for a run: the time in UTC, unique in this root."""
        while True:
            run_id = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H-%M-%SZ")
            if not (self.reports / run_id).exists():
                return run_id
            time.sleep(0.2)

    def serving_folder(self) -> ServingFolder:
        """The serving folder, with the versions that production reads."""
        return ServingFolder(self.serving)

    def production_model(self) -> str:
        """Folder of the model in production; empty: there is none."""
        version = self.production_version()
        return str(self.serving / version) if version else ""

    def production_version(self) -> str | None:
        """The version in production, which is the highest, as in TensorFlow Serving; None: there is none."""
        version = self.serving_folder().production()
        return None if version is None else str(version)

    def production_identity(self) -> str:
        """Identity of the model in production; empty: there is none, or its files are damaged."""
        version = self.production_version()
        return (self.serving_folder().identity(int(version)) if version else None) or ""

    def runs_without_summary(self, except_for: str) -> list[Path]:
        """Folders of runs that were killed before they could write a summary."""
        return [
            folder
            for folder in sorted(self.reports.iterdir())
            if folder.is_dir() and folder.name != except_for and not (folder / SUMMARY_FILE).exists()
        ]


def find_root(folder: str | None) -> Root:
    """The given root folder, or the only one below `runs/`.

    Raises:
      BadInput: the folder is not a root folder, or there is none or more than one below `runs/`.
    """
    if folder is not None:
        root = Root(folder)
        if not (root.folder / _PIPELINE).is_file():
            raise BadInput(
                f"{root.folder} is not a root folder of warmstart (it has no file {_PIPELINE}); give the folder that "
                "`warmstart run` used"
            )
        return root
    marks = sorted([*Path(ROOTS_FOLDER).glob(_PIPELINE), *Path(ROOTS_FOLDER).glob(f"*/{_PIPELINE}")])
    if not marks:
        raise BadInput(f"there is no root folder below {Path(ROOTS_FOLDER).absolute()}; name one with --root")
    if len(marks) > 1:
        found = ", ".join(str(mark.parent) for mark in marks)
        raise BadInput(f"there are several root folders: {found}; choose one with --root")
    return Root(marks[0].parent)
