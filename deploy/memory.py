"""How much memory is left."""

from __future__ import annotations

import contextlib
from pathlib import Path

MEMORY_FILE = Path("/proc/meminfo")
# (limit, used) of this container, as cgroups of version 2 and of version 1 have it.
LIMITS = tuple(
    (Path("/sys/fs/cgroup", limit), Path("/sys/fs/cgroup", used))
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    )
)


def available() -> float | None:
    """Bytes that a process can still allocate within the machine and this container; None: unknown."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in MEMORY_FILE.read_text(encoding="ascii").splitlines() if ":" in line)
        found.append(float(lines.get("MemAvailable", "").split()[0]) * 1024)
    for limit, used in LIMITS:
        with contextlib.suppress(OSError, ValueError):  # `max`: no limit
            found.append(max(0.0, float(limit.read_text()) - float(used.read_text())))
    return min(found) if found else None
