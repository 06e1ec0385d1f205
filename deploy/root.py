"""The root folder of a pipeline: everything it keeps, and the lock that lets one run in at a time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

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
# Of a run, beside `summary.json`, in its folder below `reports`.
LOG_FILE, CONFIG_FILE = "run.log", "config.yaml"
_LOCK, _OWNER, _PIPELINE = ".lock", ".owner.json", ".pipeline"
# Where a command leaves its root in click's context, for the sentence about a full disk.
CONTEXT_KEY = "warmstart.root"
# Whoever only asks `is_active` holds the lock for an instant.
_PROBE_SECONDS = 0.5
# The name under which a metadata store elsewhere knows this root; absent where `metadata.sqlite` is in use.
_STORE = ".metadata-store"


def shown(path: Path) -> str:
    """As short as it can be and still lead there from the working directory."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def failure(error: BaseException, root: Root | None) -> str:
    """What made a run fail, in one sentence; without a root, what made any other command fail."""
    if root is not None and disks.is_full(error):
        return (
            f"no space is left on {disks.full_disk(root.folder)}; free some and run again: finished steps are kept and "
            "the run goes on from there"
        )
    return f"{type(error).__name__}: {on_one_line(error, 500)}"


class RunActiveError(BadInput):
    """Another run holds the root."""


class Root:
    """A root folder.

    metadata: ML Metadata's SQLite file. artifacts: what the steps wrote. serving: what production reads, in
    TensorFlow Serving's layout. reports: one folder a run. vectors: feature vectors by content hash. resume: the
    state of interrupted trainings. set_aside: what steps wrote of which ML Metadata knows nothing any more.
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

    def prepare(self, pipeline_name: str) -> None:
        """Makes the folder.

        Raises:
          BadInput: it cannot be written, or belongs to another pipeline, whose production this one would replace.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            mark_as_output(self.folder)
            for folder in (self.artifacts, self.serving, self.reports):
                folder.mkdir(parents=True, exist_ok=True)
            mark = self.folder / _PIPELINE
            if not mark.exists() or not mark.read_text().strip():  # empty: killed while it wrote this
                mark.write_text(pipeline_name + "\n")
        except OSError as error:
            raise BadInput(
                f"the root folder {self.folder} cannot be written ({error.strerror}); give another with --root"
            ) from None
        owner = mark.read_text().strip()
        if owner != pipeline_name:
            raise BadInput(
                f"the root folder {self.folder} belongs to the pipeline {owner!r}, and a run of {pipeline_name!r} "
                "would replace its model in production; give another folder with --root"
            )

    def exists(self) -> bool:
        """Whether a pipeline keeps anything here."""
        return (self.folder / _PIPELINE).is_file()

    def pipeline_name(self) -> str:
        """The name of the pipeline that keeps everything here; empty where there is none."""
        return (self.folder / _PIPELINE).read_text().strip() if self.exists() else ""

    def refuse_local_run(self) -> None:
        """Refuses to run here with metadata of our own if the root's metadata are elsewhere.

        Raises:
          BadInput: see there.
        """
        if (self.folder / _STORE).exists():
            raise BadInput(
                f"the root folder {self.folder} belongs to a pipeline on Kubeflow, whose metadata are in a store "
                "there; run it there, or give another folder with --root"
            )

    def store_mark(self) -> Path:
        """The file that names this root to a metadata store elsewhere."""
        return self.folder / _STORE

    @contextmanager
    def node_lock(self, node_id: str, wait_seconds: float) -> Iterator[None]:
        """Lets one process at a time run a step of this root; the operating system frees the lock of a killed one.

        Raises:
          BadInput: another process held it all the time.
        """
        folder = self.folder / ".locks"
        folder.mkdir(exist_ok=True)
        lock = filelock.FileLock(folder / node_id)
        try:
            lock.acquire(timeout=wait_seconds, poll_interval=0.5)
        except filelock.Timeout:
            raise BadInput(
                f"another process has been running {node_id} on {self.folder} for {wait_seconds:.0f} s; wait for its "
                "run to end, and start this one again"
            ) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def lock(self, run_id: str) -> Iterator[None]:
        """Lets one run in at a time; the operating system frees the lock of a killed one.

        Raises:
          RunActiveError: another run holds it.
        """
        lock = filelock.FileLock(self.folder / _LOCK)
        try:
            lock.acquire(timeout=_PROBE_SECONDS, poll_interval=0.02)
        except filelock.Timeout:
            raise RunActiveError(
                f"another run is active on {self.folder}{self._owner()}; wait for it, or use --root"
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
        """The name of the run that holds the root now, or an empty string."""
        if not self.exists() or not self.is_active():
            return ""
        try:
            return str(json.loads((self.folder / _OWNER).read_text())["run_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def _owner(self) -> str:
        try:
            owner = json.loads((self.folder / _OWNER).read_text())
            return f" ({owner['run_id']}, process {owner['pid']})"
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def new_run_id(self) -> str:
        """A name for a run: the time in UTC, unique below this root."""
        while True:
            run_id = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H-%M-%SZ")
            if not (self.reports / run_id).exists():
                return run_id
            time.sleep(0.2)

    def serving_folder(self) -> ServingFolder:
        """The versions that production reads, and read."""
        return ServingFolder(self.serving)

    def production_model(self) -> str:
        """Folder of the model in production, or an empty string."""
        version = self.production_version()
        return str(self.serving / version) if version else ""

    def production_version(self) -> str | None:
        """The version that production reads: the highest one, as TensorFlow Serving takes it."""
        version = self.serving_folder().production()
        return None if version is None else str(version)

    def production_identity(self) -> str:
        """Identity of the model in production; empty where there is none, or its files are not what was pushed."""
        version = self.production_version()
        return (self.serving_folder().identity(int(version)) if version else None) or ""

    def runs_without_summary(self, except_for: str) -> list[Path]:
        """Report folders of runs that were killed."""
        return [
            folder
            for folder in sorted(self.reports.iterdir())
            if folder.is_dir() and folder.name != except_for and not (folder / SUMMARY_FILE).exists()
        ]


def find_root(folder: str | None) -> Root:
    """The root folder that was asked for, or the only one below `runs/`.

    Raises:
      BadInput: it is no root folder, or there are none or several to choose from.
    """
    if folder is not None:
        root = Root(folder)
        if not (root.folder / _PIPELINE).is_file():
            raise BadInput(
                f"{root.folder} is no root folder of warmstart (it has no file {_PIPELINE}); give the one that was "
                "given to `warmstart run`"
            )
        return root
    marks = sorted([*Path(ROOTS_FOLDER).glob(_PIPELINE), *Path(ROOTS_FOLDER).glob(f"*/{_PIPELINE}")])
    if not marks:
        raise BadInput(f"there is no root folder below {Path(ROOTS_FOLDER).absolute()}; give one with --root")
    if len(marks) > 1:
        found = ", ".join(str(mark.parent) for mark in marks)
        raise BadInput(f"there are several root folders: {found}; choose one with --root")
    return Root(marks[0].parent)
