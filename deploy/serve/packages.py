"""The packages that `warmstart serve` needs, so that the image that serves has no others.

`python packages.py` prints the installed packages that it does not need; `deploy/Dockerfile` takes these out. It
imports nothing of this project.
"""

from __future__ import annotations

import sysconfig
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What the code of the server imports; which packages these need is in their metadata.
IMPORTED = (
    "click",
    "filelock",
    "numpy",
    "pi-heif",
    "pillow",
    "prometheus-client",
    "rich",
    "starlette",
    "tensorflow",
    "tf-keras",
    "uvicorn",
)
_OURS = "warmstart"


def needed() -> set[str]:
    """The packages of IMPORTED and everything that they need here, by their canonical names; extras are not needed."""
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in IMPORTED]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        requirements = map(Requirement, metadata.requires(name) or [])
        waiting += [
            canonicalize_name(one.name)
            for one in requirements
            if one.marker is None or one.marker.evaluate({"extra": ""})
        ]
    return found


def not_needed() -> list[str]:
    """The installed packages that the server does not need, sorted."""
    here = metadata.distributions(path=[sysconfig.get_path("purelib")])
    installed = {canonicalize_name(one.metadata["Name"]) for one in here}
    return sorted(installed - needed() - {_OURS})


if __name__ == "__main__":
    print("\n".join(not_needed()))
