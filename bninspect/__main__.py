"""The entry point of the command `bninspect`."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

READING = ("inspect", "verify", "drift", "recalibrate", "lint", "diff", "export", "vectors")
"""The commands that read files, in a process that can import what it needs while this one imports click."""


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:]
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in start.py
    if arguments and arguments[0] in READING and not {"-h", "--help"}.intersection(arguments):
        from bninspect.settings import Settings
        from bninspect.workers import start, tasks
        from bninspect.workers.limits import reading_limits

        # With limits on the command line it is started for nothing, and replaced.
        start.prestart(reading_limits(Settings()), tasks.read_file)
    from bninspect.cli import run

    code = run(arguments)
    # Everything is written and every process of ours ended: taking the interpreter apart, module by module, would only
    # take time, up to a tenth of that of a short command.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or nobody reads it any more
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
