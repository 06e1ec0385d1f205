"""`warmstart run DIR`: which configuration is meant where none is named, and that it is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy import config_choice
from deploy.cli import main
from deploy.root import Root
from samples.sample_photos import write_sample_photos
from schemas.errors import BadInput

CATS_AND_DOGS, PETS = "cats and dogs; using --config cats_vs_dogs", "Oxford-IIIT Pets; using --config oxford_iiit_pet"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def flowers(here) -> str:
    """A folder of class folders that no data set knows."""
    write_sample_photos(here / "drawn", photos=24, seed=1)
    (here / "drawn" / "cats_vs_dogs").rename(here / "flowers")
    (here / "flowers" / "cat").rename(here / "flowers" / "rose")
    return "flowers"


@pytest.fixture
def sample(here) -> str:
    write_sample_photos(here / "sample", photos=24, seed=1)
    return "sample"


def chosen(*data: str, name: str | None = None) -> tuple[str, str, list[str]]:
    """Name of the configuration, of the one that was loaded, and what was said."""
    said: list[str] = []
    found, config = config_choice.choose_config(name, data, (), said.append)
    return found, config.name, said


def test_any_folder_of_class_folders_is_an_image_folder(flowers):
    assert chosen(flowers) == ("image_folder", "image_folder", [])


@pytest.mark.parametrize(("folder", "looks_like"), [("cats_vs_dogs", CATS_AND_DOGS), ("oxford_iiit_pet", PETS)])
def test_a_known_layout_is_recognised_and_said(sample, folder, looks_like):
    assert chosen(f"sample/{folder}") == (folder, folder, [f"sample/{folder} looks like {looks_like}"])
    Path("wrapped").mkdir()
    Path("sample", folder).rename(Path("wrapped", folder))
    assert chosen("wrapped") == (folder, folder, [f"wrapped looks like {looks_like}"])


def test_photos_with_masks_are_recognised_and_said(sample):
    images, trimaps = Path("sample/oxford_iiit_pet/images"), Path("sample/oxford_iiit_pet/annotations/trimaps")
    for inside in (Path("cutouts"), Path("cutouts/train")):
        inside.mkdir()
        shutil.copytree(images, inside / "images")
        shutil.copytree(trimaps, inside / "masks")
        said = ["cutouts looks like photos with masks; using --config image_masks"]
        assert chosen("cutouts") == ("image_masks", "image_masks", said)
        shutil.rmtree(inside / "images")
        shutil.rmtree(inside / "masks")
    # Its trimaps alone do not make the data set of breeds one of masks.
    assert chosen("sample/oxford_iiit_pet")[0] == "oxford_iiit_pet"


def test_a_configuration_that_is_named_is_not_questioned(sample):
    assert chosen("sample/cats_vs_dogs", name="image_folder") == ("image_folder", "image_folder", [])


def test_a_name_of_tensorflow_datasets_tells_the_configuration():
    assert chosen("tfds:oxford_iiit_pet") == (
        "oxford_iiit_pet", "oxford_iiit_pet", [f"tfds:oxford_iiit_pet looks like {PETS}"]
    )  # fmt: skip


def test_of_a_pattern_of_spans_nothing_is_guessed(sample):
    """The next span may look otherwise, and a root keeps to one configuration."""
    Path("sample/cats_vs_dogs").rename("sample/span-1")
    assert chosen("sample/span-{SPAN}") == ("image_folder", "image_folder", [])


def test_a_data_set_s_name_is_that_of_its_configuration(flowers):
    assert chosen("cats_vs_dogs=flowers") == ("cats_vs_dogs", "cats_vs_dogs", [])


@pytest.mark.parametrize("data", [[], ["a", "b"], ["cats_vs_dogs=a", "oxford_iiit_pet=b"]])
def test_several_folders_need_a_configuration(data):
    with pytest.raises(BadInput, match="without --config; expected a single folder, or --config"):
        chosen(*data)


def test_a_folder_that_is_not_there_is_told():
    with pytest.raises(BadInput, match="nowhere does not exist"):
        chosen("nowhere")


# ---- on the command line


def warmstart(*words: str):
    return CliRunner().invoke(main, list(words))


@pytest.mark.parametrize("command", ["run", "retrain"])
def test_run_and_retrain_take_a_folder_and_say_what_it_looks_like(sample, command):
    Path("runs").mkdir()
    Path("runs/cats_vs_dogs").write_text("no folder, so that nothing slow begins")
    result = warmstart(command, "sample/cats_vs_dogs")
    assert result.exit_code == 2
    assert "cats_vs_dogs cannot be written" in result.stderr


def test_run_without_photos_says_what_is_missing():
    result = warmstart("run")
    assert result.exit_code == 2
    assert "Missing argument 'DIR'" in result.stderr


def test_a_schedule_names_the_configuration_for_every_night(sample):
    words = ["schedule", "sample/oxford_iiit_pet", "--cron", "0 3 * * *", "--print"]
    result = warmstart(*words)
    assert result.exit_code == 0, result.output
    assert " retrain --config oxford_iiit_pet --data oxford_iiit_pet=" in result.stdout
    assert result.stderr.startswith(f"sample/oxford_iiit_pet looks like {PETS}\n")


def test_inspect_says_how_to_train(sample, flowers):
    assert warmstart("inspect", flowers).stdout.splitlines()[-1] == "to train on it: warmstart run flowers"
    *_, looks_like, train = warmstart("inspect", "sample/cats_vs_dogs", "--set", "image.size=64").stdout.splitlines()
    assert looks_like == f"sample/cats_vs_dogs looks like {CATS_AND_DOGS}"
    assert train == "to train on it: warmstart run sample/cats_vs_dogs --set image.size=64"
    named = warmstart("inspect", "sample/cats_vs_dogs", "--config", "image_folder").stdout.splitlines()
    assert named[-1] == "to train on it: warmstart run sample/cats_vs_dogs --config image_folder"


def test_inspect_gives_a_program_one_document(sample):
    result = warmstart("inspect", "sample/oxford_iiit_pet", "--json")
    assert [one["dataset"] for one in json.loads(result.stdout)] == ["oxford_iiit_pet"]


def test_a_root_keeps_to_the_configuration_that_it_began_with(sample):
    Root("runs/cats_vs_dogs").prepare("image_folder")
    result = warmstart("run", "sample/cats_vs_dogs")
    assert result.exit_code == 2
    assert "belongs to the pipeline 'image_folder'" in result.stderr
