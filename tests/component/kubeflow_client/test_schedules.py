"""Recurring runs of Kubeflow Pipelines, against a stub of its API."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deploy.kubeflow import schedules
from deploy.kubeflow.package_file import read_package
from deploy.timetable import timetable
from schemas.errors import BadInput
from tests.kfp_api_stub import KfpApiStub
from tests.kubeflow_server import (
    NIGHTLY,
    NOTHING,
    RECURRING,
    connected,
    edited,
    only,
    scheduled,
    sentence,
    submitted,
)


def test_a_schedule_is_made_with_one_run_at_a_time_and_no_catch_up(stub, connection, package):
    made = scheduled(connection, package, "0 3 * * *", "Asia/Kolkata", service_account="trainer")
    assert made.action == "created"
    assert stub.state.counts() == (1, 1, 1, 0, 1)
    assert only(stub.sent("POST", RECURRING)).body == {
        "display_name": NIGHTLY,
        "description": "made by warmstart: 0 3 * * * in Asia/Kolkata",
        "experiment_id": next(iter(stub.state.experiments)),
        "max_concurrency": 1,
        "mode": "ENABLE",
        "no_catchup": True,
        "pipeline_version_reference": {"pipeline_id": made.pipeline_id, "pipeline_version_id": made.version_id},
        "runtime_config": {"parameters": {"config": "cats_vs_dogs"}},
        "service_account": "trainer",
        "trigger": {"cron_schedule": {"cron": "0 30 21 * * *"}},
    }


def test_scheduling_twice_changes_nothing(stub, connection, package):
    first = scheduled(connection, package)
    before = stub.writes()
    assert scheduled(connection, package) == replace(first, action="unchanged")
    assert stub.writes() == before


def test_any_difference_replaces_the_schedule(stub, connection, package, package_file, tmp_path):
    ids = [scheduled(connection, package).id]
    other_image = edited(package_file, tmp_path, "warmstart:1.0", "warmstart:1.1")
    changes: list[dict[str, Any]] = [
        {"package": package, "cron": "0 4 * * *"},
        {"package": package, "cron": "30 9 * * *", "zone": "Asia/Kolkata"},
        {"package": read_package(package_file, {"config": "species"})},
        {"package": read_package(package_file, {"config": "species"}), "service_account": "trainer"},
        {"package": read_package(other_image, {"config": "species"}), "service_account": "trainer"},
    ]
    for change in changes:
        made = scheduled(connection, **change)
        assert made.action == "replaced"
        assert list(stub.state.recurring_runs) == [made.id]
        ids.append(made.id)
    assert len(set(ids)) == len(changes) + 1

    # By hand, in Kubeflow's pages.
    by_hand: list[dict[str, Any]] = [
        {"mode": "DISABLE", "status": "DISABLED"},
        {"no_catchup": False},
        {"max_concurrency": "3"},
        {"description": "mine"},
        {"experiment_id": "another"},
    ]
    for change in by_hand:
        next(iter(stub.state.recurring_runs.values())).update(change)
        assert scheduled(connection, **changes[-1]).action == "replaced"
    assert scheduled(connection, **changes[-1]).action == "unchanged"


def test_the_new_schedule_is_made_before_the_old_one_goes(stub, connection, package):
    scheduled(connection, package)
    stub.requests.clear()
    scheduled(connection, package, "0 4 * * *")
    assert [method for method, path in stub.writes() if path.startswith(RECURRING)] == ["POST", "DELETE"]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", f"{RECURRING}$"), ("DELETE", f"{RECURRING}/"), ("GET", "/versions$")]
)
@pytest.mark.parametrize("how", [{"status": 400}, {"status": 500}, {"drop": True}])
def test_a_failure_leaves_the_old_schedule_in_place(stub, connection, package, method, path, how):
    old = scheduled(connection, package).id
    stub.fail(method, path, **how)
    with pytest.raises(BadInput) as error:
        scheduled(connection, package, "0 4 * * *")
    sentence(error)
    assert list(stub.state.recurring_runs) == [old]
    assert stub.state.recurring_runs[old]["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"


@pytest.mark.parametrize("how", [{"after": True}, {"drop": True, "after": True}])
def test_a_first_schedule_whose_answer_is_lost_is_taken_away(stub, connection, package, how):
    stub.fail("POST", f"{RECURRING}$", **how)
    with pytest.raises(BadInput):
        scheduled(connection, package)
    assert stub.state.counts() == NOTHING


@pytest.mark.parametrize("how", [{"drop": True}, {"status": 504}, {"status": 404}])
def test_an_old_schedule_that_went_although_the_answer_was_lost_is_gone(stub, connection, package, how):
    scheduled(connection, package)
    stub.fail("DELETE", f"{RECURRING}/", after=True, **how)
    made = scheduled(connection, package, "0 4 * * *")
    assert made.action == "replaced"
    assert list(stub.state.recurring_runs) == [made.id]


def test_several_of_one_name_become_one(stub, connection, package):
    first = scheduled(connection, package)
    stub.add_recurring_run({**stub.state.recurring_runs[first.id], "recurring_run_id": "second"})
    stub.state.recurring_runs = {one["recurring_run_id"]: one for one in stub.state.recurring_runs.values()}
    assert len(stub.state.recurring_runs) == 2
    assert scheduled(connection, package).action == "replaced"
    assert len(stub.state.recurring_runs) == 1


def test_a_schedule_is_found_on_any_page_of_the_list(stub, connection, package, monkeypatch):
    monkeypatch.setattr(schedules, "PAGE_SIZE", 2)
    for number in range(5):
        stub.add_recurring_run({"display_name": f"other-{number}", "mode": "ENABLE"})
    scheduled(connection, package)
    assert scheduled(connection, package).action == "unchanged"


def test_a_schedule_name_taken_by_another_pipeline_is_refused(stub, connection, package):
    other = {"pipeline_id": "other", "pipeline_version_id": "v"}
    stub.add_recurring_run({"display_name": NIGHTLY, "mode": "ENABLE", "pipeline_version_reference": other})
    with pytest.raises(BadInput, match=f"the name '{NIGHTLY}' is taken by a schedule of another pipeline"):
        scheduled(connection, package)
    assert stub.writes() == []
    submitted(connection, package)
    stub.requests.clear()
    with pytest.raises(BadInput, match="taken by a schedule of another pipeline"):
        scheduled(connection, package)
    assert stub.writes() == []


def test_a_schedule_whose_run_is_going_on_is_neither_replaced_nor_deleted(stub, connection, package):
    made = scheduled(connection, package)
    experiment_id = next(iter(stub.state.experiments))
    run = stub.add_run({"experiment_id": experiment_id, "recurring_run_id": made.id, "display_name": "one"})
    for act in (
        lambda: scheduled(connection, package, "0 4 * * *"),
        lambda: schedules.delete_schedule(connection, NIGHTLY),
    ):
        with pytest.raises(BadInput, match="a run of the schedule 'nightly' is in progress") as error:
            act()
        assert run["run_id"] in sentence(error)
    assert list(stub.state.recurring_runs) == [made.id]
    assert scheduled(connection, package).action == "unchanged"

    run["state"] = "SUCCEEDED"
    schedules.delete_schedule(connection, NIGHTLY)
    assert stub.state.recurring_runs == {}


def test_a_newer_server_deletes_a_schedule_and_leaves_its_run_alone(package):
    with KfpApiStub(version="2.17.0") as stub:
        connection = connected(stub)
        made = scheduled(connection, package)
        experiment_id = next(iter(stub.state.experiments))
        going_on = {"experiment_id": experiment_id, "recurring_run_id": made.id, "display_name": "one"}
        run = stub.add_run(going_on)
        with pytest.raises(BadInput, match="is in progress"):  # two of one root must not run at once
            scheduled(connection, package, "0 4 * * *")
        schedules.delete_schedule(connection, NIGHTLY)
        assert stub.state.recurring_runs == {}
        assert list(stub.state.runs) == [run["run_id"]]
        assert only(stub.sent("DELETE", f"{RECURRING}/{made.id}")).query == {"propagation_policy": "ORPHAN"}


def test_an_older_server_is_not_asked_for_what_it_does_not_know(stub, connection, package):
    made = scheduled(connection, package)
    schedules.delete_schedule(connection, NIGHTLY)
    assert only(stub.sent("DELETE", f"{RECURRING}/{made.id}")).query == {}


def test_an_invalid_timetable_contacts_nobody(stub):
    with pytest.raises(BadInput):
        timetable("0 3 * *", "UTC")
    assert stub.requests == []


def test_schedules_are_listed_and_deleted(stub, connection, package):
    scheduled(connection, package, "0 3 * * *", "Asia/Kolkata")
    stub.add_recurring_run({"display_name": "by hand", "mode": "ENABLE"})
    listed = schedules.list_schedules(connection)
    assert [(one.name, one.kfp_cron, one.described, one.enabled) for one in listed] == [
        (NIGHTLY, "0 30 21 * * *", "0 3 * * * in Asia/Kolkata", True)
    ]
    assert listed[0].parameters == {"config": "cats_vs_dogs"}
    schedules.delete_schedule(connection, NIGHTLY)
    assert schedules.list_schedules(connection) == []
    assert [one["display_name"] for one in stub.state.recurring_runs.values()] == ["by hand"]


def test_deleting_an_absent_schedule_or_one_made_by_hand_is_one_sentence(stub, connection):
    with pytest.raises(BadInput, match=r"there is no schedule 'nightly' at .*; known schedules: none") as error:
        schedules.delete_schedule(connection, NIGHTLY)
    sentence(error)
    stub.add_recurring_run({"display_name": "by hand", "mode": "ENABLE"})
    with pytest.raises(BadInput, match="known schedules: by hand"):
        schedules.delete_schedule(connection, NIGHTLY)
    with pytest.raises(BadInput, match="was not created by warmstart"):
        schedules.delete_schedule(connection, "by hand")
    assert len(stub.state.recurring_runs) == 1


@pytest.mark.parametrize(
    "act", [schedules.list_schedules, lambda connection: schedules.delete_schedule(connection, NIGHTLY)]
)
def test_a_server_that_does_not_list_schedules_is_one_sentence(stub, connection, act):
    stub.fail("GET", f"{RECURRING}$", message="database is locked")
    with pytest.raises(BadInput, match="answered 500 when asked to list the schedules: database is locked") as error:
        act(connection)
    sentence(error)


def test_macros_of_kfp_are_passed_on_as_they_are(stub, connection, package_file):
    package = read_package(package_file, {"config": "a", "span": "[[ScheduledTime.2006-01-02]]"})
    scheduled(connection, package)
    sent = only(stub.sent("POST", RECURRING)).body
    assert sent["runtime_config"]["parameters"] == {"config": "a", "span": "[[ScheduledTime.2006-01-02]]"}
