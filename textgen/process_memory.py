"""The memory of this process, as the system counts it."""

import contextlib
import mmap
import sys
from pathlib import Path
from typing import Any


def resident_bytes() -> int | None:
    """The resident memory now; None if the system does not report it (other than Linux)."""
    return _from_status("VmRSS:")


def peak_resident_bytes() -> int | None:
    """The largest resident memory so far; None if the system does not report it (Windows)."""
    # Of this program alone: getrusage includes the process it was forked from.
    peak = _from_status("VmHWM:")
    if peak is not None or sys.platform == "win32":
        return peak
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _from_status(name: str) -> int | None:
    """The value of a line of Linux's status file, such as ``VmRSS:     1234 kB``, in bytes."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith(name):
                return 1024 * int(line.split()[1])
    return None


def release_pages(array: Any) -> None:
    """Release the pages of a mapped file that were read; otherwise all of it stays in memory."""
    mapping = getattr(array, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
