"""What is removed from a root folder, and what never is: in histories of many nights, and with TFX's own cache."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

from components.drift_gate import VECTORS_PROPERTY
from deploy import housekeeping
from deploy.cli import main
from deploy.housekeeping import KEYS_FILE, REMOVED_FILE, clean, clean_root, configured_days
from deploy.root import Root
from schemas.errors import BadInput
from schemas.release import Release

NAME = "pets"
DAY = 86_400
BEGINNING = 1_700_000_000  # seconds since 1970
EXAMPLES, REPORT, MODEL, BLESSING, PUSHED = (
    "Examples",
    "WarmstartIngestReport",
    "Model",
    "ModelBlessing",
    "PushedModel",
)
STEPS = ("Ingest", "Check", "Vectors", "Window", "Train", "Gate", "Push")
COMPLETE, CACHED, FAILED, RUNNING = (
    mlmd.Execution.COMPLETE,
    mlmd.Execution.CACHED,
    mlmd.Execution.FAILED,
    mlmd.Execution.RUNNING,
)
# A history is thousands of small transactions, each of which waits for the disk.
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
LIVE, DELETED, PENDING = mlmd.Artifact.LIVE, mlmd.Artifact.DELETED, mlmd.Artifact.PENDING


class Ended(Exception):
    """A step failed."""


class History:
    """A root folder as nights of runs leave it, written to ML Metadata as TFX writes it, but at any time in the past.

    The graph: Ingest, Check and Vectors of a span, Window of several, Train, Gate, Push. Earlier spans of a window are
    ingested by runs of their own, as `deploy/earlier_spans.py` does it. Each step looks into the cache first, by the
    rules of TFX's `cache_utils`.
    """

    def __init__(self, folder: Path, window: int = 2, database: Path | None = None, name: str = NAME):
        self.root, self.window, self.name = Root(folder), window, name
        self.root.prepare(name)
        self.database = database or self.root.metadata
        config = mlmd.ConnectionConfig()
        config.sqlite.filename_uri = str(self.database)
        config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self.store = metadata_store.MetadataStore(config)
        self.day = 0.0
        self.spans: list[int] = []
        self.runs: list[str] = []
        self.used: dict[str, set[int]] = {}  # run with its companions -> artifacts
        self.finished: list[str] = []
        self.made: Counter[tuple[str, int]] = Counter()  # step and span -> times it was really done
        self._dated: set[str] = set()

    @property
    def now(self) -> float:
        return BEGINNING + self.day * DAY

    @functools.cache  # noqa: B019
    def _type(self, kind: str, name: str) -> int:
        make = {"artifact": mlmd.ArtifactType, "execution": mlmd.ExecutionType, "context": mlmd.ContextType}[kind]
        return getattr(self.store, f"put_{kind}_type")(make(name=name))

    @functools.cache  # noqa: B019
    def context(self, kind: str, name: str) -> mlmd.Context:
        found = self.store.get_context_by_type_and_name(kind, name)
        if found is None:
            context = mlmd.Context(type_id=self._type("context", kind), name=name)
            [number] = self.store.put_contexts([context])
            if kind == "pipeline_run":
                parent = self.context("pipeline", self.name).id
                self.store.put_parent_contexts([mlmd.ParentContext(child_id=number, parent_id=parent)])
            found = self.store.get_context_by_type_and_name(kind, name)
        return found

    def cached(self, cache: mlmd.Context) -> dict[str, int] | None:
        """As `get_cached_outputs` of TFX."""
        for execution in sorted(self.store.get_executions_by_context(cache.id), key=lambda e: -e.id):
            if execution.last_known_state not in (COMPLETE, CACHED):
                continue
            events = [e for e in self.store.get_events_by_execution_ids([execution.id]) if e.type == mlmd.Event.OUTPUT]
            artifacts = self.store.get_artifacts_by_id([e.artifact_id for e in events])
            if all(a.state == LIVE for a in artifacts) and all(Path(a.uri).exists() for a in artifacts):
                return {e.path.steps[0].key: e.artifact_id for e in events}
        return None

    def step(self, run: str, node: str, inputs: list[int], outputs: dict[str, str], parameters="", how=COMPLETE):
        """Runs a step; gives the number of the artifact of each key."""
        given = sorted((a.id, a.last_update_time_since_epoch) for a in self.store.get_artifacts_by_id(inputs))
        key = hashlib.sha256(repr((self.name, node, given, sorted(outputs), parameters)).encode()).hexdigest()
        contexts = [
            self.context("pipeline", self.name),
            self.context("pipeline_run", run),
            self.context("node", f"{self.name}.{node}"),
            self.context("execution_cache", key),
        ]
        found = self.cached(contexts[-1])
        type_id = self._type("execution", node)
        execution = mlmd.Execution(type_id=type_id, last_known_state=CACHED if found is not None else how)
        [execution.id] = self.store.put_executions([execution])
        pairs = [(self.store.get_artifacts_by_id([number])[0], mlmd.Event.INPUT, "input") for number in inputs]
        if found is not None:
            pairs += [(self.store.get_artifacts_by_id([a])[0], mlmd.Event.OUTPUT, key) for key, a in found.items()]
        else:
            for key, kind in outputs.items():
                folder = self.root.artifacts / node / key / str(execution.id)
                folder.mkdir(parents=True)
                (folder / "file").write_text(f"{node} {parameters}")
                (self.root.artifacts / node / ".system" / "executor_execution" / str(execution.id)).mkdir(
                    parents=True, exist_ok=True
                )
                artifact = mlmd.Artifact(type_id=self._type("artifact", kind), uri=str(folder))
                artifact.state = LIVE if how == COMPLETE else PENDING
                pairs.append((artifact, mlmd.Event.OUTPUT if how == COMPLETE else mlmd.Event.PENDING_OUTPUT, key))
        with_events = []
        for artifact, kind, key in pairs:
            event = mlmd.Event(type=kind)
            event.path.steps.add().key = key
            with_events.append((artifact, event))
        _, numbers, _ = self.store.put_execution(execution, with_events, contexts)
        base = run.partition("-span-")[0]
        self.used.setdefault(base, set()).update(numbers if how == COMPLETE else inputs)
        if how != COMPLETE:
            raise Ended
        return {key: number for (_, kind, key), number in zip(pairs, numbers, strict=True) if kind == mlmd.Event.OUTPUT}

    def ingest(self, run: str, span: int) -> tuple[dict[str, int], dict[str, int]]:
        before = len(self.complete("Ingest"))
        ingested = self.step(run, "Ingest", [], {"examples": EXAMPLES, "ingest_report": REPORT}, f"span {span}")
        if len(self.complete("Ingest")) > before:
            self.made["Ingest", span] += 1
            report = Path(self.artifact(ingested["ingest_report"]).uri)
            (report / KEYS_FILE).write_text(json.dumps([f"{span:064x}", "train", "cat"]) + "\n")
        checked = self.step(run, "Check", [ingested["examples"]], {"anomalies": "ExampleAnomalies"})
        before = len(self.complete("Vectors"))
        vectors = self.step(run, "Vectors", [ingested["examples"], checked["anomalies"]], {"vectors": EXAMPLES})
        self.made["Vectors", span] += len(self.complete("Vectors")) - before
        return ingested, vectors

    def run(self, end: str = "pushed", new_span: bool = True) -> str:
        """A night.

        Args:
          end: `pushed`; `refused` by the gate; `failed` or `killed` while it trained; `early`: before it ingested.
          new_span: a span came in the day before.
        """
        if new_span or not self.spans:
            self.spans.append(len(self.spans) + 1)
        run = f"run{len(self.runs):04d}"
        self.runs.append(run)
        report = self.root.reports / run
        report.mkdir()
        (report / "config.yaml").write_text("name: pets\n")
        (report / "run.log").write_text("much was said\n")
        status, states = "failed", {}
        try:
            if end == "early":
                self.context("pipeline_run", run)
                raise Ended
            *earlier, newest = self.spans[-self.window :]
            parts = [self.ingest(f"{run}-span-{span}", span) for span in earlier] + [self.ingest(run, newest)]
            given = [a for ingested, vectors in parts for a in (*ingested.values(), *vectors.values())]
            window = self.step(run, "Window", given, {"photos": EXAMPLES}, str(self.spans[-self.window :]))
            how = {"failed": FAILED, "killed": RUNNING}.get(end, COMPLETE)
            model = self.step(run, "Train", list(window.values()), {"model": MODEL}, how=how)["model"]
            production = self.root.serving_folder().production()
            blessing = self.step(run, "Gate", [model], {"blessing": BLESSING}, f"{production} {end}")["blessing"]
            status, states = "not_pushed", dict.fromkeys(STEPS, "complete") | {"Push": "skipped"}
            if end == "pushed":
                self.push(run, model, blessing)
                status, states["Push"] = "pushed", "complete"
            self.finished.append(run)
        except Ended:
            pass
        if end != "killed":
            nodes = [{"id": step, "state": states.get(step, "not_reached")} for step in STEPS]
            (report / "summary.json").write_text(json.dumps({"status": status, "nodes": nodes}))
            (report / "index.html").write_text("<html>")
        self.date()
        return run

    def push(self, run: str, model: int, blessing: int) -> None:
        numbers = self.step(run, "Push", [model, blessing], {"pushed_model": PUSHED}, run)
        serving = self.root.serving_folder()
        folder = self.root.folder / "model"
        folder.mkdir(exist_ok=True)
        (folder / "saved_model.pb").write_text(run)
        result = serving.push(folder, run, Release(), serving.production(), run)
        artifact = self.artifact(numbers["pushed_model"])
        artifact.custom_properties["pushed"].int_value = 1
        artifact.custom_properties["pushed_version"].string_value = str(result.version)
        self.store.put_artifacts([artifact])
        serving.remove_old(1)

    def date(self) -> None:
        """Everything that is new was written now."""
        with sqlite3.connect(self.database) as connection:
            for table in ("Execution", "Context"):
                connection.execute(
                    f"UPDATE {table} SET create_time_since_epoch = ?, last_update_time_since_epoch = ? "
                    "WHERE create_time_since_epoch > ?",
                    (int(self.now * 1000), int(self.now * 1000), (BEGINNING + 30_000_000) * 1000),
                )
        connection.close()
        for folder, names, files in os.walk(self.root.folder, topdown=False):
            for path in [os.path.join(folder, name) for name in [*names, *files]]:
                if path not in self._dated:
                    os.utime(path, (self.now, self.now))
                    self._dated.add(path)

    def artifact(self, number: int) -> mlmd.Artifact:
        return self.store.get_artifacts_by_id([number])[0]

    def complete(self, node: str) -> list[int]:
        context = self.store.get_context_by_type_and_name("node", f"{self.name}.{node}")
        found = self.store.get_executions_by_context(context.id) if context else []
        return sorted(execution.id for execution in found if execution.last_known_state == COMPLETE)

    def clean(self, days: float = 30, **keywords) -> housekeeping.CleaningResult:
        return clean(self.root, self.store, days, self.now, **keywords)

    def is_there(self, number: int) -> bool:
        artifact = self.artifact(number)
        return artifact.state == LIVE and (Path(artifact.uri) / "file").exists()

    def last_use(self, number: int) -> float:
        """In days ago, also of what was made together with it."""
        [maker] = {
            int(Path(self.artifact(number).uri).name),
        }
        outputs = [
            e.artifact_id for e in self.store.get_events_by_execution_ids([maker]) if e.type == mlmd.Event.OUTPUT
        ]
        users = {event.execution_id for event in self.store.get_events_by_artifact_ids(outputs)}
        times = [e.last_update_time_since_epoch / 1000 for e in self.store.get_executions_by_id(list(users))]
        return (self.now - max(times)) / DAY


def removed(cleaned: housekeeping.CleaningResult) -> set[str]:
    return {one.what for one in cleaned.removed}


def artifacts_removed(cleaned: housekeeping.CleaningResult) -> set[str]:
    return {what for what in removed(cleaned) if what.startswith("artifacts/") and not what.endswith(".system")}


def tree(folder: Path, but: tuple[str, ...] = ()) -> dict[str, tuple]:
    """Path -> kind, size, times and content of everything below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name in but:
            continue
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[name] = (status.st_mode, status.st_mtime_ns, status.st_size, content)
    return found


def dump(database: Path) -> list[str]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def check_promises(history: History, days: float) -> None:
    """What holds after every cleaning."""
    # Of the runs that the next one goes on from, everything.
    for run in {history.runs[-1], *history.finished[-1:]}:
        missing = [number for number in history.used.get(run, ()) if not history.is_there(number)]
        assert not missing, f"{run} needs {missing}"
    # Of every version that is there or pinned, the models and verdicts.
    serving = history.root.serving_folder()
    for version in serving.versions():
        manifest = serving.manifest(version)
        for number in history.used[manifest.run_id]:
            kind = history.artifact(number).type
            assert kind == EXAMPLES or history.is_there(number), f"version {version} needs {kind} {number}"
    everything = history.store.get_artifacts()
    for artifact in everything:
        folder = Path(artifact.uri)
        # Nothing points at nothing, and nothing lies around.
        assert (artifact.state == LIVE) <= folder.exists(), folder
        assert (artifact.state == DELETED) <= (not folder.exists()), folder
        if artifact.state == DELETED and folder.parts[-2] not in ("model",):
            assert history.last_use(artifact.id) >= days - 1e-6
    numbers = {artifact.uri for artifact in everything}
    assert {str(folder) for folder in history.root.artifacts.glob("[!.]*/[!.]*/*")} <= numbers


nights = st.tuples(
    st.sampled_from([0.5, 1, 5, 31, 50]),  # days since the night before
    st.sampled_from(["pushed", "refused", "failed", "killed", "early"]),
    st.booleans(),  # a span came
    st.sampled_from(["", "", "clean", "pin"]),  # what is done the day after
)
histories = st.tuples(st.integers(1, 3), st.sampled_from([1, 10, 30]), st.lists(nights, min_size=2, max_size=7))
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def play(folder: Path, window: int, days: float, plan: list) -> History:
    history = History(folder, window)
    for gap, end, new_span, then in plan:
        history.day += gap
        history.run(end, new_span)
        history.day += 0.01
        if then == "pin" and (version := history.root.serving_folder().production()):
            history.root.serving_folder().pin(version)
        if then == "clean":
            history.clean(days)
            check_promises(history, days)
    return history


@few
@given(histories)
def test_what_production_a_pinned_version_or_the_next_run_needs_is_never_removed(given_history):
    from pipeline.run_record import last_pushed_version

    window, days, plan = given_history
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        history = play(Path(folder, "root"), window, days, plan)
        for quiet in (0, 2, 40):
            history.day += quiet
            before = last_pushed_version(history.store, NAME)
            served = tree(history.root.serving)
            history.clean(days)
            check_promises(history, days)
            assert last_pushed_version(history.store, NAME) == before
            assert tree(history.root.serving) == served
            assert history.clean(days).removed == []
        # The night after: the window is there, however long it was quiet.
        history.run("refused", new_span=False)
        assert {*history.made.values()} == {1}
        for run in history.runs[:-1]:
            report = history.root.reports / run
            assert (report / "config.yaml").exists()
            assert (report / "summary.json").exists() == (report / "index.html").exists()


@few
@given(histories, st.integers(0, 12))
def test_a_cleaning_killed_anywhere_leaves_nothing_that_points_at_nothing_and_the_next_one_ends_it(
    given_history, survived
):
    window, days, plan = given_history
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        history = play(Path(folder, "root"), window, days, plan)
        history.day += 45
        whole = {one.what for one in history.clean(days, dry_run=True).removed}

        def dies_after(real, left):
            def remove(*arguments):
                if left[0] == 0:
                    raise KeyboardInterrupt
                left[0] -= 1
                return real(*arguments)

            return remove

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(housekeeping.cleaning, "_remove", dies_after(housekeeping.cleaning._remove, [survived]))
            if len(whole) > survived:
                with pytest.raises(KeyboardInterrupt):
                    history.clean(days)
            else:
                history.clean(days)
        for artifact in history.store.get_artifacts():
            assert (artifact.state == LIVE) <= Path(artifact.uri).exists()
        again = history.clean(days)
        assert removed(again) <= whole
        assert len(again.removed) == max(len(whole) - survived, 0)
        check_promises(history, days)
        told = (
            [json.loads(line) for line in (history.root.folder / REMOVED_FILE).read_text().splitlines()]
            if whole
            else []
        )
        assert {line["what"] for line in told} >= whole


@pytest.fixture
def history(tmp_path) -> History:
    return History(tmp_path / "root")


def test_spans_that_left_the_window_and_models_of_old_runs_are_removed_together_with_their_cache_entries(history):
    for _ in range(5):
        history.day += 10
        history.run("refused")
    cleaned = history.clean(15)
    first, second, third = (history.complete("Ingest")[i] for i in range(3))
    # Of 40, 30, 20 days ago; the span of the second run was in the window of the third one, too.
    assert f"artifacts/Ingest/examples/{first}" in removed(cleaned)
    assert f"artifacts/Ingest/ingest_report/{first}" in removed(cleaned)
    assert f"artifacts/Ingest/examples/{second}" in removed(cleaned)
    assert f"artifacts/Ingest/examples/{third}" not in removed(cleaned)
    why = {one.what: one.why for one in cleaned.removed}
    assert why[f"artifacts/Ingest/examples/{first}"] == "last used 30 days ago"
    assert why[f"artifacts/Ingest/examples/{second}"] == "last used 20 days ago"
    assert cleaned.bytes == sum(one.bytes for one in cleaned.removed) > 0
    told = [json.loads(line) for line in (history.root.folder / REMOVED_FILE).read_text().splitlines()]
    assert [line["what"] for line in told] == [one.what for one in cleaned.removed]
    assert all(line["at"].endswith("Z") and line["why"] and line["bytes"] >= 0 for line in told)


def test_what_the_cache_gave_a_recent_run_is_in_use_however_old_it_is(history):
    history.run("refused")
    old = history.complete("Ingest")
    for _ in range(5):
        history.day += 20
        history.run("refused", new_span=False)
    history.day += 10
    history.run("pushed")
    history.run("pushed")
    assert artifacts_removed(history.clean(15)) == set()
    history.day += 20
    assert f"artifacts/Ingest/examples/{old[0]}" in removed(history.clean(15))


def test_the_verdict_on_a_span_stays_with_its_vectors(history):
    history.run("refused")
    span_vectors = history.complete("Vectors")[0]
    [vectors] = (a for a in history.store.get_artifacts() if a.uri.endswith(f"/vectors/{span_vectors}"))
    verdict = history.artifact(history.step(history.runs[-1], "Judge", [vectors.id], {"verdict": "Verdict"})["verdict"])
    verdict.custom_properties[VECTORS_PROPERTY].string_value = vectors.uri
    history.store.put_artifacts([verdict])
    history.date()
    for _ in range(5):
        history.day += 20
        history.run("refused", new_span=False)  # the vectors are in the window; nobody reads the verdict
    assert history.last_use(verdict.id) == pytest.approx(100)
    history.clean(15)
    assert history.is_there(verdict.id)
    for _ in range(3):
        history.day += 20
        history.run("refused")
    history.clean(15)
    assert not history.is_there(vectors.id)
    assert not history.is_there(verdict.id)


def test_of_a_version_in_serving_models_and_verdicts_stay_and_photos_go(history):
    run = history.run("pushed")
    for _ in range(3):
        history.day += 40
        history.run("refused")
    assert history.root.serving_folder().manifest(history.root.serving_folder().production()).run_id == run
    cleaned = removed(history.clean())
    [ingested, *_], [trained, *_] = history.complete("Ingest"), history.complete("Train")
    assert f"artifacts/Ingest/examples/{ingested}" in cleaned
    assert f"artifacts/Ingest/ingest_report/{ingested}" not in cleaned
    assert f"artifacts/Train/model/{trained}" not in cleaned
    assert f"reports/{run}" not in cleaned
    assert f"artifacts/Train/model/{history.complete('Train')[1]}" in cleaned
    # Half of what the execution made is left: the cache passes over it.
    history.spans = [1]
    history.run("refused", new_span=False)
    assert history.made["Ingest", 1] == 2


def test_a_version_that_left_serving_leaves_its_model_to_be_removed_unless_it_is_pinned(history):
    history.run("pushed")
    [first] = history.root.serving_folder().versions()
    history.run("pushed")
    history.root.serving_folder().pin(first)
    for _ in range(3):
        history.day += 40
        history.run("pushed")
    assert first in history.root.serving_folder().versions()
    models = history.complete("Train")
    cleaned = removed(history.clean())
    assert [f"artifacts/Train/model/{number}" in cleaned for number in models] == [False, True, True, False, False]
    history.root.serving_folder().unpin(first)
    history.root.serving_folder().remove_old(1)
    assert f"artifacts/Train/model/{models[0]}" in removed(history.clean())


def test_which_version_was_pushed_last_is_known_also_after_it_left_serving(history):
    from pipeline.run_record import last_pushed_version

    serving = history.root.serving_folder()
    history.run("pushed")
    history.run("pushed")
    [first, second] = serving.versions()
    serving.rollback()
    serving.remove_old(0)
    assert {first, second}.isdisjoint(serving.versions())
    assert last_pushed_version(history.store, NAME) == str(second)
    for _ in range(3):
        history.day += 40
        history.run("refused")
    pushes = history.complete("Push")
    cleaned = removed(history.clean())
    assert f"artifacts/Push/pushed_model/{pushes[1]}" not in cleaned
    assert last_pushed_version(history.store, NAME) == str(second)
    # Production is a copy of the first version, whose model stays for it.
    [model, other, *_] = history.complete("Train")
    assert f"artifacts/Train/model/{model}" not in cleaned
    assert f"artifacts/Train/model/{other}" in cleaned


def test_the_newest_finished_run_is_kept_behind_those_that_were_killed_and_so_is_the_newest_of_all(history):
    history.run("refused")
    history.day += 40
    finished = history.run("refused")
    history.day += 40
    killed = history.run("refused")
    (history.root.reports / killed / "summary.json").unlink()
    history.day += 40
    newest = history.run("early")
    # All that the newest run came to is a step that the finished one did not have.
    extra = history.step(newest, "Tune", [], {"parameters": "HyperParameters"}, newest)["parameters"]
    history.date()
    history.day += 40
    assert len(artifacts_removed(history.clean())) > 0
    assert all(history.is_there(number) for number in history.used[finished])
    assert all(history.is_there(number) for number in history.used[killed])
    assert history.is_there(extra)
    history.run("refused")
    history.clean()
    assert not history.is_there(extra)


def test_what_failed_and_killed_steps_left_is_removed_when_it_is_old(history):
    history.run("failed")
    history.run("killed")
    history.day += 29
    history.run("refused")
    lost = history.root.artifacts / "Train" / "model" / "9999"
    lost.mkdir()
    (lost / "half-written").write_text("half")
    os.utime(lost / "half-written", (history.now, history.now))
    os.utime(lost, (history.now, history.now))
    assert artifacts_removed(history.clean()) == set()
    history.day += 2
    failed = [a for a in history.store.get_artifacts() if a.state == PENDING]
    cleaned = {one.what: one.why for one in history.clean().removed if "/Train/" in one.what}
    assert cleaned == {
        f"artifacts/Train/model/{Path(failed[0].uri).name}": "left by a step that failed 31 days ago",
        f"artifacts/Train/model/{Path(failed[1].uri).name}": "left by a step that was killed or cancelled 31 days ago",
    }
    assert [history.artifact(artifact.id).state for artifact in failed] == [DELETED, DELETED]
    assert not Path(failed[0].uri).exists()
    assert lost.exists()
    history.day += 29
    [left] = [one for one in history.clean().removed if one.what == "artifacts/Train/model/9999"]
    assert left.why == "unknown to ML Metadata, and unchanged for 31 days"
    assert not lost.exists()


def test_artifacts_and_folders_of_another_pipeline_in_the_same_store_are_left_alone(tmp_path):
    database = tmp_path / "shared.sqlite"
    ours, theirs = (History(tmp_path / name, database=database, name=name) for name in ("ours", "theirs"))
    for _ in range(3):
        for each in (theirs, ours):
            each.day += 40
            each.run("refused")
    theirs_before = tree(theirs.root.folder)
    # As where two pipelines have one TFX pipeline root.
    stranger = theirs.complete("Ingest")[0]
    shutil.copytree(
        theirs.root.artifacts / "Ingest/examples" / str(stranger), ours.root.artifacts / f"Ingest/examples/{stranger}"
    )
    ours.date()
    ours.day += 40
    # Another pipeline read it the other day.
    read = ours.complete("Train")[0]
    [used] = [a.id for a in ours.store.get_artifacts() if a.uri == str(ours.root.artifacts / f"Train/model/{read}")]
    theirs.day = ours.day - 1
    theirs.step("theirs-reads", "Gate", [used], {"blessing": BLESSING})
    theirs.date()
    cleaned = artifacts_removed(ours.clean())
    assert f"artifacts/Ingest/examples/{ours.complete('Ingest')[0]}" in cleaned
    assert f"artifacts/Ingest/examples/{stranger}" not in cleaned
    assert f"artifacts/Train/model/{read}" not in cleaned
    assert {k: v for k, v in tree(theirs.root.folder).items() if k in theirs_before and "Gate" not in k} == {
        k: v for k, v in theirs_before.items() if "Gate" not in k
    }
    assert {a.state for a in theirs.store.get_artifacts() if a.uri.startswith(str(theirs.root.folder))} == {LIVE}


def test_logs_and_working_folders_go_and_what_history_shows_stays(history):
    runs = [history.run("refused") for _ in range(3)]
    (history.root.reports / runs[0] / "pipeline.pb").write_bytes(b"compiled")
    os.utime(history.root.reports / runs[0] / "pipeline.pb", (history.now, history.now))
    os.utime(history.root.reports / runs[0], (history.now, history.now))
    history.day += 31
    cleaned = {one.what: one.why for one in history.clean().removed}
    assert cleaned[f"reports/{runs[0]}"] == "run.log and pipeline.pb of a run that ended 31 days ago"
    assert cleaned[f"reports/{runs[1]}"] == "run.log of a run that ended 31 days ago"
    assert sorted(os.listdir(history.root.reports / runs[0])) == ["config.yaml", "index.html", "summary.json"]
    assert (history.root.reports / runs[2] / "run.log").exists()  # the newest
    assert "working folders of steps that ran 30 days or more ago" in cleaned["artifacts/*/.system"]
    assert list(history.root.artifacts.glob("*/.system/*/*")) == []


def entry(history: History, folder: str, name: str) -> Path:
    file = history.root.vectors / folder / name[:2] / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"v" * 100)
    return file


def test_vectors_go_when_their_photo_is_in_no_span_that_is_kept_or_their_backbone_is_not_in_use(history):
    of_span = [f"{span:064x}" for span in range(5)]
    stay, go = [], []
    for span in (1, 2, 3):
        history.day += 40
        history.run("refused")
        go.append(entry(history, "other-backbone", of_span[span]))
        history.date()
        history.day += 0.1
        (go if span == 1 else stay).append(entry(history, "backbone", of_span[span]))
        (go if span == 1 else stay).append(entry(history, "backbone-views-1", of_span[span] + "-2"))
        history.date()
    go.append(entry(history, "backbone", of_span[2] + ".b7f1"))  # half-written by a process that was killed
    history.date()
    history.day += 40
    cleaned = {one.what: (one.why, one.bytes) for one in history.clean().removed if one.what.startswith("vectors")}
    assert cleaned == {
        "vectors/backbone": (
            "2 vectors of photos in no span that is kept, made 30 days or more ago",
            200,
        ),
        "vectors/backbone-views-1": (
            "1 vectors of photos in no span that is kept, made 30 days or more ago",
            100,
        ),
        "vectors/other-backbone": (
            "3 vectors of a backbone, code or augmentation not in use, made 30 days or more ago",
            300,
        ),
    }
    assert all(file.exists() for file in stay)
    assert not any(file.exists() for file in go)
    assert not (history.root.vectors / "other-backbone").exists()


def test_vectors_stay_where_a_kept_span_does_not_say_which_photos_it_has(history):
    history.run("refused")
    [report] = history.root.artifacts.glob("Ingest/ingest_report/*")
    (report / KEYS_FILE).unlink()
    kept, other = entry(history, "backbone", "f" * 64), entry(history, "other", "f" * 64)
    history.date()
    os.utime(other, (history.now - DAY, history.now - DAY))
    history.day += 40
    history.clean()
    assert kept.exists()
    assert not other.exists()


def test_the_name_of_the_file_with_a_span_s_photos_is_that_of_the_ingest_report():
    from components.example_gen import report

    assert report.KEYS_FILE == KEYS_FILE


def test_states_of_interrupted_trainings_go_when_they_are_old(history):
    for name, age in (("old.npz", 31), ("new.npz", 29)):
        file = history.root.resume / "fine_tuning" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"state")
        os.utime(file, (history.now - age * DAY, history.now - age * DAY))
    [one] = history.clean().removed
    assert (one.what, one.why) == ("resume/fine_tuning/old.npz", "state of a training interrupted 31 days ago")
    assert os.listdir(history.root.resume / "fine_tuning") == ["new.npz"]


def test_what_was_set_aside_goes_when_it_has_lain_there_long_enough(history):
    for name, age in (("long-ago", 31), ("lately", 29)):
        file = history.root.set_aside / name / "Trainer" / "model" / "3" / "saved_model.pb"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"graph")
        os.utime(file, (0, 0))  # as old as the step that made it
        folder = history.root.set_aside / name
        os.utime(folder, (history.now - age * DAY, history.now - age * DAY))
    [one] = history.clean().removed
    assert one.what == "set-aside/long-ago"
    assert one.why == "outputs of steps that ML Metadata no longer knows, set aside 31 days ago"
    assert os.listdir(history.root.set_aside) == ["lately"]


def test_a_file_that_a_window_links_is_not_free_until_its_last_name_is_gone(history):
    history.run("refused")
    history.day += 10
    history.run("refused", new_span=False)
    span = history.root.artifacts / "Ingest/examples" / str(history.complete("Ingest")[0])
    (span / "photos").write_bytes(b"p" * 1000)
    window = history.root.artifacts / "Window/photos" / str(history.complete("Window")[0])
    os.link(span / "photos", window / "photos")
    elsewhere = history.root.folder / "another-name"
    os.link(span / "photos", elsewhere)
    for _ in range(3):
        history.day += 40
        history.run("refused")
    once = history.clean(dry_run=True)
    elsewhere.unlink()
    at_last = history.clean(dry_run=True)
    assert at_last.bytes == once.bytes + 1000
    assert sum(one.bytes for one in at_last.removed) == at_last.bytes + 1000


def test_a_dry_run_shows_what_would_go_and_changes_nothing(history):
    for _ in range(4):
        history.run("pushed")
        history.day += 40
    entry(history, "backbone", "0" * 64)
    (history.root.resume).mkdir()
    history.date()
    before, stored = tree(history.root.folder), dump(history.database)
    shown = history.clean(5, dry_run=True)
    assert len(artifacts_removed(shown)) > 10
    by_command = clean_root(history.root, 5, dry_run=True)  # the real clock is far ahead, so it is at least as much
    assert removed(by_command) >= removed(shown)
    assert tree(history.root.folder) == before
    assert dump(history.database) == stored
    done = history.clean(5)
    assert done.removed == shown.removed
    assert done.bytes == shown.bytes
    assert tree(history.root.folder) != before
    assert dump(history.database) != stored


def test_a_process_killed_in_the_middle_leaves_work_that_the_next_one_ends(history):
    for _ in range(4):
        history.run("refused")
        history.day += 40
    program = (
        "import os, shutil, signal, sys\n"
        "from deploy import housekeeping\n"
        "from deploy.root import Root\n"
        "real, calls = shutil.rmtree, []\n"
        "def rmtree(path):\n"
        "    calls.append(path)\n"
        "    if len(calls) == 4:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(path)\n"
        "housekeeping.cleaning.shutil.rmtree = rmtree\n"
        "housekeeping.clean_root(Root(sys.argv[1]), 30)\n"
    )
    repository = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", program, str(history.root.folder)], cwd=repository, check=False)
    assert killed.returncode == -signal.SIGKILL
    states = [(artifact.state, Path(artifact.uri).exists()) for artifact in history.store.get_artifacts()]
    assert (LIVE, False) not in states
    left = states.count((DELETED, True))
    assert left > 3
    again = history.clean()
    why = [one.why for one in again.removed]
    assert why.count("left over from an interrupted cleaning") == left
    assert history.clean().removed == []
    check_promises(history, 30)


def test_an_active_run_is_one_sentence_and_nothing_is_removed(history):
    history.run("refused")
    history.day += 40
    history.run("refused")
    program = (
        "import sys\n"
        "from deploy.root import Root\n"
        "with Root(sys.argv[1]).lock('tonight'):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    repository = Path(__file__).parents[2]
    command = [sys.executable, "-c", program, str(history.root.folder)]
    holder = subprocess.Popen(command, cwd=repository, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        before = tree(history.root.artifacts)
        code, output = call("--root", str(history.root.folder), "--days", "0")
        assert code == 2
        assert output.startswith(f"error: another run is active in {history.root.folder} (tonight, process ")
        assert output.count("\n") == 1
        assert tree(history.root.artifacts) == before
        code, output = call("--root", str(history.root.folder), "--days", "0", "--dry-run")
        assert code == 0
        assert "would be removed" in output
    finally:
        holder.communicate("")


def call(*arguments: str) -> tuple[int, str]:
    """Exit code and everything that a person sees."""
    result = CliRunner().invoke(main, ["clean", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_the_command_prints_what_and_why_and_how_much(history):
    for _ in range(3):
        history.run("refused")
        history.day += 1
    folder = str(history.root.folder)
    code, output = call("--root", folder, "--dry-run", "--json")
    assert code == 0
    shown = json.loads(output)
    assert shown["dry_run"] is True
    assert shown["days"] == 30  # nothing else was configured
    code, output = call("--root", folder)
    assert code == 0
    lines = output.splitlines()
    assert lines[0].split() == ["what", "why", "size"]
    assert [line.split()[0] for line in lines[1 : 1 + len(shown["removed"])]] == [o["what"] for o in shown["removed"]]
    assert lines[-1].startswith(f"{len(shown['removed'])} removed, ")
    code, output = call("--root", folder)
    assert (code, output) == (0, "nothing to remove: everything is needed, or was used less than 30 days ago\n")


def test_days_come_from_the_newest_run_s_configuration(history):
    first, second = history.run("refused"), history.run("refused")
    (history.root.reports / first / "config.yaml").write_text("retention: {days: 7}\n")
    (history.root.reports / second / "config.yaml").write_text("retention: {days: 90}\n")
    history.day += 1
    os.utime(history.root.reports / second / "config.yaml", (history.now, history.now))
    os.utime(history.root.reports / first / "config.yaml", (history.now - DAY, history.now - DAY))
    assert configured_days(history.root) == 90
    (history.root.reports / second / "config.yaml").write_text("of another: version\n")
    assert configured_days(history.root) == 30


def test_a_retention_of_no_days_is_refused_by_name():
    from pipeline.config import load_config

    assert load_config("cats_vs_dogs", ["retention.days=9"], ["."]).retention.days == 9
    with pytest.raises(BadInput, match=r"retention.days \(=0\)"):
        load_config("cats_vs_dogs", ["retention.days=0"], ["."])


def test_a_root_that_nothing_ran_on_is_clean(tmp_path):
    root = Root(tmp_path / "root")
    root.prepare(NAME)
    before = tree(root.folder)
    assert clean_root(root, dry_run=True).removed == []
    assert tree(root.folder) == before
    assert clean_root(root).removed == []
    code, output = call("--root", str(tmp_path))
    assert code == 2
    assert "is not a root folder" in output


def test_a_damaged_store_is_one_sentence_and_nothing_is_removed(history):
    history.run("refused")
    history.root.metadata.write_bytes(b"no database at all" * 1000)
    before = tree(history.root.folder, but=(".lock", ".owner.json"))
    code, output = call("--root", str(history.root.folder), "--days", "0")
    assert code == 2
    assert f"{history.root.metadata} cannot be read" in output
    assert tree(history.root.folder, but=(".lock", ".owner.json")) == before


def test_what_cannot_be_removed_is_named_and_the_rest_is_removed(history, monkeypatch):
    for _ in range(3):
        history.run("refused")
    real = shutil.rmtree
    stuck = history.root.artifacts / "Window" / "photos" / str(history.complete("Window")[0])

    def rmtree(path):
        if path == stuck:
            raise PermissionError(13, "Permission denied", str(path))
        real(path)

    with monkeypatch.context() as patch:
        patch.setattr(housekeeping.cleaning.shutil, "rmtree", rmtree)
        code, output = call("--root", str(history.root.folder))
    assert code == 2
    what = f"artifacts/Window/photos/{stuck.name}"
    assert f"could not be removed, first {what} (Permission denied: {stuck})" in output.splitlines()[-1]
    assert stuck.exists()
    assert len(list(history.root.artifacts.glob("Window/photos/*"))) == 2
    told = [json.loads(line) for line in (history.root.folder / REMOVED_FILE).read_text().splitlines()]
    assert [line["error"] for line in told if "error" in line] == [f"Permission denied: {stuck}"]
    code, output = call("--root", str(history.root.folder))
    assert code == 0
    assert f"{what}  left over from an interrupted cleaning" in output
    assert not stuck.exists()


def on_kubeflow(folder: Path) -> tuple[History, Path]:
    """A root whose metadata are elsewhere, and the file they are in."""
    from deploy.kubeflow.prepare import bind

    database = folder / "elsewhere.sqlite"
    history = History(folder / "root", database=database)
    bind(history.root, NAME, history.store, "elsewhere")
    return history, database


def test_a_root_on_kubeflow_is_cleaned_through_its_metadata_service(tmp_path):
    from tests.metadata_service import metadata_service

    history, database = on_kubeflow(tmp_path)
    for _ in range(4):
        history.run("refused")
        history.day += 40
    code, output = call("--root", str(history.root.folder))
    assert code == 2
    assert "give the address of ML Metadata with --metadata" in output
    with metadata_service(database) as address:
        cleaned = clean_root(history.root, 30, address)
        assert len(artifacts_removed(cleaned)) > 5
        check_promises(history, 30)
        assert clean_root(history.root, 30, address).removed == []


def test_another_store_than_the_root_s_own_removes_nothing(tmp_path):
    history, _ = on_kubeflow(tmp_path)
    for _ in range(3):
        history.run("refused")
    before = tree(history.root.folder, but=(".lock", ".owner.json"))
    empty, other = tmp_path / "empty.sqlite", tmp_path / "other.sqlite"
    History(tmp_path / "other-root", database=other).run("refused")
    for database, said in ((empty, "has no run of the pipeline 'pets'"), (other, "belongs to another metadata store")):
        code, output = call("--root", str(history.root.folder), "--metadata", f"sqlite://{database}", "--days", "0")
        assert code == 2, output
        assert said in output
        assert output.count("\n") == 1
    assert tree(history.root.folder, but=(".lock", ".owner.json")) == before
    local = History(tmp_path / "local")
    local.run("refused")
    code, output = call("--root", str(local.root.folder), "--metadata", f"sqlite://{other}")
    assert code == 2
    assert "leave out --metadata" in output


def test_a_run_on_kubeflow_that_has_no_summary_yet_is_waited_for_for_a_day(tmp_path):
    history, _ = on_kubeflow(tmp_path)
    for _ in range(3):
        history.run("refused")
        history.day += 40
    run = history.run("killed")
    history.day += 0.5
    with pytest.raises(BadInput, match=f"the run {run} in .* has no summary and was active less than a day ago"):
        history.clean()
    history.day += 1
    assert len(artifacts_removed(history.clean())) > 0
    check_promises(history, 30)


def test_artifacts_in_a_pipeline_root_of_their_own_are_cleaned_there_and_those_in_a_bucket_are_left_alone(tmp_path):
    from deploy.kubeflow.plan import Plan, write_plan

    history, _ = on_kubeflow(tmp_path)
    runs = [history.run("refused") for _ in range(3)]
    own = tmp_path / "volume" / "artifacts"
    shutil.copytree(history.root.artifacts, own)
    shutil.rmtree(history.root.artifacts)
    history.root.artifacts.mkdir()
    for run, place in zip(runs, (str(own), "gs://bucket/artifacts", str(own)), strict=True):
        write_plan(
            history.root.reports / run, Plan(NAME, {step: [] for step in STEPS}, history.now, None, place), b"compiled"
        )
    history._dated.clear()
    history.date()
    history.day += 40
    cleaned = history.clean()
    assert cleaned.left_alone == ["gs://bucket/artifacts"]
    first = history.complete("Ingest")[0]
    assert str(own / f"Ingest/examples/{first}") in removed(cleaned)
    assert not (own / f"Ingest/examples/{first}").exists()
    assert (own / f"Ingest/examples/{history.complete('Ingest')[-1]}").exists()


def test_neither_the_help_nor_the_cleaning_imports_tensorflow_or_tfx(history):
    history.run("refused")
    program = (
        "import sys\n"
        "from deploy.commands.clean import clean\n"
        "slow = {'tensorflow', 'tfx', 'apache_beam', 'kfp', 'ml_metadata', 'grpc'}\n"
        "assert not slow & {name.partition('.')[0] for name in sys.modules}, 'for --help'\n"
        "clean(['--root', sys.argv[1]], standalone_mode=False)\n"
        "slow -= {'ml_metadata', 'grpc'}\n"
        "assert not slow & {name.partition('.')[0] for name in sys.modules}, 'for cleaning'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(history.root.folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
