"""A run on this machine: TFX's LocalDagRunner, with states read back, progress, a lock and a summary."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import shlex
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from components import progress
from components.servable_check.packages import require_packages
from deploy import disks, metadata_file, output, quick_start, temporary
from deploy.data_folders import Understood, check_places, refuse_other_classes, understand, ways_out
from deploy.repair import set_aside_unknown
from deploy.root import CONFIG_FILE, EXIT_CODES, LOG_FILE, Root, failure, shown
from pipeline.config import Config, dump_config
from schemas.errors import BadInput, DataRefused

if TYPE_CHECKING:
    from schemas.summary import Summary

_STARTING = "starting TensorFlow and TFX"


class Display(Protocol):
    """Who is told what happens."""

    def node_started(self, node_id: str) -> None: ...

    def node_ended(self, node_id: str, state: str, seconds: float) -> None: ...

    def node_progress(self, what: str, done: int, total: int) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """exit_code: of the command line."""

    summary: Summary
    folder: Path
    exit_code: int


def run(
    config: Config,
    root: Root,
    display: Display,
    from_node: str | None = None,
    to_node: str | None = None,
    force_push: str = "",
) -> RunResult:
    """Runs the pipeline, or a part of it, and writes `summary.json`, whatever happens.

    `force_push` is why ReleaseGate is overridden; empty: it is not.

    Raises:
      BadInput: before anything ran: data folders, root or nodes are wrong, a package is missing, or another run is
        active.
    """
    require_packages(config.serving.exports)
    check_places(config, root)
    understood = understand(config, display.note)
    root.prepare(config.name)
    root.refuse_local_run()
    if not force_push:
        refuse_other_classes(config, root, understood)
    disks.refuse_too_full(root.folder, understood.photos, understood.photo_bytes)
    run_id = root.new_run_id()
    with root.lock(run_id):
        metadata_file.refuse_damaged(root.metadata)
        started = time.time()
        display.node_started(_STARTING)
        quick_start.import_launcher()  # it may have to start the process again, so it comes before anything is written
        folder = root.reports / run_id
        folder.mkdir(parents=True)
        (folder / CONFIG_FILE).write_text(dump_config(config), encoding="utf-8")
        with (
            _interrupted_by_termination(),
            _output_to(folder / LOG_FILE),
            temporary.folder_of_run(root.folder, run_id),
        ):
            return _run_locked(
                config, root, run_id, folder, started, understood, display, from_node, to_node, force_push
            )


def _run_locked(
    config: Config,
    root: Root,
    run_id: str,
    folder: Path,
    started: float,
    understood: Understood,
    display: Display,
    from_node: str | None,
    to_node: str | None,
    force_push: str,
) -> RunResult:
    status, reason = "", ""
    graph: dict[str, list[str]] = {}
    reserve = Reserve(folder)
    store = before = runner = window = None
    # Slow imports, after everything that can be refused without them. Next to nothing of what they make is garbage.
    gc.disable()
    quick_start.import_for_executors()
    from ml_metadata.metadata_store import metadata_store
    from tfx.orchestration import metadata

    from deploy import run_summary
    from deploy.assembly import assemble
    from deploy.earlier_spans import assemble_with_window
    from deploy.local_runner import LocalRunner
    from pipeline import run_record
    from pipeline.graph import upstream

    gc.freeze()
    gc.enable()
    try:
        before = root.production_version()
        set_aside_unknown(root, run_id)
        connection = metadata.sqlite_metadata_connection_config(str(root.metadata))
        store = metadata_store.MetadataStore(connection)
        _tidy_up_after_killed_runs(config.name, root, run_id, store)
        display.node_ended(_STARTING, "complete", time.time() - started)

        assembled = functools.partial(
            assemble,
            root=root,
            sources=(understood.sources, understood.further),
            store=store,
            connection_config=connection,
            force_push=force_push,
        )
        pipeline, window = assemble_with_window(config, store, run_id, assembled, connection, display.note)
        graph = upstream(pipeline)
        progress.listen(display.node_progress)
        runner = LocalRunner(run_id, display)
        runner.run_nodes(pipeline, from_node, to_node)
    except BadInput as error:
        status, reason = "stopped", str(error) + (ways_out(config) if isinstance(error, DataRefused) else "")
        reserve.release()
        traceback.print_exc()
    except KeyboardInterrupt:
        status, reason = "failed", "interrupted; the next run goes on from the last finished step"
    except BaseException as error:  # the summary is written for every end of a run
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
        reason = reason or f"the run's results cannot be read back: {failure(error, root)}"
        summary = run_summary.summarise(replace(ended, skipped=()), status or "failed", reason)
    summary = replace(summary, duration_seconds=round(time.time() - started, 1))
    again = shlex.join(["warmstart", "run", "--config", shown(folder / CONFIG_FILE), "--root", shown(root.folder)])
    summary = run_summary.write_results(summary, folder, config, nodes, again)
    try:
        metadata_file.make_copy(root.metadata)
    except OSError:  # the disk is full, say: the copy before stays
        traceback.print_exc()
    return RunResult(summary, folder, EXIT_CODES[summary.status])


@contextlib.contextmanager
def _interrupted_by_termination() -> Iterator[None]:
    """Makes of SIGTERM, by which machines and schedules end a process, what Ctrl-C is: a run that says how it ended."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
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
    """Room on the disk that is kept for the end of a run: its summary and its page are written on a full disk too."""

    _BYTES = 3_000_000

    def __init__(self, folder: Path):
        self._file = folder / ".reserve"
        with self._file.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self._BYTES)

    def release(self) -> None:
        """Gives the room back."""
        self._file.unlink(missing_ok=True)


def _tidy_up_after_killed_runs(pipeline_name: str, root: Root, run_id: str, store: Any) -> None:
    """Removes what they left half written, and writes the summaries they could not write."""
    from deploy import node_launch, run_summary
    from pipeline import run_record

    node_launch.remove_outputs(str(root.artifacts), run_record.abandon_unfinished(store, pipeline_name))
    for killed in root.runs_without_summary(except_for=run_id):
        try:
            run_summary.write_summary_of_killed_run(killed, store, root)
        except Exception:  # a configuration of an older version, say: no reason for this run to fail; the log has it
            traceback.print_exc()


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Sends everything that libraries print, from Python or C++, to the run's log; with `--verbose` it is shown too.

    The display has its own copy of the terminal (`terminal_stream`).
    """
    saved = [os.dup(1), os.dup(2)]
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    ended = threading.Event()
    # Copied from the file: a pipe that is full would stop a library that writes to it and lets no other thread run.
    copier = threading.Thread(target=_copy, args=(log, saved[1], ended), daemon=True)
    if output.loudness() == "verbose":
        copier.start()
    try:
        yield
    finally:
        ended.set()
        if copier.ident is not None:
            copier.join()
        for number, descriptor in zip((1, 2), saved, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


def _copy(log: Path, descriptor: int, ended: threading.Event) -> None:
    """Writes what is added to a file to a file descriptor, until it has ended."""
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
    """A text stream to what file descriptor `number` is now, whatever it is redirected to later."""
    return os.fdopen(os.dup(number), "w", buffering=1, encoding="utf-8", errors="replace")
