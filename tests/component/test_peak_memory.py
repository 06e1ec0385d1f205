"""The peak memory of each step, kept in ML Metadata, so that a report made later has it."""

import mmap
import os

import pytest
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from deploy import peak_memory
from deploy.assembly import compile_pipeline
from deploy.local_runner import LocalRunner
from pipeline.run_record import CACHED, COMPLETE, read_run

MEGABYTES = 300


def use(megabytes: int) -> None:
    """Touches every page of so much memory, and gives it back."""
    with mmap.mmap(-1, megabytes * 10**6) as memory:
        for start in range(0, len(memory), mmap.PAGESIZE):
            memory[start] = 1


def write(uri: str) -> None:
    os.makedirs(uri, exist_ok=True)
    with open(os.path.join(uri, "model"), "w") as file:
        file.write("model")


@component
def Hungry(model: OutputArtifact[standard_artifacts.Model], megabytes: Parameter[int]):
    """Needs much memory for a moment."""
    use(megabytes)
    write(model.uri)


@component
def Modest(
    model: InputArtifact[standard_artifacts.Model],
    made: OutputArtifact[standard_artifacts.Model],
    purpose: Parameter[str],
):
    """Needs next to none."""
    write(made.uri)


class Silent:
    def node_started(self, node_id): ...

    def node_ended(self, node_id, state, seconds): ...


@pytest.fixture
def run(tmp_path):
    """A function that runs both nodes, and gives what ML Metadata knows of them."""
    connection = metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite"))

    def run(run_id):
        hungry = Hungry(megabytes=MEGABYTES)
        modest = Modest(model=hungry.outputs["model"], purpose="none")
        pipeline = Pipeline(
            pipeline_name="meals",
            pipeline_root=str(tmp_path / "artifacts"),
            components=[hungry, modest],
            metadata_connection_config=connection,
            enable_cache=True,
        )
        LocalRunner(run_id, Silent()).run_nodes(compile_pipeline(pipeline))
        with metadata.Metadata(connection) as handle:
            return read_run(handle.store, "meals", run_id)

    return run


@pytest.fixture
def counts():
    if not peak_memory.reset():
        pytest.skip("this system does not let a process reset its peak")


def test_each_node_has_its_own_peak(run, counts):
    peak_memory.reset()
    before = peak_memory.megabytes()
    nodes = run("first")
    assert {node.state for node in nodes.values()} == {COMPLETE}
    assert nodes["Hungry"].peak_megabytes > before + 0.95 * MEGABYTES
    # What the first one gave back is not counted for the second, which runs later in the same process.
    assert nodes["Modest"].peak_megabytes < nodes["Hungry"].peak_megabytes - 0.5 * MEGABYTES
    assert nodes["Modest"].parameters["purpose"] == "none"
    assert "peak_megabytes" not in nodes["Modest"].parameters


def test_a_cached_node_has_no_peak(run):
    run("first")
    again = run("second")
    assert {node.state for node in again.values()} == {CACHED}
    assert {node.peak_megabytes for node in again.values()} == {None}


def test_where_the_system_does_not_tell_the_peak_is_unknown(run, monkeypatch, tmp_path):
    monkeypatch.setattr(peak_memory, "_RESET", tmp_path / "no" / "such" / "file")
    assert not peak_memory.reset()
    nodes = run("first")
    assert {node.state for node in nodes.values()} == {COMPLETE}
    assert {node.peak_megabytes for node in nodes.values()} == {None}
    monkeypatch.setattr(peak_memory, "_STATUS", tmp_path / "no" / "such" / "file")
    assert peak_memory.megabytes() is None


def test_the_peak_begins_anew(counts):
    use(MEGABYTES)
    high = peak_memory.megabytes()
    peak_memory.reset()
    assert peak_memory.megabytes() < high - 0.5 * MEGABYTES
    use(MEGABYTES)
    assert peak_memory.megabytes() > high - 0.5 * MEGABYTES
