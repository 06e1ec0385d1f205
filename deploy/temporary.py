"""The folder for the temporary files of a run, which is removed even if the run is killed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# By default TensorFlow Hub keeps downloads below the temporary folder. They must survive the run.
_HUB, _HUB_FOLDER = "TFHUB_CACHE_DIR", "tfhub_modules"


@contextlib.contextmanager
def folder_of_run(root: Path, run_id: str) -> Iterator[Path]:
    """Provides a temporary folder for this run, and removes it at the end.

    Call it under the lock of the root: folders that killed runs left behind are removed first.
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
