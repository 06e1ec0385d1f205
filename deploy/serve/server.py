"""Runs the server until SIGTERM or SIGINT."""

from __future__ import annotations

import os
import signal
import socket

import uvicorn

from deploy.serve.guard import WebApplication
from schemas.errors import BadInput

_CONNECTIONS = 1000
_KEEP_ALIVE_SECONDS = 30


def bind(host: str, port: int) -> socket.socket:
    """Takes the address, before a model is loaded for nothing; port 0 stands for any free one.

    Raises:
      BadInput: it cannot be taken.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise BadInput(
            f"port {port} of {host} cannot be taken ({reason}); give another with --port or --host"
        ) from None
    return listener


def listen(listener: socket.socket) -> None:
    """Takes connections from now on; they wait until `run` answers them. So who is told the address can use it."""
    listener.listen(_CONNECTIONS)


def address(listener: socket.socket) -> str:
    """`http://host:port` of a socket that is bound."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(application: WebApplication, listener: socket.socket) -> None:
    """Answers until a signal comes; then takes no more connections, and answers what was asked.

    A second SIGINT stops it at once.
    """
    config = uvicorn.Config(
        application.asgi,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="error",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        backlog=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(application.timeout_seconds) + 1,
    )
    # uvicorn raises the signal again when all is done, and this is how it was meant to end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])
