"""Downloading a backbone from a TF-Hub address, against a server on loopback that serves a compressed module."""

from __future__ import annotations

import http.server
import tarfile
import threading
from pathlib import Path

import pytest

from components.backbone import feature_vector
from schemas.errors import BadInput


class _Server(http.server.ThreadingHTTPServer):
    """Serves `/good`, and the ways it goes wrong; counts the requests."""

    archive = b""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        assert isinstance(self.server, _Server)
        self.server.requests.append(self.path)
        archive = self.server.archive
        path = self.path.split("?")[0]
        if path == "/missing":
            self.send_error(404)
            return
        body = {"/good": archive, "/broken": b"this is no archive" * 100}.get(path, archive)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if path == "/interrupted" else body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tiny_backbone, tmp_path, monkeypatch):
    archive = tmp_path / "module.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tiny_backbone, arcname=".")
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "hub"))
    server = _Server()
    server.archive = archive.read_bytes()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_module_is_downloaded_once_and_works(server, tmp_path):
    folder = feature_vector.resolve(server.address("good"))
    assert (folder / "saved_model.pb").is_file()
    assert folder.is_relative_to(tmp_path / "hub")
    assert server.requests == ["/good?tf-hub-format=compressed"]
    assert feature_vector.check_feature_vector(folder, 32) == 8
    assert feature_vector.resolve(server.address("good")) == folder
    assert len(server.requests) == 1


@pytest.mark.parametrize("path", ["missing", "broken", "interrupted"])
def test_a_failed_download_is_bad_input_and_leaves_nothing_that_counts(server, path, tmp_path):
    address = server.address(path)
    for _ in range(2):  # the second try asks the server again
        before = len(server.requests)
        with pytest.raises(BadInput, match=f"Backbone {address} cannot be downloaded"):
            feature_vector.resolve(address)
        assert len(server.requests) > before
    assert not list(Path(tmp_path / "hub").glob("*/saved_model.pb"))


def test_a_server_that_is_not_there(server):
    port = server.server_port
    server.shutdown()
    server.server_close()
    with pytest.raises(BadInput, match="cannot be downloaded"):
        feature_vector.resolve(f"http://127.0.0.1:{port}/good")
