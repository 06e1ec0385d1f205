"""The backbone as a worker finds it, which may run on another machine than the process that started the job."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from components.backbone import feature_vector, registry
from schemas.errors import BadInput


@dataclass(frozen=True)
class WorkerBackbone:
    """A backbone that a job needs."""

    handle: str
    fingerprint: str
    path: str
    """Folder of its SavedModel where the job was started."""

    def found_here(self) -> str:
        """The folder of its SavedModel on this machine; a worker elsewhere converts or downloads its own.

        Raises:
          BadInput: this machine has another backbone, or none, under the handle.
        """
        if os.path.isdir(self.path):
            return self.path
        if (found := registry.fingerprint(self.handle)) != self.fingerprint:
            raise BadInput(
                f"the backbone {self.handle} of a worker of Apache Beam on {socket.gethostname()} has the fingerprint "
                f"{found[:12]}, expected {self.fingerprint[:12]}; install the same version there"
            )
        return str(feature_vector.resolve(self.handle))
