"""The ML Metadata file of a root, and the copy that is made after every run.

Neither TFX nor ML Metadata's client is needed: SQLite copies a database while others have it open.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

from schemas.errors import BadInput

COPY_SUFFIX = ".copy"
# The table that the client of ML Metadata asks first. A database without it is something else, or incomplete.
_TABLE = "Execution"
_NO_TABLE = f"no such table: {_TABLE}"


def problem_of(file: Path) -> str:
    """What is wrong with the file, in words that follow its name; empty: nothing, or there is no file."""
    if not file.exists():
        return ""
    try:
        with contextlib.closing(_open(file)) as database:
            said = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            database.execute(f"SELECT count(*) FROM {_TABLE}").fetchone()
    except sqlite3.Error as error:
        # Another process is writing to it at this moment, so it can be read.
        return "" if "is locked" in str(error) else f"cannot be read ({error})"
    return "" if said == "ok" else f"is damaged ({' '.join(said.split())})"


def last_execution(file: Path) -> int:
    """The highest number of an execution; 0: there is no execution, or no file."""
    if not file.exists():
        return 0
    try:
        with contextlib.closing(_open(file)) as database:
            return database.execute(f"SELECT coalesce(max(id), 0) FROM {_TABLE}").fetchone()[0]
    except sqlite3.OperationalError as error:
        if _NO_TABLE in str(error):
            return 0
        raise


def refuse_damaged(file: Path) -> None:
    """Refuses a damaged file.

    Raises:
      BadInput: the file is damaged.
    """
    problem = problem_of(file)
    if problem and _NO_TABLE not in problem:  # a run was killed while creating the file, and ML Metadata completes it
        raise BadInput(f"the ML Metadata file {file} {problem}; {_remedy(file)}")


def _remedy(file: Path) -> str:
    copy = copy_of(file)
    if copy.exists() and not problem_of(copy):
        return f"run `warmstart repair`, which restores the copy of {_time_of(copy)}"
    return (
        "there is no intact copy, so move the file away: the next run starts from scratch, and the versions in "
        "serving/ stay"
    )


def copy_of(file: Path) -> Path:
    """The path of the copy."""
    return file.with_name(file.name + COPY_SUFFIX)


def make_copy(file: Path) -> None:
    """Copies the file next to itself, completely or not at all; if it is damaged, the copy stays as it is.

    Raises:
      OSError: the copy cannot be written.
    """
    if not file.exists() or problem_of(file):
        return
    new = file.with_name(file.name + ".new")
    try:
        new.unlink(missing_ok=True)
        with contextlib.closing(_open(file)) as source, contextlib.closing(sqlite3.connect(new)) as target:
            source.backup(target)
        os.replace(new, copy_of(file))
    except sqlite3.Error as error:  # such as a disk that is full
        raise OSError(None, f"{copy_of(file)} cannot be written ({error})") from None
    finally:
        new.unlink(missing_ok=True)


def repair(file: Path) -> str:
    """Replaces a damaged file by its copy, and keeps the damaged one under another name.

    Returns:
      what was done, as a sentence; empty: nothing is wrong.

    Raises:
      BadInput: there is no intact copy.
      OSError: the file cannot be written.
    """
    problem, copy = problem_of(file), copy_of(file)
    if not problem:
        return ""
    if not copy.exists() or problem_of(copy):
        raise BadInput(f"the ML Metadata file {file} {problem}; {_remedy(file)}")
    aside = file.with_name(f"{file.name}.damaged-{datetime.now(timezone.utc):%Y-%m-%dT%H-%M-%SZ}")
    when = _time_of(copy)
    os.rename(file, aside)
    for leftover in ("-journal", "-wal", "-shm"):  # of the damaged one
        file.with_name(file.name + leftover).unlink(missing_ok=True)
    with contextlib.closing(_open(copy)) as source, contextlib.closing(sqlite3.connect(file)) as target:
        source.backup(target)
    return f"the ML Metadata file {problem}; the copy of {when} replaces it, and the damaged one is now {aside.name}"


def _open(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)


def _time_of(copy: Path) -> str:
    return f"{datetime.fromtimestamp(copy.stat().st_mtime, timezone.utc):%Y-%m-%d %H:%M} UTC"
