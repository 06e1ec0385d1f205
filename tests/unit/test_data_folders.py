"""Where a run keeps everything, and what it may take over there."""

from __future__ import annotations

import pytest

from components.serving_folder.files import model_identity
from deploy import data_folders
from deploy.data_folders import default_root, refuse_other_classes, survey_data
from deploy.root import Root
from pipeline.config import load_config
from schemas.errors import BadInput
from schemas.release import Interval, Release


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("config", "data", "name"),
    [
        ("image_folder", ["flowers"], "flowers"),
        ("image_folder", ["/photos/My pets [2026]/"], "My_pets_2026"),
        ("cats_vs_dogs", ["/photos/PetImages/span-{SPAN}"], "PetImages"),
        ("cats_vs_dogs", ["/photos/{YYYY}-{MM}-{DD}"], "photos"),
        ("oxford_iiit_pet", ["gs://bucket/pets/"], "pets"),
        ("species", ["cats_vs_dogs=/a/cats", "oxford_iiit_pet=/b/pets"], "cats+pets"),
        # Of the same folder as the breeds, but another model.
        ("oxford_iiit_pet_masks", ["/photos/pets"], "pets-masks"),
        ("image_masks", ["/photos/cutouts"], "cutouts"),
    ],
)
def test_the_root_is_named_after_the_data(here, config, data, name):
    assert default_root(load_config(config, data=data)).folder == here / "runs" / name


def test_a_root_of_an_older_version_goes_on_being_used(here):
    config = load_config("image_folder", data=["flowers"])
    old = Root("runs/image_folder")
    old.prepare("image_folder")
    assert default_root(config).folder == old.folder
    Root("runs/flowers").prepare("image_folder")
    assert default_root(config).folder == here / "runs" / "flowers"


def photos(folder, *classes):
    for label in classes:
        (folder / label).mkdir(parents=True)
        for i in range(4):
            (folder / label / f"{label}{i}.jpg").write_bytes(b"a photo by its name")
    return folder


@pytest.fixture
def root(here):
    """In production: a model of cats and dogs."""
    root, model = Root(here / "root"), here / "model"
    (model / "assets.extra").mkdir(parents=True)
    (model / "saved_model.pb").touch()
    (model / "assets.extra" / "labels.txt").write_text("cat\ndog\n")
    root.prepare("image_folder")
    root.serving_folder().push(model, model_identity(model), Release(), None)
    return root


@pytest.mark.parametrize(
    ("classes", "settings", "passes"),
    [
        (["cat", "dog"], [], True),
        (["cat", "dog", "rabbit"], [], True),
        (["cat", "rabbit"], [], False),
        (["rose", "tulip"], [], False),
        (["rose", "tulip"], ["release.incomparable=floors"], True),
    ],
)
def test_photos_of_what_production_does_not_know_are_refused_before_anything_is_learnt(
    here, root, classes, settings, passes
):
    config = load_config("image_folder", settings, [str(photos(here / "photos", *classes))])
    if passes:
        refuse_other_classes(config, root, survey_data(config))
        return
    with pytest.raises(BadInput) as error:
        refuse_other_classes(config, root, survey_data(config))
    assert str(error.value) == (
        f"the model in production in {root.folder} knows cat, dog, but these photos show {', '.join(classes)}, so the "
        "two cannot be compared; give these photos a root of their own with --root, or set release.incomparable=floors "
        "to replace the model anyway"
    )


def test_a_span_may_have_one_class_of_those_that_production_knows(here, root):
    pattern = f"{here}/span-{{SPAN}}"
    photos(here / "span-1", "dog")
    config = load_config("image_folder", ["data.window=2", "data.settle_seconds=0"], [pattern])
    refuse_other_classes(config, root, survey_data(config))
    photos(here / "span-2", "rose")
    with pytest.raises(BadInput, match="these photos show rose"):
        refuse_other_classes(config, root, survey_data(config))


def test_masks_are_compared_with_production_by_the_classes_of_their_list(here, root):
    for name in ("images/a.jpg", "masks/a.png"):
        (here / "cutouts" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "cutouts" / name).write_bytes(b"a picture by its name")
    config = load_config("image_masks", data=["cutouts"])
    survey = survey_data(config)
    assert survey.classes is None
    refuse_other_classes(config, root, survey)  # only reading the masks tells
    (here / "cutouts" / "classes.txt").write_text("background\nleaf\n")
    survey = survey_data(config)
    assert survey.classes == {"background", "leaf"}
    with pytest.raises(BadInput, match=r"knows cat, dog, but these masks have background, leaf, so the two cannot be"):
        refuse_other_classes(config, root, survey)
    (here / "cutouts" / "classes.txt").write_text("dog\ncat\n")
    refuse_other_classes(config, root, survey_data(config))
    (here / "cutouts" / "classes.txt").write_text("dog\ncat\nrug\n")
    with pytest.raises(BadInput, match="these masks have cat, dog, rug"):
        refuse_other_classes(config, root, survey_data(config))
    config = load_config("image_masks", ["task.ignore=[rug]"], ["cutouts"])
    refuse_other_classes(config, root, survey_data(config))


@pytest.mark.parametrize("of_masks", [True, False])
def test_a_model_of_the_other_task_in_production_is_told_before_anything_is_learnt(here, root, of_masks):
    """Even where it knows the very same classes."""
    measured = Interval(value=0.9, low=0.8, high=1.0)
    metrics = {"accuracy": measured, **({"mean_iou": measured} if of_masks else {})}
    (here / "model" / "saved_model.pb").write_text("another")
    model, before = here / "model", int(root.production_version())
    root.serving_folder().push(model, model_identity(model), Release(metrics=metrics), before)
    for name in ("images/a.jpg", "masks/a.png"):
        (here / "cutouts" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "cutouts" / name).write_bytes(b"a picture by its name")
    of_photos = load_config("image_folder", data=[str(photos(here / "photos", "cat", "dog"))])
    cutouts = load_config("image_masks", data=["cutouts"])  # whose classes only reading tells
    its, ours = ("pixel", "photo") if of_masks else ("photo", "pixel")
    same, other = (cutouts, of_photos) if of_masks else (of_photos, cutouts)
    refuse_other_classes(same, root, survey_data(same))
    with pytest.raises(BadInput) as error:
        refuse_other_classes(other, root, survey_data(other))
    assert str(error.value).startswith(
        f"the model in production in {root.folder} gives a class for each {its} (cat, dog), but this run learns one "
        f"for each {ours}, so the two cannot be compared; give these photos a root of their own"
    )


def test_a_first_run_and_an_unknown_model_are_not_in_the_way(here, root):
    config = load_config("image_folder", data=[str(photos(here / "photos", "rose", "tulip"))])
    refuse_other_classes(config, Root(here / "new"), survey_data(config))
    (root.serving / "99999999999").mkdir()
    refuse_other_classes(config, root, survey_data(config))


def test_what_is_to_be_read_is_counted(here):
    config = load_config("image_folder", data=[str(photos(here / "photos", "rose", "tulip"))])
    survey = survey_data(config)
    assert (survey.photos, survey.photo_bytes) == (8, 8 * len(b"a photo by its name"))
    assert (survey.classes, survey.whole) == ({"rose", "tulip"}, True)


def test_a_stopped_span_is_named_with_the_ways_out(here):
    photos(here / "span-1", "cat", "dog")
    photos(here / "span-7", "cat", "dog")
    for settings in (["data.window=2"], []):
        config = load_config("image_folder", ["data.settle_seconds=0", *settings], [f"{here}/span-{{SPAN}}"])
        assert data_folders.ways_out(config) == (
            f"; it is span 7 in {here}/span-7, and renaming its folder leaves it out"
        )
    assert data_folders.ways_out(load_config("image_folder", data=[str(here / "span-1")])) == ""
