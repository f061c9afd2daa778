"""A flatbuffer walked by hand, as https://flatbuffers.dev/internals/ describes it: no offset is followed unchecked.

Why not the `flatbuffers` package: it trusts what it reads (CVE-2020-15211 and its kin began with an index that a file
stated), it needs classes generated from the schema, and a reader of ten fields takes a page.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.formats.encodings.protobuf import Buffer
from bninspect.records import Array

MOST_TABLES = 2_000_000
"""In one vector."""


@dataclass(frozen=True)
class FlatTable:
    """A table at a place of a buffer. Fields go by their number in the schema; a missing number is 0."""

    data: Buffer
    position: int

    def number(self, field: int, form: str) -> Any:
        """Return a number of `struct`'s format `form`."""
        place = self._place(field)
        return 0 if place == 0 else _unpack(self.data, place, form)

    def table(self, field: int) -> FlatTable | None:
        """Return a table; None if there is none."""
        place = self._place(field)
        return None if place == 0 else FlatTable(self.data, place + _unpack(self.data, place, "I"))

    def tables(self, field: int) -> list[FlatTable]:
        """Return a vector of tables."""
        start, count = self._vector(field, 4)
        if count > MOST_TABLES:
            raise UnsafeFile(
                "this model is too large", why=f"{count:,} tables in a vector, at most {MOST_TABLES:,} are read"
            )
        places = [start + 4 * index for index in range(count)]
        return [FlatTable(self.data, place + _unpack(self.data, place, "I")) for place in places]

    def numbers(self, field: int, dtype: str) -> Array:
        """Return a vector of numbers of a NumPy type; empty if there is none. The bytes stay in the buffer."""
        kind = np.dtype(dtype).newbyteorder("<")
        start, count = self._vector(field, kind.itemsize)
        return np.frombuffer(self.data, kind, count, start) if count else np.empty(0, kind)

    def has(self, field: int) -> bool:
        """Return whether a field is there."""
        return self._place(field) != 0

    def text(self, field: int) -> str:
        """Return a string; empty if there is none."""
        return self.numbers(field, "u1").tobytes().decode(errors="replace")

    def _place(self, field: int) -> int:
        """Return where a field is; 0 if it is not there."""
        table = self.position - _unpack(self.data, self.position, "i")
        size = _unpack(self.data, table, "H")
        entry = 4 + 2 * field
        offset = _unpack(self.data, table + entry, "H") if entry + 2 <= size else 0
        return self.position + int(offset) if offset else 0

    def _vector(self, field: int, width: int) -> tuple[int, int]:
        place = self._place(field)
        if place == 0:
            return 0, 0
        start = place + _unpack(self.data, place, "I")
        count = int(_unpack(self.data, start, "I"))
        if start + 4 + count * width > len(self.data):
            raise _damaged(f"a vector of {count} elements")
        return start + 4, count


def root(data: Buffer) -> FlatTable:
    """Return the table that a buffer begins with."""
    return FlatTable(data, _unpack(data, 0, "I"))


def _unpack(data: Buffer, place: int, form: str) -> Any:
    layout = struct.Struct("<" + form)
    if place < 0 or place + layout.size > len(data):
        raise _damaged(f"offset {place}")
    return layout.unpack_from(data, place)[0]


def _damaged(what: str) -> DamagedFile:
    return DamagedFile(
        "this is not a well-formed flatbuffer",
        why=f"{what} leads out of the file",
        hint="copy or download the file again",
    )
