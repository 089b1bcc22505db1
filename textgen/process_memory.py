"""How much memory this process has, as the system counts it, and how it is given back."""

import mmap
import sys
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")


def resident_bytes() -> int | None:
    """What is in memory now; None where the system does not tell (it is not Linux)."""
    return _from_status("VmRSS:")


def peak_resident_bytes() -> int | None:
    """The most there ever was; None where the system does not tell (Windows)."""
    peak = _from_status("VmHWM:")
    if peak is not None or sys.platform == "win32":
        return peak
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _from_status(name: str) -> int | None:
    """A line of Linux's own account, ``VmRSS:     1234 kB``.

    Its peak is of this program alone; ``getrusage`` tells also of what was forked from.
    """
    try:
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(name):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return None


def let_go(array: Any) -> None:
    """Give back the memory of what was read of a mapped file, which else grows to all of it."""
    mapping = getattr(array, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
