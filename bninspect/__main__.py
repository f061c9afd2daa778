"""The entry point of the command `bninspect`."""

from __future__ import annotations

import sys

READING = ("inspect", "verify", "lint", "diff", "export", "vectors")
"""The commands that read files, in a process that can import what it needs while this one imports click."""


def main() -> None:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in READING and not {"-h", "--help"}.intersection(arguments):
        from bninspect import worker
        from bninspect.settings import Settings

        # With limits on the command line it is started for nothing, and replaced.
        worker.prestart(worker.reading_limits(Settings()), worker.READ)
    from bninspect.cli import run

    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
