"""A run on this machine: TFX's LocalDagRunner, with states read back, progress, a lock and a summary."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from components import progress
from components.example_gen import layouts
from components.servable_check.packages import require_packages
from deploy.root import Root
from pipeline.config import Config, dump_config
from schemas.errors import BadInput

LOG_FILE, CONFIG_FILE = "run.log", "config.yaml"
# In this process and in memory. The setup file is never opened by this runner; without the argument TFX would
# build a source distribution at each Beam step.
_LOCAL_BEAM_ARGS = ["--runner=FnApiRunner", "--direct_running_mode=in_memory", "--setup_file=unused"]

_STARTING = "starting TensorFlow and TFX"
PUSHED_CODE, FAILED_CODE, BAD_INPUT_CODE, NOT_PUSHED_CODE = 0, 1, 2, 3


class Display(Protocol):
    """Who is told what happens."""

    def node_started(self, node_id: str) -> None: ...

    def node_ended(self, node_id: str, state: str, seconds: float) -> None: ...

    def node_progress(self, what: str, done: int, total: int) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """summary: the content of `summary.json`. exit_code: of the command line."""

    summary: dict[str, Any]
    folder: Path
    exit_code: int


def check_sources(config: Config) -> tuple[dict[str, str], dict[str, str]]:
    """Looks at every data folder before anything slow is imported.

    Returns:
      data set -> folder, `tfds:` names resolved (and downloaded where needed): of those to learn from, and of those to
      evaluate on only.

    Raises:
      BadInput: a folder is missing, unreadable, empty or in no known layout, there is one class only, or a class to
        evaluate on is not learnt.
    """
    sources, classes = _look_at(config, config.data.sources, config.task.label)
    if classes is not None and len(classes) == 1:
        raise BadInput(
            f"all photos in {', '.join(sources.values())} are of one class, {classes.pop()!r}; expected at least two "
            "classes, such as one folder each"
        )
    further, more = _look_at(config, config.evaluation.further, config.evaluation.further_label)
    unknown = sorted(more - classes) if more is not None and classes is not None else []
    if unknown:
        raise BadInput(
            f"the photos in {', '.join(further.values())}, to be evaluated on, are of classes that are not learnt "
            f"({', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}; learnt are "
            f"{', '.join(sorted(classes or ())[:5])}); choose another evaluation.further_label, or leave them out"
        )
    return sources, further


def _look_at(
    config: Config, sources: Mapping[Any, str | None], label_from: str
) -> tuple[dict[str, str], set[str] | None]:
    """The folder of each data set, and the classes; None where only reading the photos tells them."""
    folders: dict[str, str] = {}
    classes: set[str] | None = set()
    for dataset, source in sources.items():
        assert source is not None  # load_config has seen to it
        if source.startswith("tfds:"):
            from components.example_gen import tfds_source

            source = tfds_source.resolve_tfds(source, config.data.tfds_dir)
        found = layouts.find_photos(source, dataset)
        folders[dataset] = source
        if found.layout == layouts.TFDS:
            classes = None
        elif classes is not None:
            classes |= {photo.species if label_from == "species" else photo.label for photo in found.photos}
    return folders, classes


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
    sources = check_sources(config)
    root.prepare(config.name)
    run_id = root.new_run_id()
    with root.lock(run_id):
        folder = root.reports / run_id
        folder.mkdir(parents=True)
        (folder / CONFIG_FILE).write_text(dump_config(config), encoding="utf-8")
        with _output_to(folder / LOG_FILE):
            return _run_locked(config, root, run_id, folder, sources, display, from_node, to_node, force_push)


def _run_locked(
    config: Config,
    root: Root,
    run_id: str,
    folder: Path,
    sources: tuple[dict[str, str], dict[str, str]],
    display: Display,
    from_node: str | None,
    to_node: str | None,
    force_push: str,
) -> RunResult:
    started = time.time()
    status, reason = "", ""
    node_ids: list[str] = []
    store = before = None
    display.node_started(_STARTING)
    # Slow imports, after everything that can be refused without them.
    from ml_metadata.metadata_store import metadata_store
    from tfx.orchestration import metadata

    from components.report.summary import write_summary
    from deploy.local_runner import LocalRunner
    from pipeline import run_record
    from pipeline.graph import Places, make_pipeline

    try:
        before = root.production_version()
        connection = metadata.sqlite_metadata_connection_config(str(root.metadata))
        store = metadata_store.MetadataStore(connection)
        _tidy_up_after_killed_runs(root, run_id, store)
        last_pushed = run_record.last_pushed_version(store)
        lost = last_pushed if last_pushed and not (root.serving / last_pushed).is_dir() else ""
        places = Places(
            artifacts=str(root.artifacts),
            serving=str(root.serving),
            vectors=str(root.vectors),
            resume=str(root.resume),
            production_model=root.production_model(),
            production_identity=root.production_identity(),
            lost_version=lost,
        )
        beam_args = config.runtime.beam_pipeline_args or _LOCAL_BEAM_ARGS
        pipeline = make_pipeline(config, places, *sources, connection, beam_args, force_push)
        node_ids = [component.id for component in pipeline.components]
        display.node_ended(_STARTING, "complete", time.time() - started)
        progress.listen(display.node_progress)
        LocalRunner(run_id, display).run_nodes(pipeline, from_node, to_node)
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
    try:
        nodes = run_record.read_run(store, config.name, run_id) if store else {}
        summary = _summarise(config, run_id, nodes, node_ids, root, before, status, reason)
    except Exception as error:  # such as artifacts that somebody deleted
        traceback.print_exc()
        reason = reason or f"the run's results cannot be read back: {failure(error, root)}"
        summary = _summarise(config, run_id, {}, node_ids, root, before, status or "failed", reason)
    summary["duration_seconds"] = round(time.time() - started, 1)
    write_summary(summary, folder)
    code = {"pushed": PUSHED_CODE, "skipped": PUSHED_CODE, "stopped": BAD_INPUT_CODE, "not_pushed": NOT_PUSHED_CODE}
    return RunResult(summary, folder, code.get(summary["status"], FAILED_CODE))


def _tidy_up_after_killed_runs(root: Root, run_id: str, store: Any) -> None:
    """Removes what they left half written, and writes the summaries they could not write."""
    from pipeline import run_record

    for execution_id in run_record.abandon_unfinished(store):
        _remove_outputs(root.artifacts, execution_id)
    for killed in root.runs_without_summary(except_for=run_id):
        try:
            _write_summary_of_killed_run(killed, store, root)
        except Exception:  # a configuration of an older version, say: no reason for this run to fail; the log has it
            traceback.print_exc()


def _summarise(config, run_id, nodes, node_ids, root, before, status, reason) -> dict[str, Any]:
    from components.report import summary as report
    from components.verdict import read_verdict

    def output(node_id: str, key: str):
        node = nodes.get(node_id)
        return node.outputs[key][0] if node and node.succeeded and key in node.outputs else None

    data = vectors = models = further = selection = release = servable = None
    if ingest_report := output("ImageExampleGen", "ingest_report"):
        data = report.describe_data(ingest_report.uri)
    if feature_vectors := output("FeatureVectorGen", "feature_vectors"):
        vectors = report.describe_vectors(feature_vectors.uri)
    if (predictions := output("Predictions", "predictions")) and (schema := output("DataGate", "schema")):
        evaluate = functools.partial(
            report.describe_models,
            labels=report.labels(schema.uri),
            confidence=config.selection.confidence,
            samples=config.selection.bootstrap_samples,
            seed=config.training.seed,
            minimum_slice_examples=config.evaluation.minimum_slice_examples,
            abstain_below=config.serving.abstain_below,
        )
        models = evaluate(predictions)
        runs = {"feature_extraction": "FeatureExtraction", "fine_tuned": "FineTuning"}
        for model, node_id in runs.items():
            if model_run := output(node_id, "model_run"):
                models[model]["training"] = report.describe_training(model_run.uri)
        if predictions := output("FurtherPredictions", "predictions"):
            further = {"models": evaluate(predictions)}
            if ingest_report := output("FurtherExampleGen", "ingest_report"):
                found = report.describe_data(ingest_report.uri)
                answered = next(iter(further["models"].values()))["examples"]
                further |= {"data": found, "left_out_as_learnt_from": found["accepted"]["test"] - answered}
    if verdict := output("ModelSelector", "verdict"):
        selection = read_verdict(verdict.uri)
    if verdict := output("ReleaseGate", "verdict"):
        release = read_verdict(verdict.uri)
    if verdict := output("ServableCheck", "verdict"):
        servable = read_verdict(verdict.uri)
    pushed_model = output("Pusher", "pushed_model")
    after = root.production_version()

    if not status:
        if pushed_model is None:
            status, reason = "skipped", "only a part of the pipeline was asked for, without Pusher"
        elif not pushed_model.get_int_custom_property("pushed"):
            outcome = pushed_model.get_string_custom_property("outcome")
            refusals = [v["text"] for v in (release, servable) if v and not v.get("released", v.get("servable"))]
            status = "skipped" if outcome == "already_in_production" else "not_pushed"
            reason = "; ".join(refusals) or pushed_model.get_string_custom_property("reason")
            worked = {node_id for node_id, node in nodes.items() if node.state != "cached"}
            if status == "skipped" and worked <= {"ProductionPredictions", "ReleaseGate", "Pusher"}:
                reason = f"photos, configuration and code are those of an earlier run: {reason}"
        elif nodes["Pusher"].state == "cached":
            status = "skipped"
            reason = (
                "photos, configuration and code are those of an earlier run, whose model was pushed as version "
                + pushed_model.get_string_custom_property("pushed_version")
            )
        else:
            assert selection is not None  # without it there is no Pusher
            status = "pushed"
            reason = f"{selection['winner'].replace('_', ' ')} is in production as version {after}"
            if release and release["forced"]:
                reason += f", by force: {release['forced']}"
    return {
        "schema_version": report.SCHEMA_VERSION,
        "run_id": run_id,
        "config": config.model_dump(mode="json"),
        "status": status,
        "reason": reason,
        "nodes": [
            {
                "id": node_id,
                "state": nodes[node_id].state if node_id in nodes else "not_reached",
                "seconds": round(nodes[node_id].seconds, 1) if node_id in nodes else 0.0,
            }
            for node_id in node_ids
        ],
        "data": data,
        "vectors": vectors,
        "models": models,
        "further": further,
        "winner": selection["winner"] if selection else None,
        "verdict": {
            "text": selection["text"],
            "difference": selection["difference"],
            "interval": [selection["low"], selection["high"]],
            "p_value": selection["p_value"],
            **{key: selection[key] for key in ("ensemble", "photos_to_show") if key in selection},
        }
        if selection
        else None,
        "release": release,
        "servable": servable,
        "production": {"before": before, "after": after, "folder": str(root.serving)},
    }


def _write_summary_of_killed_run(folder: Path, store: Any, root: Root) -> None:
    """A killed run cannot write its summary; the next one does."""
    from components.report.summary import write_summary
    from pipeline import run_record

    config = Config.model_validate(yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8")))
    nodes = run_record.read_run(store, config.name, folder.name)
    reason = "the run was killed; the next run went on from its last finished step"
    summary = _summarise(config, folder.name, nodes, list(nodes), root, root.production_version(), "failed", reason)
    write_summary({**summary, "duration_seconds": round(sum(node.seconds for node in nodes.values()), 1)}, folder)


def failure(error: BaseException, root: Root) -> str:
    """What made a run fail, in one sentence."""
    text = " ".join(str(error).split()) or type(error).__name__
    if (
        (isinstance(error, OSError) and error.errno == 28)
        or "No space left on device" in text
        or "disk is full" in text
    ):
        return (
            f"no space is left on the disk of {root.folder}; free some and run again: finished steps are kept and "
            "the run goes on from there"
        )
    return f"{type(error).__name__}: {text[:500]}"


def _remove_outputs(artifacts: Path, execution_id: int) -> None:
    """Removes what an execution of a killed run had written so far."""
    for folder in [*artifacts.glob(f"*/*/{execution_id}"), *artifacts.glob(f"*/.system/*/{execution_id}")]:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Sends everything that libraries print, from Python or C++, to the run's log.

    The display has its own copy of the terminal (`terminal_stream`).
    """
    saved = [os.dup(1), os.dup(2)]
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        for number, descriptor in zip((1, 2), saved, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


def terminal_stream(number: int = 1) -> Any:
    """A text stream to what file descriptor `number` is now, whatever it is redirected to later."""
    return os.fdopen(os.dup(number), "w", buffering=1, encoding="utf-8", errors="replace")
