"""A MariaDB server for tests: Debian's package, data in a folder of its own, on loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

USER, PASSWORD, DATABASE = "warmstart", 'a pass\'word; with all "sorts" of #signs', "metadb"


@dataclass(frozen=True)
class Server:
    """address: for `--metadata`. password: of its user, which no address holds. socket: where root needs none."""

    address: str
    password: str
    socket: Path


@contextmanager
def mariadb(folder: Path) -> Iterator[Server]:
    """Runs a new, empty server as long as the block lasts; the test is skipped where the package is absent."""
    daemon = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    install = shutil.which("mariadb-install-db")
    if daemon is None or install is None:
        pytest.skip("no MariaDB server: apt-get install mariadb-server-core")
    data, start = folder / "data", folder / "start.sql"
    user = ["--user=root"]
    subprocess.run(
        [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", *user],
        check=True,
        capture_output=True,
    )
    quoted = PASSWORD.replace("'", "''")
    start.write_text(
        f"CREATE DATABASE {DATABASE};\n"
        f"CREATE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{quoted}';\n"
        f"GRANT ALL ON {DATABASE}.* TO '{USER}'@'127.0.0.1';\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [
            daemon,
            "--no-defaults",
            *user,
            f"--datadir={data}",
            f"--socket={folder / 'socket'}",
            f"--pid-file={folder / 'pid'}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            f"--init-file={start}",
            "--skip-name-resolve",
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        yield Server(f"mysql://{USER}@127.0.0.1:{port}/{DATABASE}", PASSWORD, folder / "socket")
    finally:
        process.terminate()
        process.wait(30)
        log.close()
