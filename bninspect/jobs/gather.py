"""Which models there are: files as they are named, folders searched, patterns filled in.

A folder is searched in the reading process, because whether a file is a model is told from its content.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bninspect.errors import NothingToCheck
from bninspect.safe_text import matches

if TYPE_CHECKING:
    from bninspect.formats import Format

Search = Callable[[str], tuple[str, ...]]

_PATTERN = re.compile(r"[*?\[]")

_SHARED_SUFFIXES = frozenset({".pb", ".npz", ".msgpack"})
"""Endings that other files have too: there the content decides. A file with any other ending of a model is one, so
that a damaged one is an error and never passed over."""

# What belongs to a folder that is a model as a whole; anything else in it is looked at.
_MEMBERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "saved-model": (
            "saved_model.pb*",
            "keras_metadata.pb",
            "fingerprint.pb",
            "variables",
            "assets",
            "assets.extra",
        ),
        "keras-zip": ("config.json", "metadata.json", "model.weights.h5", "model.weights.npz", "assets"),
    }
)
_KERAS_SHARD = re.compile(r"_\d{5}\.weights\.h5\Z")
"""Of weights in several files, which an index beside them lists: that is the model."""


@dataclass(frozen=True)
class FolderModels:
    """What the search of one folder gave."""

    models: tuple[str, ...]


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
        hint="bninspect doctor lists the formats; --allow-empty makes this a success",
    )


def covers(searched: str, path: str) -> bool:
    """Return whether a folder or pattern is where a model of that path would have been found."""
    place = os.path.normpath(searched)
    return place == "." or path.startswith(os.path.join(place, "")) or matches(path, (place,))  # noqa: PTH118


def search(arguments: Mapping[str, Any], _arrays: list[Any], progress: Callable[[str], None]) -> FolderModels:
    """Search the folder `arguments["path"]`: a task of the reading process. A model is all that it finds."""
    from bninspect.formats import FORMATS

    top = str(arguments["path"])
    found = tuple(_inside(top, progress))
    claimed = any(known.matches(Path(top), b"") for known in FORMATS)
    # Several checkpoints of one training are one model, as their folder says, unless other models lie beside them.
    if claimed and all(Path(one).parent == Path(top) and one.endswith(".index") for one in found):
        found = (top,)
    return FolderModels((top,) if top in found else found)


def _inside(top: str, progress: Callable[[str], None]) -> Iterator[str]:
    """Yield the models in a folder: of each folder its files first, in the order of their names.

    Hidden folders and links to folders are not entered. A folder that cannot be listed is yielded itself, so that it
    becomes an error.
    """
    from bninspect.formats import FORMATS

    unlisted: list[str] = []
    for folder, inner, names in os.walk(top, onerror=lambda error: unlisted.append(str(error.filename))):
        progress(f"searching {folder}")
        own: tuple[str, ...] = ()
        for known in FORMATS:
            if known.name in _MEMBERS and known.matches(Path(folder), b""):
                yield folder
                own = _MEMBERS[known.name]
        inner[:] = sorted(name for name in inner if not name.startswith(".") and not matches(name, own))
        for name in sorted(names):
            if not matches(name, own) and _is_model(Path(folder, name), names, FORMATS):
                yield os.path.join(folder, name)  # noqa: PTH118 - keeps the path as it was given
    yield from unlisted


def _is_model(path: Path, beside: list[str], formats: tuple[Format, ...]) -> bool:
    endings = [one for known in formats for one in known.suffixes if path.name.endswith(one)]
    if not endings or f"{_KERAS_SHARD.sub('', path.name)}.weights.json" in beside:
        return False
    if ".index" in endings:
        return any(name.startswith(f"{path.name.removesuffix('.index')}.data-") for name in beside)
    if not path.is_file():
        return path.is_symlink()  # to nothing: an error, and no pipe that would have to be waited for
    if _SHARED_SUFFIXES.isdisjoint(endings):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return True
    if ".npz" in endings:
        return head[30:].startswith(b"__bninspect__.npy") or _is_placeholder(head)
    return _is_placeholder(head) or any(known.matches(path, head) for known in formats)


def _is_placeholder(head: bytes) -> bool:
    """Return whether the content that should be here is missing: it cannot be told to be no model."""
    from bninspect.formats.identify import LFS_POINTER

    return head.startswith(LFS_POINTER) or not head.strip(b"\0")
