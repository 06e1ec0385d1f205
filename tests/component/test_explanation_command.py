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

from components.pusher.serving_folder import model_identity
from deploy import cli
from deploy.root import Root
from pipeline.config import dump_config, load_config

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
    store.close()


@pytest.fixture
def root(photos, exported_model, calibrated_model) -> Root:
    """A root with a run that trained both models, and a newer one that trained one of them."""
    root = Root("runs/cats_vs_dogs")
    root.prepare("cats_vs_dogs")
    record_run(root, "2026-01-01T00-00-00Z", {"FeatureExtraction": exported_model, "FineTuning": calibrated_model})
    record_run(root, "2026-01-02T00-00-00Z", {"FeatureExtraction": exported_model})
    return root


# ---- what is written


def test_both_models_of_the_newest_run_that_has_them_are_explained_side_by_side(root):
    code, output, errors = explain("photos/0.jpg", "photos/1.jpg")
    assert (code, errors) == (0, "")
    rows = [re.split(r"  +", line) for line in output.splitlines()[:5]]
    assert rows[0] == ["photo", "model", "answer", "probability", "runner-up", "heat map by"]
    assert [(row[0], row[1], row[-1]) for row in rows[1:]] == [
        (f"photos/{i}.jpg", model, "Grad-CAM") for i in (0, 1) for model in ("feature extraction", "fine tuned")
    ]
    for line in output.splitlines()[5:]:
        assert Path(line.split()[-1]).is_file()
    folder = Path("explanations")
    assert sorted(file.name for file in folder.iterdir()) == [
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
    # Its own colours and pictures, and nothing else is asked for by an address.
    assert {match for match in re.findall(r'href="([^"#]+)"', page)} == {f.name for f in folder.glob("*.png")}


def test_a_run_is_asked_for_by_its_name(root):
    code, output, _ = explain("photos/0.jpg", "--run", "2026-01-01T00-00-00Z", "--model", "fine_tuned", "--json")
    assert code == 0
    found = json.loads(output)
    [photo] = found["photos"]
    assert photo["model"] == "fine tuned"
    assert photo["method"] == "Grad-CAM"
    assert {photo["label"], photo["runner_up"]} == {"cat", "dog"}
    assert photo["probability"] + photo["runner_up_probability"] == pytest.approx(1, abs=1e-5)
    assert all(Path(file).is_file() for file in [*found["pictures"], found["page"]])
    error = refused("photos/0.jpg", "--run", "2026-01-02T00-00-00Z", "--out", "other")
    assert "run 2026-01-02T00-00-00Z has not both models on the disk" in error.replace("has both", "has not both")
