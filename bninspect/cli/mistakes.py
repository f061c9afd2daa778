"""What is said of wrong usage: the mistake that click has found, why it is one, and what was probably meant."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence

import click

from bninspect.safe_text import nearest

_QUOTED = re.compile(r"'([^']*)'")


def told(error: click.UsageError, commands: Sequence[str]) -> tuple[str, str, str]:
    """Return what is wrong, why, and the act that mends it, each of which may be empty but the first.

    Args:
        error: what click found.
        commands: those that there are.
    """
    if isinstance(error, click.MissingParameter):
        return *_missing(error), _help_of(error.ctx)
    quoted = _QUOTED.search(error.message)
    word, what = quoted[1] if quoted else "", error.format_message()
    if error.message.endswith("is not readable."):
        return what, "Permission denied", f"chmod +r{'x' * os.path.isdir(word)} {shlex.quote(word)}"  # noqa: PTH112
    if error.message.endswith("does not exist."):
        if _closed(word):
            return what.replace("does not exist", "cannot be reached"), "Permission denied", ""
        return what, "", _meant(word, _beside(word))
    if isinstance(error, click.BadParameter) and error.param is not None:
        known: Sequence[str] = [str(choice) for choice in getattr(error.param.type, "choices", ())]
    else:
        known = commands if error.message.startswith("No such command") else ()
    return what, "", _meant(word, known) or _help_of(error.ctx)


def _missing(error: click.MissingParameter) -> tuple[str, str]:
    """Return which argument or option is missing, and what it may be."""
    choices = error.param.type.choices if error.param and isinstance(error.param.type, click.Choice) else ()
    what = error.format_message().partition(". ")[0].removesuffix(".")  # click lists choices one a line
    return what, f"known are {', '.join(map(str, choices))}" if choices else ""


def _meant(word: str, known: Sequence[str]) -> str:
    near = nearest(word, known, cutoff=0.5) if word not in known else ""
    return f"did you mean {near!r}?" if near else ""


def _closed(path: str) -> bool:
    """Return whether it cannot be seen if there is something at a path."""
    try:
        os.stat(path)  # noqa: PTH116
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _beside(path: str) -> list[str]:
    """Return the paths in the folder of a path that is not there."""
    folder = os.path.dirname(path)  # noqa: PTH120 - as it was typed, `./` included
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder or ".")]  # noqa: PTH118, PTH208
    except (OSError, ValueError):
        return []


def _help_of(context: click.Context | None) -> str:
    return f"{context.command_path if context else 'bninspect'} --help lists what there is"
