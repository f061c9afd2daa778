"""TensorBundle: the arrays of a checkpoint, an index `PREFIX.index` and shards `PREFIX.data-0000N-of-0000M`.

tensorflow/core/util/tensor_bundle and protobuf/tensor_bundle.proto. Opening checks the whole index: the CRC of each of
its blocks, and of each entry its type, shape, offset and size against each other and against the real length of its
shard. Reading an array checks its own CRC; arrays that nobody asks for are not read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bninspect.errors import DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats.containers import parts as elsewhere
from bninspect.formats.encodings import crc32c
from bninspect.formats.encodings.leveldb_table import SortedTable
from bninspect.formats.encodings.protobuf import Message, decoded, varint
from bninspect.formats.stored_numbers import read_only
from bninspect.formats.tensorflow import tensor
from bninspect.formats.tensorflow.ordered_code import slice_key
from bninspect.records import Array
from bninspect.safe_text import printable

MOST_SHARDS = 4096
MOST_STRING_BYTES = 256 << 20

Slice = tuple[tuple[int, int], ...]
"""Start and length along each axis; the length -1 is all of it."""


@dataclass(frozen=True)
class BundleEntry:
    """Where and what one tensor, or one slice of it, is."""

    dtype: int
    shape: tuple[int, ...]
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    slices: tuple[Slice, ...] = ()
    """Of a partitioned tensor: the parts it is stored in."""


class Bundle(ExitStack[None]):
    """An open checkpoint; a context manager.

    Args:
        prefix: the path without `.index`; of a checkpoint without a name it ends with `/`, which no Path does.

    Raises:
        UnreadableFile: a file is missing or cannot be opened.
        DamagedFile, UnsafeFile: a file contradicts itself or another.
    """

    def __init__(self, prefix: Path | str) -> None:
        super().__init__()
        self._prefix = prefix
        self._label = printable(f"{os.path.basename(prefix)}.index")  # noqa: PTH119 - may be empty
        self._shards: dict[int, tuple[BinaryIO, int]] = {}
        self._parts: dict[bytes, BundleEntry] = {}
        self.entries: dict[str, BundleEntry] = {}
        """Every tensor by its name."""
        try:
            self._read_index()
        except BaseException:
            self.close()
            raise

    def read(self, name: str) -> Array:
        """Return a tensor of numbers in its stored type; bfloat16 is widened to float32.

        Raises:
            DamagedFile: there is no such tensor, it is not of numbers, or its bytes fail their CRC.
            UnsafeFile: it is larger than any batch norm needs.
        """
        entry = self._entry(name)
        if not entry.slices:
            return self._array(entry, name)
        tensor.bytes_of(entry.dtype, entry.shape, printable(name))
        parts = [(part, self._array(self._part(name, part), name)) for part in entry.slices]
        return assembled(entry.shape, parts, printable(name))

    def strings(self, name: str) -> list[bytes]:
        """Return a tensor of strings, flat: their lengths, a CRC of these, their bytes.

        Raises:
            DamagedFile: there is no such tensor, it is not of strings, or it contradicts itself.
        """
        entry = self._entry(name)
        if entry.dtype != tensor.STRING:
            raise DamagedFile(f"{printable(name)} holds no strings")
        data, count = self._data(entry, name), math.prod(entry.shape)
        lengths, position = [], 0
        for _ in range(count):
            length, position = varint(data, position)
            lengths.append(length)
        # A CRC as of numbers: of each length, in 4 bytes, in 8 where it takes them.
        plain = b"".join(one.to_bytes(4 if one < 1 << 32 else 8, "little") for one in lengths)
        stored = data[position : position + 4]
        position += 4
        if position + sum(lengths) != len(data) or crc32c.masked(plain) != int.from_bytes(stored, "little"):
            raise DamagedFile(f"{printable(name)} is damaged", why="the lengths of its strings are wrong")
        texts = bytes(data[position:])
        # Of the whole the CRC is that of the lengths, of their CRC, and of the strings.
        if crc32c.masked(plain + bytes(stored) + texts) != entry.crc:
            raise self._fails_crc(name)
        ends = np.cumsum(lengths)
        return [texts[end - length : end] for end, length in zip(ends, lengths, strict=True)]

    def _read_index(self) -> None:
        table = SortedTable(self._open(self._path(".index")), self._label)
        shards = None
        for key, value in table.items():
            if not key:
                shards = self._header(Message(value))
            elif shards is None:
                raise DamagedFile(f"{self._label} is damaged", why="it has no header")
            elif key[0]:
                self.entries[decoded(key)] = self._checked(Message(value), decoded(key), shards)
            else:
                self._parts[key] = self._checked(Message(value), "a slice", shards)
        self._prepare()

    def _prepare(self) -> None:
        vectors: dict[int, list[tuple[int, int]]] = {}
        for entry in (*self.entries.values(), *self._parts.values()):
            if len(entry.shape) == 1:
                vectors.setdefault(entry.shard, []).append((entry.offset, entry.size))
        for number, spans in vectors.items():
            elsewhere.prepare_vectors(self._shards[number][0], spans)

    def _path(self, ending: str) -> Path:
        if isinstance(self._prefix, str):
            return Path(f"{self._prefix}{ending}")
        return self._prefix.with_name(f"{self._prefix.name}{ending}")

    def _header(self, header: Message) -> int:
        shards = header.integer(1)
        if not 0 < shards <= MOST_SHARDS:
            raise UnsafeFile(f"{self._label} names {shards} data files", why=f"1 to {MOST_SHARDS} are read")
        if header.integer(2):
            raise UnreadableFile(f"{self._label} is of a big-endian machine", why="such files are not read")
        for number in range(shards):
            file = self._open(self._path(f".data-{number:05d}-of-{shards:05d}"))
            self._shards[number] = (file, file.seek(0, 2))
        return shards

    def _open(self, path: Path) -> BinaryIO:
        try:
            if path.exists() and not path.is_file():  # Opening a pipe would wait for its other end.
                raise UnreadableFile(f"{printable(path.name)} is not a file", why="it is a folder or a device")
            return self.enter_context(path.open("rb"))
        except OSError as error:
            raise UnreadableFile(
                f"{printable(path.name)} cannot be opened",
                why=f"{error.strerror}; a checkpoint is its .index and all of its .data files, in one folder",
                hint="copy the missing file there",
            ) from error

    def _checked(self, proto: Message, name: str, shards: int) -> BundleEntry:
        """Return an entry that agrees with itself and with the length of its shard."""
        label = f"the entry of {printable(name)!r} in {self._label}"
        shape = tensor.known_shape(proto.message(2), label)
        entry = BundleEntry(
            dtype=proto.integer(1),
            shape=shape,
            shard=proto.integer(3),
            offset=proto.integer(4),
            size=proto.integer(5),
            crc=proto.unsigned32(6),
            slices=tuple(slice_of(message, len(shape)) for message in proto.messages(7)),
        )
        if entry.slices:
            return entry
        if not 0 <= entry.shard < shards or entry.offset < 0 or entry.size < 0:
            raise DamagedFile(f"{label} is damaged", why=f"file {entry.shard}, byte {entry.offset}, size {entry.size}")
        length = self._shards[entry.shard][1]
        if entry.offset + entry.size > length:
            raise DamagedFile(
                f"{label} goes beyond its data file",
                why=f"bytes {entry.offset} to {entry.offset + entry.size} of {length}: the file is cut off",
                hint="copy or download it again",
            )
        if not tensor.fits(entry.dtype, entry.shape, entry.size):
            raise DamagedFile(f"{label} is damaged", why=f"shape {entry.shape[:8]} in {entry.size} bytes")
        return entry

    def _entry(self, name: str) -> BundleEntry:
        if name not in self.entries:
            raise DamagedFile(f"{self._label} has no tensor {printable(name)!r}", why="the graph restores it")
        return self.entries[name]

    def _part(self, name: str, part: Slice) -> BundleEntry:
        entry, lengths = self._parts.get(slice_key(name, part)), self.entries[name].shape
        if entry is None:
            raise DamagedFile(f"{self._label} is damaged", why=f"a slice of {printable(name)!r} is missing")
        wanted = tuple(full if length < 0 else length for (_, length), full in zip(part, lengths, strict=True))
        if entry.shape != wanted or entry.dtype != self.entries[name].dtype:
            raise DamagedFile(f"{self._label} is damaged", why=f"a slice of {printable(name)!r} is none")
        return entry

    def _array(self, entry: BundleEntry, name: str) -> Array:
        tensor.bytes_of(entry.dtype, entry.shape, printable(name))
        data = self._data(entry, name)
        if crc32c.masked(data) != entry.crc:
            raise self._fails_crc(name)
        return tensor.array(entry.dtype, entry.shape, data)

    def _data(self, entry: BundleEntry, name: str) -> bytes:
        most = max(tensor.MOST_BYTES, MOST_STRING_BYTES)
        if entry.size > most:
            why = f"{entry.size:,} bytes, at most {most:,} are read"
            raise UnsafeFile(f"{printable(name)} is too large", why=why)
        file, _ = self._shards[entry.shard]
        file.seek(entry.offset)
        data = file.read(entry.size)
        if len(data) != entry.size:
            raise DamagedFile(f"{printable(name)} is cut off", why="its file became shorter while it was read")
        return data

    def _fails_crc(self, name: str) -> DamagedFile:
        return DamagedFile(
            f"{printable(name)} is damaged",
            why="its bytes fail the CRC that the index states",
            hint="copy or download the checkpoint again",
        )


def slice_of(proto: Message, rank: int) -> Slice:
    """Return a TensorSliceProto; an axis without a length is taken whole.

    Raises:
        DamagedFile: it is not a slice of a tensor of this rank.
    """
    part = tuple((extent.integer(1), extent.integer(2, -1)) for extent in proto.messages(1))
    if len(part) != rank or any(start < 0 or length < -1 for start, length in part):
        raise DamagedFile("the checkpoint is damaged", why=f"a slice says {part[:8]} in {rank} dimensions")
    return part


def assembled(shape: tuple[int, ...], parts: list[tuple[Slice, Array]], label: str) -> Array:
    """Return the whole of a partitioned tensor.

    Raises:
        DamagedFile: the parts are not every element exactly once.
    """
    whole = np.zeros(shape, parts[0][1].dtype)
    covered = np.zeros(shape, np.uint8)
    for part, values in parts:
        place = tuple(slice(None) if length < 0 else slice(start, start + length) for start, length in part)
        if whole[place].shape != values.shape:
            raise DamagedFile(f"{label} is damaged", why="a slice goes beyond the tensor")
        whole[place] = values
        covered[place] += 1
    if not (covered == 1).all():
        raise DamagedFile(f"{label} is damaged", why="its slices leave a gap, or overlap")
    return read_only(whole)


def variables(path: Path) -> Mapping[str, Array]:
    """Return every tensor of numbers of a checkpoint, for tests and for small ones."""
    with Bundle(path) as bundle:
        return {name: bundle.read(name) for name, entry in bundle.entries.items() if entry.dtype != tensor.STRING}
