"""Where a run puts its temporary files, so that none of them stays: not after it, and not if it is killed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Where TensorFlow Hub keeps what it downloads, unless told otherwise; below the temporary folder, but to stay.
_HUB, _HUB_FOLDER = "TFHUB_CACHE_DIR", "tfhub_modules"


@contextlib.contextmanager
def folder_of_run(root: Path, run_id: str) -> Iterator[Path]:
    """Gives everything that asks for a temporary folder one of this run, which is removed in the end.

    Call it under the lock of the root: what earlier runs on the root left, as they were killed, is removed first.

    Args:
      root: of the run.
      run_id: its name.
    """
    place = Path(tempfile.gettempdir())
    of_root = f"warmstart-{hashlib.sha256(os.fsencode(root)).hexdigest()[:10]}-"
    for left in place.glob(f"{of_root}*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = place / f"{of_root}{run_id}"
    folder.mkdir(mode=0o700)
    hub = {} if _HUB in os.environ else {_HUB: str(place / _HUB_FOLDER)}
    before = {name: os.environ.get(name) for name in ("TMPDIR", *hub)}
    default = tempfile.tempdir
    os.environ.update({"TMPDIR": str(folder), **hub})
    tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = default
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)
