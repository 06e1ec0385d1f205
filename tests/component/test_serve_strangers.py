"""What strangers send to `warmstart serve`: too much, too little, nonsense. Each is refused, and the server lives."""

import contextlib
import http.client
import io
import json
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.component.test_serve import Server, b64, encoded, half_sent


@pytest.fixture(scope="module")
def strict(exported_model):
    """A server of one folder with low limits."""
    started = Server("--model", exported_model, "--max-megabytes", "1", "--max-queue", "8", "--timeout", "5")
    yield started
    assert started.stop(signal.SIGINT) == 0
    assert not [note for note in started.notes if "Traceback" in note], started.notes


def test_a_large_body_is_refused(strict):
    reply = strict.ask("POST", "/answer", b"x" * 1_500_000)
    assert (reply.status, reply.error) == (413, "The body is too large; at most 1 MB are read.")
    assert strict.ask("POST", "/answer", encoded("JPEG")).status == 200


def said_to(port: int, sent: bytes) -> bytes:
    """What the server says to bytes, until it closes the connection; nothing more is sent then."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while block := connection.recv(65536):
                said += block
        return said


def test_a_large_body_that_does_not_say_its_size_is_refused(strict):
    head = f"POST /answer HTTP/1.1\r\nHost: 127.0.0.1:{strict.port}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", strict.port), timeout=60) as connection:
        connection.sendall(head + 24 * chunk + b"0\r\n\r\n")
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        assert (reply.status, json.loads(reply.read())) == (
            413,
            {"error": "The body is too large; at most 1 MB are read."},
        )
    assert strict.ask("POST", "/answer", encoded("JPEG")).status == 200


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 99999999999999999999",
        "Content-Length: -1",
        "Content-Length: ten",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "X: " + "x" * 100_000,
        "\r\nX",
    ],
)
def test_a_body_that_ends_early_or_a_wrong_header_harms_nobody(strict, head):
    sent = f"POST /answer HTTP/1.1\r\nHost: 127.0.0.1:{strict.port}\r\n{head}\r\n\r\nnot a photo".encode()
    said = said_to(strict.port, sent)
    assert said == b"" or re.match(rb"HTTP/1\.1 4\d\d ", said)
    assert strict.ask("POST", "/answer", encoded("JPEG")).status == 200


def test_more_photos_than_the_queue_holds_are_refused(strict):
    instances = [b64(encoded("JPEG"))] * 9
    reply = strict.ask("POST", "/v1/models/model:predict", {"instances": instances})
    assert (reply.status, "send at most 8" in reply.error) == (400, True)


def test_a_full_queue_is_told_with_the_time_to_come_back(strict):
    request = {"instances": [b64(encoded("PNG", (300, 200)))] * 8}
    with ThreadPoolExecutor(16) as threads:
        replies = list(threads.map(lambda _: strict.ask("POST", "/v1/models/model:predict", request), range(48)))
    assert {reply.status for reply in replies} == {200, 503}
    assert {reply.headers.get("retry-after") for reply in replies if reply.status == 503} == {"1"}
    assert strict.ask("POST", "/v1/models/model:predict", request).status == 200


def test_a_body_that_does_not_come_is_given_up(strict):
    with half_sent(strict.port, encoded("JPEG")) as connection:
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        assert (reply.status, json.loads(reply.read())) == (408, {"error": "The body did not come within 5 seconds."})


def test_who_hangs_up_or_talks_nonsense_harms_nobody(strict):
    for _ in range(20):
        half_sent(strict.port, encoded("JPEG")).close()
        with socket.create_connection(("127.0.0.1", strict.port), timeout=60) as connection:
            connection.sendall(b"\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n")
            assert b" 400 " in connection.recv(1000)
    assert strict.ask("POST", "/answer", encoded("JPEG")).status == 200


@pytest.mark.slow
@pytest.mark.release
def test_photos_of_a_hundred_million_pixels_are_read_one_at_a_time(exported_model):
    """A few kilobytes each; what is read of all of them at once would be several gigabytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.tile(np.arange(0, 250, dtype=np.uint8), (10_000, 40))).save(buffer, "PNG")
    assert buffer.tell() < 1_000_000

    started = Server("--model", exported_model, "--timeout", "600")

    def gigabytes() -> float:
        status = Path(f"/proc/{started.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1e6

    before = gigabytes()
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(started.ask, "POST", "/answer", buffer.getvalue()) for _ in range(3)]
        assert started.ask("POST", "/answer", encoded("JPEG")).status == 200
        assert not all(each.done() for each in asked), "a small photo waited for all the large ones"
        assert [each.result().status for each in asked] == [200] * 3
    print(f"{gigabytes() - before:.1f} GB more at most")
    assert gigabytes() - before < 4
    assert started.stop() == 0
