"""Peak resident memory of this process while something ran, as Linux measures it."""

from __future__ import annotations

from pathlib import Path

_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"  # the code for it, see proc(5)


def reset() -> bool:
    """Resets the peak; returns whether that is possible here."""
    try:
        _RESET.write_text(_RESET_PEAK)
    except OSError:  # another system, or a sandbox that does not let processes write there
        return False
    return True


def megabytes() -> float | None:
    """The peak since `reset`, in millions of bytes; None: the system does not report it.

    It covers the whole process, including libraries that earlier steps loaded, but not the processes that it starts.
    """
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return None
