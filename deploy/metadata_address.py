"""The address of an ML Metadata store, and the connection it stands for."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote, urlsplit

from schemas.errors import BadInput

# Passwords are no part of an address, so that none is in a package, a log or a plan.
PASSWORD_VARIABLE = "WARMSTART_METADATA_PASSWORD"
_FORMS = "grpc://HOST:PORT, mysql://USER@HOST[:PORT]/DATABASE or sqlite:///FILE"


def check_address(address: str) -> None:
    """Says what is wrong with an address, without connecting.

    Raises:
      BadInput: it is none of `grpc://HOST:PORT`, `mysql://USER@HOST[:PORT]/DATABASE`, `sqlite:///FILE`, or has a
        password in it.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise BadInput(f"the metadata address {address!r} cannot be read; expected {_FORMS}") from None
    if parts.password is not None:
        raise BadInput(
            f"the metadata address for {parts.hostname} has a password in it, which would be written into packages and "
            f"logs; leave it out, and put it into the environment variable {PASSWORD_VARIABLE} by a secret"
        )
    complete = {
        "grpc": bool(parts.hostname and port and parts.path in ("", "/")),
        "mysql": bool(parts.username and parts.hostname and len(parts.path) > 1),
        "sqlite": not parts.netloc and len(parts.path) > 1,
    }.get(parts.scheme, False)
    if not complete:
        raise BadInput(f"the metadata address {address!r} is none; expected {_FORMS}")


def connection_config(address: str) -> Any:
    """What `ml_metadata.MetadataStore` and TFX's `Metadata` take.

    Args:
      address: as `check_address` accepts; the password of a MySQL user is in the environment variable
        `WARMSTART_METADATA_PASSWORD`.

    Raises:
      BadInput: as `check_address`.
    """
    check_address(address)
    from ml_metadata.proto import metadata_store_pb2

    parts = urlsplit(address)
    if parts.scheme == "grpc":
        return metadata_store_pb2.MetadataStoreClientConfig(host=parts.hostname, port=parts.port)
    config = metadata_store_pb2.ConnectionConfig()
    if parts.scheme == "sqlite":
        config.sqlite.SetInParent()
        config.sqlite.filename_uri = unquote(parts.path)
        config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        return config
    config.mysql.host = parts.hostname
    config.mysql.port = parts.port or 3306
    config.mysql.user = unquote(parts.username or "")
    config.mysql.password = os.environ.get(PASSWORD_VARIABLE, "")
    config.mysql.database = parts.path.lstrip("/")
    return config


def connect(address: str) -> Any:
    """A connected `MetadataStore`.

    Raises:
      BadInput: the address is none, or nobody answers there.
    """
    config = connection_config(address)
    from ml_metadata.metadata_store import metadata_store

    try:
        store = metadata_store.MetadataStore(config)
        store.get_context_types()
    except Exception as error:  # gRPC, MySQL and SQLite fail in many ways
        said = " ".join(str(error).split())[:300]
        raise BadInput(
            f"ML Metadata at {address} cannot be reached ({said}); check the address, and that the store is running"
        ) from error
    return store
