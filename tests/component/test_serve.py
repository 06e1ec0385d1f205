"""`warmstart serve` as a process on loopback, asked by clients written for the published protocols."""

import base64
import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from components.serving_folder.files import model_identity
from deploy import prediction
from deploy.root import Root
from schemas.release import Release

tf = pytest.importorskip("tensorflow")

REPOSITORY = Path(__file__).parents[2]


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self):
        return json.loads(self.content)

    @property
    def error(self) -> str:
        assert self.json.keys() == {"error"}, self.json
        return self.json["error"]


class Server:
    """A running `warmstart serve`."""

    def __init__(self, *arguments: str, command: Sequence[str] = (sys.executable, "-m", "deploy.cli", "serve")):
        command = [*command, "--port", "0", *arguments]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.notes: list[str] = []
        self._reader = threading.Thread(target=self._read_notes, daemon=True)
        self._reader.start()
        self.greeting = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/$", self.greeting)
        assert found, (self.greeting, self.notes)
        self.port = int(found[1])
        assert self.ask("GET", "/v2/health/ready").status == 200  # who is told the address can use it

    def _read_notes(self) -> None:
        self.notes.extend(self.process.stderr)

    def ask(self, method: str, path: str, body=None, **headers: str) -> Reply:
        """A request on a connection of its own; a body that is not bytes is sent as JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)) as connection:
            connection.request(method, path, content, {k.replace("_", "-"): v for k, v in headers.items()})
            response = connection.getresponse()
            return Reply(response.status, dict(response.headers), response.read())

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(60)
        self._reader.join(10)
        return code


@pytest.fixture(scope="module")
def root(tmp_path_factory, exported_model):
    """A root folder of the pipeline `pets` with one version in production."""
    found = Root(tmp_path_factory.mktemp("served") / "runs")
    found.prepare("pets")
    push(found, exported_model)
    return found


def push(root: Root, model: str) -> int:
    serving = root.serving_folder()
    return serving.push(model, model_identity(model), Release(), serving.production()).version


@pytest.fixture(scope="module")
def server(root):
    started = Server("--root", str(root.folder))
    yield started
    assert started.stop() == 0
    assert started.notes[-1] == "stopped\n"
    assert not [note for note in started.notes if "Traceback" in note], started.notes


def half_sent(port: int, body: bytes) -> socket.socket:
    """A connection on which half of a photo for `/answer` has been sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = f"POST /answer HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body[: len(body) // 2])
    return connection


def b64(photo: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(photo).decode()}


def probabilities_of(model: str, photos) -> np.ndarray:
    """What the exported signature itself says: float32 [photo, class]."""
    signature = tf.saved_model.load(model).signatures["serving_default"]
    return signature(image_bytes=tf.constant([photo.photo_bytes for photo in photos]))["probabilities"].numpy()


@pytest.fixture(scope="module")
def wanted(exported_model, drawn_photos) -> np.ndarray:
    return probabilities_of(exported_model, drawn_photos)


# ---- TensorFlow Serving's protocol


def test_the_greeting_names_model_and_address(server, root):
    assert server.greeting == f"pets, version {root.production_version()}: http://127.0.0.1:{server.port}/\n"


def test_rows_are_answered_as_by_the_signature(server, root, drawn_photos, wanted):
    reply = server.ask("POST", "/v1/models/pets:predict", {"instances": [b64(p.photo_bytes) for p in drawn_photos]})
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-model-version"] == root.production_version()
    rows = reply.json["predictions"]
    np.testing.assert_allclose([row["probabilities"] for row in rows], wanted, atol=1e-5)
    assert [row["label"] for row in rows] == [("cat", "dog")[i] for i in wanted.argmax(axis=1)]
    assert rows[0].keys() == {"label", "probability", "probabilities", "abstains"}


def test_columns_and_names_and_versions_give_the_same(server, root, drawn_photos, wanted):
    photo, path = b64(drawn_photos[0].photo_bytes), f"/v1/models/pets/versions/{root.production_version()}:predict"
    columns = server.ask("POST", path, {"inputs": {"image_bytes": [photo, photo]}}).json["outputs"]
    np.testing.assert_allclose(columns["probabilities"], wanted[[0, 0]], atol=1e-5)
    request = {"signature_name": "serving_default", "instances": [{"image_bytes": photo}]}
    [row] = server.ask("POST", path, request).json["predictions"]
    np.testing.assert_allclose(row["probabilities"], wanted[0], atol=1e-5)


def test_a_signature_with_one_output_has_no_name(server, drawn_photos):
    request = {"signature_name": "feature_vector", "instances": [b64(drawn_photos[0].photo_bytes)]}
    [vector] = server.ask("POST", "/v1/models/pets:predict", request).json["predictions"]
    assert len(vector) == 8


def test_status_and_metadata(server, root):
    version = root.production_version()
    available = {"version": version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/pets", f"/v1/models/pets/versions/{version}"):
        assert server.ask("GET", path).json == {"model_version_status": [available]}
    described = server.ask("GET", "/v1/models/pets/metadata").json
    assert described["model_spec"] == {"name": "pets", "signature_name": "", "version": version}
    signature = described["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    shape = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    assert signature["inputs"]["image_bytes"]["tensor_shape"] == shape
    assert signature["method_name"] == "tensorflow/serving/predict"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/cats", 404),
        ("POST", "/v1/models/cats:predict", 404),
        ("GET", "/v1/models/pets/versions/1", 404),
        ("GET", "/v1/models/pets/versions/" + "9" * 5000, 404),
        ("GET", "/v1/models/pets/versions/one", 400),
        ("GET", "/v1/models/..%2F..%2Fetc%2Fpasswd", 400),
        ("GET", "/v1/models/../../etc/passwd", 400),
        ("GET", "/v1/models/%00", 404),
        ("GET", "/v1/models/pets:predict", 400),
        ("POST", "/v1/models/pets", 400),
        ("GET", "/v1/models", 400),
        ("GET", "/../setup.py", 404),
        ("GET", "/page/page.html", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("DELETE", "/answer", 405),
    ],
)
def test_wrong_addresses_have_their_status_and_a_sentence(server, method, path, status):
    reply = server.ask(method, path, {"instances": []} if method == "POST" else None)
    assert reply.status == status
    assert 0 < len(reply.error) < 300


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"a":' * 100_000, b'{"instances": [{"b64": "AAA', b"\xff\xfe",
        b'{"instances": [' + b"9" * 5000 + b"]}", b'{"instances": [NaN]}', b'{"instances": [{"b64": "A A="}]}',
        b'{"instances": [{"b64": ["AAAA"]}]}', b'{"instances": {"b64": "AAAA"}}', b'{"instances": ["\\ud800"]}',
        b'{"instances": [{"../../etc/passwd": "AAAA"}]}', b'{"instances": [{}]}', b'{"inputs": {"image_bytes": []}}',
        b'{"instances": [null], "inputs": [null]}', b'{"signature_name": 7, "instances": [""]}',
    ],
)  # fmt: skip
def test_wrong_json_is_a_bad_request(server, content):
    for path in ("/v1/models/pets:predict", "/v2/models/pets/infer"):
        reply = server.ask("POST", path, content)
        assert reply.status == 400
        assert reply.error.endswith(".")


def test_an_unknown_signature_is_a_bad_request(server, drawn_photos):
    request = {"signature_name": "serve_examples", "instances": [b64(drawn_photos[0].photo_bytes)]}
    reply = server.ask("POST", "/v1/models/pets:predict", request)
    assert (reply.status, "no signature 'serve_examples' that takes photos" in reply.error) == (400, True)


# ---- KServe's protocol


def test_infer_health_and_metadata_of_v2(server, root, drawn_photos, wanted):
    assert server.ask("GET", "/v2/health/live").json == {"live": True}
    assert server.ask("GET", "/v2/models/pets/ready").json == {"name": "pets", "ready": True}
    described = server.ask("GET", "/v2/models/pets").json
    assert described["inputs"] == [{"name": "image_bytes", "datatype": "BYTES", "shape": [-1]}]
    assert {"name": "probability", "datatype": "FP32", "shape": [-1]} in described["outputs"]
    data = [b64(photo.photo_bytes)["b64"] for photo in drawn_photos[:3]]
    tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [3], "data": data}
    reply = server.ask("POST", "/v2/models/pets/infer", {"id": "7", "inputs": [tensor]}).json
    assert (reply["id"], reply["model_version"]) == ("7", root.production_version())
    outputs = {output["name"]: output for output in reply["outputs"]}
    assert outputs["probabilities"]["shape"] == [3, 2]
    np.testing.assert_allclose(outputs["probabilities"]["data"], wanted[:3].ravel(), atol=1e-5)
    assert server.ask("GET", "/v2/models/cats/ready").status == 404


# ---- photos


def encoded(image_format: str, size: tuple[int, int] = (40, 30)) -> bytes:
    gradient = np.mgrid[: size[1], : size[0]].sum(axis=0)
    pixels = np.stack([gradient * 3 % 256, gradient * 2 % 256, gradient % 256], -1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format)
    return buffer.getvalue()


def test_the_answer_to_a_photo_is_that_of_predict(server, root, tmp_path, exported_model):
    """Also of formats that TensorFlow does not decode."""
    model = prediction.Model(Path(exported_model))
    for image_format in ("JPEG", "PNG", "WEBP", "TIFF"):
        file = tmp_path / f"photo.{image_format.lower()}"
        file.write_bytes(encoded(image_format))
        [answer] = prediction.predict(model, [str(file)])
        reply = server.ask("POST", "/answer", file.read_bytes())
        assert reply.status == 200
        found = reply.json
        assert found["version"] == int(root.production_version())
        assert found["label"] == answer.label
        assert found["abstains"] is False
        assert found["probabilities"] == pytest.approx(answer.probabilities, abs=1e-5)


def test_large_photos_are_told_by_their_headers_alone(monkeypatch):
    from deploy.serve import model

    monkeypatch.setattr(model, "_LARGE_PIXELS", 1000)
    assert model.is_large(encoded("JPEG", (40, 30))[:500] + bytes(10))
    assert not model.is_large(encoded("PNG", (40, 20)))
    assert model.is_large(b"no photo")


def huge_png() -> bytes:
    """400 million pixels in a few kilobytes."""
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("photo", "reason", "words"),
    [
        (b"hello", "not_an_image", "text file"),
        (b"\xff\xd8\xff", "corrupt", ""),
        (encoded("JPEG", (400, 300))[:2000], "truncated", ""),
        (encoded("PNG", (4, 4)), "too_small", "4 x 4"),
        (huge_png(), "too_large", "20000 x 20000"),
    ],
    ids=["text", "three bytes", "cut off", "tiny", "huge"],
)
def test_what_is_no_photo_is_named_with_the_reason(server, photo, reason, words, drawn_photos):
    reply = server.ask("POST", "/answer", photo)
    assert reply.status == 400
    assert words in reply.json["error"]
    assert reply.json["reason"] in (reason, "truncated", "corrupt")
    request = {"instances": [b64(drawn_photos[0].photo_bytes), b64(photo)]}
    reply = server.ask("POST", "/v1/models/pets:predict", request)
    assert reply.status == 400
    assert reply.error.startswith("Photo 1 of the request ")


# ---- strangers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"}, 403),
        ({"Host": "localhost:{port}", "Origin": "http://localhost:{port}"}, 200),
    ],
)
def test_pages_of_other_websites_may_not_ask(server, headers, status):
    sent = {name: value.format(port=server.port) for name, value in headers.items()}
    assert server.ask("POST", "/answer", encoded("JPEG"), **sent).status == status


# ---- the page and the metrics


def test_the_page_brings_its_files_and_a_strict_policy(server):
    page = server.ask("GET", "/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert page.headers["x-content-type-options"] == "nosniff"
    for name in re.findall(r'(?:href|src)="(page[^"]*)"', page.content.decode()):
        assert server.ask("GET", f"/{name}").status == 200
    assert b"//" not in page.content
    model = server.ask("GET", "/model").json
    assert (model["name"], model["labels"]) == ("pets", ["cat", "dog"])


def test_metrics_count_photos_requests_and_versions(server, root):
    def value(line: str) -> float:
        text = server.ask("GET", "/metrics").content.decode()
        return float(next((found[1] for found in [re.search(rf"^{re.escape(line)} (\S+)$", text, re.M)] if found), 0))

    answered, refused = 'warmstart_photos_total{outcome="answered"}', 'warmstart_photos_total{outcome="rejected"}'
    requests = 'warmstart_requests_total{address="answer",status="200"}'
    before = [value(line) for line in (answered, refused, requests)]
    server.ask("POST", "/answer", encoded("JPEG"))
    server.ask("POST", "/answer", b"hello")
    after = [value(line) for line in (answered, refused, requests)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]
    assert value("warmstart_model_version") == int(root.production_version())
    assert value("warmstart_waiting_photos") == 0


# ---- new versions, and the end


def test_a_push_and_a_rollback_lose_no_request(server, root, exported_model, calibrated_model, drawn_photos, wanted):
    photos = drawn_photos[:3]
    first = int(root.production_version())
    by_version = {first: wanted[:3]}
    request = {"instances": [b64(photo.photo_bytes) for photo in photos]}
    replies: list[Reply] = []
    done = threading.Event()

    def ask_on() -> None:
        while not done.is_set():
            replies.append(server.ask("POST", "/v1/models/pets:predict", request))

    def wait_for(version: int) -> None:
        until = time.monotonic() + 60
        while server.ask("GET", "/model").json["version"] != version:
            assert time.monotonic() < until, server.notes
            time.sleep(0.1)
        time.sleep(0.5)

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask_on) for _ in range(4)]
        try:
            pushed = push(root, calibrated_model)
            by_version[pushed] = probabilities_of(calibrated_model, photos)
            wait_for(pushed)
            back = root.serving_folder().rollback(first, "a test")
            by_version[back] = wanted[:3]
            wait_for(back)
        finally:
            done.set()
        for each in asking:
            each.result()
    assert np.abs(by_version[pushed] - by_version[first]).max() > 1e-3  # or nothing would be shown
    assert {reply.status for reply in replies} == {200}
    assert {int(reply.headers["x-model-version"]) for reply in replies} == by_version.keys()
    for reply in replies:
        found = [row["probabilities"] for row in reply.json["predictions"]]
        np.testing.assert_allclose(found, by_version[int(reply.headers["x-model-version"])], atol=1e-5)


def test_a_damaged_version_does_not_take_the_place_of_a_good_one(server, root):
    before = int(root.production_version())
    damaged = root.serving / str(before + 1)
    damaged.mkdir()
    (damaged / "saved_model.pb").write_bytes(b"damaged")
    try:
        until = time.monotonic() + 30
        while not any(f"version {before + 1} cannot be loaded" in note for note in server.notes):
            assert time.monotonic() < until, server.notes
            time.sleep(0.1)
        states = server.ask("GET", "/v1/models/pets").json["model_version_status"]
        assert [(each["version"], each["state"]) for each in states] == [
            (str(before + 1), "END"),
            (str(before), "AVAILABLE"),
        ]
        assert server.ask("POST", "/answer", encoded("JPEG")).json["version"] == before
    finally:
        os.remove(damaged / "saved_model.pb")
        damaged.rmdir()


def test_programs_are_told_the_address_and_a_taken_port_is_an_error(exported_model, server):
    command = [sys.executable, "-m", "deploy.cli", "--quiet", "serve", "--model", exported_model]
    with subprocess.Popen(
        [*command, "--port", "0", "--json"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as run:
        told = json.loads("".join(run.stdout.readline() for _ in range(5)))
        run.terminate()
    assert (told["name"], told["version"]) == ("model", 1)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", told["url"])
    taken = subprocess.run([*command, "--port", str(server.port)], cwd=REPOSITORY, capture_output=True, text=True)
    assert (taken.returncode, taken.stdout) == (2, "")
    assert f"port {server.port} of 127.0.0.1" in taken.stderr


def test_of_a_folder_of_versions_the_highest_is_served(root, drawn_photos):
    """As TensorFlow Serving has it: all that a container is given is this folder, read-only."""
    started = Server("--model", str(root.serving), "--name", "pets")
    assert started.greeting.startswith(f"pets, version {root.production_version()}: ")
    answered = started.ask("POST", "/answer", drawn_photos[0].photo_bytes).json
    assert str(answered["version"]) == root.production_version()
    assert started.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_when_what_was_begun_is_answered(exported_model, number):
    started = Server("--model", exported_model, "--name", "cats")
    photo = encoded("JPEG")
    with half_sent(started.port, photo) as connection:
        time.sleep(0.3)
        started.process.send_signal(number)
        time.sleep(0.5)
        assert started.process.poll() is None
        connection.sendall(photo[len(photo) // 2 :])
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        assert (reply.status, json.loads(reply.read())["version"]) == (200, 1)
    assert started.process.wait(30) == 0
    with pytest.raises(ConnectionRefusedError):
        started.ask("GET", "/")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "nowhere"], "is not a SavedModel"),
        (["--model", "x", "--root", "y"], "--model was given"),
        (["--model", "x", "--name", "../x"], "expected letters, digits"),
        (["--model", "x", "--host", "192.0.2.1"], "192.0.2.1"),
    ],
)
def test_wrong_options_are_told_in_a_sentence(arguments, sentence):
    from click.testing import CliRunner

    from deploy import cli

    result = CliRunner().invoke(cli.main, ["serve", *arguments])
    assert (result.exit_code, sentence in result.stderr) == (2, True), result.stderr
