"""The recurring run of a window of days, from its Kubeflow package: two scheduled times, one new day between them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from deploy.metadata_address import connect
from tests.conformance import Cluster, Run
from tests.end_to_end.commands import ASK_ABOUT_PRODUCTION, states, warmstart

pytestmark = [pytest.mark.slow, pytest.mark.release]

SETTINGS = [
    "data.window=2",
    "image.size=32",
    "training.feature_extraction.epochs=10",
    "training.fine_tuning.epochs=1",
    "serving.golden_photos=8",
    "release.minimum_accuracy=0",
    "release.minimum_test_photos=0",
]
DAYS = ("2026-11-21", "2026-11-22", "2026-11-23", "2026-11-24")


@pytest.fixture(scope="module")
def nights(sample, tiny_backbone, tmp_path_factory) -> tuple[Path, dict[str, Run], dict[str, dict]]:
    """The volume; the runs and their summaries, by the day of the scheduled time."""
    volume = tmp_path_factory.mktemp("volume")
    shutil.copytree(tiny_backbone, volume / "backbone")
    photos = sorted((sample / "cats_vs_dogs").glob("*/*.jpg"))
    for i, photo in enumerate(photos):
        target = volume / "photos" / DAYS[i % 4] / photo.parent.name / photo.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, target)
    # Two days are there at the first time; nobody has run for the older one.
    for day in DAYS[:2]:
        (volume / "photos" / day / "_SUCCESS").touch()
    file = volume / "package.yaml"
    code, output = warmstart(
        "kubeflow", "compile", "--config=cats_vs_dogs", "--image=registry.example/warmstart:1", f"--output={file}",
        f"--mount={volume}", f"--data={volume}/photos/{{YYYY}}-{{MM}}-{{DD}}",
        f"--metadata=sqlite://{volume}/metadata.sqlite",
        *(f"--set={setting}" for setting in [*SETTINGS, f"backbone.handle={volume}/backbone"]),
    )  # fmt: skip
    assert code == 0, output
    runs, summaries = {}, {}
    runs["first"], summaries["first"] = scheduled(volume, DAYS[1])
    for arrived in DAYS[2:]:  # and one that comes after the scheduled time
        (volume / "photos" / arrived / "_SUCCESS").touch()
    runs["second"], summaries["second"] = scheduled(volume, DAYS[2])
    return volume, runs, summaries


def scheduled(volume: Path, day: str) -> tuple[Run, dict]:
    """A run at a time on that day, and its summary."""
    # What Kubeflow makes of [[ScheduledTime.2006-01-02]].
    run = Cluster(volume / "kubeflow", warm=True).run((volume / "package.yaml").read_text(), {"span": day})
    assert run.state == "succeeded", run.told()
    folder = volume / "runs" / "cats_vs_dogs" / "reports" / run.run_id
    return run, json.loads((folder / "summary.json").read_text())


def test_each_time_has_the_window_that_ends_with_its_day(nights):
    _, _, summaries = nights
    assert summaries["first"]["window"]["spans"] == [DAYS[0], DAYS[1]]
    assert summaries["second"]["window"]["spans"] == [DAYS[1], DAYS[2]]
    assert summaries["first"]["status"] == "pushed", summaries["first"]["reason"]
    counted = summaries["second"]["window"]["data"]["accepted"]
    assert sum(counted.values()) > sum(summaries["second"]["data"]["accepted"].values())


def test_each_day_was_read_and_went_through_the_backbone_once(nights):
    volume, _, _ = nights
    assert_each_day_was_read_once(volume)


def assert_each_day_was_read_once(volume: Path) -> None:
    store = connect(f"sqlite://{volume}/metadata.sqlite")
    for node in ("ImageExampleGen", "FeatureVectorGen"):
        context = store.get_context_by_type_and_name("node", f"cats_vs_dogs.{node}")
        executions = store.get_executions_by_context(context.id)
        complete = [e for e in executions if e.last_known_state == e.COMPLETE]
        assert len(complete) == 3, node  # the day after the scheduled time was not touched
        assert len(executions) > 3
    read = Counter(
        e.custom_properties["span"].int_value
        for e in store.get_executions_by_context(
            store.get_context_by_type_and_name("node", "cats_vs_dogs.ImageExampleGen").id
        )
        if e.last_known_state == e.COMPLETE
    )
    assert sorted(read.values()) == [1, 1, 1]


def test_last_nights_run_again_trains_on_last_nights_window(nights):
    volume, runs, summaries = nights
    again, summary = scheduled(volume, DAYS[2])
    assert_each_day_was_read_once(volume)
    assert summary["window"]["spans"] == summaries["second"]["window"]["spans"]
    asks = {"EarlierSpans", *ASK_ABOUT_PRODUCTION}
    found = states(summary)
    assert {node: state for node, state in found.items() if node not in asks and state != "cached"} == {}
    assert "was ingested" not in again.tasks["Prepare"].output
    assert f"span {DAYS[0]} was ingested" in runs["first"].tasks["Prepare"].output
