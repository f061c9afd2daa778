"""Run the command line as a user does, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LISTENING = "signal.signal(signal.SIGINT, signal.default_int_handler)"
"""For `after`: Ctrl-C interrupts the command, also where these tests run in the background and must ignore it."""
HANGUP_ENDS = "signal.signal(signal.SIGHUP, signal.SIG_DFL)"
"""For `after`: a closed terminal ends the command, also where these tests run under nohup."""
IN_BACKGROUND = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
"""For `after`: as a shell starts what is to run in the background."""


def after(preparation: str, *arguments: str | Path) -> list[str]:
    """Return the command line of a process that prepares itself, as a line of Python says, and becomes bninspect."""
    become = "os.execv(sys.executable, [sys.executable, '-P', '-m', 'bninspect', *sys.argv[1:]])"
    return [sys.executable, "-c", f"import os, signal, sys; {preparation}; {become}", *map(str, arguments)]


def bninspect(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "bninspect", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        check=False,
    )
