"""`predict`, `explain` and `serve` with a model that gives a class for each pixel."""

import base64
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from deploy import cli
from deploy.mask_files import refuse_same_stem
from schemas.errors import BadInput
from tests.component.test_serve import Server, b64

tf = pytest.importorskip("tensorflow")

LABELS = ["pet", "background", "border"]


def warmstart(command: str, *arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.main, [command, *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def photos(tmp_path, drawn_photos, odd_photos, monkeypatch):
    """Three photos, one of them turned by its EXIF, and the model's own answers by file name."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, photo in (
        ("a.jpg", drawn_photos[0].photo_bytes),
        ("b.png", drawn_photos[2].photo_bytes),
        ("turned.jpg", odd_photos["turned_jpeg"]),
    ):
        (folder / name).write_bytes(photo)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def answers(photos, exported_segmenter):
    signature = tf.saved_model.load(exported_segmenter).signatures["serving_default"]
    files = sorted(photos.iterdir())
    said = signature(image_bytes=tf.constant([file.read_bytes() for file in files]))
    ids = [tf.io.decode_png(png).numpy()[..., 0] for png in said["mask_png_bytes"].numpy()]
    return {
        file.name: (mask, share) for file, mask, share in zip(files, ids, said["class_shares"].numpy(), strict=True)
    }


def test_masks_are_written_with_a_palette_that_holds_ids(photos, answers, exported_segmenter):
    code, out, err = warmstart("predict", photos, "--model", exported_segmenter, "--masks", "masks", "--overlays")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 3
    for name, (ids, _) in answers.items():
        stem = name.partition(".")[0]
        mask = Image.open(photos.parent / "masks" / f"{stem}.mask.png")
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.array(mask), ids)
        assert mask.getpalette()[:9] == [230, 159, 0, 0, 0, 0, 0, 158, 115]
        overlay = Image.open(photos.parent / "masks" / f"{stem}.overlay.jpg")
        assert overlay.size == mask.size
    width, height = Image.open(photos / "turned.jpg").size
    assert answers["turned.jpg"][0].shape == (width, height)  # upright, as everybody sees it
    assert len(list((photos.parent / "masks").iterdir())) == 6


def test_the_shares_are_printed_and_a_hint_without_a_folder(photos, answers, exported_segmenter):
    code, out, err = warmstart("predict", photos / "a.jpg", "--model", exported_segmenter)
    assert code == 0
    shares = answers["a.jpg"][1]
    for label, share in zip(LABELS, shares, strict=True):
        assert (f"{label} {share:.1%}" in out) == (share > 0)
    assert err == "only the shares of the classes are shown; --masks DIR writes the masks\n"
    assert not (photos.parent / "masks").exists()


def test_programs_get_shares_and_paths(photos, answers, exported_segmenter):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    code, out, err = warmstart("predict", photos, "--model", exported_segmenter, "--masks", "masks", "--json")
    assert code == 2
    assert "3 of 4 files were answered" in err
    by_file = {each["file"].rpartition("/")[2]: each for each in json.loads(out)}
    assert by_file["broken.jpg"].keys() == {"file", "reason", "error"}
    assert by_file["b.png"] == {
        "file": str(photos / "b.png"),
        "shares": dict(zip(LABELS, map(float, answers["b.png"][1]), strict=True)),
        "mask": "masks/b.mask.png",
    }
    assert sorted(path.name for path in (photos.parent / "masks").iterdir()) == [
        "a.mask.png",
        "b.mask.png",
        "turned.mask.png",
    ]


def test_two_photos_with_one_name_are_refused_before_anything_is_written(photos, exported_segmenter):
    (photos / "more").mkdir()
    (photos / "more" / "A.png").write_bytes((photos / "b.png").read_bytes())
    code, _, err = warmstart("predict", photos, "--model", exported_segmenter, "--masks", "masks")
    assert code == 2
    assert "would both be masks/" in err
    assert "nothing was written: ask about them separately, with a folder for each" in err
    assert not (photos.parent / "masks").exists()
    refuse_same_stem(["a/cat.jpg", "a/cat.1.jpg"], photos)
    with pytest.raises(BadInput, match=r"the masks of a/cat.jpg and b/cat.png would both be"):
        refuse_same_stem(["a/cat.jpg", "b/cat.png"], photos)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--overlays"], "--overlays was given without --masks; expected --masks DIR, the folder for both"),
        (["--masks", "photos/masks"], "so one would be read as part of the other"),
        (["--masks", "file"], "--masks file"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(photos, exported_segmenter, arguments, said):
    (photos.parent / "file").write_text("")
    code, _, err = warmstart("predict", photos, "--model", exported_segmenter, *arguments)
    assert code == 2
    assert said in err


def test_a_classifier_writes_no_masks(photos, exported_model):
    code, _, err = warmstart("predict", photos, "--model", exported_model, "--masks", "masks")
    assert code == 2
    assert "gives a class for each photo and no masks; leave out --masks" in err
    assert not (photos.parent / "masks").exists()


def test_explain_says_that_it_does_not(photos, exported_segmenter):
    code, _, err = warmstart("explain", photos / "a.jpg", "--model", exported_segmenter)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "gives a class for each pixel, which cannot be explained yet" in err


@pytest.fixture(scope="module")
def server(exported_segmenter):
    started = Server("--model", exported_segmenter)
    yield started
    assert started.stop() == 0
    assert not [note for note in started.notes if "Traceback" in note], started.notes


def test_the_server_answers_with_a_mask_for_the_page_and_all_of_it_for_programs(server, photos, answers):
    photo = (photos / "turned.jpg").read_bytes()
    ids, shares = answers["turned.jpg"]
    answer = server.ask("POST", "/answer", photo).json
    assert answer.keys() == {"shares", "colours", "mask", "version"}
    assert answer["shares"] == pytest.approx(dict(zip(LABELS, map(float, shares), strict=True)))
    assert answer["colours"] == {"pet": "#e69f00", "background": None, "border": "#009e73"}
    beginning, _, encoded = answer["mask"].partition(",")
    assert beginning == "data:image/png;base64"
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(base64.b64decode(encoded)))), ids)

    [row] = server.ask("POST", "/v1/models/model:predict", {"instances": [b64(photo)]}).json["predictions"]
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(base64.b64decode(row["mask_png_bytes"]["b64"])))), ids)
    tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [b64(photo)["b64"]]}
    outputs = server.ask("POST", "/v2/models/model/infer", {"inputs": [tensor]}).json["outputs"]
    [png] = next(each["data"] for each in outputs if each["name"] == "mask_png_bytes")
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(base64.b64decode(png)))), ids)
