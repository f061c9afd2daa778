"""Messages on standard error. Standard output is for results alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from bninspect.errors import BninspectError
from bninspect.safe_text import printable

NOT_WRITTEN = "the result cannot be written to standard output"
LONGEST = 2000
"""Characters of a message that are shown."""


def show_error(what: str, why: str = "", hint: str = "") -> None:
    """Print an error in its three lines; what comes from a file is made inert."""
    say(f"error: {printable(what, LONGEST)}")
    if why:
        say(f"  why: {printable(why, LONGEST)}")
    if hint:
        say(f"  hint: {printable(hint, LONGEST)}")


def width() -> int | None:
    """Return the width of the terminal; None for a pipe, where rows are never shortened."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


@contextmanager
def to_whoever_reads() -> Iterator[None]:
    """Write to standard output; if its reader has gone, as `| head` does, let it go nowhere from now on.

    The command goes on to its end: its exit code is that of its findings, and other reports are still to be written.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered
        raise BninspectError(NOT_WRITTEN, why=error.strerror or str(error)) from error


def say(line: str) -> None:
    """Print one line on standard error; to nobody, if the terminal has been closed."""
    with suppress(OSError):
        click.echo(line, err=True)
