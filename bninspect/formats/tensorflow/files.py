"""The files of TensorFlow's formats: read whole, with a limit, and known again by their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bninspect.formats import whole_file
from bninspect.formats.containers import parts

MOST_BYTES = 1 << 30
"""Of a graph; protocol buffers end at 2 GB."""


def whole(path: Path) -> bytes:
    """Return the bytes of a file. Raises as `whole_file.read`, for what is larger than any graph."""
    return whole_file.read(path, MOST_BYTES)


@contextmanager
def counted(paths: Sequence[Path]) -> Iterator[Callable[[], tuple[int, str | None]]]:
    """Start to compute the digest of files that are being read; yield what returns their bytes and their digest.

    Beside the reading, because hashing a large file takes longer than reading its batch norms. Files elsewhere, which
    are read in part, have no digest.
    """
    if any(map(parts.is_elsewhere, paths)):
        yield lambda: (sum(path.stat().st_size for path in paths), None)
        return
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(digest, paths)
        yield lambda: (sum(path.stat().st_size for path in paths), future.result())


def digest(paths: Iterable[Path]) -> str:
    """Return the SHA-256, in hexadecimal digits, of the names and SHA-256 digests of several files."""
    listing = hashlib.sha256()
    for path in paths:
        listing.update(f"{whole_file.digest(path)}  {path.name}\n".encode(errors="surrogateescape"))
    return listing.hexdigest()
