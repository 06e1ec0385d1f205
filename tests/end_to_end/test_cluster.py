"""The story of a model on a cluster with Kubeflow Pipelines, for `make test-cluster`; the tests follow each other.

Everything is done with the product's own command line and kubectl; what became of it is read on the volume and in KFP's
API. The story has eight runs or more: a push, the same again, a new span with a pod deleted in its middle, an unmet
condition, a failing task, and three by a schedule with a span arriving between them.

TEST_CLUSTER=stand-in tells it on `tests/cluster_stand_in.py` instead. deploy/README.md says what was seen where.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubeflow.compiler import task_name
from deploy.kubeflow.connection import ApiError
from deploy.kubeflow.runs import FINAL_STATES
from deploy.root import EXIT_CODES
from pipeline.config.loading import CONFIGS_FOLDER
from tests.cluster import Cluster, wait_for
from tests.cluster_stand_in import cluster_stand_in
from tests.end_to_end.commands import ASK_ABOUT_PRODUCTION, OF_PACKAGE, STEPS, start, start_until, states, warmstart

CLUSTER = os.environ.get("TEST_CLUSTER", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.release,
    pytest.mark.skipif(not CLUSTER, reason="make test-cluster names a cluster"),
]

# Of waiting: for a run, of which a cluster may first have to pull the image; and for three by a schedule.
RUN_SECONDS, SCHEDULE_SECONDS = 2 * 3600.0, 4 * 3600.0


@dataclass
class Story:
    """Names of its own for everything on the cluster, the photos that arrive, and the runs so far."""

    cluster: Cluster
    config: Path
    spans: dict[int, Path]
    name: str
    runs: dict[str, str] = field(default_factory=dict)
    """What the story calls a run -> its id."""

    @property
    def pipeline(self) -> str:
        return task_name(self.name)

    @property
    def folder(self) -> str:
        return f"{self.cluster.mount}/{self.name}"

    @property
    def root(self) -> str:
        return f"{self.folder}/root"

    def photos_arrive(self, span: int) -> None:
        self.cluster.toolbox.bring(self.spans[span], f"{self.folder}/photos/span-{span}")

    def package(self, *settings: str) -> list[str]:
        """Options of `submit` and `schedule set`."""
        settings = (*OF_PACKAGE, f"backbone.handle={self.folder}/backbone", *settings)
        return [
            f"--config={self.config}", f"--data={self.folder}/photos/span-{{SPAN}}", f"--root={self.root}",
            *self.cluster.arguments, *(f"--set={setting}" for setting in settings), "--json",
        ]  # fmt: skip

    def submitted(self, run: str, *settings: str) -> dict[str, Any]:
        """Follows a run to its end; the document that `submit` printed."""
        told = answer(*kubeflow("submit", "--follow", *self.package(*settings)))
        self.runs[run] = told["run_id"]
        return told

    def summary(self, run: str) -> dict[str, Any]:
        return json.loads(self.cluster.toolbox.read(f"{self.root}/reports/{self.runs[run]}/summary.json"))

    def exit_code(self, run: str) -> int:
        """What `submit --follow` must end with; the verdict counts only where the root can be read."""
        code = EXIT_CODES[self.summary(run)["status"]]
        return code if os.path.isdir(self.root) else int(self.cluster.state(self.runs[run]) != "SUCCEEDED")

    def unschedule(self) -> None:
        wait_for("the schedule to go", self._is_unscheduled, RUN_SECONDS)

    def remove(self) -> None:
        """Removes its schedule, its pipeline and its folder when nothing runs any more; its runs stay."""
        self.unschedule()
        wait_for("the runs to end", self._is_idle, RUN_SECONDS)
        self.cluster.remove_pipeline(self.pipeline)
        self.cluster.toolbox.remove(self.folder)

    def _is_unscheduled(self) -> bool:
        """A server older than 2.16 deletes no schedule whose run is active."""
        code, output = kubeflow("schedule", "delete", self.name)
        return code == 0 or "there is no schedule" in output

    def _is_idle(self) -> bool:
        return all(state in FINAL_STATES for state, _ in self.cluster.runs_of(self.pipeline).values())


def kubeflow(*arguments: str) -> tuple[int, str]:
    """Exit code of `warmstart kubeflow ...`, and everything a person sees."""
    process = start("kubeflow", *arguments)
    output, _ = process.communicate(timeout=RUN_SECONDS)
    return process.returncode, output


def answer(code: int, output: str) -> dict[str, Any]:
    """The document at the end of what a command printed."""
    _, found, text = f"\n{output}".rpartition("\n{\n")
    assert found, f"exit code {code}: {output}"
    return json.loads(found + text)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    assert CLUSTER in ("real", "stand-in"), f"TEST_CLUSTER is {CLUSTER!r}; expected real or stand-in"
    if CLUSTER == "real":
        yield Cluster.of_environment()
        return
    with cluster_stand_in(tmp_path_factory.mktemp("stand_in")):
        yield Cluster.of_environment()


@pytest.fixture(scope="module")
def story(cluster, sample, tiny_backbone, tmp_path_factory) -> Iterator[Story]:
    spans = {1: sample / "cats_vs_dogs"}
    for span in (2, 3):
        folder = tmp_path_factory.mktemp(f"span_{span}")
        code, output = warmstart("sample", str(folder), "--photos", "120", "--seed", str(6 + span))
        assert code == 0, output
        spans[span] = folder / "cats_vs_dogs"
    # In a metadata store, a pipeline's name belongs to one root.
    name = f"test_cluster_{uuid.uuid4().hex[:8]}"
    config = tmp_path_factory.mktemp("config") / "story.yaml"
    content = yaml.safe_load((CONFIGS_FOLDER / "cats_vs_dogs.yaml").read_text())
    config.write_text(yaml.safe_dump(content | {"name": name}))
    story = Story(cluster, config, spans, name)
    try:
        story.photos_arrive(1)
        cluster.toolbox.bring(Path(tiny_backbone), f"{story.folder}/backbone")
        yield story
    finally:
        story.remove()


def test_the_first_run_pushes(story):
    told = story.submitted("first")
    assert told["pipeline"] == story.pipeline
    assert told["new_version"] is True
    assert told["exit_code"] == 0
    assert story.cluster.state(told["run_id"]) == "SUCCEEDED"
    summary = story.summary("first")
    assert summary["status"] == "pushed"
    assert states(summary) == dict.fromkeys(STEPS, "complete")
    version = summary["production"]["after"]
    assert version in story.cluster.toolbox.names_in(f"{story.root}/serving")
    page = story.cluster.toolbox.read(f"{story.root}/reports/{told['run_id']}/index.html")
    assert summary["reason"] in page


def test_the_same_again_is_cached(story):
    told = story.submitted("again")
    assert told["new_version"] is False
    assert told["exit_code"] == story.exit_code("again")
    summary = story.summary("again")
    assert states(summary) == {step: "complete" if step in ASK_ABOUT_PRODUCTION else "cached" for step in STEPS}
    assert summary["status"] == "skipped"
    assert summary["production"]["after"] == story.summary("first")["production"]["after"]


def test_a_new_span_is_trained_on_though_a_pod_is_deleted_in_its_middle(story):
    toolbox, models = story.cluster.toolbox, f"{story.root}/artifacts/FineTuning/model"
    before = toolbox.names_in(models)
    story.photos_arrive(2)
    process, output = start_until("\nrun ", "kubeflow", "submit", "--follow", *story.package())
    run_id = story.runs["new span"] = re.findall(r"^run (\S+)$", output, re.MULTILINE)[0]
    wait_for("FineTuning to begin", lambda: len(toolbox.names_in(models)) > len(before), RUN_SECONDS, every=0.2)
    [pod] = [pod.name for pod in toolbox.pods_of(run_id, "FineTuning") if pod.phase == "Running"]
    toolbox.delete_pod(pod)
    wait_for("another try", lambda: {one.name for one in toolbox.pods_of(run_id, "FineTuning")} - {pod}, 900)
    output += process.communicate(timeout=RUN_SECONDS)[0]
    told = answer(process.returncode, output)
    assert story.cluster.state(run_id) == "SUCCEEDED", output
    summary = story.summary("new span")
    assert told["exit_code"] == process.returncode == story.exit_code("new span")
    assert {states(summary)[step] for step in ("ImageExampleGen", "FineTuning", "Evaluator")} == {"complete"}
    assert states(summary)["CuratedSchema"] == "cached"
    assert 100 < sum(summary["data"]["accepted"].values()) < sum(story.summary("first")["data"]["accepted"].values())
    # One folder for the two tries: what the killed one left is gone.
    assert len(toolbox.names_in(models)) == len(before) + 1


def test_an_unmet_condition_skips_the_push(story):
    before = story.summary("new span")["production"]["after"]
    told = story.submitted("unmet", "serving.maximum_megabytes=0.001")
    assert story.cluster.state(told["run_id"]) == "SUCCEEDED"
    assert told["exit_code"] == story.exit_code("unmet")
    summary = story.summary("unmet")
    assert states(summary)["Pusher"] == "skipped"
    assert summary["status"] == "not_pushed"
    assert "serving.maximum_megabytes" in summary["reason"]
    assert summary["production"]["after"] == before


def test_a_failing_task_fails_the_run_and_the_report_says_why(story):
    of_step = "runtime.steps.FineTuning"
    told = story.submitted("failing", f"{of_step}.retries=0", f"{of_step}.timeout_minutes=0.01")
    assert told["exit_code"] == 1
    assert story.cluster.state(told["run_id"]) == "FAILED"
    summary = story.summary("failing")  # which the task Report wrote
    assert summary["status"] == "failed"
    assert "FineTuning" in summary["reason"]
    assert f"{of_step}.timeout_minutes (0.01)" in summary["reason"]
    assert states(summary).get("Pusher") not in ("complete", "cached")


def test_a_schedule_fires_three_times_and_reads_the_span_that_arrives_meanwhile(story):
    def ended(count: int) -> dict[str, str]:
        found = story.cluster.ended_runs_of_schedule(story.pipeline)
        return found if len(found) >= count else {}

    told = answer(*kubeflow("schedule", "set", story.name, "--cron", "* * * * *", *story.package()))
    assert told["done"] == "created"
    wait_for("the first run of the schedule", lambda: ended(1), SCHEDULE_SECONDS)
    story.photos_arrive(3)
    runs = wait_for("three runs of the schedule", lambda: ended(3), SCHEDULE_SECONDS)

    story.unschedule()
    code, listed = kubeflow("schedule", "list")
    assert code == 0, listed
    assert story.name not in listed
    assert set(runs) <= set(story.cluster.runs_of(story.pipeline)), "its runs went with the schedule"

    assert set(runs.values()) == {"SUCCEEDED"}
    first, second, third = list(runs)[:3]
    story.runs |= {"by the clock, 1": first, "by the clock, 2": second, "by the clock, 3": third}
    read = [states(story.summary(f"by the clock, {number}"))["ImageExampleGen"] for number in (1, 2, 3)]
    # The second may have begun before the photos arrived; the third began after it ended.
    assert read in (["cached", "complete", "cached"], ["cached", "cached", "complete"])


def test_page_and_metrics_are_artifacts_of_kubeflow(story):
    connection, found, query = story.cluster.connection, [], {"page_size": "100"}
    if connection.namespace:
        query["namespace"] = connection.namespace
    try:
        while True:
            told = connection.ask("list the artifacts", connection.call, "GET", "artifacts", query)
            found += told.get("artifacts") or []
            if not told.get("next_page_token"):
                break
            query["page_token"] = told["next_page_token"]
    except ApiError as error:
        if error.status not in (404, 405, 501):
            raise
        pytest.skip(f"Kubeflow Pipelines {connection.version} lists no artifacts")
    of_run = [one["uri"].rstrip("/") for one in found if story.runs["first"] in one.get("uri", "")]
    assert {"page", "metrics"} <= {uri.rpartition("/")[2] for uri in of_run}


def test_a_local_run_on_the_same_photos_gives_the_same_metrics(story, tiny_backbone, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "span-1").symlink_to(story.spans[1])
    settings = [*OF_PACKAGE, f"backbone.handle={tiny_backbone}"]
    code, output = warmstart(
        "run", f"--config={story.config}", f"--data={tmp_path}/photos/span-{{SPAN}}", f"--root={tmp_path}/root",
        *(f"--set={setting}" for setting in settings),
    )  # fmt: skip
    assert code == 0, output
    [file] = (tmp_path / "root" / "reports").glob("*/summary.json")
    local, on_cluster = json.loads(file.read_text()), story.summary("first")
    for one in (local, on_cluster):
        for model in one["models"].values():
            del model["training"]  # with the seconds
    for key in ("winner", "data", "status"):
        assert local[key] == on_cluster[key], key
    here, there = leaves(local["models"]), leaves(on_cluster["models"])
    assert set(here) == set(there)
    numbers = {path for path, value in here.items() if isinstance(value, (int, float))}
    assert len(numbers) > 10
    # Another processor adds up in another order.
    assert {path: there[path] for path in numbers} == pytest.approx({path: here[path] for path in numbers}, abs=1e-3)
    assert {path: there[path] for path in set(here) - numbers} == {path: here[path] for path in set(here) - numbers}


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Path -> what is there that is neither a list nor a dict."""
    if not isinstance(value, (dict, list)):
        return {path: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {key: leaf for name, below in items for key, leaf in leaves(below, f"{path}.{name}").items()}
