"""Whole runs through the command line, in processes of their own: what is pushed, refused, stopped, resumed.

Most of them with a backbone of two convolutions. The first run, the runs that are killed, and those asked before a
release import everything themselves, as a person's do.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from tests.end_to_end.commands import (
    ASK_ABOUT_PRODUCTION,
    QUICK,
    STEPS,
    fill,
    run,
    served,
    small_disk,
    start,
    start_until,
    states,
    warmstart,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pushed(shaded, small, tmp_path_factory) -> tuple[Path, int, str, dict]:
    root = tmp_path_factory.mktemp("pushed") / "root"
    return root, *run(shaded, root, *small, plain=True)


def test_first_run_pushes_and_says_what_it_did(pushed):
    root, code, output, summary = pushed
    assert_pushed_by_its_first_run(root, code, output, summary)


@pytest.mark.release
def test_the_built_in_backbone_is_pushed(sample, tmp_path):
    """On photos that are harder to tell apart."""
    root = tmp_path / "root"
    assert_pushed_by_its_first_run(root, *run(sample / "cats_vs_dogs", root))


def assert_pushed_by_its_first_run(root: Path, code: int, output: str, summary: dict) -> None:
    assert code == 0, output
    assert summary["schema_version"] == 1
    assert summary["status"] == "pushed"
    assert states(summary) == dict.fromkeys(STEPS, "complete")
    assert sum(summary["data"]["accepted"].values()) >= 200
    assert all(summary["data"]["accepted"][split] > 0 for split in ("train", "eval", "test"))
    assert summary["data"]["rejected"]
    assert len(summary["data"]["rejected_files"]) == sum(summary["data"]["rejected"].values())
    assert all(file["file_name"] in file["detail"] for file in summary["data"]["rejected_files"])
    for model in ("feature_extraction", "fine_tuned"):
        for metric in ("accuracy", "loss", "calibration_error"):
            found = summary["models"][model][metric]
            assert found["low"] <= found["value"] <= found["high"]
        assert summary["models"][model]["accuracy"]["value"] > 0.7
    assert summary["winner"] in summary["models"]
    low, high = summary["verdict"]["interval"]
    assert low <= summary["verdict"]["difference"] <= high
    assert 0 <= summary["verdict"]["p_value"] <= 1
    version = summary["production"]["after"]
    assert summary["production"]["before"] is None
    assert served(root) == [version]
    assert (root / "serving" / version / "saved_model.pb").is_file()
    for said in ("status: pushed", summary["verdict"]["text"], f"{root}/serving/{version}", *STEPS):
        assert said in output
    run_folder = root / "reports" / summary["run_id"]
    assert (run_folder / "config.yaml").is_file()
    assert (run_folder / "run.log").stat().st_size > 0


def test_the_same_again_is_cached_and_pushes_nothing(pushed, shaded, small):
    """Only what asks about production looks once: by now something is in production."""
    root, *_ = pushed
    before = served(root)
    for state in ("complete", "cached"):
        code, output, summary = run(shaded, root, *small)
        assert code == 0, output
        assert summary["status"] == "skipped"
        assert summary["reason"].endswith(f"as version {before[0]}")
        assert "earlier run" in summary["reason"]
        assert states(summary) == {step: state if step in ASK_ABOUT_PRODUCTION else "cached" for step in STEPS}
        assert served(root) == before


def test_a_part_of_the_pipeline_takes_over_earlier_results(pushed, shaded, small):
    root, *_ = pushed
    code, output, summary = run(shaded, root, *small, "--from", "ModelSelector", "--to", "ReleaseGate")
    assert code == 0, output
    assert summary["status"] == "skipped"
    assert summary["verdict"] is not None
    code, output = warmstart("run", "--config=cats_vs_dogs", f"--data={shaded}", f"--root={root}", "--from=Evalator")
    assert code == 2
    assert "did you mean 'Evaluator'?" in output


@pytest.mark.slow
@pytest.mark.release
def test_wrong_labels_are_refused_and_production_stays(pushed, shaded, small, tmp_path):
    root, *_ = pushed
    before = served(root)
    data = tmp_path / "wrong"
    photos = sorted(shaded.glob("*/*.jpg"))
    random.Random(0).shuffle(photos)
    for i, photo in enumerate(photos):
        target = data / ("cat", "dog")[i % 2] / f"{i}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, target)
    code, output, summary = run(data, root, *small)
    assert code == 3, output
    assert summary["status"] == "not_pushed"
    assert "release.minimum_accuracy (70.0%)" in summary["reason"]
    assert served(root) == before
    assert summary["production"]["after"] == summary["production"]["before"] == before[0]
    # The refused model is still in the metadata.
    assert states(summary)["Pusher"] == "skipped"
    assert list((root / "artifacts" / "ModelSelector" / "model").iterdir())


def test_a_lost_version_is_pushed_anew(pushed, shaded, small):
    root, *_ = pushed
    (lost,) = served(root)
    shutil.rmtree(root / "serving" / lost)
    code, output, summary = run(shaded, root, *small)
    assert code == 0, output
    assert summary["status"] == "pushed"
    assert len(served(root)) == 1
    assert states(summary)["ServableCheck"] == "cached"


@pytest.mark.release
def test_an_unknown_breed_stops_the_run_by_name_and_the_next_one_goes_on(sample, small, tmp_path):
    data, root = tmp_path / "data", tmp_path / "root"
    shutil.copytree(sample / "oxford_iiit_pet", data)
    for name in ("list.txt", "trainval.txt"):
        with (data / "annotations" / name).open("a") as file:
            file.write("dragon_1 38 1 13\n")
    shutil.copy(min((data / "images").glob("Persian_*.jpg")), data / "images" / "dragon_1.jpg")
    with (data / "images" / "dragon_1.jpg").open("ab") as file:
        file.write(b"\0")  # another photo than the one it was copied from
    code, output, summary = run(data, root, *small, config="oxford_iiit_pet")
    assert code == 2, output
    assert summary["status"] == "stopped"
    assert "'label'" in summary["reason"]
    assert "dragon" in summary["reason"]
    assert states(summary)["Transform"] == "not_reached"

    shutil.rmtree(data)
    shutil.copytree(sample / "oxford_iiit_pet", data)
    code, output, _ = run(data, root, *small, "--to", "Transform", config="oxford_iiit_pet")
    assert code == 0, output
    code, output, summary = run(data, root, *small, "--to", "Transform", config="oxford_iiit_pet")
    assert {states(summary)[name] for name in STEPS[:6]} == {"cached"}, output


def kill_in(step: str, data: Path, root: Path, settings: list[str]) -> None:
    """Starts a run and kills it hard while `step` is at work; meanwhile a second run is turned away."""
    process = start("run", "--config=cats_vs_dogs", f"--data={data}", f"--root={root}", *QUICK, *settings)
    try:
        previous = STEPS[STEPS.index(step) - 1]
        assert process.stdout is not None
        seen = ""
        while f"{previous} " not in seen:
            line = process.stdout.readline()
            assert line, f"the run ended before {step}:\n{seen}"
            seen += line
        if step == "FeatureVectorGen":
            code, output = warmstart("run", "--config=cats_vs_dogs", f"--data={data}", f"--root={root}")
            assert code == 2
            assert "another run is active" in output
            assert f"process {process.pid}" in output
        time.sleep(1.0)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.mark.release
@pytest.mark.parametrize(
    "steps",
    [
        ("FeatureVectorGen", "FineTuning"),
        ("ImageExampleGen", "StatisticsGen", "FeatureVectorGen", "FineTuning", "Evaluator"),
    ],
    ids=["where_it_takes_longest", "in_five_steps"],
)
def test_killed_runs_are_taken_up_again(shaded, small, tmp_path, steps):
    root, data = tmp_path / "root", shaded
    for step in steps:
        kill_in(step, data, root, small)
        assert served(root) == []
    code, output, summary = run(data, root, *small)
    assert code == 0, output
    assert summary["status"] == "pushed"
    found = states(summary)
    assert found["FineTuning"] in ("complete", "cached")
    assert {found[name] for name in ("ImageExampleGen", "DataGate", "Transform", "FeatureVectorGen")} == {"cached"}
    assert len(served(root)) == 1
    # The runs that were killed are told of, and nothing is left running in the metadata.
    told = [json.loads(path.read_text()) for path in sorted((root / "reports").glob("*/summary.json"))]
    assert [one["status"] for one in told] == ["failed"] * len(steps) + ["pushed"]
    assert all("killed" in one["reason"] for one in told[:-1])

    with sqlite3.connect(root / "metadata.sqlite") as database:
        unfinished = database.execute("select count(*) from Execution where last_known_state in (1, 2)").fetchone()
    assert unfinished == (0,)


@pytest.mark.release
@pytest.mark.parametrize("step", ["ImageExampleGen", "FeatureVectorGen", "FeatureExtraction", "Evaluator", "Pusher"])
def test_a_disk_that_fills_up_fails_with_its_name_and_the_next_run_completes(shaded, small, tmp_path, step):
    """The summary and the page are written on the full disk: room for them was kept."""
    with small_disk(tmp_path / "disk", 700) as disk:
        root = disk / "root"
        arguments = ["run", "--config=cats_vs_dogs", f"--data={shaded}", f"--root={root}", *QUICK, *small]
        process, _ = start_until(f"{STEPS[STEPS.index(step) - 1]} ", *arguments)
        filled = fill(disk)
        output = process.communicate(timeout=600)[0]
        assert process.returncode == 1, output
        [report] = (root / "reports").iterdir()
        summary = json.loads((report / "summary.json").read_text())
        assert summary["status"] == "failed"
        assert "no space is left" in summary["reason"]
        assert "no space is left" in (report / "index.html").read_text()
        assert not (report / ".reserve").exists()
        assert served(root) == []
        filled.unlink()
        code, output, summary = run(shaded, root, *small)
        assert (code, summary["status"]) == (0, "pushed"), output
        done_before = STEPS[: STEPS.index(step)]
        assert {states(summary)[name] for name in done_before} <= {"cached", "complete"}
        assert states(summary)[done_before[0]] == "cached"


def test_a_run_that_finds_no_room_does_not_begin(sample, tmp_path):
    with small_disk(tmp_path / "disk", 16) as disk:
        code, output = warmstart(
            "run", "--config=cats_vs_dogs", f"--data={sample / 'cats_vs_dogs'}", f"--root={disk / 'root'}"
        )
        assert code == 2, output
        assert f"the disk of the root ({disk / 'root'}) has 17 MB free, and this run needs about " in output
        assert list((disk / "root" / "reports").iterdir()) == []


def test_all_files_corrupt_stops_the_run_and_lists_each(small, tmp_path):
    data = tmp_path / "data"
    for name in ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(os.urandom(300))
    code, output, summary = run(data, tmp_path / "root", *small)
    assert code == 2, output
    assert summary["status"] == "stopped"
    assert "all 3 files were rejected" in summary["reason"]
    assert [file["file_name"] for file in summary["data"]["rejected_files"]] == ["cat/1.jpg", "cat/2.jpg", "dog/1.jpg"]
    assert states(summary)["DataGate"] == "failed"
    assert states(summary)["Transform"] == "not_reached"


@pytest.mark.release
def test_every_corrupt_file_found_in_the_wild_is_read_or_listed(shared_data, small, tmp_path):
    data = tmp_path / "data"
    for folder in ("cat", "dog"):
        shutil.copytree(shared_data / "cats_vs_dogs" / folder, data / folder)
    corrupt = sorted((shared_data / "corrupt").iterdir())
    for file in corrupt:
        shutil.copy(file, data / "cat" / file.name)
    code, output, summary = run(data, tmp_path / "root", *small, "--to", "DataGate")
    assert code == 0, output
    rejected = {Path(file["file_name"]).name: file["reason"] for file in summary["data"]["rejected_files"]}
    assert sum(summary["data"]["accepted"].values()) + len(rejected) == 460 + len(corrupt) == 476
    assert rejected == {
        "PetImages_Cat_666.jpg": "empty",
        "PetImages_Dog_11702.jpg": "empty",
        "oxford_appledouble__trimaps.png": "apple_double",
    }
    assert {"BMP", "GIF", "PNG", "JPEG"} == set(summary["data"]["formats"])


@pytest.mark.release
def test_an_archive_of_any_feature_vector_and_any_class_folders(tiny_backbone, sample, tmp_path):
    data = tmp_path / "data"
    for i, photo in enumerate(sorted((sample / "cats_vs_dogs").glob("*/*.jpg"))):
        target = data / ("left", "right", "up")[i % 3] / photo.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, target)
    archive = shutil.make_archive(str(tmp_path / "module"), "gztar", tiny_backbone)
    code, output, _ = run(
        data,
        tmp_path / "root",
        f"--set=backbone.handle={archive}",
        "--set=image.size=32",
        "--set=release.minimum_accuracy=0",
        "--set=release.minimum_test_photos=0",
        "--set=data.max_rejected_fraction=0.2",
        config="image_folder",
    )
    assert code == 0, output
    labels = (root_serving(tmp_path) / "assets.extra" / "labels.txt").read_text().split()
    assert labels == ["left", "right", "up"]


def root_serving(tmp_path: Path) -> Path:
    (version,) = served(tmp_path / "root")
    return tmp_path / "root" / "serving" / version


@pytest.mark.release
def test_a_backbone_that_is_no_feature_vector_is_bad_input(pushed, shaded, tmp_path):
    import tensorflow as tf

    folder = tmp_path / "module"
    module = tf.Module()
    module.scale = tf.Variable(2.0)
    module.double = tf.function(lambda x: x * module.scale, [tf.TensorSpec([], tf.float32)])
    tf.saved_model.save(module, str(folder))
    root, *_ = pushed
    code, output, summary = run(shaded, root, f"--set=backbone.handle={folder}", "--set=image.size=32")
    assert code == 2, output
    assert summary["status"] == "stopped"
    assert re.search(r"expected a TF-Hub image feature vector", summary["reason"])


def test_without_a_terminal_the_output_is_plain_lines(pushed):
    output = pushed[2]
    assert "\x1b" not in output
    assert "\r" not in output
