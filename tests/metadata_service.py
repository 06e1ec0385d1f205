"""ML Metadata's gRPC service on loopback, over a SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.kubeflow.metadata_service import serve


@contextmanager
def metadata_service(database: Path) -> Iterator[str]:
    """Serves the store in a SQLite file as long as the block lasts.

    Yields:
      its address, for `--metadata`.
    """
    with serve(database) as port:
        yield f"grpc://127.0.0.1:{port}"
