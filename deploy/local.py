"""A run on this machine: TFX's LocalDagRunner with the states of nodes, progress, a lock and a summary."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from components import progress
from components.servable_check.packages import require_packages
from deploy import beam_arguments, corrections, disks, metadata_file, output, quick_start
from deploy.data_folders import DataSurvey, check_places, refuse_other_classes, survey_data, ways_out
from deploy.repair import set_aside_unknown
from deploy.root import CONFIG_FILE, EXIT_CODES, LOG_FILE, Root, failure, shown
from deploy.tracking import tracker
from pipeline.config import Config, dump_config
from schemas.errors import BadInput, DataRefused

if TYPE_CHECKING:
    from schemas.summary import Summary

_STARTING = "starting TensorFlow and TFX"


class Display(Protocol):
    """Shows what happens during a run."""

    def node_started(self, node_id: str) -> None: ...

    def node_ended(self, node_id: str, state: str, seconds: float) -> None: ...

    def node_progress(self, what: str, done: int, total: int) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """A run that has ended."""

    summary: Summary
    folder: Path
    exit_code: int
    notes: tuple[str, ...] = ()
    """Sentences on what did not work beside the run."""


def run(
    config: Config,
    root: Root,
    display: Display,
    from_node: str | None = None,
    to_node: str | None = None,
    force_push: str = "",
) -> RunResult:
    """Runs the pipeline, or a part of it, and writes `summary.json` however the run ends.

    Args:
      from_node: first node to run; None: from the start.
      to_node: last node to run; None: to the end.

    Raises:
      BadInput: nothing ran, because the data folders or the root are wrong, a package is missing, or another run is
        active.
    """
    require_packages(config.serving.exports)
    tracker.require_package(config)
    beam_arguments.refuse_wrong(config.runtime)
    check_places(config, root)
    survey = survey_data(config, display.note)
    root.prepare(config.name)
    root.refuse_local_run()
    if not force_push:
        refuse_other_classes(config, root, survey)
    disks.refuse_too_full(root.folder, survey.photos, survey.photo_bytes)
    run_id = root.new_run_id()
    with root.lock(run_id):
        metadata_file.refuse_damaged(root.metadata)
        started = time.time()
        display.node_started(_STARTING)
        quick_start.import_launcher()
        folder = root.reports / run_id
        folder.mkdir(parents=True)
        (folder / CONFIG_FILE).write_text(dump_config(config), encoding="utf-8")
        with (
            _interrupted_by_termination(),
            _output_to(folder / LOG_FILE),
            folder_of_run(root.folder, run_id),
        ):
            return _run_locked(config, root, run_id, folder, started, survey, display, from_node, to_node, force_push)


def _run_locked(
    config: Config,
    root: Root,
    run_id: str,
    folder: Path,
    started: float,
    survey: DataSurvey,
    display: Display,
    from_node: str | None,
    to_node: str | None,
    force_push: str,
) -> RunResult:
    status, reason = "", ""
    graph: dict[str, list[str]] = {}
    reserve = Reserve(folder)
    store = before = runner = window = pipelines = None
    # Slow imports, after everything that can be refused without them.
    from ml_metadata.metadata_store import metadata_store
    from tfx.orchestration import metadata

    from deploy import run_summary
    from deploy.assembly import KeptPipelines, upstream
    from deploy.earlier_spans import assemble_with_window
    from deploy.local_runner import LocalRunner
    from pipeline import run_record

    try:
        before = root.production_version()
        set_aside_unknown(root, run_id)
        connection = metadata.sqlite_metadata_connection_config(str(root.metadata))
        store = metadata_store.MetadataStore(connection)
        _tidy_up_after_killed_runs(config.name, root, run_id, store)
        pinned = corrections.pin(config, root)
        pipelines = KeptPipelines(root, (survey.sources, survey.further), store, connection, force_push)
        try:
            if config.data.window is None:
                pipelines(pinned)  # where it is not kept, this is what takes long
        finally:
            display.node_ended(_STARTING, "complete", time.time() - started)

        pipeline, window = assemble_with_window(pinned, store, run_id, pipelines, connection, display.note)
        graph = upstream(pipeline)
        progress.listen(display.node_progress)
        runner = LocalRunner(run_id, display, beam_args=beam_arguments.of_steps(config.runtime))
        runner.run_nodes(pipeline, from_node, to_node)
    except BadInput as error:
        status, reason = "stopped", str(error) + (ways_out(config) if isinstance(error, DataRefused) else "")
        reserve.release()
        traceback.print_exc()
    except KeyboardInterrupt:
        status, reason = "failed", "interrupted; the next run continues after the last finished step"
    except BaseException as error:  # the summary is written however a run ends
        status, reason = "failed", failure(error, root)
        reserve.release()
        traceback.print_exc()
    finally:
        progress.listen(None)
        reserve.release()
    ended = run_summary.Run(run_id, root, config, {}, graph, before, runner.skipped if runner else (), window)
    nodes = {}
    try:
        nodes = run_record.read_run(store, config.name, run_id) if store else {}
        summary = run_summary.summarise(replace(ended, nodes=nodes), status, reason)
    except Exception as error:  # such as artifacts that somebody deleted
        traceback.print_exc()
        reason = reason or f"the results of the run cannot be read: {failure(error, root)}"
        summary = run_summary.summarise(replace(ended, skipped=()), status or "failed", reason)
    summary = replace(summary, duration_seconds=round(time.time() - started, 1))
    again = shlex.join(["warmstart", "run", "--config", shown(folder / CONFIG_FILE), "--root", shown(root.folder)])
    summary = run_summary.write_results(summary, folder, config, nodes, again, root.findings)
    if pipelines and summary.status == "pushed":
        try:
            pipelines.prepare_next()
        except Exception:  # the run has ended, and the next one compiles it
            traceback.print_exc()
    try:
        metadata_file.make_copy(root.metadata)
    except OSError:  # the disk is full, for example; the previous copy stays
        traceback.print_exc()
    not_told = tracker.track_run(config, root, run_id)
    return RunResult(summary, folder, EXIT_CODES[summary.status], (not_told,) if not_told else ())


@contextlib.contextmanager
def _interrupted_by_termination() -> Iterator[None]:
    """Treats SIGTERM, with which machines and schedulers stop a process, like Ctrl-C: the run reports how it ended."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread handles signals
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Reserve:
    """Disk space reserved for the end of a run, so that summary and page can be written even on a full disk."""

    def __init__(self, folder: Path, size: int = 3_000_000):
        """Reserves `size` bytes.

        Raises:
          OSError: the disk is full already.
        """
        self._file = folder / ".reserve"
        with self._file.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)

    def release(self) -> None:
        """Frees the space."""
        self._file.unlink(missing_ok=True)


def _tidy_up_after_killed_runs(pipeline_name: str, root: Root, run_id: str, store: Any) -> None:
    """Removes half-written outputs of killed runs, and writes the summaries that they could not write."""
    from deploy import node_launch, run_summary
    from pipeline import run_record

    node_launch.remove_outputs(str(root.artifacts), run_record.abandon_unfinished(store, pipeline_name))
    for killed in root.runs_without_summary(except_for=run_id):
        try:
            run_summary.write_summary_of_killed_run(killed, store, root)
        except Exception:  # such as a configuration of an older version; the log has it, and this run goes on
            traceback.print_exc()


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Sends everything that libraries print, from Python or C++, to the log of the run; `--verbose` shows it too.

    The display keeps a copy of the terminal (`terminal_stream`). In a notebook, Python's own streams are no files; they
    give way to those of the process, which are.
    """
    streams = sys.__stdout__ or sys.stdout, sys.__stderr__ or sys.stderr
    saved = [os.dup(1), os.dup(2)]
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    ended = threading.Event()
    # Copied from the file: a library that writes to a full pipe and holds the interpreter lock would hang.
    copier = threading.Thread(target=_copy, args=(log, saved[1], ended), daemon=True)
    if output.loudness() == "verbose":
        copier.start()
    try:
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            yield
    finally:
        for stream in streams:
            with contextlib.suppress(OSError):  # the disk is full
                stream.flush()
        ended.set()
        if copier.ident is not None:
            copier.join()
        for number, descriptor in zip((1, 2), saved, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


def _copy(log: Path, descriptor: int, ended: threading.Event) -> None:
    with log.open("rb") as file:
        while True:
            last = ended.is_set()
            while block := file.read(1 << 16):
                while block:
                    block = block[os.write(descriptor, block) :]
            if last:
                return
            ended.wait(0.2)


def terminal_stream(number: int = 1) -> Any:
    """A text stream to the current target of file descriptor `number`, wherever that is redirected later."""
    return os.fdopen(os.dup(number), "w", buffering=1, encoding="utf-8", errors="replace")


# By default TensorFlow Hub keeps downloads below the temporary folder. They must survive the run.
_HUB, _HUB_FOLDER = "TFHUB_CACHE_DIR", "tfhub_modules"


@contextlib.contextmanager
def folder_of_run(root: Path, run_id: str) -> Iterator[Path]:
    """Provides a temporary folder for this run, and removes it at the end.

    Call it under the lock of the root: folders that killed runs left behind are removed first.
    """
    place = Path(tempfile.gettempdir())
    of_root = f"warmstart-{hashlib.sha256(os.fsencode(root)).hexdigest()[:10]}-"
    for left in place.glob(f"{of_root}*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = place / f"{of_root}{run_id}"
    folder.mkdir(mode=0o700)
    hub = {} if _HUB in os.environ else {_HUB: str(place / _HUB_FOLDER)}
    before = {name: os.environ.get(name) for name in ("TMPDIR", *hub)}
    default = tempfile.tempdir
    os.environ.update({"TMPDIR": str(folder), **hub})
    tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = default
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)
