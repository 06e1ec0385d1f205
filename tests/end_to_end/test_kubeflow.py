"""The whole pipeline from its Kubeflow package, a process a task, against ML Metadata on SQLite and on MariaDB.

The tasks of the first run import everything themselves, as in a Pod.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.metadata_address import PASSWORD_VARIABLE, connect
from tests.conformance import Cluster, Run
from tests.end_to_end.commands import ASK_ABOUT_PRODUCTION, OF_PACKAGE, STEPS, served, states, warmstart
from tests.mariadb import mariadb
from tests.metadata_service import metadata_service

pytestmark = [pytest.mark.slow, pytest.mark.release]


@dataclass
class Volume:
    """What every task finds at the mount: photos by span, a backbone, and the root; with the runs on it."""

    folder: Path
    metadata: str = ""
    password: str = ""
    package: str = ""
    runs: dict[str, Run] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "runs" / "cats_vs_dogs"

    @property
    def settings(self) -> list[str]:
        return [*OF_PACKAGE, f"backbone.handle={self.folder / 'backbone'}"]

    @property
    def photos(self) -> str:
        return f"{self.folder}/photos/span-{{SPAN}}"

    def summary(self, run: str) -> dict:
        return json.loads((self.root / "reports" / self.runs[run].run_id / "summary.json").read_text())

    def artifacts(self, node: str) -> list[str]:
        return sorted(path.name for path in (self.root / "artifacts" / node).glob("*/*"))


@pytest.fixture(scope="module")
def spans(sample, tmp_path_factory) -> dict[int, Path]:
    """Two spans of photos."""
    folder = tmp_path_factory.mktemp("spans")
    code, output = warmstart("sample", str(folder / "more"), "--photos", "120", "--seed", "8")
    assert code == 0, output
    return {1: sample / "cats_vs_dogs", 2: folder / "more" / "cats_vs_dogs"}


@pytest.fixture(scope="module", params=["sqlite", "mariadb"])
def volume(request, spans, tiny_backbone, tmp_path_factory) -> Iterator[Volume]:
    """A story of three runs: pushed, with a task killed in its middle; the same again; a new span, and a model that
    cannot be served."""
    volume = Volume(tmp_path_factory.mktemp("volume"))
    shutil.copytree(tiny_backbone, volume.folder / "backbone")
    shutil.copytree(spans[1], volume.folder / "photos" / "span-1")
    if request.param == "sqlite":
        volume.metadata = f"sqlite://{volume.folder}/metadata.sqlite"
        tell(volume, spans)
        yield volume
        return
    with mariadb(tmp_path_factory.mktemp("mariadb")) as server:
        volume.metadata, volume.password = server.address, server.password
        tell(volume, spans)
        yield volume


def tell(volume: Volume, spans: dict[int, Path]) -> None:
    file = volume.folder / "package.yaml"
    code, output = warmstart(
        "kubeflow", "compile", "--config=cats_vs_dogs", "--image=registry.example/warmstart:1", f"--output={file}",
        f"--mount={volume.folder}", f"--data={volume.photos}", f"--metadata={volume.metadata}",
        *(f"--set={setting}" for setting in volume.settings),
    )  # fmt: skip
    assert code == 0, output
    volume.package = file.read_text()
    password = {PASSWORD_VARIABLE: volume.password}
    kubeflow, warm = (Cluster(volume.folder / "kubeflow", password, warm=warm) for warm in (False, True))

    def is_fine_tuning() -> bool:
        return bool(volume.artifacts("FineTuning"))

    volume.runs["first"] = kubeflow.run(volume.package, kill={"FineTuning": is_fine_tuning})
    volume.runs["again"] = warm.run(volume.package)
    shutil.copytree(spans[2], volume.folder / "photos" / "span-2")
    overrides = "; ".join([*volume.settings, "serving.maximum_megabytes=0.001"])
    volume.runs["new span"] = warm.run(volume.package, {"overrides": overrides})


def test_the_first_run_pushes_though_a_task_is_killed_in_its_middle(volume):
    run = volume.runs["first"]
    assert run.state == "succeeded", run.told()
    assert {name: task.state for name, task in run.tasks.items()} == dict.fromkeys(
        ["Prepare", *STEPS, "Report"], "succeeded"
    )
    assert [code for code, _ in run.tasks["FineTuning"].tries] == [-9, 0]
    assert all(len(task.tries) == 1 for name, task in run.tasks.items() if name != "FineTuning")
    summary = volume.summary("first")
    assert summary["status"] == "pushed"
    assert states(summary) == dict.fromkeys(STEPS, "complete")
    assert served(volume.root) == [summary["production"]["after"]]
    assert summary["production"]["before"] is None
    # One folder for the two tries: what the killed one left is gone.
    assert len(list((volume.root / "artifacts" / "FineTuning" / "model").iterdir())) == 1 + 1  # and the third run's


def test_page_and_metrics_come_out_as_kubeflows_artifacts(volume):
    report = volume.runs["first"].tasks["Report"]
    summary = volume.summary("first")
    page = report.artifacts["page"].read_text()
    assert page.startswith("<!doctype html>")
    assert summary["reason"] in page
    metrics = report.metadata["metrics"]
    assert metrics["pushed"] == 1
    for model in ("feature_extraction", "fine_tuned"):
        assert metrics[f"{model}_accuracy"] == summary["models"][model]["accuracy"]["value"]
    assert volume.runs["new span"].tasks["Report"].metadata["metrics"]["pushed"] == 0


def test_the_same_again_is_cached(volume):
    run = volume.runs["again"]
    assert run.state == "succeeded", run.told()
    summary = volume.summary("again")
    assert states(summary) == {step: "complete" if step in ASK_ABOUT_PRODUCTION else "cached" for step in STEPS}
    assert summary["status"] == "skipped"
    assert "already in production" in summary["reason"]


def test_a_new_span_is_picked_up_and_an_unmet_condition_skips_its_task(volume):
    run = volume.runs["new span"]
    assert run.state == "succeeded", run.told()
    first, summary = volume.summary("first"), volume.summary("new span")
    assert states(summary)["ImageExampleGen"] == "complete"
    assert states(summary)["CuratedSchema"] == "cached"
    assert 100 < sum(summary["data"]["accepted"].values()) < sum(first["data"]["accepted"].values())
    assert states(summary)["Pusher"] == "skipped"
    assert "its condition is not met" in run.tasks["Pusher"].output
    assert summary["status"] == "not_pushed"
    assert "serving.maximum_megabytes" in summary["reason"]
    assert summary["production"]["after"] == first["production"]["after"]
    store = store_of(volume)
    examples = store.get_artifacts_by_type("Examples")
    read = {a.custom_properties["span"].string_value or a.custom_properties["span"].int_value for a in examples}
    assert {1, 2} <= {int(span or 0) for span in read}


def test_no_password_is_written_anywhere(volume):
    if not volume.password:
        pytest.skip("SQLite has none")
    texts = [path.read_bytes() for path in volume.folder.rglob("*") if path.is_file()]
    assert len(texts) > 100
    assert not [text for text in texts if volume.password.encode() in text]


def test_a_local_run_gives_the_same_metrics_and_the_same_lineage(volume, spans, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "span-1").symlink_to(spans[1])
    root = tmp_path / "root"
    code, output = warmstart(
        "run", "--config=cats_vs_dogs", f"--data={tmp_path}/photos/span-{{SPAN}}", f"--root={root}",
        *(f"--set={setting}" for setting in volume.settings),
    )  # fmt: skip
    assert code == 0, output
    [file] = (root / "reports").glob("*/summary.json")
    local, cluster = json.loads(file.read_text()), volume.summary("first")
    for one in (local, cluster):
        for model in one["models"].values():
            del model["training"]  # with the seconds, and the epoch at which the killed one went on
    for key in ("models", "winner", "verdict", "data", "status"):
        assert local[key] == cluster[key], key
    store = connect(f"sqlite://{root}/metadata.sqlite")
    assert lineage(store, local["run_id"]) == lineage(store_of(volume), cluster["run_id"])


def test_over_the_metadata_service_of_kubeflow_the_same_again_is_cached(volume):
    if volume.password:
        pytest.skip("the service stands over SQLite here")
    with metadata_service(volume.folder / "metadata.sqlite") as address:
        package = volume.package.replace(volume.metadata, address)
        assert address in package
        overrides = "; ".join([*volume.settings, "serving.maximum_megabytes=0.001"])
        run = Cluster(volume.folder / "service", warm=True).run(package, {"overrides": overrides})
    assert run.state == "succeeded", run.told()
    volume.runs["service"] = run
    found = states(volume.summary("service"))
    assert {found[step] for step in STEPS if step not in ASK_ABOUT_PRODUCTION} == {"cached"}
    assert found["Pusher"] == "skipped"


def store_of(volume: Volume):
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(PASSWORD_VARIABLE, volume.password)
        return connect(volume.metadata)


def lineage(store, run_id: str) -> dict[str, tuple[str, dict, dict]]:
    """Node -> its type; its inputs, by key: the nodes and outputs they come from; its outputs, by key: their types."""
    from ml_metadata.proto import metadata_store_pb2

    run = store.get_context_by_type_and_name("pipeline_run", run_id)
    executions = store.get_executions_by_context(run.id)
    types = {one.id: one.name for one in store.get_execution_types()}
    artifact_types = {one.id: one.name for one in store.get_artifact_types()}
    node_of = {}
    for execution in executions:
        [name] = [c.name for c in store.get_contexts_by_execution(execution.id) if c.name.startswith("cats_vs_dogs.")]
        node_of[execution.id] = name.removeprefix("cats_vs_dogs.")
    events = store.get_events_by_execution_ids(list(node_of))
    artifacts = {a.id: a for a in store.get_artifacts_by_id([e.artifact_id for e in events])}
    made_by = {
        event.artifact_id: f"{node_of[event.execution_id]}.{event.path.steps[0].key}"
        for event in events
        if event.type == metadata_store_pb2.Event.OUTPUT
    }
    found = {}
    for execution in executions:
        inputs: dict[str, list[str]] = {}
        outputs: dict[str, list[str]] = {}
        for event in events:
            if event.execution_id != execution.id:
                continue
            keys = [step.key for step in event.path.steps if step.key]
            for key in keys:
                if event.type == metadata_store_pb2.Event.OUTPUT:
                    outputs.setdefault(key, []).append(artifact_types[artifacts[event.artifact_id].type_id])
                elif event.type == metadata_store_pb2.Event.INPUT:
                    inputs.setdefault(key, []).append(made_by[event.artifact_id])
        found[node_of[execution.id]] = (
            types[execution.type_id],
            {key: sorted(sources) for key, sources in inputs.items()},
            outputs,
        )
    return found
