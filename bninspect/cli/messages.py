"""Messages on standard error. Standard output is for results alone."""

from __future__ import annotations

import click

from bninspect.names import printable

LONGEST = 2000
"""Characters of a message that are shown."""


def show_error(what: str, why: str = "", hint: str = "") -> None:
    """Print an error in its three lines; what comes from a file is made inert."""
    say(f"error: {printable(what, LONGEST)}")
    if why:
        say(f"  why: {printable(why, LONGEST)}")
    if hint:
        say(f"  hint: {printable(hint, LONGEST)}")


def say(line: str) -> None:
    """Print one line on standard error."""
    click.echo(line, err=True)
