"""GGUF of llama.cpp: settings by key, tensors by name, then their numbers, each at a place of its own.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Batch norms in it are what PyTorch names so, where a
converter kept them; most fold them by hand, with an epsilon that is typed into the converter.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bninspect.errors import DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats import named_kernels
from bninspect.formats.format import Format
from bninspect.formats.named_kernels import NamedKernel
from bninspect.formats.stored_numbers import native
from bninspect.formats.torch import running_statistics
from bninspect.records import Array, Checkpoint
from bninspect.safe_text import printable

NAME = "gguf"
MAGIC = b"GGUF"
MOST_ENTRIES = 1_000_000
"""Settings, elements of a list of settings, or tensors."""
_STRING, _LIST = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a setting by its type: uint8, int8, uint16, int16, uint32, int32, float32, bool, uint64, int64, float64."""
_TYPES: Mapping[int, tuple[str, str]] = {
    0: ("float32", "<f4"),
    1: ("float16", "<f2"),
    24: ("int8", "<i1"),
    25: ("int16", "<i2"),
    26: ("int32", "<i4"),
    27: ("int64", "<i8"),
    28: ("float64", "<f8"),
    30: ("bfloat16", "<u2"),
}
"""Types of tensors that are not packed in blocks: our name and NumPy's (ggml.h, enum ggml_type)."""
_ALIGNMENT = 32
_MOST_RANK = 8


@dataclass(frozen=True, eq=False)
class GgufTensor:
    """A tensor of the file."""

    name: str
    shape: tuple[int, ...]
    """The slowest axis first, as NumPy and PyTorch have it; the file says it the other way round."""
    dtype: str
    """Empty for a type that is packed in blocks, whose numbers are not read."""
    data: Array

    @property
    def values(self) -> Array:
        """The numbers, read-only, bfloat16 widened to float32."""
        kind = next(each for name, each in _TYPES.values() if name == self.dtype)
        values = self.data.view(kind).reshape(self.shape)
        return native(values, bfloat16=self.dtype == "bfloat16")


@dataclass(frozen=True)
class GgufFile:
    """What a file says."""

    architecture: str
    tensors: Mapping[str, GgufTensor]


def _matches(_path: Path, head: bytes) -> bool:
    return head.startswith(MAGIC)


def _read(path: Path) -> Checkpoint:
    found = parsed(path)
    tensors = found.tensors
    other = [name for name, one in tensors.items() if not one.dtype.startswith(("float", "bfloat"))]
    layers = running_statistics.layers(
        tensors, lambda name: (tensors[name].values, tensors[name].dtype), unreadable=other
    )
    packed = sum(not tensor.dtype for tensor in tensors.values())
    notes = [f"{packed:,} of {len(tensors):,} tensors are packed in blocks and not read"] if packed else []
    if layers:
        notes.append(running_statistics.NOTE)
    writer = f"GGUF, {printable(found.architecture)}" if found.architecture else "GGUF"
    empty = "no name of a tensor ends in running_mean: its converter folded the batch norms, or there was none"
    unread = running_statistics.unread(tensors, other)
    return Checkpoint(str(path), NAME, writer, layers, tuple(notes), empty=empty, unread=unread)


def read_kernels(path: Path) -> tuple[NamedKernel, ...]:
    """Return the kernels of the file, by torch's names: those that are not packed in blocks. Raises as `parsed`."""
    tensors = parsed(path).tensors
    shapes = {name: one.shape for name, one in tensors.items() if one.dtype.startswith(("float", "bfloat"))}
    return tuple(named_kernels.of_torch(shapes, lambda name: (tensors[name].values, tensors[name].dtype)))


def parsed(path: Path) -> GgufFile:
    """Return what a file says, its numbers mapped.

    Raises:
        DamagedFile: it is cut off, or contradicts itself.
        UnsafeFile: it has more settings or tensors than a model needs.
        UnreadableFile: it is of a version or byte order that is not read.
    """
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"{printable(str(path))} cannot be read", why=str(error)) from error
    try:
        return _parse(_Cursor(data))
    except (DamagedFile, UnsafeFile) as error:
        raise type(error)(f"{path} is damaged", why=f"{error.what}: {error.why}", hint=error.hint) from error


class _Cursor:
    """Reads the head of a file from its beginning on."""

    def __init__(self, data: Array) -> None:
        self.data = data
        self._view = memoryview(data.data)
        self.place = 0

    def number(self, form: str) -> int:
        """Return the next number, of a type that `struct` knows."""
        size = struct.calcsize(form)
        self._require(size)
        value: int = struct.unpack_from(form, self._view, self.place)[0]
        self.place += size
        return value

    def count(self, what: str) -> int:
        """Return the next number, which says how many of something follow."""
        value = self.number("<Q")
        if value > MOST_ENTRIES:
            raise UnsafeFile(f"there are too many {what}", why=f"{value:,}, at most {MOST_ENTRIES:,} are read")
        return value

    def text(self) -> str:
        """Return the next text, which stands behind its length."""
        length = self.number("<Q")
        self._require(length)
        value = bytes(self._view[self.place : self.place + length])
        self.place += length
        return value.decode("utf-8", "replace")

    def skip(self, size: int) -> None:
        """Pass over bytes."""
        self._require(size)
        self.place += size

    def _require(self, size: int) -> None:
        if size > self.data.size - self.place:
            why = f"{size:,} bytes should follow at {self.place:,}, {self.data.size - self.place:,} do"
            raise DamagedFile("it is cut off", why=why, hint="copy or download the file again")


def _parse(cursor: _Cursor) -> GgufFile:
    cursor.skip(len(MAGIC))
    version = cursor.number("<I")
    if version not in {2, 3}:
        why = f"its version is {version}, 2 and 3 are read" if version < 1 << 16 else "its numbers are big-endian"
        raise UnreadableFile("this GGUF is not read", why=why)
    count, settings = cursor.count("tensors"), cursor.count("settings")
    known = dict(_settings(cursor, settings))
    described = [_described(cursor) for _ in range(count)]
    alignment = known.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1) or alignment > 1 << 20:
        raise DamagedFile("it contradicts itself", why=f"an alignment of {alignment}")
    start = -(-cursor.place // alignment) * alignment
    tensors: dict[str, GgufTensor] = {}
    for name, shape, kind, offset in described:
        if name in tensors:
            raise DamagedFile("it contradicts itself", why=f"two tensors are called {printable(name)}")
        tensors[name] = _tensor(name, shape, kind, cursor.data[start:], offset)
    return GgufFile(str(known.get("general.architecture", "")), tensors)


def _settings(cursor: _Cursor, count: int) -> Iterator[tuple[str, str | int]]:
    """Pass over the settings, and yield those two that matter here."""
    for _ in range(count):
        key, kind = cursor.text(), cursor.number("<I")
        if key == "general.architecture" and kind == _STRING:
            yield key, cursor.text()
        elif key == "general.alignment" and kind == 4:
            yield key, cursor.number("<I")
        else:
            _pass_over(cursor, kind)


def _pass_over(cursor: _Cursor, kind: int, depth: int = 0) -> None:
    if kind == _STRING:
        cursor.text()
    elif kind == _LIST and depth < 4:
        inner, count = cursor.number("<I"), cursor.number("<Q")
        if inner in _SIZES:
            cursor.skip(_SIZES[inner] * count)
            return
        if count > MOST_ENTRIES:
            raise UnsafeFile("a list is too long", why=f"{count:,} elements, at most {MOST_ENTRIES:,} are read")
        for _ in range(count):
            _pass_over(cursor, inner, depth + 1)
    elif kind in _SIZES:
        cursor.skip(_SIZES[kind])
    else:
        raise DamagedFile("it contradicts itself", why=f"a setting is of the type {kind}")


def _described(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Return name, shape, type and place of the next tensor."""
    name, rank = cursor.text(), cursor.number("<I")
    if rank > _MOST_RANK:
        raise DamagedFile("it contradicts itself", why=f"{printable(name)} has {rank} axes")
    lengths = [cursor.number("<Q") for _ in range(rank)]
    return name, tuple(reversed(lengths)), cursor.number("<I"), cursor.number("<Q")


def _tensor(name: str, shape: tuple[int, ...], kind: int, body: Array, offset: int) -> GgufTensor:
    if kind not in _TYPES:
        return GgufTensor(name, shape, "", body[:0])
    dtype, stored = _TYPES[kind]
    size = math.prod(shape) * np.dtype(stored).itemsize
    if offset + size > body.size:
        why = f"{printable(name)} of shape {shape} ends at {offset + size:,} of {body.size:,} bytes"
        raise DamagedFile("it is cut off", why=why, hint="copy or download the file again")
    return GgufTensor(name, shape, dtype, body[offset : offset + size])


FORMAT = Format(NAME, "GGUF (.gguf)", (".gguf",), _matches, _read, kernels=read_kernels)
