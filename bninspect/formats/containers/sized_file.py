"""A read-only file of known size over something that gives bytes by their place."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class SizedFile(io.RawIOBase, ABC):
    """An open file of `size` bytes, for reading."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._position = 0

    @abstractmethod
    def _fill(self, start: int, view: memoryview) -> int:
        """Write the bytes from `start` on into `view`, which ends within the file, and return how many."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place. Raises ValueError if it is before the file."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError(f"seek to {origin + offset}")
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read as much as there is room for, and return how many bytes that were."""
        view = memoryview(buffer).cast("B")[: max(0, self._size - self._position)]
        count = self._fill(self._position, view)
        self._position += count
        return count
