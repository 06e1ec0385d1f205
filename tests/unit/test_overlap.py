"""Folders that are read and written lie apart, and what is written is never read."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy import data_folders
from deploy.cli import main
from deploy.overlap import refuse_overlap, refuse_pattern
from deploy.root import Root
from pipeline.config import load_config
from schemas.errors import BadInput


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.jpg").write_bytes(name.encode())
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("inner", "says"),
    [("", r"the folder of the root \(.*\) is the same as that of"),
     ("/runs/x", r"the folder of the root \(.*\) is inside that of"),
     ("/..", r"the folder of the photos of image_folder \(.*\) is inside that of the root")],
)  # fmt: skip
def test_a_root_and_photos_in_each_other_are_refused_and_nothing_is_made(photos, inner, says):
    before = sorted(photos.parent.rglob("*"))
    config = load_config("image_folder", data=[str(photos)])
    with pytest.raises(BadInput, match=says + r".*; choose another root with --root"):
        data_folders.check_places(config, Root(f"{photos}{inner}"))
    assert sorted(photos.parent.rglob("*")) == before


def test_a_link_hides_nothing(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(BadInput, match="is inside that of"):
        data_folders.check_places(load_config("image_folder", data=[str(tmp_path / "link")]), Root(photos / "runs"))


def test_folders_side_by_side_are_fine(photos, tmp_path):
    data_folders.check_places(load_config("image_folder", data=[str(photos)]), Root(tmp_path / "photos2"))
    refuse_overlap({"a": "/x/photos", "b": "gs://x"}, {"c": "/x/photos2"})


@pytest.mark.parametrize(("root", "refused"), [("span-1/runs", True), ("runs", False), ("span-1", True), ("..", True)])
def test_a_root_in_a_span_is_refused_and_beside_the_spans_it_is_fine(photos, tmp_path, root, refused):
    (tmp_path / "all").mkdir()
    photos.rename(tmp_path / "all" / "span-1")
    config = load_config("image_folder", data=[f"{tmp_path}/all/span-{{SPAN}}"])
    place = Root(os.path.normpath(tmp_path / "all" / root))
    if refused:
        with pytest.raises(BadInput, match="the root"):
            data_folders.check_places(config, place)
    else:
        data_folders.check_places(config, place)


def test_photos_to_evaluate_on_lie_apart_from_those_to_learn_from(photos, tmp_path):
    config = load_config(
        "image_folder", [f"evaluation.further={{image_folder: {photos}/cat}}", "evaluation.further_label=label"],
        [str(photos)],
    )  # fmt: skip
    with pytest.raises(BadInput, match=r"the photos to evaluate on of image_folder .* is inside that of the photos"):
        data_folders.check_places(config, Root(tmp_path / "root"))


@pytest.mark.parametrize("sign", list("*?["))
def test_a_root_that_would_be_read_as_a_pattern_is_refused(sign):
    with pytest.raises(BadInput) as error:
        refuse_pattern("the root folder", f"/r{sign}v2]")
    assert f"the path of the root folder, /r{sign}v2], contains {sign}, which Apache Beam reads as a pattern" in str(
        error.value
    )
    refuse_pattern("the root folder", "/r @home, 100% {x} ü #1")


@pytest.mark.parametrize("command", ["run", "retrain"])
def test_both_are_told_before_anything_is_made(photos, command, monkeypatch):
    monkeypatch.chdir(photos)
    before = sorted(photos.rglob("*"))
    result = CliRunner().invoke(main, [command, "--config=image_folder", "--data=."])
    assert (result.exit_code, sorted(photos.rglob("*"))) == (2, before)
    assert "is inside that of the photos of image_folder" in result.output
    result = CliRunner().invoke(main, [command, "--config=image_folder", "--data=.", f"--root={photos}/../[v2]"])
    assert (result.exit_code, sorted(photos.parent.rglob("*"))) == (2, [photos, *before])
    assert "contains [, which" in result.output


def test_what_a_run_wrote_is_never_read_as_photos(photos):
    Root(photos.parent / "runs" / "mine").prepare("mine")
    (photos.parent / "runs" / "mine" / "x.png").write_bytes(b"x")
    result = CliRunner().invoke(main, ["inspect", str(photos.parent)])
    assert "photos: 2 photos" not in result.output
    assert "runs/mine, written by warmstart" in result.output
    assert result.output.startswith(f"{photos.parent}: 2 photos of 2 classes (cat 1, dog 1)\n")


def test_a_folder_that_held_things_before_is_not_marked(photos):
    Root(photos).prepare("mine")  # by whomever calls it without asking first
    assert not (photos / ".warmstart").exists()
