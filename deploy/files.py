"""Folders and files on disk: their content, size and age; and lines of logs."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, sorted by name, without links."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def files_below(path: Path) -> Iterator[str]:
    """Every file below a folder, or the path itself if it is a file."""
    if not path.is_dir() or path.is_symlink():
        if os.path.lexists(path):
            yield str(path)
        return
    for folder, _, names in os.walk(path):
        yield from (os.path.join(folder, name) for name in names)


def size_of(path: Path) -> int:
    total = 0
    for file in files_below(path):
        with contextlib.suppress(OSError):
            total += os.lstat(file).st_size
    return total


def newest_change(folder: Path) -> float:
    """When a folder or anything in it was last changed, in seconds since 1970; 0: it is gone."""
    newest = 0.0
    for parent, _, names in os.walk(folder):
        for path in (parent, *(os.path.join(parent, name) for name in names)):
            with contextlib.suppress(OSError):
                newest = max(newest, os.lstat(path).st_mtime)
    return newest


def time_or_now(path: Path, now: float) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return now


def log_line(file: Path, told: Mapping[str, Any]) -> None:
    """Adds a line of JSON to a log, with the time.

    Raises:
      OSError: it cannot be written.
    """
    line = {"at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), **told}
    with file.open("a", encoding="utf-8", errors="backslashreplace") as log:
        log.write(json.dumps(line, ensure_ascii=False) + "\n")
