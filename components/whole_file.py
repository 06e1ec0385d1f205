"""Writing a file that somebody may be reading, or writing, at the same time."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_whole(file: Path, content: bytes) -> None:
    """Writes a file whole or not at all, by one rename; several processes may write the same one."""
    # Not the process's number: in two containers it is the same.
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
