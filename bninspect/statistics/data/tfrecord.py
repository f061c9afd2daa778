"""Samples in TFRecord files of tf.train.Example, read record by record, without TensorFlow.

A record is its length in 8 bytes, a CRC of that, the bytes, and a CRC of these, which is not checked
(tensorflow/core/lib/io/record_writer.h).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from bninspect.errors import UnreadableFile
from bninspect.formats.encodings import crc32c
from bninspect.formats.encodings.protobuf import Message
from bninspect.records import Array
from bninspect.safe_text import printable
from bninspect.statistics.data.table import Table

SUFFIXES = (".tfrecord", ".tfrecords", ".tfrec")
_HEAD, _TAIL = struct.Struct("<QI"), 4
_FLOATS, _INTEGERS = 2, 3
"""Fields of a Feature: `float_list` and `int64_list`. The other one, `bytes_list`, holds no numbers."""


def is_tfrecord(head: bytes) -> bool:
    """Return whether a file begins with the length of a record, and the CRC of that."""
    return len(head) >= _HEAD.size and crc32c.masked(head[:8]) == _HEAD.unpack_from(head)[1]


def tables(path: Path) -> dict[str, Table]:
    """Return the numbers of each feature that the first record has, by name.

    Raises:
        UnreadableFile: a record is damaged, or no feature holds numbers.
    """
    label = printable(str(path))
    status = path.stat()
    begins = _begins(path, status.st_size, status.st_mtime_ns)
    first = _numbers(path, begins[0])
    if not first:
        raise UnreadableFile(
            f"{label} holds no numbers",
            why="no feature of its first record is a float_list or an int64_list",
            hint="give bninspect.drift a dataset that decodes them",
        )

    def table(name: str) -> Table:
        def read(rows: Sequence[int]) -> Array:
            return np.stack([_feature(path, begins[row], name, len(first[name])) for row in rows])

        return Table(
            f"{printable(name)} in {label}", (len(begins), len(first[name])), first[name].dtype, read, of_record=True
        )

    return {name: table(name) for name in first}


@lru_cache(maxsize=1024)
def _begins(path: Path, size: int, _changed: int) -> tuple[int, ...]:
    """Return where the bytes of each record begin."""
    begins, position = [], 0
    with path.open("rb") as file:
        while position < size:
            file.seek(position)
            head = file.read(_HEAD.size)
            if not is_tfrecord(head) or position + _HEAD.size + _HEAD.unpack(head)[0] + _TAIL > size:
                raise UnreadableFile(f"{printable(str(path))} is damaged", why=f"no record begins at byte {position}")
            begins.append(position + _HEAD.size)
            position += _HEAD.size + _HEAD.unpack(head)[0] + _TAIL
    return tuple(begins)


def _numbers(path: Path, begin: int) -> Mapping[str, Array]:
    with path.open("rb") as file:
        file.seek(begin - _HEAD.size)
        length, _ = _HEAD.unpack(file.read(_HEAD.size))
        features = Message(file.read(length)).message(1).entries(1)
    found: dict[str, Array] = {}
    for name, encoded in features.items():
        feature = Message(encoded)
        if feature.has(_FLOATS):
            found[name] = np.frombuffer(feature.message(_FLOATS).fixed32(1), "<f4")
        elif feature.has(_INTEGERS):
            found[name] = np.array(feature.message(_INTEGERS).integers(1), np.int64)
    return found


def _feature(path: Path, begin: int, name: str, length: int) -> Array:
    values = _numbers(path, begin).get(name)
    if values is None or len(values) != length:
        raise UnreadableFile(
            f"the records of {printable(str(path))} differ",
            why=f"{printable(name)} has {0 if values is None else len(values)} numbers in one, {length} in the first",
        )
    return values
