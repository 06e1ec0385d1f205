"""Files that the process that starts a Beam job and all of its workers have to share."""

from __future__ import annotations

import socket

from tfx.dsl.io import fileio

from schemas.errors import BadInput


def require_shared(path: str, what: str = "the volume of the root folder") -> None:
    """Refuses to go on in a worker that does not see a file or folder, which exists where the job was started.

    Such a worker would write to its own disk, where nobody finds it, or take every photo for deleted. An address such
    as `gs://` is the same everywhere. The folder of an output does not do: Beam makes it on whichever worker begins.

    Raises:
      BadInput: it does not exist here.
    """
    if "://" not in path and not fileio.exists(path):
        raise BadInput(
            f"a worker of Apache Beam on {socket.gethostname()} does not see {path}; mount {what} on every worker, "
            "at the same path"
        )
