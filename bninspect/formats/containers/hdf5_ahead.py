"""What of HDF5 elsewhere is fetched before h5py reads it: h5py alone waits for every few bytes on its own.

Groups, the tables of their members and arrays lie all over a file, since a group grows while its members are written.
They are fetched level by level, all of a level at a time. Nothing is decided by what is read here: libhdf5 reads it
again, and a file that lies about it costs requests only.

Format: HDF5 File Format Specification 3.0, III.A.1, III.B, III.D and IV.A.1.a (version 1, as Keras has it written).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from bninspect.formats.containers import parts

if TYPE_CHECKING:
    from bninspect.formats.containers.hdf5 import Group

GROUP_BYTES = 1024
"""Of a group's header with the table of its members, which is often written at the same time."""
ARRAY_BYTES = 512
"""Of an array's header, in which there are its shape, its type and where it is."""
NODE_BYTES = 544
"""Of a node with 32 members; one of the 8 names that it leads to is smaller."""
HEAP_BYTES = 120
DEPTH = 6
NODES = 1 << 16
_PREFIX = struct.Struct("<BxHIIxxxx")
_MESSAGE = struct.Struct("<HHBxxx")
_CONTINUATION, _SYMBOL_TABLE = 0x10, 0x11
_PAIR = struct.Struct("<QQ")
_NODE = struct.Struct("<4sBBHQQ")
_HEAP = struct.Struct("<4sB3xQQQ")


def prepare(groups: Iterable[Group], names: Iterable[str] | None = None, length: int = GROUP_BYTES) -> None:
    """Have what is in the groups ready: of a file elsewhere it then comes all at a time.

    Args:
        groups: of one file.
        names: what in them will be opened; all by default.
        length: bytes from the header of each on that will be read.
    """
    groups = list(groups)
    if not groups or not parts.is_elsewhere(file := groups[0].file):
        return
    _prepare_tables(file, _addresses(groups))
    wanted = ((group, group.names() if names is None else names) for group in groups)
    headers = [span for group, inside in wanted for span in group.headers(inside, length)]
    parts.prepare(file, headers, wide=True)
    # An attribute that came later, such as the names of weights, is elsewhere.
    further = [pair for start, _ in headers for kind, pair in _messages(file, start, 1) if kind == _CONTINUATION]
    parts.prepare(file, further, wide=True)


def prepare_arrays(wanted: Iterable[tuple[Group, str]]) -> None:
    """Have arrays ready: of a file elsewhere what leads to them comes level by level, and then they come at a time.

    Args:
        wanted: groups, and the names of arrays in them, of several components perhaps.
    """
    files: dict[int, list[tuple[Group, list[str]]]] = {}
    for group, name in wanted:
        if parts.is_elsewhere(group.file) and (names := [part for part in name.split("/") if part not in {"", "."}]):
            files.setdefault(id(group.file), []).append((group, names))
    for level in files.values():
        _prepare_arrays(level[0][0].file, level)


def _prepare_arrays(file: Any, level: list[tuple[Group, list[str]]]) -> None:
    arrays: list[tuple[Group, str]] = []
    while level:
        _prepare_tables(file, _addresses(group for group, _ in level))
        length = {True: ARRAY_BYTES, False: GROUP_BYTES}
        headers = (span for group, names in level for span in group.headers(names[:1], length[not names[1:]]))
        parts.prepare(file, list(headers), wide=True)
        arrays += [(group, names[0]) for group, names in level if not names[1:]]
        deeper = [(group.group(names[0]), names[1:]) for group, names in level if names[1:]]
        level = [(group, names) for group, names in deeper if group is not None]
    parts.prepare(file, [span for group, name in arrays for span in group.spans(name)])


def _addresses(groups: Iterable[Group]) -> list[int]:
    return [group.address for group in groups if group.address is not None]


def _prepare_tables(file: Any, addresses: Iterable[int]) -> None:
    """Have the tables of the groups whose headers are at these addresses ready."""
    addresses = list(addresses)
    parts.prepare(file, [(address, GROUP_BYTES) for address in addresses], wide=True)
    tables = [table for address in addresses for table in _tables(file, address)]
    nodes = [node for node, _ in tables]
    heaps = [heap for _, heap in tables]
    parts.prepare(file, [(heap, HEAP_BYTES) for heap in heaps], wide=True)
    names = [span for heap in heaps for span in _names(_at(file, heap, HEAP_BYTES))]
    for _ in range(DEPTH):
        parts.prepare(file, [*names, *((node, NODE_BYTES) for node in nodes)], wide=True)
        names, nodes = [], [below for node in nodes for below in _below(_at(file, node, NODE_BYTES))][:NODES]


def _at(file: Any, start: int, length: int) -> bytes:
    if start >= file.seek(0, 2):
        return b""
    file.seek(start)
    data: bytes = file.read(length)
    return data


def _tables(file: Any, address: int) -> Iterator[tuple[int, int]]:
    """Yield where the B-tree and the names of a group are, by the messages of its object header."""
    yield from islice((pair for kind, pair in _messages(file, address, DEPTH) if kind == _SYMBOL_TABLE), 1)


def _messages(file: Any, address: int, depth: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield the kind and the first two numbers of each message in the first `depth` blocks of an object header."""
    header = _at(file, address, _PREFIX.size)
    if len(header) < _PREFIX.size or header[0] != 1:
        return
    _, count, _, length = _PREFIX.unpack(header)
    blocks = [(address + _PREFIX.size, length)]
    for start, length in blocks:
        place, end = start, start + length
        while place < end and count > 0:
            message = _at(file, place, _MESSAGE.size + _PAIR.size)
            if len(message) < _MESSAGE.size + _PAIR.size:
                break
            kind, size, _ = _MESSAGE.unpack_from(message)
            pair = _PAIR.unpack_from(message, _MESSAGE.size)
            yield kind, pair
            if kind == _CONTINUATION and len(blocks) < depth:
                blocks.append(pair)
            place, count = place + _MESSAGE.size + size, count - 1


def _names(heap: bytes) -> Iterator[tuple[int, int]]:
    """Yield where the names of a group's members are: (first byte, length)."""
    if heap.startswith(b"HEAP") and len(heap) >= _HEAP.size:
        _, _, size, _, start = _HEAP.unpack_from(heap)
        yield start, min(size, 16 << 20)


def _below(node: bytes) -> Iterator[int]:
    """Yield where the nodes below a node of the B-tree are; none below the last ones, which hold members."""
    if len(node) < _NODE.size or not node.startswith(b"TREE"):
        return
    count = _NODE.unpack_from(node)[3]
    for place in range(_NODE.size + 8, min(_NODE.size + 8 + 16 * count, len(node) - 7), 16):
        yield int.from_bytes(node[place : place + 8], "little")
