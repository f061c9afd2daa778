"""The place of an array in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.records import Array
from bninspect.safe_text import printable


@dataclass(frozen=True)
class ArrayPlace:
    """So many numbers of one type, one after the other."""

    start: int
    """In bytes, from the beginning of the file."""
    dtype: np.dtype[Any]
    """With its byte order."""
    count: int

    @property
    def end(self) -> int:
        """Where they end."""
        return self.start + self.count * self.dtype.itemsize

    def read(self, content: bytes | bytearray) -> Array:
        """Return the numbers."""
        return np.frombuffer(bytes(content[self.start : self.end]), self.dtype)

    def write(self, content: bytearray, values: Array) -> None:
        """Put other numbers there, which are of its type already."""
        content[self.start : self.end] = values.astype(self.dtype).tobytes()


def refusal(name: str, why: str) -> RuntimeFailure:
    """Return the error of a layer whose statistics cannot be replaced in its file."""
    return RuntimeFailure(
        f"the statistics of {printable(name)} cannot be replaced in the file",
        why=why,
        hint="leave it as it is with --exclude-layer, or name a file of weights of the same model with --into",
    )
