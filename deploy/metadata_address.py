"""The address of an ML Metadata store, and the connection it stands for."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import unquote, urlsplit

from schemas.errors import BadInput
from schemas.words import on_one_line

# Passwords are no part of an address, so that none is in a package, a log or a plan.
PASSWORD_VARIABLE = "WARMSTART_METADATA_PASSWORD"
_FORMS = "grpc://HOST:PORT, mysql://USER@HOST[:PORT]/DATABASE or sqlite:///FILE"


def check_address(address: str) -> None:
    """Says what is wrong with an address, without connecting and without repeating a password.

    Raises:
      BadInput: it is none of `grpc://HOST:PORT`, `mysql://USER@HOST[:PORT]/DATABASE`, `sqlite:///FILE`, or has a
        password in it.
    """
    # Before it is taken apart: a password may hold every sign that ends a part.
    if found := re.match(r"\s*([^:/@]*://[^:/@]*:|[^:/@]*:(?!//)).*@", address, re.DOTALL):
        raise BadInput(
            f"the metadata address {found[1]}...@... has a password in it, which would be written into packages and "
            f"logs; leave it out, and put it into the environment variable {PASSWORD_VARIABLE} by a secret"
        )
    if found := re.match(r"([^?#]*)[?#]", address):
        raise BadInput(
            f"the metadata address {found[1]} has something behind it that begins with ? or #; expected {_FORMS}, with "
            f"%3F and %23 for these signs in a name, and a password in {PASSWORD_VARIABLE} only"
        )
    try:
        parts = urlsplit(address)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise BadInput(f"the metadata address {address!r} cannot be read; expected {_FORMS}") from None
    complete = {
        "grpc": host and port and parts.username is None and parts.path in ("", "/"),
        "mysql": host and port != 0 and parts.username and re.fullmatch("/[^/]+", parts.path),
        "sqlite": not parts.netloc and parts.path.strip("/") and not parts.path.endswith("/"),
    }.get(parts.scheme, False)
    # Such signs are dropped by `urlsplit`, or can be no part of a host's name.
    odd = re.search(r"[\x00-\x1f\x7f]|^\s|\s$", address) or re.search(r"\s", parts.netloc)
    if odd or not complete:
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
        host = parts.hostname or ""
        # The client joins host and port by a colon.
        return metadata_store_pb2.MetadataStoreClientConfig(host=f"[{host}]" if ":" in host else host, port=parts.port)
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
    config.mysql.database = unquote(parts.path[1:])
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
        raise BadInput(
            f"ML Metadata at {address} cannot be reached ({on_one_line(error)}); check the address, "
            "and that the store is running"
        ) from error
    return store
