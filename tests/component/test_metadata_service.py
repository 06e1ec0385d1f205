"""ML Metadata's service over a SQLite file: what the manifests start, as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd

from deploy import metadata_file
from deploy.kubeflow.metadata_service import main, serve
from deploy.metadata_address import connect
from schemas.errors import BadInput

REPOSITORY = Path(__file__).parents[2]


@contextmanager
def served(file: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program over a file, and its address."""
    command = [sys.executable, "-m", "deploy.kubeflow.metadata_service", "--file", file, "--host=127.0.0.1", "--port=0"]
    process = subprocess.Popen([*map(str, command)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().split()[-1]
        yield process, f"grpc://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def put_context(store, name: str) -> int:
    type_id = store.put_context_type(mlmd.ContextType(name="a_type"))
    [context_id] = store.put_contexts([mlmd.Context(type_id=type_id, name=name)])
    return context_id


def test_what_was_put_is_there_after_a_kill_and_sigterm_ends_it_with_a_copy(tmp_path):
    file = tmp_path / "metadata.sqlite"
    with served(file) as (process, address):
        put_context(connect(address), "before the kill")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with served(file) as (process, address):
        store = connect(address)
        assert [context.name for context in store.get_contexts()] == ["before the kill"]
        put_context(store, "after it")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    copy = connect(f"sqlite://{metadata_file.copy_of(file)}")
    assert {context.name for context in copy.get_contexts()} == {"before the kill", "after it"}


def test_many_clients_at_once_lose_nothing(tmp_path):
    with serve(tmp_path / "metadata.sqlite") as port:

        def put_some(client: int) -> None:
            store = connect(f"grpc://127.0.0.1:{port}")
            for number in range(10):
                put_context(store, f"{client}-{number}")

        with ThreadPoolExecutor(6) as clients:
            list(clients.map(put_some, range(6)))
        assert len(connect(f"grpc://127.0.0.1:{port}").get_contexts()) == 60


def test_an_error_of_the_library_keeps_its_code(tmp_path):
    from ml_metadata.errors import AlreadyExistsError, NotFoundError

    with serve(tmp_path / "metadata.sqlite") as port:
        store = connect(f"grpc://127.0.0.1:{port}")
        put_context(store, "one")
        with pytest.raises(AlreadyExistsError):
            put_context(store, "one")
        with pytest.raises(NotFoundError):
            store.get_context_type("unheard of")


def test_a_probe_of_kubernetes_is_answered_and_sees_a_lost_file(tmp_path):
    with serve(tmp_path / "metadata.sqlite") as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=10) == b"\x08\x01"  # the field `status` is SERVING
        os.truncate(tmp_path / "metadata.sqlite", 0)
        with pytest.raises(grpc.RpcError):
            check(b"", timeout=10)


def test_a_damaged_file_a_missing_folder_and_a_taken_port_are_one_sentence_each(tmp_path, capsys):
    damaged = tmp_path / "metadata.sqlite"
    damaged.write_bytes(b"no database" * 100)
    assert main(["--file", str(damaged), "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert "put metadata.sqlite.copy in its place" in said
    assert said.count("\n") == 1
    with pytest.raises(BadInput, match="check that its folder exists"), serve(tmp_path / "absent" / "metadata.sqlite"):
        pass
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BadInput, match="nothing can listen at"), serve(tmp_path / "other.sqlite", address):
            pass
