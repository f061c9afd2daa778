"""Which models a folder holds: a task of the reading process, because their content tells.

A model that consists of several files is one, whatever belongs to it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bninspect.formats import FORMATS
from bninspect.formats.unknown_files import LFS_POINTER, foreign_folder
from bninspect.safe_text import matches

_SHARED_SUFFIXES = frozenset({".pb", ".npz", ".msgpack", ".xml", ".weights", ".json", ".param"})
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
_PARTS = re.compile(r"_\d{5}\.weights\.h5\Z|\.data-\d{5}-of-\d{5}\Z|\A(?:checkpoint|fingerprint\.pb)\Z")
"""Of models whose other files are found: they are not passed over."""


@dataclass(frozen=True)
class FolderModels:
    """What the search of one folder gave."""

    models: tuple[str, ...]
    passed: Mapping[str, int] = field(default_factory=dict)
    """Files that were passed over, by their ending; those that belong to a model are none."""


def search(arguments: Mapping[str, Any], _arrays: list[Any], progress: Callable[[str], None]) -> FolderModels:
    """Search the folder `arguments["path"]`; a folder that is a model as a whole is all that it finds."""
    top = str(arguments["path"])
    passed: Counter[str] = Counter()
    found = tuple(_inside(top, progress, passed))
    if top in found:
        return FolderModels((top,))
    claimed = any(known.matches(Path(top), b"") for known in FORMATS)
    # Several checkpoints of one training are one model, as their folder says, unless other models lie beside them.
    if claimed and all(Path(one).parent == Path(top) and one.endswith(".index") for one in found):
        return FolderModels((top,))
    return FolderModels(found, dict(passed.most_common()))


def _inside(top: str, progress: Callable[[str], None], passed: Counter[str]) -> Iterator[str]:
    """Yield the models in a folder: of each folder its files first, in the order of their names.

    Hidden folders and links to folders are not entered. A folder that cannot be listed or entered is yielded itself,
    so that it becomes an error. What is passed over is counted in `passed`.
    """
    unlisted: list[str] = []
    for folder, inner, names in os.walk(top, onerror=lambda error: unlisted.append(str(error.filename))):
        progress(f"searching {folder}")
        if not os.access(folder, os.X_OK) or foreign_folder((*inner, *names)) is not None:
            yield folder  # reading it says what it is: a model that nobody looked at is not an empty folder
            inner.clear()
            continue
        own: tuple[str, ...] = ()
        for known in FORMATS:
            if known.name in _MEMBERS and known.matches(Path(folder), b""):
                yield folder
                own = _MEMBERS[known.name]
        inner[:] = sorted(name for name in inner if not name.startswith(".") and not matches(name, own))
        for name in sorted(names):
            if matches(name, own):
                continue
            if _is_model(Path(folder, name), names):
                yield os.path.join(folder, name)  # noqa: PTH118 - keeps the path as it was given
            elif not _PARTS.search(name):
                passed[Path(name).suffix.lower()] += 1
    yield from unlisted


def _is_model(path: Path, beside: list[str]) -> bool:
    endings = [suffix for known in FORMATS for suffix in known.suffixes if path.name.lower().endswith(suffix)]
    if not endings or f"{_KERAS_SHARD.sub('', path.name)}.weights.json" in beside:
        return False
    if ".index" in endings:
        return any(name.startswith(f"{path.name.removesuffix('.index')}.data-") for name in beside)
    if not path.is_file():
        return path.is_symlink()  # to nothing: an error, and no pipe that would have to be waited for
    if not _SHARED_SUFFIXES.issuperset(endings):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return True
    if ".npz" in endings:
        return head[30:].startswith(b"__bninspect__.npy") or _is_placeholder(head)
    return _is_placeholder(head) or any(known.matches(path, head) for known in FORMATS)


def _is_placeholder(head: bytes) -> bool:
    """Return whether the content that should be here is missing: nobody can tell that it is not a model."""
    return head.startswith(LFS_POINTER) or not head.strip(b"\0")
