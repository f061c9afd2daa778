"""Samples in files of arrays and of records, read row by row: memory does not grow with the file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bninspect.errors import UnreadableFile, UsageError
from bninspect.formats.containers.zip_archive import open_archive
from bninspect.formats.encodings import npy
from bninspect.records import Array
from bninspect.safe_text import printable
from bninspect.statistics.data import parquet, tfrecord
from bninspect.statistics.data.table import Table

SUFFIXES = (".npy", ".npz", *tfrecord.SUFFIXES, *parquet.SUFFIXES)
_HEAD = 12_000
"""Bytes in which the header of a .npy file ends."""


def tables(path: Path, stack: ExitStack) -> dict[str, Table]:
    """Open the arrays of a .npz file by name, or the one of a .npy file as "", for as long as `stack` is open.

    Of TFRecord and Parquet files the fields that hold numbers.

    Raises:
        UnreadableFile: it is none of these, or damaged, or holds something other than numbers.
        MissingPackage: what reads it is not installed.
    """
    from bninspect.formats.unknown_files import ZIP_SIGNATURE, refusal

    label = printable(str(path))
    try:
        stream = stack.enter_context(path.open("rb"))
        head = stream.read(_HEAD)
    except OSError as error:
        raise UnreadableFile(f"{label} cannot be read", why=error.strerror or str(error)) from error
    if head.startswith(npy.SIGNATURE):
        return {"": _table(stream, label)}
    if head.startswith(parquet.SIGNATURE):
        return parquet.tables(path)
    if tfrecord.is_tfrecord(head):
        return tfrecord.tables(path)
    if not head.startswith(ZIP_SIGNATURE):
        refused = refusal(label, head, "a NumPy file (.npy or .npz), TFRecord or Parquet")
        if path.suffix.lower() == ".csv":
            refused.hint = f"numpy.save('data.npy', numpy.loadtxt({label!r}, delimiter=','{_names_of_columns(head)}))"
        raise refused
    archive = stack.enter_context(open_archive(path))
    members = [name for name in archive.names() if name.endswith(".npy")]
    if len(members) != len(archive.names()) or not members:
        raise UnreadableFile(f"{label} is not a .npz file", why="a member of it is not an array (.npy)")
    return {
        name.removesuffix(".npy"): _table(archive.stream(name), f"{printable(name)} in {label}") for name in members
    }


def _names_of_columns(head: bytes) -> str:
    """Return what passes over the first line of a table where that holds names."""
    try:
        [float(entry) for entry in head.partition(b"\n")[0].split(b",")]
    except ValueError:
        return ", skiprows=1"
    return ""


def _table(stream: BinaryIO, label: str) -> Table:
    size = stream.seek(0, 2)
    stream.seek(0)
    layout = npy.layout(stream.read(_HEAD), size, label)
    if not layout.shape:
        raise UnreadableFile(
            f"{label} holds a single number", why="an array of samples is needed, along the first axis"
        )
    if layout.fortran_order and len(layout.shape) > 1:
        # Its samples are scattered over the whole file.
        stream.seek(0)
        array = npy.parse(stream.read(npy.LARGEST + 1), label)
        return Table(label, array.shape, array.dtype, lambda rows: array[list(rows)])
    width = math.prod(layout.shape[1:]) * layout.dtype.itemsize

    def read(rows: Sequence[int]) -> Array:
        parts = []
        for first, count in _runs(rows):
            stream.seek(layout.start + first * width)
            data = stream.read(count * width)
            if len(data) < count * width:
                raise UnreadableFile(f"{label} changed while it was being read")
            parts.append(np.frombuffer(data, layout.dtype).reshape(count, *layout.shape[1:]))
        values = np.concatenate(parts)
        npy.require_valid(values, label)
        return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))

    return Table(label, layout.shape, layout.dtype, read)


def _runs(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield neighbouring rows together, as the first and their number."""
    first, count = rows[0], 1
    for row in rows[1:]:
        if row == first + count:
            count += 1
        else:
            yield first, count
            first, count = row, 1
    yield first, count


def joined(paths: Sequence[Path]) -> dict[str, Table]:
    """Return tables that go on from one file to the next. At most one file is open at a time.

    Raises:
        UnreadableFile: as `tables`.
        UsageError: the files do not hold the same arrays.
    """
    parts = []
    for path in paths:
        with ExitStack() as stack:
            parts.append(tables(path, stack))
    for path, part in zip(paths, parts, strict=True):
        if part.keys() != parts[0].keys():
            why = f"{_named(parts[0])} in {printable(paths[0].name)}, {_named(part)} in {printable(path.name)}"
            raise UsageError("the files of the data do not hold the same arrays", why=why)
    return {name: _Chain(paths, name, [part[name] for part in parts]).table() for name in parts[0]}


def _named(part: Mapping[str, Table]) -> str:
    return ", ".join(printable(name) or "an array without a name" for name in part)


class _Chain:
    """The arrays of one name in several files, one after the other."""

    def __init__(self, paths: Sequence[Path], name: str, parts: Sequence[Table]) -> None:
        first = parts[0]
        for part in parts:
            if part.shape[1:] != first.shape[1:]:
                why = f"{first.label}: {first.shape[1:]}, {part.label}: {part.shape[1:]}"
                raise UsageError("the files of the data hold samples of different shapes", why=why)
        self._paths, self._name, self._parts = paths, name, parts
        self._ends = np.cumsum([part.shape[0] for part in parts])

    def table(self) -> Table:
        """Return all of them as one array."""
        first = self._parts[0]
        dtype = np.result_type(*(part.dtype for part in self._parts))
        return Table(first.label, (int(self._ends[-1]), *first.shape[1:]), dtype, self._read, first.of_record)

    def _read(self, rows: Sequence[int]) -> Array:
        places = np.searchsorted(self._ends, rows, side="right")
        found: list[Array] = []
        start = 0
        while start < len(rows):
            part = int(places[start])
            end = start + next((i for i, one in enumerate(places[start:]) if one != part), len(rows) - start)
            first = int(self._ends[part - 1]) if part else 0
            with ExitStack() as stack:
                table = tables(self._paths[part], stack).get(self._name)
                if table is None or table.shape != self._parts[part].shape:
                    raise UnreadableFile(f"{self._parts[part].label} changed while it was being read")
                found.append(table.read([row - first for row in rows[start:end]]))
            start = end
        return np.concatenate(found)
