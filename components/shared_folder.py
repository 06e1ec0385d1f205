"""Folders that the process that starts a Beam job and all of its workers have to share."""

from __future__ import annotations

import socket

from tfx.dsl.io import fileio

from schemas.errors import BadInput


def require_shared(folder: str, what: str = "the volume of the root folder") -> None:
    """Refuses to go on in a worker that does not see a folder, which exists where the job was started.

    Such a worker would write to its own disk, where nobody finds it, or take every photo for deleted. An address such
    as `gs://` is the same everywhere.

    Raises:
      BadInput: the folder does not exist here.
    """
    if "://" not in folder and not fileio.isdir(folder):
        raise BadInput(
            f"a worker of Apache Beam on {socket.gethostname()} does not see {folder}; mount {what} on every worker, "
            "at the same path"
        )
