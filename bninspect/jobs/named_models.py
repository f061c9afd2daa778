"""Which models there are: files as they are named, folders searched, patterns filled in."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bninspect.errors import NothingToCheck
from bninspect.safe_text import matches
from bninspect.stores.names import is_url

Search = Callable[[str], tuple[str, ...]]

_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Gathered:
    """What the arguments of a command stand for."""

    models: tuple[str, ...]
    """Each once, in the order of the arguments; what a folder holds in the order of the names."""
    searched: tuple[str, ...]
    """The folders and patterns among the arguments."""
    vain: tuple[str, ...]
    """Those of them that gave nothing."""


def gather(arguments: Iterable[str], find: Search) -> Gathered:
    """Return the models that the arguments stand for.

    Args:
        arguments: paths of files and folders, prefixes of checkpoints, and patterns where no file has that very name.
            What is not there is passed on: reading it says what is wrong.
        find: searches one folder; a folder that is a model as a whole is all that it finds there.
    """
    models: dict[str, str] = {}
    searched, vain = [], []
    for argument in arguments:
        if is_url(argument):
            models[argument] = argument
            continue
        found: tuple[str, ...] = (argument,)
        if not os.path.lexists(argument) and _PATTERN.search(argument):
            found = tuple(sorted(glob.glob(argument, recursive=True)))  # noqa: PTH207 - keeps the path as it was given
            searched.append(argument)
        folders = {path: find(path) for path in found if os.path.isdir(path)}  # noqa: PTH112
        searched.extend(path for path, inside in folders.items() if inside != (path,) and path == argument)
        each = [model for path in found for model in folders.get(path, (path,))]
        if not each:
            vain.append(argument)
        for model in each:
            models.setdefault(os.path.abspath(model), str(Path(model)))  # noqa: PTH100 - keeps what a link is called
    return Gathered(tuple(models.values()), tuple(searched), tuple(vain))


def nothing(path: str) -> NothingToCheck:
    """Return the error of a folder or pattern that stands for no model."""
    folder = os.path.isdir(path)  # noqa: PTH112
    return NothingToCheck(
        "no model found",
        why="nothing in this folder ends as a model does" if folder else "no file fits this pattern",
        hint="bninspect doctor lists the formats; pass --allow-empty if there may be none",
    )


def covers(searched: str, path: str) -> bool:
    """Return whether a folder or pattern is where a model of that path would have been found."""
    place = os.path.normpath(searched)
    return place == "." or path.startswith(os.path.join(place, "")) or matches(path, (place,))  # noqa: PTH118
