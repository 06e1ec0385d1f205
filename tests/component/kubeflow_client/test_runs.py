"""Runs on Kubeflow Pipelines: submitted and followed, against a stub of its API."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import yaml

from deploy.kubeflow import runs, schedules
from deploy.kubeflow.connection import Connection
from deploy.kubeflow.package_file import read_package
from deploy.kubeflow.runs import RunOutcome, TaskChange
from schemas.errors import BadInput
from tests.kfp_api_stub import KfpApiStub, task
from tests.kubeflow_server import (
    EXPERIMENT,
    NIGHTLY,
    NOTHING,
    PIPELINE,
    RUN,
    RUNS,
    UPLOAD,
    connected,
    edited,
    only,
    scheduled,
    sentence,
    submitted,
)

# ---- submit


def test_submit_makes_pipeline_version_experiment_and_run(stub, connection, package, package_file):
    run = submitted(connection, package, service_account="trainer")
    assert stub.state.counts() == (1, 1, 1, 1, 0)
    assert run.new_version
    assert run.run_url == f"{stub.address}/#/runs/details/{run.run_id}"

    pipeline = only(stub.sent("POST", "/apis/v2beta1/pipelines")).body
    assert pipeline["display_name"] == PIPELINE
    assert pipeline["description"].startswith("made by warmstart")
    upload = only(stub.sent("POST", UPLOAD))
    assert upload.query["pipelineid"] == run.pipeline_id
    assert upload.query["name"] == f"{PIPELINE}-{package.digest[:12]}"
    assert upload.body["uploadfile"]["filename"] == "package.yaml"
    assert upload.body["uploadfile"]["content"] == package_file.read_bytes()
    assert only(stub.sent("POST", "/apis/v2beta1/experiments")).body["display_name"] == EXPERIMENT
    assert only(stub.sent("POST", RUNS)).body == {
        "display_name": RUN,
        "experiment_id": next(iter(stub.state.experiments)),
        "pipeline_version_reference": {"pipeline_id": run.pipeline_id, "pipeline_version_id": run.version_id},
        "runtime_config": {"parameters": {"config": "cats_vs_dogs"}},
        "service_account": "trainer",
    }


def test_the_uploaded_package_has_caching_off_for_every_task(stub, connection, package):
    submitted(connection, package)
    content = only(stub.sent("POST", UPLOAD)).body["uploadfile"]["content"]
    spec = next(yaml.safe_load_all(content))
    dags = [spec["root"]["dag"], *(one["dag"] for one in spec["components"].values() if "dag" in one)]
    options = [task.get("cachingOptions", {}) for dag in dags for task in dag["tasks"].values()]
    containers = [one for one in options if not one.get("enableCache")]
    assert len(options) == 4  # three containers, and the group that the exit task waits for
    assert len(containers) == len(options)


def test_submitting_again_makes_a_run_and_nothing_else(stub, connection, package, package_file, tmp_path):
    first = submitted(connection, package)
    second = submitted(connection, package)
    assert stub.state.counts() == (1, 1, 1, 2, 0)
    assert (second.pipeline_id, second.version_id, second.new_version) == (first.pipeline_id, first.version_id, False)
    assert second.run_id != first.run_id

    changed = edited(package_file, tmp_path, "warmstart:1.0", "warmstart:1.1")
    third = submitted(connection, read_package(changed, {"config": "cats_vs_dogs"}))
    assert third.new_version
    assert stub.state.counts() == (1, 2, 1, 3, 0)


def test_many_users_have_their_things_in_their_namespace(package):
    with KfpApiStub(many_users=True) as stub:
        connection = connected(stub, "team-a")
        submitted(connection, package)
        scheduled(connection, package)
        assert [one.name for one in schedules.list_schedules(connection)] == [NIGHTLY]
        made = [*stub.state.pipelines.values(), *stub.state.experiments.values()]
        assert [one["namespace"] for one in made] == ["team-a", "team-a"]


def test_a_name_taken_by_another_pipeline_is_refused(stub, connection, package):
    stub.add_pipeline(PIPELINE, description="somebody else's")
    for act in (submitted, scheduled):
        with pytest.raises(BadInput, match=f"the name '{PIPELINE}' is taken by a pipeline at") as error:
            act(connection, package)
        sentence(error)
    assert stub.writes() == []


@pytest.mark.parametrize(
    ("method", "path", "asked"),
    [
        ("POST", "/pipelines$", f"create the pipeline '{PIPELINE}'"),
        ("POST", "/upload_version$", "create the version"),
        ("POST", "/experiments$", f"create the experiment '{EXPERIMENT}'"),
        ("POST", "/runs$", f"create the run '{RUN}'"),
        ("GET", "/versions$", "list the pipeline's versions"),
        ("GET", "/runs$", "list the runs"),
    ],
)
@pytest.mark.parametrize(
    "how",
    [
        {"status": 400, "message": "bad"},
        {"status": 500},
        {"after": True},
        {"drop": True},
        {"drop": True, "after": True},
    ],
    ids=["refused", "failed", "done, but told 500", "broken off", "done, but broken off"],
)
def test_whatever_fails_nothing_is_left_behind(stub, connection, package, method, path, asked, how):
    stub.fail(method, path, **how)
    with pytest.raises(BadInput) as error:
        submitted(connection, package)
    assert asked in sentence(error)
    assert stub.state.counts() == NOTHING


@pytest.mark.parametrize("how", [{"status": 500}, {"drop": True, "after": True}])
def test_what_was_there_before_stays(stub, connection, package, how):
    submitted(connection, package)
    kept = set(stub.state.runs)
    stub.fail("POST", "/runs$", **how)
    with pytest.raises(BadInput):
        submitted(connection, package)
    assert stub.state.counts() == (1, 1, 1, 1, 0)
    assert set(stub.state.runs) == kept


def test_what_cannot_be_taken_away_is_named(stub, connection, package):
    stub.fail("POST", "/runs$", status=400, message="no quota")
    stub.fail("DELETE", "/versions/", status=503)
    with pytest.raises(BadInput, match="no quota") as error:
        submitted(connection, package)
    text = sentence(error)
    assert f"the version '{PIPELINE}-" in text
    assert f"the pipeline '{PIPELINE}'" in text  # the server deletes no pipeline that has versions
    assert "could not be deleted again: delete by hand" in text
    assert "experiment" not in text
    assert stub.state.counts() == (1, 1, 0, 0, 0)


def test_an_interruption_leaves_nothing_behind_either(stub, connection, package, monkeypatch):
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(connection.client, "run_pipeline", interrupted)
    with pytest.raises(KeyboardInterrupt):
        submitted(connection, package)
    assert stub.state.counts() == NOTHING


def test_a_login_that_ran_out_is_not_taken_for_an_empty_list(stub, connection, package):
    stub.kind = "html"
    for act in (submitted, scheduled):
        with pytest.raises(BadInput, match="a web page, not the API") as error:
            act(connection, package)
        sentence(error)
    with pytest.raises(BadInput, match="a web page, not the API"):
        schedules.list_schedules(connection)
    assert stub.writes() == []


def test_nothing_of_the_sdk_reaches_the_terminal(stub, package, capfd, caplog, recwarn):
    connection = connected(stub)
    submitted(connection, package)
    scheduled(connection, package)
    stub.fail("GET", "/apis/v2beta1/pipelines$", drop=True)
    with pytest.raises(BadInput):
        submitted(connection, package)
    connection.ask("log", logging.getLogger("urllib3").error, "noise")
    assert tuple(capfd.readouterr()) == ("", "")
    assert caplog.records == []
    assert len(recwarn) == 0
    assert logging.root.manager.disable == logging.NOTSET


# ---- follow


def followed(connection: Connection, run_id: str, **options: Any) -> tuple[RunOutcome, list[TaskChange]]:
    changes: list[TaskChange] = []
    return runs.follow(connection, run_id, changes.append, poll_seconds=0.01, **options), changes


def frame(state: str, *tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"state": state, "run_details": {"task_details": list(tasks)}, **more}


def test_following_tells_each_change_once(stub, connection, package):
    run_id = submitted(connection, package).run_id
    around = (task("root", "RUNNING"), task("root-driver", "SUCCEEDED", 1), task("executor", "RUNNING"))
    stub.frames[run_id] = [
        frame("PENDING"),
        frame("RUNNING", *around, task("image-example-gen", "PENDING")),
        frame("RUNNING", *around, task("image-example-gen", "RUNNING")),
        frame("RUNNING", *around, task("image-example-gen", "RUNNING")),
        frame("RUNNING", task("image-example-gen", "SUCCEEDED", 62), task("evaluate", "RUNNING")),
        frame("SUCCEEDED", task("image-example-gen", "SUCCEEDED", 62), task("evaluate", "SUCCEEDED", 5)),
    ]
    result, changes = followed(connection, run_id, tasks=package.tasks)
    assert result == RunOutcome("SUCCEEDED", (), "")
    assert [(change.name, change.state, change.seconds) for change in changes] == [
        ("ImageExampleGen", "PENDING", None),
        ("ImageExampleGen", "RUNNING", None),
        ("ImageExampleGen", "SUCCEEDED", 62.0),
        ("Evaluator", "RUNNING", None),
        ("Evaluator", "SUCCEEDED", 5.0),
    ]


def test_tasks_that_are_listed_on_their_own_are_followed_too(package, monkeypatch):
    monkeypatch.setattr(runs, "PAGE_SIZE", 1)
    with KfpApiStub(version="3.0.0", native_tasks=True) as stub:
        connection = connected(stub)
        run_id = submitted(connection, package).run_id
        done = task("image-example-gen", "SUCCEEDED", 62)
        stub.frames[run_id] = [
            frame("RUNNING", task("root", "RUNNING"), task("image-example-gen", "PENDING")),
            frame("RUNNING", task("image-example-gen-driver", "SUCCEEDED", 1), task("image-example-gen", "RUNNING")),
            frame("FAILED", done, task("evaluate", "FAILED", 9, "OOMKilled\nsecond line")),
        ]
        result, changes = followed(connection, run_id, tasks=package.tasks)
        assert result == RunOutcome("FAILED", (TaskChange("Evaluator", "FAILED", 9.0, "OOMKilled"),), "")
        assert [(change.name, change.state, change.seconds) for change in changes] == [
            ("ImageExampleGen", "PENDING", None),
            ("ImageExampleGen", "RUNNING", None),
            ("ImageExampleGen", "SUCCEEDED", 62.0),
            ("Evaluator", "FAILED", 9.0),
        ]
        assert [change.name for change in followed(connection, run_id)[1]] == ["image-example-gen", "evaluate"]


def test_a_server_without_such_a_list_is_asked_for_it_once(stub, connection, package):
    run_id = submitted(connection, package).run_id
    stub.frames[run_id] = [frame("PENDING"), frame("RUNNING"), frame("SUCCEEDED")]
    result, changes = followed(connection, run_id, tasks=package.tasks)
    assert (result.state, changes) == ("SUCCEEDED", [])
    assert len(stub.sent("GET", f"{RUNS}/{run_id}/tasks")) == 1


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-02T04:00:01Z", "2026-01-02T04:00:01+00:00"),
        ("2026-01-02T04:00:01.123456789Z", "2026-01-02T04:00:01+00:00"),
    ],
)
def test_a_time_may_have_any_number_of_digits(text, time):
    assert runs._time(text).isoformat() == time


def test_a_failed_task_comes_out_with_its_error(stub, connection, package):
    run_id = submitted(connection, package).run_id
    failed = task("evaluate", "FAILED", 9, "OOMKilled (exit code 137)\nsecond line")
    stub.frames[run_id] = [frame("FAILED", failed, error={"code": 2, "message": "task evaluate failed"})]
    result, _ = followed(connection, run_id, tasks=package.tasks)
    assert result.state == "FAILED"
    assert result.error == "task evaluate failed"
    assert result.failed == (TaskChange("Evaluator", "FAILED", 9.0, "OOMKilled (exit code 137)"),)


def test_without_names_all_that_look_like_tasks_are_told(stub, connection, package):
    run_id = submitted(connection, package).run_id
    names = ("root", "root-driver", "evaluate", "evaluate-driver", "executor", "warmstart-x7k2p")
    stub.frames[run_id] = [frame("SUCCEEDED", *(task(name, "SUCCEEDED", 3) for name in names))]
    _, changes = followed(connection, run_id)
    assert [change.name for change in changes] == ["evaluate"]


@pytest.mark.parametrize("how", [{"drop": True}, {"status": 503}, {"status": 429}])
def test_following_survives_a_short_loss_of_the_connection(stub, connection, package, how):
    run_id = submitted(connection, package).run_id
    stub.frames[run_id] = [frame("RUNNING"), frame("SUCCEEDED")]
    stub.fail("GET", f"{RUNS}/", times=4, **how)
    result, _ = followed(connection, run_id)
    assert result.state == "SUCCEEDED"
    assert len(stub.sent("GET", f"{RUNS}/{run_id}")) == 6


def test_a_server_that_stays_away_ends_the_following_and_not_the_run(stub, connection, package):
    run = submitted(connection, package)
    stub.fail("GET", f"{RUNS}/", times=10_000, drop=True)
    with pytest.raises(BadInput, match="did not answer") as error:
        followed(connection, run.run_id, patience_seconds=0.2)
    assert f"the run continues: {run.run_url}" in sentence(error)
    assert len(stub.sent("GET", f"{RUNS}/{run.run_id}")) > 2
    assert stub.writes()[-1] == ("POST", RUNS)


def test_a_token_that_runs_out_while_following_is_one_sentence(stub, connection, package):
    run = submitted(connection, package)
    stub.fail("GET", f"{RUNS}/", status=401)
    with pytest.raises(BadInput, match="refused the token") as error:
        followed(connection, run.run_id)
    assert run.run_url in sentence(error)


def test_a_run_that_is_not_there_is_one_sentence(connection):
    with pytest.raises(BadInput, match="answered 404 when asked to show the run") as error:
        followed(connection, "no-such-run")
    assert "goes on" not in sentence(error)


def test_ctrl_c_stops_the_following_and_not_the_run(stub, connection, package):
    run_id = submitted(connection, package).run_id
    stub.frames[run_id] = [frame("RUNNING", task("evaluate", "RUNNING"))]

    def interrupt(change: TaskChange) -> None:
        raise KeyboardInterrupt

    result = runs.follow(connection, run_id, interrupt, package.tasks, poll_seconds=0.01)
    assert result.stopped
    assert stub.writes()[-1] == ("POST", RUNS)
    assert run_id in stub.state.runs
