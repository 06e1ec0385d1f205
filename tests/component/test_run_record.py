"""What ML Metadata knows of a run, where several pipelines share a store."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.run_record import abandon_unfinished, last_pushed_version, last_trained, read_run

# One name is the beginning of the other, and of the other's nodes.
CATS, MORE = "cats", "cats_too"


class Store:
    """An ML Metadata store in memory, with runs as TFX records them."""

    def __init__(self) -> None:
        from ml_metadata.metadata_store import metadata_store
        from ml_metadata.proto import metadata_store_pb2

        config = metadata_store_pb2.ConnectionConfig()
        config.fake_database.SetInParent()
        self.pb, self.store = metadata_store_pb2, metadata_store.MetadataStore(config)
        self.states = metadata_store_pb2.Execution.State

    def context(self, kind: str, name: str) -> Any:
        if known := self.store.get_context_by_type_and_name(kind, name):
            return known
        type_id = self.store.put_context_type(self.pb.ContextType(name=kind))
        self.store.put_contexts([self.pb.Context(type_id=type_id, name=name)])
        return self.store.get_context_by_type_and_name(kind, name)

    def run_node(
        self,
        pipeline: str,
        run_id: str,
        node: str,
        state: str,
        outputs: dict[str, dict] | None = None,
        told: dict[str, str] | None = None,
        reused: dict[str, int] | None = None,
    ) -> int:
        """Records an execution, and gives its id.

        outputs: key -> custom properties of a PushedModel. told: custom properties of the execution. reused: key ->
        number of an artifact that another execution made.
        """
        kind = self.pb.ExecutionType(name=f"tfx.{node}")
        execution = self.pb.Execution(
            type_id=self.store.put_execution_type(kind), last_known_state=self.states.Value(state)
        )
        for name, value in (told or {}).items():
            execution.custom_properties[name].string_value = value
        artifacts = []
        for key, number in (reused or {}).items():
            event = self.pb.Event(type=self.pb.Event.OUTPUT)
            event.path.steps.add().key = key
            event.path.steps.add().index = 0
            artifacts.append((self.store.get_artifacts_by_id([number])[0], event))
        for key, properties in (outputs or {}).items():
            type_id = self.store.put_artifact_type(self.pb.ArtifactType(name="PushedModel"))
            artifact = self.pb.Artifact(type_id=type_id, uri=f"/{run_id}/{node}", state=self.pb.Artifact.LIVE)
            for name, value in properties.items():
                field = "int_value" if isinstance(value, int) else "string_value"
                setattr(artifact.custom_properties[name], field, value)
            event = self.pb.Event(type=self.pb.Event.OUTPUT)
            event.path.steps.add().key = key
            event.path.steps.add().index = 0
            artifacts.append((artifact, event))
        contexts = [
            self.context("pipeline", pipeline),
            self.context("pipeline_run", run_id),
            self.context("node", f"{pipeline}.{node}"),
        ]
        execution_id, *_ = self.store.put_execution(execution, artifacts, contexts)
        return execution_id

    def outputs(self, execution_id: int) -> dict[str, int]:
        events = self.store.get_events_by_execution_ids([execution_id])
        return {event.path.steps[0].key: event.artifact_id for event in events}

    def push(self, pipeline: str, run_id: str, version: str, pushed: int = 1) -> None:
        self.run_node(
            pipeline, run_id, "Pusher", "COMPLETE", {"pushed_model": {"pushed": pushed, "pushed_version": version}}
        )

    def state(self, execution_id: int) -> str:
        [execution] = self.store.get_executions_by_id([execution_id])
        return self.states.Name(execution.last_known_state)


@pytest.fixture
def store() -> Store:
    return Store()


# ---- what was pushed last


def test_in_an_empty_store_nothing_was_pushed(store):
    assert last_pushed_version(store.store, CATS) == ""
    store.context("pipeline", CATS)
    assert last_pushed_version(store.store, CATS) == ""
    store.run_node(CATS, "run-1", "Make", "COMPLETE")
    assert last_pushed_version(store.store, CATS) == ""


def test_the_version_pushed_last_is_that_of_the_pipeline_itself(store):
    store.push(CATS, "run-1", "17")
    store.push(MORE, "run-2", "900")
    store.push(CATS, "run-3", "18")
    store.push(MORE, "run-4", "901")
    store.push("dogs", "run-5", "5")
    assert last_pushed_version(store.store, CATS) == "18"
    assert last_pushed_version(store.store, MORE) == "901"
    assert last_pushed_version(store.store, "dogs") == "5"
    assert last_pushed_version(store.store, "cats_") == ""


def test_the_last_one_counts_and_not_the_highest(store):
    store.push(CATS, "run-1", "18")
    store.push(CATS, "run-2", "9")
    assert last_pushed_version(store.store, CATS) == "9"


def test_what_was_not_pushed_in_the_end_does_not_count(store):
    store.push(CATS, "run-1", "17")
    store.push(CATS, "run-2", "18", pushed=0)
    assert last_pushed_version(store.store, CATS) == "17"


def test_an_artifact_that_was_marked_as_deleted_does_not_count(store):
    store.push(CATS, "run-1", "17")
    store.push(CATS, "run-2", "18")
    deleted = max(store.store.get_artifacts(), key=lambda artifact: artifact.id)
    deleted.state = store.pb.Artifact.DELETED
    store.store.put_artifacts([deleted])
    assert last_pushed_version(store.store, CATS) == "17"


# ---- what was left unfinished


@pytest.fixture
def unfinished(store) -> dict[str, int]:
    """Executions of three runs of two pipelines, of which some are going on."""
    return {
        "cats, first, done": store.run_node(CATS, "first", "Make", "COMPLETE"),
        "cats, first, running": store.run_node(CATS, "first", "Use", "RUNNING"),
        "cats, first, new": store.run_node(CATS, "first", "Publish", "NEW"),
        "cats, second, cached": store.run_node(CATS, "second", "Make", "CACHED"),
        "cats, second, running": store.run_node(CATS, "second", "Use", "RUNNING"),
        "cats, second, failed": store.run_node(CATS, "second", "Publish", "FAILED"),
        "too, third, running": store.run_node(MORE, "third", "Make", "RUNNING"),
    }


def marked_as_failed(store: Store, executions: dict[str, int], before: dict[str, str]) -> set[str]:
    after = {name: store.state(number) for name, number in executions.items()}
    changed = {name for name in executions if before[name] != after[name]}
    assert {after[name] for name in changed} <= {"FAILED"}
    return changed


@pytest.mark.parametrize(
    ("pipeline", "run_id", "expected"),
    [
        (CATS, "first", {"cats, first, running", "cats, first, new"}),
        (CATS, "second", {"cats, second, running"}),
        (CATS, None, {"cats, first, running", "cats, first, new", "cats, second, running"}),
        (MORE, None, {"too, third, running"}),
        (MORE, "third", {"too, third, running"}),
        (CATS, "third", set()),  # another pipeline's
        (CATS, "absent", set()),
        ("dogs", None, set()),
    ],
)
def test_only_what_this_run_of_this_pipeline_left_is_marked_as_failed(store, unfinished, pipeline, run_id, expected):
    before = {name: store.state(number) for name, number in unfinished.items()}
    found = abandon_unfinished(store.store, pipeline, run_id)
    assert sorted(found) == sorted(unfinished[name] for name in expected)
    assert marked_as_failed(store, unfinished, before) == expected
    assert abandon_unfinished(store.store, pipeline, run_id) == []


def test_in_an_empty_store_nothing_is_unfinished(store):
    assert abandon_unfinished(store.store, CATS) == abandon_unfinished(store.store, CATS, "first") == []


# ---- what a run did


def test_a_run_is_read_with_its_own_nodes_only(store, unfinished):
    assert {node: run.state for node, run in read_run(store.store, CATS, "first").items()} == {
        "Make": "complete",
        "Use": "running",
        "Publish": "running",
    }
    assert {node: run.state for node, run in read_run(store.store, CATS, "second").items()} == {
        "Make": "cached",
        "Use": "running",
        "Publish": "failed",
    }
    assert list(read_run(store.store, MORE, "third")) == ["Make"]
    assert read_run(store.store, CATS, "absent") == {}


def test_the_last_try_of_a_node_counts_and_its_outputs_go_with_it(store):
    store.run_node(CATS, "first", "Pusher", "FAILED")
    store.push(CATS, "first", "17")
    run = read_run(store.store, CATS, "first")["Pusher"]
    assert (run.state, run.succeeded) == ("complete", True)
    [model] = run.outputs["pushed_model"]
    assert model.get_string_custom_property("pushed_version") == "17"


# ---- what a cached execution does not say


def refused_run(store, run_id, photos=None):
    """A whole run whose model was refused; photos: of the run whose ingestion it took from the cache, None: its own."""
    if photos is None:
        told = {"input_fingerprint": f"photos of {run_id}", "photos": "{}"}
        ingested = store.run_node(CATS, run_id, "ImageExampleGen", "COMPLETE", {"examples": {}}, told)
    else:  # as TFX registers it: with what the graph says, and without what the driver finds
        told, reused = {"photos": "{}"}, store.outputs(photos)
        ingested = store.run_node(CATS, run_id, "ImageExampleGen", "CACHED", told=told, reused=reused)
    for gate, blessed in (("ReleaseGate", 0), ("ServableCheck", 1)):
        store.run_node(CATS, run_id, gate, "COMPLETE", {"blessing": {"blessed": blessed}})
    return ingested


def test_what_was_trained_on_is_known_though_ingestion_came_from_the_cache(store):
    """Otherwise a refused model would be trained and refused again every night."""
    first = refused_run(store, "2026-11-01")
    assert last_trained(store.store, CATS) == ["photos of 2026-11-01"]
    refused_run(store, "2026-11-02", first)
    assert last_trained(store.store, CATS) == ["photos of 2026-11-01"]
    second = refused_run(store, "2026-11-03")
    assert last_trained(store.store, CATS) == ["photos of 2026-11-03"]
    refused_run(store, "2026-11-04", second)
    refused_run(store, "2026-11-05", first)  # the photos went back to what they were
    assert last_trained(store.store, CATS) == ["photos of 2026-11-01"]


def test_a_run_from_the_cache_has_the_fingerprint_of_its_photos(store):
    refused_run(store, "2026-11-02", refused_run(store, "2026-11-01"))
    node = read_run(store.store, CATS, "2026-11-02")["ImageExampleGen"]
    assert (node.state, node.parameters["input_fingerprint"]) == ("cached", "photos of 2026-11-01")
