"""`warmstart.load` and `Model.predict`: the answers that the command prints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import warmstart
from components.serving_folder.files import model_identity
from deploy import cli
from deploy.prediction import for_programs
from deploy.root import Root
from schemas.release import Release


@pytest.fixture
def photos(tmp_path, drawn_photos, monkeypatch) -> Path:
    """A folder of photos below the working directory."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in drawn_photos[:6]:
        (folder / photo.name).write_bytes(photo.photo_bytes)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def root(tmp_path, exported_model) -> Root:
    """The only root below `runs/`, with two versions."""
    root = Root(tmp_path / "runs" / "photos")
    root.prepare("image_folder")
    for name in ("first", "second"):
        folder = tmp_path / name
        shutil.copytree(exported_model, folder)
        (folder / "assets.extra" / name).touch()
        root.serving_folder().push(
            folder, model_identity(folder), Release(), root.serving_folder().production(), force_push="test"
        )
    return root


def test_the_answers_are_those_of_the_command(photos, root):
    (photos / "notes.jpg").write_text("no photo")
    asked = ["photos/cat.0.jpg", "photos", "absent.jpg"]
    model = warmstart.load()
    answers = model.predict(asked)
    result = CliRunner().invoke(cli.main, ["predict", *asked, "--json"])
    assert [for_programs(answer) for answer in answers] == json.loads(result.stdout)
    assert len(answers) == 9
    assert [bool(answer.error) for answer in answers].count(True) == 2
    assert answers[-1].reason == "unreadable"
    first = answers[0]
    assert isinstance(first, warmstart.Answer)
    assert first.probabilities is not None
    assert first.probability == max(first.probabilities.values()) == first.probabilities[first.label]
    assert first.mask is None


def test_one_path_and_a_path_object_are_enough(photos, root):
    model = warmstart.load(root.folder)
    [answer] = model.predict("photos/cat.0.jpg")
    assert model.predict(Path("photos/cat.0.jpg")) == [answer]
    assert model.predict([]) == []
    Path("empty").mkdir()
    with pytest.raises(warmstart.BadInput, match="no photos found"):
        model.predict("empty")


def test_a_version_or_a_folder_can_be_loaded(photos, root, exported_model):
    first, second = root.serving_folder().versions()
    assert warmstart.load().version == second
    older = warmstart.load(root.folder, version=first)
    assert (older.version, older.folder) == (first, root.serving / str(first))
    other = warmstart.load(model=Path(exported_model))
    assert (other.version, other.labels, other.gives_masks) == (None, ("cat", "dog"), False)
    assert repr(other) == f"Model(folder={other.folder!r}, version=None, labels=('cat', 'dog'), gives_masks=False)"
    with pytest.raises(warmstart.BadInput, match=f"version 17 .* {first}"):
        warmstart.load(root.folder, version=17)


def test_a_model_of_masks_gives_a_class_for_each_pixel(photos, exported_segmenter):
    from PIL import Image

    model = warmstart.load(model=exported_segmenter)
    assert (model.gives_masks, model.labels) == (True, ("pet", "background", "border"))
    [answer] = model.predict("photos/dog.1.jpg")
    width, height = Image.open("photos/dog.1.jpg").size
    assert answer.mask is not None
    assert answer.shares is not None
    assert (answer.mask.shape, answer.mask.dtype) == ((height, width), np.uint8)
    for i, label in enumerate(model.labels):
        assert answer.shares[label] == pytest.approx((answer.mask == i).mean(), abs=0.02)
    assert "mask_png" not in repr(answer)
