"""What a supervised process may use."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from bninspect.settings import DATA_SECONDS, READ_BYTES, READ_SECONDS, RUN_SECONDS, Settings


@dataclass(frozen=True)
class WorkerLimits:
    """What one call may use: seconds of wall time, and bytes of memory (address space, or resident if `watched`)."""

    seconds: float
    memory: int
    watched: bool = False
    """Frameworks map far more than they use, so their resident memory is watched instead of their address space."""


def reading_limits(settings: Settings) -> WorkerLimits:
    """Return the limits of a process that reads."""
    return WorkerLimits(settings.timeout or READ_SECONDS, settings.max_memory or READ_BYTES)


def running_limits(settings: Settings) -> WorkerLimits:
    """Return the limits of a process that runs frameworks. Several share the memory of the machine."""
    seconds = settings.timeout or (DATA_SECONDS if settings.data else RUN_SECONDS)
    return WorkerLimits(seconds, settings.max_memory or machine_memory() // settings.jobs, watched=True)


def machine_memory() -> int:
    """Return the bytes of memory that a framework may use: 80 % of this machine or of its control group."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        total = 16_000_000_000
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total * 4 // 5
