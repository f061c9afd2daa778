"""`.keras`: config.json, metadata.json and model.weights.h5, in a zip or, with `zipped=False`, in a folder.

Written by Keras 3 and, as tf.keras or tf_keras, by Keras 2.12 and later. The configuration says which batch norms
there are and where their arrays must be (keras_layout.py). What it does not describe, inside custom layers and
subclassed models, is found by its arrays (keras_discovery.py) and has no known epsilon.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bninspect.errors import BninspectError, DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats.containers.hdf5 import open_file
from bninspect.formats.containers.siblings import sibling
from bninspect.formats.containers.zip_archive import open_archive
from bninspect.formats.format import Format
from bninspect.formats.keras.config import TEXT_CHARACTERS, load, parse
from bninspect.formats.keras.pairing import pair
from bninspect.formats.keras.saved_objects import collect
from bninspect.formats.keras.weights import is_legacy
from bninspect.formats.unknown_files import ZIP_SIGNATURE
from bninspect.records import Checkpoint

NAME = "keras-zip"
CONFIG, METADATA, WEIGHTS, NPZ = "config.json", "metadata.json", "model.weights.h5", "model.weights.npz"
METADATA_BYTES = 1 << 20


@dataclass(frozen=True)
class _Members:
    """The members of the zip or of the folder."""

    names: frozenset[str]
    read: Callable[[str, int], bytes]
    """Return a member, which may have at most so many bytes."""
    open: Callable[[str], Path | BinaryIO]
    """Return a member as something that HDF5 can be read from."""


def matches(path: Path, head: bytes) -> bool:
    """Return whether this is a zip or a folder with the members of a `.keras` file. A SavedModel folder is none."""
    try:
        if path.is_dir():
            names = {member.name for member in path.iterdir()}
            return CONFIG in names and not names.isdisjoint({WEIGHTS, NPZ}) and "saved_model.pb" not in names
        if not head.startswith(ZIP_SIGNATURE):
            return False
        with open_archive(path) as archive:
            return not {CONFIG, WEIGHTS, NPZ}.isdisjoint(archive.names())
    except (BninspectError, OSError):
        # The directory at the end cannot be read, but the first member at the beginning perhaps can.
        return any(head.startswith(name.encode(), 30) for name in (METADATA, CONFIG, WEIGHTS))


def read(path: Path) -> Checkpoint:
    """Read a `.keras` file or folder.

    Raises:
        UnreadableFile: a member is missing, damaged or unsafe, or the members contradict each other.
    """
    label = str(path)
    with _opened(path) as members:
        if NPZ in members.names and WEIGHTS not in members.names:
            raise UnreadableFile(
                f"{label} keeps its weights in {NPZ}",
                why="its arrays are pickled Python objects, and reading a pickle runs the code in it",
                hint="save the model again without weights_format='npz'",
            )
        text = _text(members, CONFIG, TEXT_CHARACTERS, label)
        architecture = parse(text, f"{label}: {CONFIG}")
        version = _version(members, label)
        with open_file(members.open(WEIGHTS), f"{label}: {WEIGHTS}") as root:
            if is_legacy(root):
                # Nobody writes this, but what a framework makes of the file would depend on its suffix.
                raise UnsafeFile(f"{label} is two models in one", why=f"{WEIGHTS} is a whole model of its own")
            layers, notes = pair(architecture, collect(root), _numbers(version), label)
    return Checkpoint(label, NAME, f"Keras {version}" if version else "", layers, notes, text, architecture.code)


@contextmanager
def _opened(path: Path) -> Iterator[_Members]:
    label = str(path)
    if not path.is_dir():
        with open_archive(path) as archive:
            yield _Members(frozenset(archive.names()), archive.read, archive.stream)
        return

    def read_file(name: str, limit: int) -> bytes:
        with sibling(path, name, label).open("rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise UnsafeFile(f"{label} is too large", why=f"{name} has over {limit:,} bytes")
        return content

    names = frozenset(member.name for member in path.iterdir())
    yield _Members(names, read_file, lambda name: sibling(path, name, label))


def _text(members: _Members, name: str, limit: int, label: str) -> str:
    try:
        return members.read(name, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedFile(f"{label} is damaged", why=f"{name} is not UTF-8 text: {error}") from error


def _version(members: _Members, label: str) -> str:
    """Return the version of Keras that wrote the file; empty where it does not say."""
    if METADATA not in members.names:
        return ""
    metadata = load(_text(members, METADATA, METADATA_BYTES, label), f"{label}: {METADATA}")
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) else ""


def _numbers(version: str) -> tuple[int, int]:
    """Return (major, minor); those of Keras 3, whose files they mostly are, where the file does not say."""
    match = re.match(r"(\d{1,4})\.(\d{1,4})", version)
    return (int(match[1]), int(match[2])) if match else (3, 0)


FORMAT = Format(NAME, "Keras 3 model (.keras)", (".keras",), matches, read)
