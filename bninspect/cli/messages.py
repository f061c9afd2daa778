"""What goes to standard error: errors, warnings and progress. Standard output is for results alone."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

import click

from bninspect.names import printable

_LONGEST = 2000


def show_error(what: str, why: str = "", hint: str = "") -> None:
    """Print an error in its three lines; what comes from a file is made inert."""
    say(f"error: {printable(what, _LONGEST)}")
    if why:
        say(f"  why: {printable(why, _LONGEST)}")
    if hint:
        say(f"  hint: {printable(hint, _LONGEST)}")


def say(line: str) -> None:
    """Print one line on standard error."""
    click.echo(line, err=True)


class Progress:
    """One line on a terminal that says what is going on, after the first second; nothing elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._wanted = not quiet and sys.stderr.isatty()
        self._since = time.monotonic()
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def __call__(self, text: str) -> None:
        """Replace the line."""
        if self._wanted and time.monotonic() - self._since > 1:
            width = max(20, click.get_current_context().max_content_width or 79)
            click.echo(f"\r\x1b[2K{printable(text, width)}", nl=False, err=True)
            self._shown = True

    def complain(self, line: str) -> None:
        """Show a line of a worker's standard error."""
        self.clear()
        say(printable(line, _LONGEST))

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            click.echo("\r\x1b[2K", nl=False, err=True)
            self._shown = False
