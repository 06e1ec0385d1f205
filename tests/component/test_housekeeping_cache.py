"""What TFX's cache, resolvers and partial runs do with artifacts that housekeeping has removed."""

import json
import os
import shutil
import sqlite3
import uuid
from pathlib import Path
from typing import NamedTuple

import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.types import channel, standard_artifacts

from deploy.assembly import compile_pipeline
from deploy.housekeeping import CleaningResult, clean
from deploy.local_runner import LocalRunner
from deploy.root import Root
from pipeline import run_record

NAME = "small"
DAY_MILLISECONDS = 86_400_000
LIVE, DELETED = mlmd.Artifact.LIVE, mlmd.Artifact.DELETED


def write(uri: str, content: str) -> None:
    os.makedirs(uri, exist_ok=True)
    Path(uri, "file").write_text(content)


@component
def Split(
    photos: OutputArtifact[standard_artifacts.Examples],
    counts: OutputArtifact[standard_artifacts.Schema],
    span: Parameter[int],
):
    """Makes two things at once."""
    write(photos.uri, f"photos of span {span}")
    write(counts.uri, f"counts of span {span}")


@component
def Learn(
    photos: InputArtifact[standard_artifacts.Examples],
    model: OutputArtifact[standard_artifacts.Model],
    fails: Parameter[int] = 0,
):
    """Reads one of them."""
    write(model.uri, "learnt from " + Path(photos.uri, "file").read_text())
    if fails:
        raise RuntimeError("the disk was busy")


@component
def Judge(
    model: InputArtifact[standard_artifacts.Model],
    newest: InputArtifact[standard_artifacts.Model],
    blessing: OutputArtifact[standard_artifacts.ModelBlessing],
):
    """Reads what was made in this run, and what a resolver found in all of them."""
    write(blessing.uri, Path(model.uri, "file").read_text() + Path(newest.uri, "file").read_text())


class Display:
    def node_started(self, node_id: str) -> None: ...

    def node_ended(self, node_id: str, state: str, seconds: float) -> None: ...


class Run(NamedTuple):
    """Step -> state; and step -> folders of what it made."""

    states: dict[str, str]
    folders: dict[str, list[Path]]


class Small:
    """A root with a pipeline of three steps and a resolver, run by TFX."""

    def __init__(self, folder: Path):
        self.root = Root(folder)
        self.root.prepare(NAME)

    def store(self) -> metadata_store.MetadataStore:
        return metadata_store.MetadataStore(metadata.sqlite_metadata_connection_config(str(self.root.metadata)))

    def run(self, span: int, from_node: str | None = None, fails: int = 0) -> Run:
        run_id = str(uuid.uuid4())
        split = Split(span=span)
        learn = Learn(photos=split.outputs["photos"], fails=fails)
        newest = Resolver(
            strategy_class=LatestArtifactStrategy,
            newest=channel.Channel(type=standard_artifacts.Model, producer_component_id="Learn", output_key="model"),
        ).with_id("Newest")
        newest.add_upstream_node(learn)
        judge = Judge(model=learn.outputs["model"], newest=newest.outputs["newest"])
        pipeline = Pipeline(
            pipeline_name=NAME,
            pipeline_root=str(self.root.artifacts),
            components=[split, learn, newest, judge],
            enable_cache=True,
            metadata_connection_config=metadata.sqlite_metadata_connection_config(str(self.root.metadata)),
        )
        report = self.root.reports / run_id
        report.mkdir()
        try:
            LocalRunner(run_id, Display()).run_nodes(compile_pipeline(pipeline), from_node)
        except RuntimeError:
            assert fails
        nodes = run_record.read_run(self.store(), NAME, run_id)
        states = {node_id: node.state for node_id, node in nodes.items()}
        folders = {
            node_id: [Path(artifact.uri) for artifacts in node.outputs.values() for artifact in artifacts]
            for node_id, node in nodes.items()
        }
        summary = {
            "status": "failed" if fails else "pushed",
            "nodes": [{"id": node_id, "state": state} for node_id, state in states.items()],
        }
        (report / "summary.json").write_text(json.dumps(summary))
        return Run(states, folders)

    def age(self, days: int) -> None:
        """All that happened so far was so many days earlier. Times of artifacts are a part of the cache's keys."""
        connection = sqlite3.connect(self.root.metadata)
        with connection:
            for table in ("Execution", "Context"):
                connection.execute(
                    f"UPDATE {table} SET create_time_since_epoch = create_time_since_epoch - ?, "
                    "last_update_time_since_epoch = last_update_time_since_epoch - ?",
                    (days * DAY_MILLISECONDS, days * DAY_MILLISECONDS),
                )
        connection.close()

    def clean(self) -> CleaningResult:
        return clean(self.root, self.store(), 30)

    def artifacts(self) -> dict[str, int]:
        """Folder below the artifacts -> state of it in ML Metadata."""
        found = self.store().get_artifacts()
        return {os.path.relpath(artifact.uri, self.root.artifacts): artifact.state for artifact in found}


ALL_DONE = {"Split": "complete", "Learn": "complete", "Newest": "complete", "Judge": "complete"}
ALL_CACHED = {**ALL_DONE, "Split": "cached", "Learn": "cached", "Judge": "cached"}


@pytest.fixture
def small(tmp_path) -> Small:
    return Small(tmp_path / "root")


def everything_is_there(run: Run) -> bool:
    return all((folder / "file").exists() for folders in run.folders.values() for folder in folders)


def test_what_was_removed_is_made_anew_and_what_stayed_comes_from_the_cache(small):
    first = small.run(1)
    assert first.states == ALL_DONE
    assert small.run(1).states == ALL_CACHED
    small.age(40)
    second = small.run(2)
    gone = {
        *(str(folder.relative_to(small.root.artifacts)) for folder in first.folders["Split"]),
        str(first.folders["Learn"][0].relative_to(small.root.artifacts)),
        str(first.folders["Judge"][0].relative_to(small.root.artifacts)),
    }
    cleaned = small.clean()
    assert {one.what for one in cleaned.removed if ".system" not in one.what} == {f"artifacts/{name}" for name in gone}
    assert {name for name, state in small.artifacts().items() if state == DELETED} == gone
    assert not any((small.root.artifacts / name).exists() for name in gone)

    assert small.run(2).states == ALL_CACHED
    again = small.run(1)
    assert again.states == ALL_DONE
    assert everything_is_there(again)
    assert not {*again.folders["Split"]} & {*first.folders["Split"]}
    assert everything_is_there(second)
    for name, state in small.artifacts().items():
        assert (state == LIVE) == (small.root.artifacts / name).exists()
    assert small.run(1).states == ALL_CACHED


def test_a_cleaning_killed_before_it_removed_a_folder_leaves_nothing_for_the_cache_to_find(small, monkeypatch):
    from deploy import housekeeping

    first = small.run(1)
    small.age(40)
    small.run(2)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(housekeeping.cleaning, "_remove", killed)
    with pytest.raises(KeyboardInterrupt):
        small.clean()
    monkeypatch.undo()
    assert everything_is_there(first)  # and yet
    again = small.run(1)
    assert again.states == ALL_DONE
    small.clean()
    assert not any(folder.exists() for folder in first.folders["Split"])
    assert everything_is_there(again)


@pytest.mark.parametrize("key", ["photos", "counts"])
def test_an_execution_of_which_a_part_is_removed_is_not_taken_from_the_cache(small, key):
    first = small.run(1)
    store = small.store()
    [part] = [artifact for artifact in store.get_artifacts() if f"/{key}/" in artifact.uri]
    part.state = DELETED
    store.put_artifacts([part], field_mask_paths=["state"])
    shutil.rmtree(part.uri)
    again = small.run(1)
    # The photos are another artifact now, so what was learnt from the old ones does not count.
    assert again.states == ALL_DONE
    assert everything_is_there(again)
    assert {*again.folders["Split"]}.isdisjoint(first.folders["Split"])


def test_a_resolver_passes_over_a_removed_artifact(small):
    first = small.run(1)
    second = small.run(2)
    judged = small.run(1)
    assert judged.states == {**ALL_CACHED, "Judge": "complete"}
    assert judged.folders["Judge"][0].joinpath("file").read_text().endswith("photos of span 2")
    store = small.store()
    [newest] = [artifact for artifact in store.get_artifacts() if artifact.uri == str(second.folders["Learn"][0])]
    newest.state = DELETED
    store.put_artifacts([newest], field_mask_paths=["state"])
    again = small.run(1)
    # The model of the first run is the newest that is left, as it was then.
    assert again.states == ALL_CACHED
    assert again.folders["Judge"] == first.folders["Judge"]


def test_a_part_of_the_pipeline_goes_on_from_the_newest_run_after_a_cleaning(small):
    small.run(1)
    small.age(40)
    failed = small.run(2, fails=1)
    assert failed.states == {"Split": "complete", "Learn": "failed"}
    small.age(40)
    small.clean()
    # Half-written by the failed step; what the other one made is what the next run goes on from.
    assert [
        path for path in (small.root.artifacts / "Learn/model").iterdir() if "2" in (path / "file").read_text()
    ] == []
    assert everything_is_there(failed)
    assert small.run(2, from_node="Learn").states == {**ALL_DONE, "Split": "cached"}
