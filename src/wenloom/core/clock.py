"""When this program began, by the clock that a budget of time is kept by."""

import os
import time
from pathlib import Path

_STAT = Path("/proc/self/stat")
_LONGEST_START = 30.0
"""Seconds; a process that is older did something else before (a notebook, a server)."""


def command_began() -> float:
    """When the process of this command was started, as `time.monotonic` counts; now where nobody tells, or where the
    process is older than a command takes to start."""
    now = time.monotonic()
    try:
        ticks = float(_STAT.read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return now
    return now - age if 0 <= age <= _LONGEST_START else now
