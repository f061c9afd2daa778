"""The task of the reading process: one file to a Checkpoint, with the digest of the bytes that were read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from bninspect import formats
from bninspect.records import Checkpoint

_PIECE = 1 << 20


def read(arguments: Mapping[str, Any], _arrays: list[Any], _progress: Callable[[str], None]) -> Checkpoint:
    """Read the file `arguments["path"]`; `arguments["digest"]` says whether to hash it as well.

    The digest is computed beside the reading, because hashing a large file takes as long as reading its batch norms.
    """
    path = Path(arguments["path"])
    if path.is_dir():
        return replace(formats.read(path), bytes=size(path))
    if not path.is_file():  # The prefix of a checkpoint; what there is of it, its reader counts.
        return formats.read(path)
    if not arguments["digest"]:
        return replace(checkpoint := formats.read(path), bytes=checkpoint.bytes or path.stat().st_size)
    from concurrent.futures import ThreadPoolExecutor

    refused = Event()
    with ThreadPoolExecutor(1) as pool:
        sha256 = pool.submit(_digest, path, refused)
        try:
            checkpoint = formats.read(path)
        except BaseException:
            refused.set()  # the pool waits for the digest, which of gigabytes that are not read takes minutes
            raise
        # Of a model in several files the reader says which, and what is their digest.
        return replace(
            checkpoint,
            bytes=checkpoint.bytes or path.stat().st_size,
            sha256=checkpoint.sha256 or sha256.result(),
        )


def read_parts(arguments: Mapping[str, Any], _arrays: list[Any], _progress: Callable[[str], None]) -> Checkpoint:
    """Read the model elsewhere whose file `arguments["path"]` names, which has `arguments["size"]` bytes.

    What is read of it, and of files beside it, comes from the supervisor. There is no digest of what is not read whole.
    """
    from bninspect.formats.containers import parts

    with parts.path(str(arguments["path"]), int(arguments["size"])) as path:
        checkpoint = formats.read(path)
    return replace(checkpoint, bytes=int(arguments["size"]), sha256=None)


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder; one that is gone meanwhile, or leads nowhere, has none."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.path.getsize(os.path.join(place, name))  # noqa: PTH118, PTH202 - as os.walk has them
    return total


def _digest(path: Path, refused: Event) -> str:
    """Return the SHA-256 of a file in hexadecimal digits; of a file that is refused meanwhile, of its beginning."""
    import hashlib

    found = hashlib.sha256()
    with path.open("rb") as file:
        while not refused.is_set() and (piece := file.read(_PIECE)):
            found.update(piece)
    return found.hexdigest()
