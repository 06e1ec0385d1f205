"""ML Metadata's gRPC service on loopback, over a SQLite file: what Kubeflow's metadata-grpc-service is over MySQL.

The calls go, as bytes, to the same C++ library that the real server is made of; only the server around it is this one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc

_CODES = {code.value[0]: code for code in grpc.StatusCode}


@contextmanager
def metadata_service(database: Path) -> Iterator[str]:
    """Serves the store in a SQLite file as long as the block lasts.

    Yields:
      its address, for `--metadata`.
    """
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as library
    from ml_metadata.proto import metadata_store_pb2
    from ml_metadata.proto import metadata_store_service_pb2 as service

    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(database)
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    store = metadata_store.MetadataStore(config)
    one_at_a_time = threading.Lock()

    def handler(method: str):
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            with one_at_a_time:
                response, message, code = getattr(library, method)(store._metadata_store, request)
            if code:
                context.abort(_CODES[code], message.decode())
            return response

        return grpc.unary_unary_rpc_method_handler(answer)

    about = service.DESCRIPTOR.services_by_name["MetadataStoreService"]
    handlers = {method.name: handler(method.name) for method in about.methods if hasattr(library, method.name)}
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(about.full_name, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(5).wait()
