"""A file as bytes, with a limit: what a stranger's file may cost is known before a byte of it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from bninspect.errors import LimitExceeded, UnreadableFile
from bninspect.safe_text import printable

LARGEST = 2 << 30


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """Open a file whose parts are read. Raises UnreadableFile, also if that fails within the context."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise UnreadableFile(f"{printable(str(path))} cannot be read", why=error.strerror or str(error)) from error


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits. Raises UnreadableFile."""
    import hashlib

    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path, most: int | None = None) -> bytes:
    """Return the bytes of a file.

    Args:
        path: the file.
        most: bytes that it may have; `LARGEST` if that is not said.

    Raises:
        LimitExceeded: it has more.
        UnreadableFile: it cannot be read.
    """
    label, most = printable(str(path)), LARGEST if most is None else most
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size > most:
                raise LimitExceeded(f"{label} is too large", why=f"{size} bytes, at most {most} are read")
            file.seek(0)
            return file.read(size)
    except OSError as error:
        raise UnreadableFile(f"{label} cannot be read", why=error.strerror or str(error)) from error
