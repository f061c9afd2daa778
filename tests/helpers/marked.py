"""Processes that carry a mark in their environment, and with it all that they started."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import psutil

_PATIENCE = 60.0
"""Seconds until a test is given up: nothing takes as long, not even on a busy machine."""


def marked() -> dict[str, str]:
    """Return an environment that no other process has."""
    return {**os.environ, "BNINSPECT_TEST_MARK": uuid.uuid4().hex}


def alive(environment: dict[str, str]) -> list[str]:
    """Return the command lines of the processes that have this environment."""
    found = []
    for process in psutil.process_iter():
        try:
            own = process.environ().get("BNINSPECT_TEST_MARK") == environment["BNINSPECT_TEST_MARK"]
            if own and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline())[:200])
        except (psutil.Error, OSError):
            continue
    return found


def wait_for(note: Path) -> None:
    """Wait until a file is there."""
    until = time.monotonic() + _PATIENCE
    while not note.exists():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.02)


def wait_for_the_end(environment: dict[str, str], but: int = 0) -> None:
    """Wait until no process has this environment any more, but so many; those that stay fail the test."""
    until = time.monotonic() + _PATIENCE
    while len(left := alive(environment)) > but:
        assert time.monotonic() < until, left
        time.sleep(0.05)
