"""A process and all that it started: who they are, what memory they hold, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

_PROC = Path("/proc/self/statm").exists()


def members(pid: int) -> tuple[int, ...]:
    """Return a process and what it started, and what that started, as far as the system tells."""
    found = [pid]
    for member in found:  # which grows meanwhile
        found += [child for child in _children(member) if child not in found]
    return tuple(found)


def _children(pid: int) -> list[int]:
    if not _PROC:
        return _children_by_psutil(pid)
    children: list[int] = []
    # Each thread has its own; a process or thread that ends meanwhile has none any more.
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - twenty times a second
            with contextlib.suppress(OSError):
                children += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return children


def _children_by_psutil(pid: int) -> list[int]:
    try:
        import psutil

        return [child.pid for child in psutil.Process(pid).children()]
    except (ImportError, psutil.Error):
        return []


def exceeds(pid: int, memory: int) -> bool:
    """Return whether a process and all that it started hold more than `memory` bytes; no where nobody can tell.

    What they share counts once, where the system tells: a process that forks does not take its memory twice.
    """
    family = members(pid)
    if sum(map(resident, family)) <= memory:
        return False
    return len(family) == 1 or sum(map(_proportional, family)) > memory


def resident(pid: int) -> int:
    """Return the resident bytes of a process; 0 where the system does not tell, and psutil is not there."""
    try:
        if _PROC:
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return _resident_by_psutil(pid)
    except (OSError, ValueError, IndexError):
        return 0


def _resident_by_psutil(pid: int) -> int:
    try:
        import psutil

        return int(psutil.Process(pid).memory_info().rss)
    except (ImportError, psutil.Error):
        return 0


def _proportional(pid: int) -> int:
    """Return the resident bytes of a process, a page that several share divided among them (Linux: Pss)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return resident(pid)


def end(pid: int) -> None:
    """Kill a process that leads a group, the group, and what it started that has left the group."""
    family = members(pid)
    if sys.platform == "win32":
        for member in family:
            with contextlib.suppress(OSError):
                os.kill(member, signal.SIGTERM)  # which Windows does at once, whatever it is called
        return
    for member in family[1:]:
        with contextlib.suppress(OSError):
            if os.getpgid(member) != pid:
                os.kill(member, signal.SIGKILL)
    # The last step: whoever calls may belong to the group.
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: permission, if only zombies are left
        os.killpg(pid, signal.SIGKILL)
