"""One process a node: what works as on a laptop, and the traps that lie there; on SQLite and on MariaDB.

The processes of the first round import everything themselves, as in a Pod; most others are forked from one that has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.kubeflow.plan import Plan, read_notes, write_plan
from deploy.metadata_address import PASSWORD_VARIABLE
from deploy.root import Root
from tests.mariadb import mariadb
from tests.warm_process import run_warm

pytestmark = pytest.mark.slow  # many processes, each of which imports TFX

REPOSITORY = Path(__file__).parents[2]
NAME = "zoo"


class Zoo:
    """A root with the zoo's pipeline, and its metadata store."""

    def __init__(self, folder: Path, schema_file: str, metadata: str, password: str = ""):
        self.folder, self.root = folder, Root(folder / "root")
        self.root.prepare(NAME)
        self.metadata, self._password = metadata, password
        self._schema_file = schema_file
        external = folder / "external"
        external.mkdir()
        (external / "model").write_text("somebody else's")

    def plan(self, good: int = 1) -> str:
        """A run's plan.

        Returns:
          the run's id.
        """
        from zoo import zoo  # by the name under which the processes find it

        from deploy.assembly import compile_pipeline

        run_id = str(uuid.uuid4())
        artifacts, external = str(self.root.artifacts), str(self.folder / "external")
        pipeline = zoo(NAME, artifacts, str(self.folder / "marks"), self._schema_file, external, good)
        compiled = compile_pipeline(pipeline, run_id)
        of_nodes = [node.pipeline_node for node in compiled.nodes]
        nodes = {node.node_info.id: list(node.upstream_nodes) for node in of_nodes}
        folder = self.root.reports / run_id
        folder.mkdir()
        write_plan(folder, Plan(NAME, nodes, time.time(), None, artifacts), compiled.SerializeToString())
        return run_id

    @property
    def _elsewhere(self) -> Path:
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        return elsewhere

    @property
    def _environment(self) -> dict[str, str]:
        code = f"{REPOSITORY}:{REPOSITORY / 'tests'}"
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._elsewhere),
            "PYTHONPATH": code,
            PASSWORD_VARIABLE: self._password,
        }

    def _arguments(self, run_id: str, node: str, *more: str, metadata: str = "") -> list[str]:
        root, metadata = str(self.root.folder), metadata or self.metadata
        return ["--node", node, "--root", root, "--run-id", run_id, "--metadata", metadata, *more]

    def start(self, run_id: str, node: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.kubeflow.node", *self._arguments(run_id, node)],
            cwd=self._elsewhere,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run_plain(self, run_id: str, node: str) -> tuple[int, str]:
        """Exit code and output of a process that imports everything itself."""
        process = self.start(run_id, node)
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    def run(self, run_id: str, node: str, *more: str, metadata: str = "") -> tuple[int, str]:
        """The same of a forked one."""
        output = self.folder / "output"
        arguments = self._arguments(run_id, node, *more, metadata=metadata)
        code = run_warm("deploy.kubeflow.node", arguments, output, self._elsewhere, self._environment, timeout=300)
        return code, output.read_text()

    def note(self, run_id: str, node: str) -> tuple[str, str]:
        note = read_notes(self.root.reports / run_id)[node]
        return note.state, note.reason

    def executions(self, run_id: str, node: str) -> list[tuple[str, set[str], set[str]]]:
        """Of each: state, keys of its inputs, URIs of its outputs."""
        from ml_metadata.proto import metadata_store_pb2

        from deploy.metadata_address import connect

        store = connect(self.metadata)
        run = store.get_context_by_type_and_name("pipeline_run", run_id)
        of_node = store.get_context_by_type_and_name("node", f"{NAME}.{node}")
        ids = {one.id for one in store.get_executions_by_context(run.id)}
        found = []
        for execution in store.get_executions_by_context(of_node.id):
            if execution.id in ids:
                events = store.get_events_by_execution_ids([execution.id])
                outputs = [e.artifact_id for e in events if e.type == metadata_store_pb2.Event.OUTPUT]
                given = [e for e in events if e.type == metadata_store_pb2.Event.INPUT]
                inputs = {step.key for e in given for step in e.path.steps if step.key}
                state = metadata_store_pb2.Execution.State.Name(execution.last_known_state)
                found.append((state, inputs, {artifact.uri for artifact in store.get_artifacts_by_id(outputs)}))
        return found


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.release)])
def zoo(request, tmp_path, curated_schema, monkeypatch) -> Iterator[Zoo]:
    monkeypatch.syspath_prepend(REPOSITORY / "tests")
    if request.param == "sqlite":
        yield Zoo(tmp_path, curated_schema, f"sqlite://{tmp_path / 'metadata.sqlite'}")
        return
    (tmp_path / "mariadb").mkdir()
    with mariadb(tmp_path / "mariadb") as server:
        monkeypatch.setenv(PASSWORD_VARIABLE, server.password)
        yield Zoo(tmp_path, curated_schema, server.address, server.password)


@pytest.mark.slow
@pytest.mark.release
def test_every_kind_of_node_runs_and_is_cached_the_next_time(zoo):
    nodes = ("Make", "Latest", "Use", "Publish", "ImportSchemaGen", "External")
    first, second = zoo.plan(), zoo.plan()
    for run_id, wanted, run in ((first, "complete", zoo.run_plain), (second, "cached", zoo.run)):
        for node in nodes:
            code, output = run(run_id, node)
            assert code == 0, output
            # A resolver looks anew each time.
            assert zoo.note(run_id, node)[0] == ("complete" if node == "Latest" else wanted)
    assert (zoo.root.artifacts / "Use" / "used").is_dir()
    [(state, inputs, [published])] = zoo.executions(second, "Publish")
    assert state == "CACHED"
    assert "model" in inputs
    assert os.listdir(published) == ["model-model"]


@pytest.mark.slow
@pytest.mark.release
def test_a_node_whose_condition_is_not_met_is_skipped(zoo):
    run_id = zoo.plan(good=0)
    for node in ("Make", "Latest", "Use"):
        assert zoo.run(run_id, node)[0] == 0
    code, output = zoo.run(run_id, "Publish")
    assert code == 0, output
    assert zoo.note(run_id, "Publish") == ("skipped", "")
    assert "its condition is not met" in output
    assert not (zoo.root.artifacts / "Publish").exists()


def test_what_a_killed_process_left_half_written_is_gone_when_its_retry_is_done(zoo):
    run_id = zoo.plan()
    assert zoo.run(run_id, "DieOnce")[0] == -9
    [folder] = (zoo.root.artifacts / "DieOnce" / "model").iterdir()
    assert [file.name for file in folder.iterdir()] == ["half-written"]
    assert zoo.note(run_id, "DieOnce")[0] == "running"
    code, output = zoo.run(run_id, "DieOnce")
    assert code == 0, output
    [(state, _, [uri])] = zoo.executions(run_id, "DieOnce")
    assert state == "COMPLETE"
    assert os.listdir(uri) == ["whole"]


def test_a_node_that_failed_says_why_and_completes_when_it_is_tried_again(zoo):
    run_id = zoo.plan()
    code, output = zoo.run(run_id, "FailOnce")
    assert code == 1
    assert "the disk was busy" in output
    state, reason = zoo.note(run_id, "FailOnce")
    assert state == "failed"
    assert "the disk was busy" in reason
    code, output = zoo.run(run_id, "FailOnce")
    assert code == 0, output
    assert zoo.note(run_id, "FailOnce") == ("complete", "")
    [(state, _, [uri])] = zoo.executions(run_id, "FailOnce")
    assert state == "COMPLETE"
    assert os.listdir(uri) == ["whole"]


def test_a_node_that_found_no_inputs_at_first_keeps_its_lineage(zoo):
    run_id = zoo.plan()
    code, output = zoo.run(run_id, "Use")
    assert code == 1
    assert "the inputs of Use could not be resolved" in output
    assert zoo.run(run_id, "Make")[0] == zoo.run(run_id, "Latest")[0] == 0
    code, output = zoo.run(run_id, "Use")
    assert code == 0, output
    [(state, inputs, outputs)] = zoo.executions(run_id, "Use")
    assert state == "COMPLETE"
    assert inputs == {"made", "latest"}
    assert len(outputs) == 1


@pytest.mark.slow
@pytest.mark.release
def test_twins_of_a_node_do_its_work_once(zoo):
    run_id = zoo.plan()
    twins = [zoo.start(run_id, "Slow") for _ in range(2)]
    outputs = [twin.communicate(timeout=300)[0] for twin in twins]
    assert [twin.returncode for twin in twins] == [0, 0], outputs
    [(state, _, outputs)] = zoo.executions(run_id, "Slow")
    assert state == "COMPLETE"
    assert len(outputs) == 1


def test_a_node_that_takes_too_long_is_ended_with_the_reason(zoo):
    run_id = zoo.plan()
    code, output = zoo.run(run_id, "Slow", "--timeout-minutes", "0.02")
    assert code == 1
    assert "it took longer than runtime.steps.Slow.timeout_minutes (0.02)" in output
    assert zoo.note(run_id, "Slow") == ("failed", "it took longer than runtime.steps.Slow.timeout_minutes (0.02)")


def test_a_run_id_that_the_backend_left_as_it_was_is_refused(zoo):
    code, output = zoo.run("{{$.pipeline_job_uuid}}", "Make")
    assert code == 2
    assert "expected version 2.5.0 or newer" in output
    assert list(zoo.root.reports.iterdir()) == []


def test_a_run_without_a_plan_and_a_store_that_is_away_are_one_sentence(zoo):
    code, output = zoo.run("1234", "Make")
    assert code == 2
    assert "there is no plan of run 1234" in output
    run_id = zoo.plan()
    code, output = zoo.run(run_id, "Make", metadata="grpc://127.0.0.1:9")
    assert code != 0
    assert json.loads((zoo.root.reports / run_id / "nodes" / "Make.json").read_text())["reason"]
