"""MessagePack as data, as https://github.com/msgpack/msgpack/blob/master/spec.md describes it.

Why not the `msgpack` package: one more dependency with a native part, for the fifty lines that a reader of one format
needs. Lengths are checked against the bytes that are there before anything is made of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from bninspect.errors import DamagedFile, UnsafeFile

DEPTH = 64
MOST_VALUES = 2_000_000

_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"}
_NUMBERS |= {0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
_BINARY = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I"}
_TEXTS = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_ARRAYS, _MAPS = {0xDC: ">H", 0xDD: ">I"}, {0xDE: ">H", 0xDF: ">I"}
_EXTENSIONS = {0xC7: ">B", 0xC8: ">H", 0xC9: ">I"}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


@dataclass(frozen=True)
class Extension:
    """A value of a type that an application defines."""

    code: int
    data: memoryview


def unpack(data: bytes | memoryview) -> Any:
    """Return the one value that `data` holds: mappings with text keys, lists, texts, bytes, numbers, extensions.

    Raises:
        DamagedFile: it is cut off, goes on after its end, or a mapping has a key twice or one that is not text.
        UnsafeFile: it is deeper or has more values than a model needs.
    """
    reader = _Reader(memoryview(data))
    value = reader.value(0)
    if reader.position != len(data):
        raise _damaged("it goes on after its end")
    return value


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.position = 0
        self._left = MOST_VALUES

    def value(self, depth: int) -> Any:
        self._left -= 1
        if depth > DEPTH or self._left < 0:
            raise UnsafeFile("this file is too large", why=f"over {MOST_VALUES:,} values, or over {DEPTH} levels deep")
        kind = self._take(1)[0]
        if kind < 0x80 or kind >= 0xE0:
            return kind - 0x100 if kind >= 0xE0 else kind
        if kind in _CONSTANTS:
            return _CONSTANTS[kind]
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind in _BINARY:
            return self._take(self._number(_BINARY[kind]))
        if 0xA0 <= kind < 0xC0 or kind in _TEXTS:
            return str(self._take(self._number(_TEXTS[kind]) if kind in _TEXTS else kind & 0x1F), "utf-8", "replace")
        if kind in _EXTENSIONS or 0xD4 <= kind <= 0xD8:
            size = self._number(_EXTENSIONS[kind]) if kind in _EXTENSIONS else 1 << (kind - 0xD4)
            return Extension(self._number(">b"), self._take(size))
        if 0x90 <= kind < 0xA0 or kind in _ARRAYS:
            count = self._number(_ARRAYS[kind]) if kind in _ARRAYS else kind & 0x0F
            return [self.value(depth + 1) for _ in range(self._plausible(count))]
        if kind < 0x90 or kind in _MAPS:
            return self._mapping(self._number(_MAPS[kind]) if kind in _MAPS else kind & 0x0F, depth)
        raise _damaged(f"byte {kind:#x}, which begins no value")

    def _mapping(self, count: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(self._plausible(count)):
            key = self.value(depth + 1)
            if not isinstance(key, str) or key in found:
                raise _damaged("a mapping has a key twice, or one that is not text")
            found[key] = self.value(depth + 1)
        return found

    def _plausible(self, count: int) -> int:
        if count > len(self._data) - self.position:
            raise _damaged("it is cut off")
        return count

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _take(self, size: int) -> memoryview:
        piece = self._data[self.position : self.position + size]
        if len(piece) != size:
            raise _damaged("it is cut off")
        self.position += size
        return piece


def _damaged(why: str) -> DamagedFile:
    return DamagedFile("this is not a well-formed MessagePack", why=why, hint="copy or download the file again")
