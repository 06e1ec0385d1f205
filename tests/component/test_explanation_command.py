"""The command explain: pictures and a page that say how they were made, and one sentence for every wrong input."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from components.example_gen.photo_rules import INPUT_FILE, PhotoRules, as_json
from components.serving_folder.files import model_identity
from deploy import cli
from deploy.root import Root
from pipeline.config import dump_config, load_config
from schemas.release import Release

tf = pytest.importorskip("tensorflow")


@pytest.fixture
def photos(tmp_path, drawn_photos, monkeypatch) -> Path:
    """A folder with three photos; the working directory is above it."""
    (tmp_path / "photos").mkdir()
    for i in range(3):
        (tmp_path / "photos" / f"{i}.jpg").write_bytes(drawn_photos[i].photo_bytes)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def explain(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.main, ["explain", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def refused(*arguments: str) -> str:
    """The one sentence; nothing was written."""
    code, output, errors = explain(*arguments)
    assert (code, output) == (2, "")
    assert len(errors.splitlines()) == 1
    assert errors.startswith("error: ")
    assert not Path("explanations").exists()
    return errors


def record_run(root: Root, run_id: str, models: dict[str, str]) -> None:
    """A run as TFX records it, with `models` (node -> SavedModel) as outputs."""
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2 as pb

    folder = root.reports / run_id
    folder.mkdir(parents=True)
    config = load_config("cats_vs_dogs", [], ["anywhere"])
    (folder / "config.yaml").write_text(dump_config(config))
    connection = pb.ConnectionConfig()
    connection.sqlite.filename_uri = str(root.metadata)
    connection.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    store = metadata_store.MetadataStore(connection)

    def context(kind: str, name: str) -> pb.Context:
        if known := store.get_context_by_type_and_name(kind, name):
            return known
        store.put_contexts([pb.Context(type_id=store.put_context_type(pb.ContextType(name=kind)), name=name)])
        return store.get_context_by_type_and_name(kind, name)

    names = [("pipeline", config.name), ("pipeline_run", run_id)]
    for node, model in models.items():
        uri = root.artifacts / node / "model" / run_id
        shutil.copytree(model, uri / "Format-Serving")
        execution = pb.Execution(
            type_id=store.put_execution_type(pb.ExecutionType(name=f"tfx.{node}")),
            last_known_state=pb.Execution.COMPLETE,
        )
        kind = store.put_artifact_type(pb.ArtifactType(name="Model"))
        artifact = pb.Artifact(type_id=kind, uri=str(uri), state=pb.Artifact.LIVE)
        event = pb.Event(type=pb.Event.OUTPUT)
        event.path.steps.add().key = "model"
        event.path.steps.add().index = 0
        contexts = [context(*name) for name in [*names, ("node", f"{config.name}.{node}")]]
        store.put_execution(execution, [(artifact, event)], contexts)


@pytest.fixture
def root(photos, exported_model, calibrated_model) -> Root:
    """A root with a run that trained both models, and a newer one that trained one of them."""
    root = Root("runs/cats_vs_dogs")
    root.prepare("cats_vs_dogs")
    record_run(root, "2026-01-01T00-00-00Z", {"FeatureExtraction": exported_model, "FineTuning": calibrated_model})
    record_run(root, "2026-01-02T00-00-00Z", {"FeatureExtraction": exported_model})
    return root


# ---- what is written


@pytest.mark.slow
@pytest.mark.release
def test_both_models_of_the_newest_run_that_has_them_are_explained_side_by_side(root):
    code, output, errors = explain("photos/0.jpg", "photos/1.jpg")
    assert (code, errors) == (0, "")
    rows = [re.split(r"  +", line) for line in output.splitlines()[:5]]
    assert rows[0] == ["photo", "model", "answer", "probability", "runner-up", "heat map by"]
    assert [(row[0], row[1], row[-1]) for row in rows[1:]] == [
        (f"photos/{i}.jpg", model, "Grad-CAM") for i in (0, 1) for model in ("feature extraction", "fine-tuned")
    ]
    for line in output.splitlines()[5:]:
        assert Path(line.split()[-1]).is_file()
    folder = Path("explanations")
    assert sorted(file.name for file in folder.iterdir()) == [
        ".warmstart",  # never read as photos
        *(
            f"{i}.{kind}.png"
            for i in (0, 1)
            for kind in ("feature_maps.feature_extraction", "feature_maps.fine_tuned", "heat_maps")
        ),
        "index.html",
    ]
    for file in folder.glob("*.png"):
        with Image.open(file) as picture:
            picture.load()
            assert picture.width > 300
    page = (folder / "index.html").read_text()
    assert page.count('src="data:image/jpeg;base64,') == 6
    assert "Grad-CAM (Selvaraju et al. 2017)" in page
    assert "Occlusion" not in page
    assert "2026-01-01T00-00-00Z" in page
    assert not re.search(r"https?:|<script|<link", page)
    assert set(re.findall(r'href="([^"#]+)"', page)) == {f.name for f in folder.glob("*.png")}


@pytest.mark.slow
@pytest.mark.release
def test_a_run_is_asked_for_by_its_name(root):
    code, output, _ = explain("photos/0.jpg", "--run", "2026-01-01T00-00-00Z", "--model", "fine_tuned", "--json")
    assert code == 0
    found = json.loads(output)
    [photo] = found["photos"]
    assert photo["model"] == "fine-tuned"
    assert photo["method"] == "Grad-CAM"
    assert {photo["label"], photo["runner_up"]} == {"cat", "dog"}
    assert photo["probability"] + photo["runner_up_probability"] == pytest.approx(1, abs=1e-5)
    assert all(Path(file).is_file() for file in [*found["pictures"], found["page"]])
    shutil.rmtree("explanations")
    error = refused("photos/0.jpg", "--run", "2026-01-02T00-00-00Z")
    assert "run 2026-01-02T00-00-00Z does not have both models on the disk" in error
    assert "there is no run 2027 in runs/cats_vs_dogs/reports; the newest is 2026-01-02T00-00-00Z" in refused(
        "photos/0.jpg", "--run", "2027"
    )


def test_the_model_in_production_is_explained(root, exported_model):
    serving = root.serving_folder()
    serving.push(exported_model, model_identity(exported_model), Release(), serving.production())
    code, output, _ = explain("photos/0.jpg", "--model", "production", "--root", root.folder)
    assert code == 0
    assert re.search(r"photos/0.jpg +production +(cat|dog) .* Grad-CAM", output)


@pytest.mark.slow
@pytest.mark.release
def test_a_model_whose_layers_cannot_be_reached_is_said_to_be(photos, older_model):
    code, output, errors = explain("photos/0.jpg", "--model", older_model)
    assert (code, errors) == (0, "")
    why = "Grad-CAM needs its layers, which cannot be reached: it accepts only encoded photos, not pixels"
    assert f"by occlusion. {why}" in output
    assert "no feature maps, because its layers cannot be reached" in output
    assert sorted(file.name for file in Path("explanations").glob("[!.]*")) == ["0.heat_maps.png", "index.html"]
    page = Path("explanations/index.html").read_text()
    assert why in page
    assert "Occlusion (Zeiler and Fergus 2014)" in page
    assert "Grad-CAM (Selvaraju" not in page


def test_a_method_can_be_asked_for(photos, exported_model):
    code, output, _ = explain("photos/0.jpg", "--model", exported_model, "--method", "integrated-gradients")
    assert code == 0
    assert output.splitlines()[1].endswith("integrated gradients")


@pytest.mark.slow
@pytest.mark.release
def test_layers_are_listed_and_chosen(photos, exported_model, older_model):
    code, output, _ = explain("--list-layers", "--model", exported_model)
    assert code == 0
    assert [line.split()[0] for line in output.splitlines()[2:]] == [
        "stem_conv",
        "stem_bn",
        "stem_activation",
        "top_conv",
        "top_bn",
        "top_activation",
    ]
    assert output.splitlines()[-1].split() == ["top_activation", "8", "x", "8", "8", "Grad-CAM"]
    listed = json.loads(explain("--list-layers", "--json", "--model", older_model)[1])
    assert (listed[0]["layers"], listed[0]["unreachable"][:16]) == ([], "it accepts only encoded photos")
    code, _, _ = explain("photos/0.jpg", "--model", exported_model, "--layers", "conv$")
    assert code == 0
    assert "Feature maps of 2 layers" in Path("explanations/index.html").read_text()


def test_what_excites_channels_is_drawn_without_a_photo(photos, exported_model, monkeypatch):
    from components.explanation import layers

    monkeypatch.setattr(layers.channel_images, "__defaults__", (6,))  # steps
    code, output, _ = explain("--filters", "top_activation", "--model", exported_model)
    assert code == 0
    [file] = Path("explanations").glob("top_activation.channels.*.png")
    assert file.name in output
    assert "gradient ascent" in Path("explanations/index.html").read_text()


def test_photos_of_one_name_get_pictures_of_their_own(photos, exported_model):
    (photos / "b").mkdir()
    shutil.copy(photos / "1.jpg", photos / "b" / "0.jpg")
    code, _, _ = explain("photos/0.jpg", "photos/b/0.jpg", "--model", exported_model)
    assert code == 0
    assert {"0.heat_maps.png", "0-2.heat_maps.png"} <= {file.name for file in Path("explanations").iterdir()}


def test_names_are_shown_as_text_whatever_they_hold(photos, exported_model):
    name = "<script>alert('x')</script>&quot; \u202e\u0645\u0631\u062d\u0628\u0627 " + "x" * 120 + ".jpg"
    os.rename(photos / "0.jpg", photos / name.replace("/", "_"))
    os.rename(photos / "1.jpg", os.fsencode(photos) + b"/\xff\xfe.jpg")
    code, _, errors = explain("photos", "--model", exported_model)
    assert (code, errors) == (0, "")
    assert "<script>" not in Path("explanations/index.html").read_text()
    assert "&lt;script&gt;" in Path("explanations/index.html").read_text()
    assert all(re.fullmatch(r"[\w.-]{1,100}", file.name, re.ASCII) for file in Path("explanations").iterdir())


def test_of_many_photos_the_page_shows_the_files_beside_it(photos, exported_model, monkeypatch):
    from components.explanation import page

    monkeypatch.setattr(page, "MOST_EMBEDDED", 2)
    assert explain("photos", "--model", exported_model)[0] == 0
    text = Path("explanations/index.html").read_text()
    assert "data:image" not in text
    assert 'src="2.heat_maps.png"' in text


def test_a_webp_is_explained_where_the_model_s_rules_allow_it(photos, exported_model, tmp_path):
    Image.open(photos / "0.jpg").save(photos / "犬.webp")
    result = CliRunner(charset="latin-1").invoke(cli.main, ["explain", "photos/犬.webp", "--model", exported_model])
    assert result.exit_code == 0
    assert r"photos/\u72ac.webp" in result.stdout
    strict = tmp_path / "strict"
    shutil.copytree(exported_model, strict)
    (strict / INPUT_FILE).write_text(as_json(PhotoRules(convert=False)))
    code, _, errors = explain("photos/犬.webp", "--model", exported_model, "--model", strict)
    assert code == 2
    assert errors.startswith("error: photos/犬.webp is in WebP format; supported formats are")


# ---- what is wrong


def test_bad_files_are_named_with_their_reasons_and_the_others_explained(photos, exported_model):
    (photos / "notes.jpg").write_text("cats are nice")
    (photos / "cut.jpg").write_bytes((photos / "0.jpg").read_bytes()[:300])
    code, output, errors = explain("photos", "absent.jpg", "--model", exported_model)
    assert code == 2
    assert [line.split()[0] for line in output.splitlines()[1:4]] == [f"photos/{i}.jpg" for i in range(3)]
    assert errors.splitlines() == [
        "error: photos/cut.jpg is a truncated JPEG; copy it again.",
        "error: photos/notes.jpg is a text file, not an image; supported formats are JPEG, PNG, GIF, BMP, "
        "and with data.convert also WebP, TIFF, AVIF, HEIC.",
        "error: absent.jpg cannot be read: No such file or directory.",
        "3 of 6 photos were explained",
    ]
    assert "is a text file, not an image" in Path("explanations/index.html").read_text()


def test_nothing_but_bad_files_leaves_no_page(photos, exported_model):
    code, output, errors = explain("absent.jpg", "--model", exported_model)
    assert (code, output) == (2, "")
    assert errors.splitlines()[-1] == "0 of 1 photos were explained"
    assert not Path("explanations/index.html").exists()


def test_wrong_models_are_answered_in_one_sentence(photos, exported_model, tmp_path):
    assert "photos is not a SavedModel: it has no saved_model.pb; expected the folder of a model" in refused(
        "photos/0.jpg", "--model", "photos"
    )
    assert "--model fine-tuned is neither a folder nor one of production, feature_extraction, fine_tuned" in refused(
        "photos/0.jpg", "--model", "fine-tuned"
    )
    assert "there is no root folder below" in refused("photos/0.jpg")
    damaged = shutil.copytree(exported_model, tmp_path / "damaged")
    (damaged / "saved_model.pb").write_bytes(b"x" * 50)
    assert "is damaged and cannot be loaded" in refused("photos/0.jpg", "--model", damaged)
    stranger = tmp_path / "stranger"
    tf.saved_model.save(tf.Module(), str(stranger))
    assert "was not exported by warmstart" in refused("photos/0.jpg", "--model", stranger)
    root = Root("runs/empty")
    root.prepare("cats_vs_dogs")
    assert "nothing is in production in" in refused("photos/0.jpg", "--model", "production")
    assert "runs/empty has no metadata.sqlite" in refused("photos/0.jpg")
    assert "--run was given without a model of a run" in refused(
        "photos/0.jpg", "--model", exported_model, "--run", "x"
    )


def test_wrong_wishes_are_answered_in_one_sentence(photos, exported_model, older_model):
    model = ["--model", exported_model]
    assert "no photo was given" in refused(*model)
    assert "no layer matches 'stem_activatoin'; the nearest of 6 are stem_activation, " in refused(
        "photos/0.jpg", *model, "--layers", "stem_activatoin"
    )
    assert "is not a valid regular expression" in refused("photos/0.jpg", *model, "--layers", "(")
    assert "6 layers match '.'" in refused("--filters", ".", *model)
    assert "layers cannot be reached: it accepts only encoded photos" in refused(
        "photos/0.jpg", "--layers", "x", "--model", older_model
    )
    Path("file").touch()
    assert "file cannot be written (File exists); choose another folder with --out" in refused(
        "photos/0.jpg", *model, "--out", "file"
    )
    code, _, errors = explain("photos/0.jpg", "--method", "grad-cam", "--model", older_model)
    assert code == 2
    assert errors.startswith("error: Grad-CAM needs the model's layers, which cannot be reached: it accepts only")
