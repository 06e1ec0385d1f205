"""Addresses of ML Metadata stores, and connections to them."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import unquote, urlsplit

from schemas.errors import BadInput
from schemas.words import on_one_line

# Addresses contain no passwords, so that none ends up in a package, a log or a plan.
PASSWORD_VARIABLE = "WARMSTART_METADATA_PASSWORD"
_FORMS = "grpc://HOST:PORT, mysql://USER@HOST[:PORT]/DATABASE or sqlite:///FILE"


def check_address(address: str) -> None:
    """Checks an address without connecting; the error does not repeat a password.

    Raises:
      BadInput: it is not `grpc://HOST:PORT`, `mysql://USER@HOST[:PORT]/DATABASE` or `sqlite:///FILE`, or it contains a
        password.
    """
    # Before it is split: a password may contain every character that separates parts.
    if found := re.match(r"\s*([^:/@]*://[^:/@]*:|[^:/@]*:(?!//)).*@", address, re.DOTALL):
        raise BadInput(
            f"the metadata address {found[1]}...@... contains a password, which would end up in packages and logs; "
            f"leave it out, and set the environment variable {PASSWORD_VARIABLE} from a secret"
        )
    if found := re.match(r"([^?#]*)[?#]", address):
        raise BadInput(
            f"the metadata address {found[1]} is followed by ? or # and more; expected {_FORMS}, with %3F and %23 for "
            f"these characters in a name, and a password only in {PASSWORD_VARIABLE}"
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
    # `urlsplit` drops these characters, or they cannot be part of a host name.
    odd = re.search(r"[\x00-\x1f\x7f]|^\s|\s$", address) or re.search(r"\s", parts.netloc)
    if odd or not complete:
        raise BadInput(f"{address!r} is not a metadata address; expected {_FORMS}")


def connection_config(address: str) -> Any:
    """The configuration with which `ml_metadata.MetadataStore` and TFX's `Metadata` connect.

    Args:
      address: an address that `check_address` accepts. The password of a MySQL user is read from the environment
        variable `WARMSTART_METADATA_PASSWORD`.

    Raises:
      BadInput: as `check_address`.
    """
    check_address(address)
    from ml_metadata.proto import metadata_store_pb2

    parts = urlsplit(address)
    if parts.scheme == "grpc":
        host = parts.hostname or ""
        # The client joins host and port with a colon.
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
      BadInput: the address is invalid, or no store answers there.
    """
    config = connection_config(address)
    from ml_metadata.metadata_store import metadata_store

    try:
        store = metadata_store.MetadataStore(config)
        store.get_context_types()
    except Exception as error:  # gRPC, MySQL and SQLite fail in many ways
        raise BadInput(
            f"ML Metadata at {address} cannot be reached ({on_one_line(error)}); check the address and that the store "
            "is running"
        ) from error
    return store
