"""The place of an array in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.formats.encodings.protobuf import varint
from bninspect.records import Array
from bninspect.safe_text import printable

New: TypeAlias = Mapping[str, Mapping[str, Array]]
"""By layer and parameter, numbers of the type that the file keeps them in."""


@dataclass(frozen=True)
class ArrayPlace:
    """So many numbers of one type, one after the other."""

    start: int
    """In bytes, from the beginning of the file."""
    dtype: np.dtype[Any]
    """With its byte order."""
    count: int
    member: str = ""
    """The member of the zip that holds them; empty for no zip."""

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


_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5


def fields(content: bytes, position: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type, and where the value begins and ends, of each field of a message."""
    while position < (len(content) if end is None else end):
        key, start = varint(content, position)
        number, wire = key >> 3, key & 7
        if wire == _BYTES:
            length, start = varint(content, start)
            position = start + length
        elif wire == _VARINT:
            _, position = varint(content, start)
        elif wire in {_EIGHT, _FOUR}:
            position = start + (8 if wire == _EIGHT else 4)
        else:
            return
        yield number, wire, start, position
