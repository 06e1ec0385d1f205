"""A run on this machine: TFX's LocalDagRunner, with states read back, progress, a lock and a summary."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Protocol

from components import progress
from components.example_gen import layouts, spans
from components.example_gen.overview import Overview, make_overview
from components.servable_check.packages import require_packages
from deploy import output, quick_start
from deploy.overlap import refuse_overlap, refuse_pattern
from deploy.root import CONFIG_FILE, EXIT_CODES, LOG_FILE, Root, failure, shown
from deploy.window import find_window
from pipeline.config import CompletenessOfSpans, Config, dump_config
from schemas.errors import BadInput
from schemas.words import and_more

_STARTING = "starting TensorFlow and TFX"


class Display(Protocol):
    """Who is told what happens."""

    def node_started(self, node_id: str) -> None: ...

    def node_ended(self, node_id: str, state: str, seconds: float) -> None: ...

    def node_progress(self, what: str, done: int, total: int) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """summary: the content of `summary.json`. exit_code: of the command line."""

    summary: dict[str, Any]
    folder: Path
    exit_code: int


def check_places(config: Config, root: Root) -> None:
    """Looks at the paths of the data folders and of the root, before anything is made.

    Raises:
      BadInput: the root's path would be read as a pattern, or one of the folders lies in another.
    """
    refuse_pattern("the root folder", root.folder)
    inputs = {}
    for what, sources in (
        ("the photos", config.data.sources),
        ("the photos to evaluate on", config.evaluation.further),
    ):
        for dataset, source in sources.items():
            if source and not source.startswith("tfds:"):
                inputs[f"{what} of {dataset}"] = spans.folder_of_all(source, str(root.folder))
    refuse_overlap(inputs, {"the root": root.folder})


def check_sources(
    config: Config, said: Callable[[str], None] = lambda text: None
) -> tuple[dict[str, str], dict[str, str]]:
    """Looks at every data folder before anything slow is imported.

    Args:
      config: says where they are.
      said: told what each data folder holds, and of every newer span that is passed over, since it is not complete.

    Returns:
      data set -> folder, `tfds:` names resolved (and downloaded where needed), patterns of spans as they are, since
      ImageExampleGen looks for the span again: of those to learn from, and of those to evaluate on only.

    Raises:
      BadInput: a folder or span is missing, unreadable, empty or in no known layout, there is one class only, or a
        class to evaluate on is not learnt.
    """
    sources = resolve_tfds(config, config.data.sources)
    data = config.data
    if data.window is None:
        folders = _resolve(sources, data.span, data.completeness, said)
        classes = _classes(config, folders, config.task.label, said, whole=True)
    else:  # the newest span need not have all classes
        _classes(config, find_window(config)[0][-1].folders, config.task.label, said, whole=False)
        folders, classes = {}, None
    if classes is not None and len(classes) == 1:
        raise BadInput(
            f"all photos in {', '.join(folders.values())} are of one class, {classes.pop()!r}; expected at least two "
            "classes, such as one folder each"
        )
    further = resolve_tfds(config, config.evaluation.further)
    folders = _resolve(further, None, data.completeness, said)
    more = _classes(config, folders, config.evaluation.further_label, said, whole=False)
    unknown = sorted(more - classes) if more is not None and classes is not None else []
    if unknown:
        raise BadInput(
            f"the photos in {', '.join(folders.values())}, to be evaluated on, are of classes that are not learnt "
            f"({', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}; learnt are "
            f"{', '.join(sorted(classes or ())[:5])}); choose another evaluation.further_label, or leave them out"
        )
    return sources, further


def _resolve(
    sources: Mapping[str, str], span: int | date | None, completeness: CompletenessOfSpans, said: Callable[[str], None]
) -> dict[str, str]:
    """Data set -> folder of the span that is read."""
    found = spans.resolve_sources(sources, span, **completeness)
    for waiting in found.passed_over:
        said(f"{waiting.folder} is not read yet: it {waiting.reason}")
    return found.folders


def resolve_tfds(config: Config, given: Mapping[Any, str | None]) -> dict[str, str]:
    """The source of each data set, prepared by TensorFlow Datasets where it is one of theirs."""
    sources: dict[str, str] = {}
    for dataset, source in given.items():
        assert source is not None  # load_config has seen to it
        if source.startswith("tfds:"):
            from components.example_gen import tfds_source

            source = tfds_source.resolve_tfds(source, config.data.tfds_dir)
        sources[dataset] = source
    return sources


def look_at_folders(config: Config, folders: Mapping[str, str], label_from: str) -> list[Overview]:
    """What the folder of each data set holds.

    Raises:
      BadInput: as `layouts.find_photos`.
    """
    overviews = []
    for dataset, folder in folders.items():
        found = layouts.find_photos(folder, dataset, config.data.folder_rules)
        name = folder if "://" in folder else shown(Path(folder))
        overviews.append(make_overview(name, dataset, found, label_from))
    return overviews


def _classes(
    config: Config, folders: Mapping[str, str], label_from: str, said: Callable[[str], None], whole: bool
) -> set[str] | None:
    """The classes of the photos in the folders; None where only reading the photos tells them.

    Raises:
      BadInput: as `layouts.find_photos`; or the folders are the `whole` data and hold a class that cannot be learnt.
    """
    classes: set[str] | None = set()
    for overview in look_at_folders(config, folders, label_from):
        for line in overview.lines():
            said(line)
        if overview.never_learnt and whole:
            held_back = " and ".join(split for split, where in overview.splits.items() if split != "train")
            raise BadInput(
                f"in {overview.folder} all photos of {and_more(overview.never_learnt, 5)} are given to {held_back}; "
                "expected photos of every class in train"
            )
        if overview.classes is None:
            classes = None
        elif classes is not None:
            classes |= {label for label, count in overview.classes.items() if count}
    return classes


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
    sources = check_sources(config, display.note)
    root.prepare(config.name)
    root.refuse_local_run()
    run_id = root.new_run_id()
    with root.lock(run_id):
        started = time.time()
        display.node_started(_STARTING)
        quick_start.import_launcher()  # it may have to start the process again, so it comes before anything is written
        folder = root.reports / run_id
        folder.mkdir(parents=True)
        (folder / CONFIG_FILE).write_text(dump_config(config), encoding="utf-8")
        with _output_to(folder / LOG_FILE):
            return _run_locked(config, root, run_id, folder, started, sources, display, from_node, to_node, force_push)


def _run_locked(
    config: Config,
    root: Root,
    run_id: str,
    folder: Path,
    started: float,
    sources: tuple[dict[str, str], dict[str, str]],
    display: Display,
    from_node: str | None,
    to_node: str | None,
    force_push: str,
) -> RunResult:
    status, reason = "", ""
    node_ids: list[str] = []
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

    gc.freeze()
    gc.enable()
    try:
        before = root.production_version()
        connection = metadata.sqlite_metadata_connection_config(str(root.metadata))
        store = metadata_store.MetadataStore(connection)
        _tidy_up_after_killed_runs(config.name, root, run_id, store)
        display.node_ended(_STARTING, "complete", time.time() - started)

        assembled = functools.partial(
            assemble, root=root, sources=sources, store=store, connection_config=connection, force_push=force_push
        )
        pipeline, window = assemble_with_window(config, store, run_id, assembled, connection, display.note)
        node_ids = [component.id for component in pipeline.components]
        progress.listen(display.node_progress)
        runner = LocalRunner(run_id, display)
        runner.run_nodes(pipeline, from_node, to_node)
    except BadInput as error:
        status, reason = "stopped", str(error)
        traceback.print_exc()
    except KeyboardInterrupt:
        status, reason = "failed", "interrupted; the next run goes on from the last finished step"
    except BaseException as error:  # the summary is written for every end of a run
        status, reason = "failed", failure(error, root)
        traceback.print_exc()
    finally:
        progress.listen(None)
    nodes = {}
    try:
        nodes = run_record.read_run(store, config.name, run_id) if store else {}
        skipped = runner.skipped if runner else ()
        summary = run_summary.summarise(config, run_id, nodes, node_ids, root, before, status, reason, skipped, window)
    except Exception as error:  # such as artifacts that somebody deleted
        traceback.print_exc()
        reason = reason or f"the run's results cannot be read back: {failure(error, root)}"
        summary = run_summary.summarise(
            config, run_id, {}, node_ids, root, before, status or "failed", reason, window=window
        )
    summary["duration_seconds"] = round(time.time() - started, 1)
    run_summary.write_results(summary, folder, config, nodes)
    return RunResult(summary, folder, EXIT_CODES[summary["status"]])


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
