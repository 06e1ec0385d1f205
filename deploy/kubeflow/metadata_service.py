"""ML Metadata's gRPC service over one SQLite file: the store that deploy/kubernetes/components/metadata brings up.

    python -m deploy.kubeflow.metadata_service --file /metadata/metadata.sqlite --port 8080

The calls go, as bytes, to ML Metadata's own C++ library; only the server around it is this one. SQLite has one writer,
so one call is answered after another. The file is copied next to itself at the start and then every hour: on a damaged
file, the service ends with a sentence that names the copy.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from deploy import metadata_file
from schemas.errors import BadInput

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_COPY_EVERY_SECONDS = 3600.0
# grpc.health.v1.HealthCheckResponse with the status SERVING, which Kubernetes' gRPC probes ask for.
_SERVING = b"\x08\x01"
_THREADS = 8
# Of a request; the largest are the artifacts of a whole store.
_MOST_BYTES = 256 * 1024 * 1024


@contextmanager
def serve(file: Path, address: str = "127.0.0.1:0") -> Iterator[int]:
    """Serves the store in a SQLite file as long as the block lasts; a missing file is created.

    Args:
      address: host and port to listen at; port 0: any free port.

    Yields:
      the port.

    Raises:
      BadInput: the file is damaged or cannot be written, or the address cannot be bound.
    """
    if problem := metadata_file.problem_of(file):
        raise BadInput(
            f"the ML Metadata file {file} {problem}; move it away, and put {metadata_file.copy_of(file).name} in its "
            "place, which is at most an hour older"
        )
    handlers = _handlers(file)
    server = grpc.server(
        futures.ThreadPoolExecutor(_THREADS),
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", _MOST_BYTES)],
    )
    server.add_generic_rpc_handlers(handlers)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise BadInput(f"nothing can listen at {address}; give another port, or stop what uses it")
    server.start()
    try:
        yield port
    finally:
        server.stop(5).wait()


def _handlers(file: Path) -> list[grpc.GenericRpcHandler]:
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as library
    from ml_metadata.proto import metadata_store_pb2
    from ml_metadata.proto import metadata_store_service_pb2 as service

    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(file)
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    try:
        store = metadata_store.MetadataStore(config)
    except Exception as error:  # the library fails in many ways
        raise BadInput(
            f"the ML Metadata file {file} cannot be opened ({' '.join(str(error).split())}); check that its folder "
            "exists and can be written"
        ) from error
    one_at_a_time = threading.Lock()

    def handler(method: str) -> grpc.RpcMethodHandler:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            with one_at_a_time:
                response, message, code = getattr(library, method)(store._metadata_store, request)
            if code:
                context.abort(_CODES[code], message.decode("utf-8", "replace"))
            return response

        return grpc.unary_unary_rpc_method_handler(answer)

    about = service.DESCRIPTOR.services_by_name["MetadataStoreService"]
    methods = {method.name: handler(method.name) for method in about.methods if hasattr(library, method.name)}

    def check(request: bytes, context: grpc.ServicerContext) -> bytes:
        methods["GetContextTypes"].unary_unary(b"", context)
        return _SERVING

    health = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    return [
        grpc.method_handlers_generic_handler(about.full_name, methods),
        grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT, and copies the file every hour.

    Returns:
      the exit code: 0, or 2 if the file or the port cannot be used.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.kubeflow.metadata_service", description=__doc__)
    parser.add_argument("--file", required=True, type=Path, help="the SQLite file; created if it is missing")
    parser.add_argument("--host", default="[::]", help="address to listen at (all)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen at (8080)")
    given: Any = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        with serve(given.file, f"{given.host}:{given.port}") as port:
            print(f"ML Metadata in {given.file} is served at port {port}", flush=True)
            while True:
                _copy(given.file)
                if ended.wait(_COPY_EVERY_SECONDS):
                    break
        _copy(given.file)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _copy(file: Path) -> None:
    try:
        metadata_file.make_copy(file)
    except OSError as error:  # such as a full disk; the service goes on, and the previous copy stays
        with contextlib.suppress(OSError):
            print(f"warning: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
