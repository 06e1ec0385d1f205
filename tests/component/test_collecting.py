"""`serve --collect`: which photos are kept, and what the page says of it."""

from __future__ import annotations

import base64
import contextlib
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import components  # noqa: F401  (settings that TensorFlow reads on import)
from deploy.collection import Collection, CollectionLimits
from deploy.serve.application import Application, Limits
from tests.browser.serving import LABELS, ColourModel

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # httpx is what there is
    from starlette.testclient import TestClient

ADDRESS = "http://127.0.0.1:8501"


def jpeg(red: int, blue: int, seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).normal(np.array([red, 60, blue]), 10, (60, 80, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


SURE, CLOSE, DARK = jpeg(220, 30), jpeg(120, 110), jpeg(25, 5, seed=1)


class Pets(ColourModel):
    name = "pets"


@contextlib.contextmanager
def server(folder: Path | None, token: str = "", notes: list[str] | None = None, **limits):
    collection = Collection(folder, CollectionLimits(**limits)) if folder else None
    note = (notes if notes is not None else []).append
    application = Application(Pets(), Limits(), not token, note, collection, token)
    with TestClient(application.asgi, ADDRESS) as client:
        yield client


def names(folder: Path) -> set[str]:
    return {photo.label for photo in Collection(folder).photos()}


def test_nothing_is_kept_unless_it_is_asked_for(tmp_path):
    with server(None) as client:
        assert client.post("/answer", content=CLOSE).status_code == 200
        assert client.get("/model").json()["keeps_unsure_photos"] is False
        assert 'id="keeps">and it keeps none<' in client.get("/").text
    assert list(tmp_path.iterdir()) == []


def test_photos_that_the_model_is_not_sure_of_are_kept_with_its_answers(tmp_path):
    folder = tmp_path / "unsure"
    instances = [{"b64": base64.b64encode(photo).decode()} for photo in (SURE, DARK)]
    with server(folder) as client:
        assert client.get("/model").json()["keeps_unsure_photos"] is True
        assert client.post("/answer", content=CLOSE).json()["abstains"] is False
        assert client.post("/answer", content=CLOSE).status_code == 200
        reply = client.post("/v1/models/pets:predict", json={"instances": instances})
        assert [row["abstains"] for row in reply.json()["predictions"]] == [False, True]
        assert client.post("/answer", content=b"no photo").status_code == 400
    dark, close = sorted(Collection(folder).photos(), key=lambda photo: not photo.abstains)
    assert (folder / close.file).read_bytes() == CLOSE
    assert (folder / dark.file).read_bytes() == DARK
    assert close.probabilities.keys() == set(LABELS)
    assert close.version == ColourModel.current.number
    assert close.probability == pytest.approx(max(close.probabilities.values()))


def test_the_limits_hold(tmp_path):
    with server(tmp_path / "few", photos=1) as client:
        for seed in range(4):
            assert client.post("/answer", content=jpeg(120, 115, seed)).status_code == 200
    assert len(Collection(tmp_path / "few").photos()) == 1


def test_whoever_does_not_show_the_token_is_answered_and_nothing_is_kept(tmp_path):
    folder = tmp_path / "unsure"
    with server(folder, token="s3cret") as client:
        assert client.post("/answer", content=CLOSE).status_code == 200
        assert client.get("/model").json()["keeps_unsure_photos"] is False
        assert Collection(folder).photos() == []
        shown = client.post("/answer", content=CLOSE, headers={"Authorization": "Bearer s3cret"})
        assert shown.status_code == 200
        assert len(Collection(folder).photos()) == 1
        client.get("/?token=s3cret")
        assert client.get("/model").json()["keeps_unsure_photos"] is True


def test_a_full_disk_costs_no_answer(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    notes: list[str] = []
    with server(tmp_path / "unsure", notes=notes) as client:
        monkeypatch.setattr("deploy.collection.write_whole", full)
        assert client.post("/answer", content=CLOSE).status_code == 200
    assert [note for note in notes if "could not be kept" in note and "No space left on device" in note]
