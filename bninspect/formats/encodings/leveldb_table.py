"""LevelDB's sorted table, in which TensorFlow keeps the index of a checkpoint.

https://github.com/google/leveldb/blob/main/doc/table_format.md and tensorflow/tsl lib/io/{format,block}.cc. Blocks of
sorted keys and values, each followed by a byte for its compression and a CRC; an index block that leads to them; a
footer that leads to the index. The CRC of every block that is looked into is checked, and every key is in order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.formats.encodings import crc32c
from bninspect.formats.encodings.protobuf import varint

FOOTER = 48
_MAGIC = bytes.fromhex("57fb808b247547db")
_TRAILER = 5
MOST_BYTES = 64 << 20
"""Of one block; TensorFlow cuts blocks at 256 KB, but keeps a whole tensor of a checkpoint of version 1 in one."""
MOST_ENTRIES = 2_000_000


@dataclass(frozen=True)
class Block:
    """Where a block is in its file; `size` is without its trailer."""

    offset: int
    size: int


def is_table(file: BinaryIO) -> bool:
    """Return whether a file ends as a table does."""
    if file.seek(0, os.SEEK_END) < FOOTER:
        return False
    file.seek(-len(_MAGIC), os.SEEK_END)
    return file.read() == _MAGIC


class SortedTable:
    """An open table. All methods raise DamagedFile where it contradicts itself, UnsafeFile where it is too large."""

    def __init__(self, file: BinaryIO, label: str) -> None:
        self._file = file
        self._label = label
        self._size = file.seek(0, os.SEEK_END)
        if not is_table(file):
            raise self._damaged("it does not end as a table does: it is cut off, or is not a checkpoint")
        file.seek(-FOOTER, os.SEEK_END)
        footer = file.read(FOOTER)
        _, position = self._handle(footer, 0)
        index, _ = self._handle(footer, position)
        self._blocks = [(key, self._handle(value, 0)[0]) for key, value in self._entries(index)]

    def items(self) -> Iterator[tuple[bytes, memoryview]]:
        """Yield every key and its value, in the order of the keys."""
        count, last = 0, None
        for _, block in self._blocks:
            for key, value in self._entries(block):
                count += 1
                if count > MOST_ENTRIES:
                    raise UnsafeFile(f"{self._label} has over {MOST_ENTRIES} entries")
                if last is not None and key <= last:
                    raise self._damaged("its keys are not in order")
                last = key
                yield key, value

    def get(self, key: bytes) -> memoryview | None:
        """Return the value of a key, having read one block."""
        for last, block in self._blocks:
            if key <= last:
                return next((value for found, value in self._entries(block) if found == key), None)
        return None

    def _handle(self, data: bytes | memoryview, position: int) -> tuple[Block, int]:
        offset, position = varint(data, position)
        size, position = varint(data, position)
        if offset + size + _TRAILER > self._size - FOOTER:
            raise self._damaged(f"a block of {size} bytes at {offset} goes beyond its {self._size} bytes")
        return Block(offset, size), position

    def _entries(self, block: Block) -> Iterator[tuple[bytes, memoryview]]:
        """Yield the entries of a block; a key says how much of it is as in the key before."""
        for key, _, value in self._located(block):
            yield key, value

    def places(self) -> Iterator[tuple[bytes, Block, int, int]]:
        """Yield every key, the block that it is in, and where in the file its value begins and how long it is."""
        for _, block in self._blocks:
            for key, start, value in self._located(block):
                yield key, block, block.offset + start, len(value)

    def _located(self, block: Block) -> Iterator[tuple[bytes, int, memoryview]]:
        """Yield the entries of a block, and where in it their values begin."""
        data = self._contents(block)
        count = int.from_bytes(data[-4:], "little") if len(data) >= 4 else 0
        end = len(data) - 4 * (count + 1)
        if not count or end < 0:
            raise self._damaged("a block has no list of its keys")
        key, position = b"", 0
        while position < end:
            shared, position = varint(data, position)
            length, position = varint(data, position)
            size, position = varint(data, position)
            if shared > len(key) or position + length + size > end:
                raise self._damaged("an entry goes beyond its block")
            key = key[:shared] + bytes(data[position : position + length])
            position += length
            yield key, position, data[position : position + size]
            position += size

    def _contents(self, block: Block) -> memoryview:
        if block.size > MOST_BYTES:
            raise UnsafeFile(
                f"{self._label} is too large",
                why=f"a block has {block.size:,} bytes, at most {MOST_BYTES:,} are read",
            )
        self._file.seek(block.offset)
        data = memoryview(self._file.read(block.size + _TRAILER))
        if len(data) != block.size + _TRAILER:
            raise self._damaged("it became shorter while it was being read")
        if crc32c.masked(data[: block.size + 1]) != int.from_bytes(data[-4:], "little"):
            raise self._damaged(f"the block at byte {block.offset} fails its CRC")
        if data[block.size]:
            # Snappy is in the format, but the writers of checkpoints switch it off.
            raise UnsafeFile(f"{self._label} is compressed", why="TensorFlow writes checkpoints uncompressed")
        return data[: block.size]

    def _damaged(self, why: str) -> DamagedFile:
        return DamagedFile(
            f"{self._label} is damaged", why=why, hint="copy or download it again, with all files beside it"
        )
