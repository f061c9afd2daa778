"""The numbers of tensors, read when they are asked for, every size checked against what is there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from bninspect.errors import DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats.containers.zip_archive import EXPANSION, Archive
from bninspect.formats.encodings.npy import LARGEST
from bninspect.formats.stored_numbers import native
from bninspect.formats.torch.objects import STORAGES, PickledTensor
from bninspect.records import Array
from bninspect.safe_text import printable

_BITS = {"bfloat16": "u2", "bool": "u1"}

Fetch: TypeAlias = Callable[[str], bytes]
"""Returns the bytes of a storage by its key. Raises DamagedFile where there is none."""


class Storages:
    """The storages of one file.

    Args:
        label: the file, for errors.
        fetch: returns the bytes of one.
        order: of the bytes of a number, `<` or `>`.
    """

    def __init__(self, label: str, fetch: Fetch, order: str = "<") -> None:
        self._label = label
        self._fetch = fetch
        self._order = order
        self._sizes: dict[str, int] = {}
        self._given = 0
        self._latest: tuple[str, bytes] = ("", b"")

    def array(self, tensor: PickledTensor, name: str) -> Array:
        """Return a tensor's numbers as a read-only array; bfloat16 widened to float32.

        Raises:
            DamagedFile: the storage is smaller than the tensor needs, or missing.
            UnsafeFile: the tensor is too large.
            UnreadableFile: it is of a type that is not read.
        """
        held = tensor.storage
        if held.dtype not in STORAGES.values():
            raise UnreadableFile(f"{self._label} holds a type that is not read", why=printable(name))
        last = _last(tensor.offset, tensor.shape, tensor.strides)
        if last >= held.count:
            raise DamagedFile(
                f"{self._label} is damaged",
                why=f"{printable(name)} needs {last + 1} numbers of a storage that has {held.count}",
            )
        if (size := len(self._stored(held.key))) < (held.start + held.count) * held.width:
            raise DamagedFile(
                f"{self._label} is damaged",
                why=f"the storage of {printable(name)} has {size} bytes, {held.count * held.width} are announced",
            )
        return self.numbers(held.key, held.dtype, held.start + tensor.offset, tensor.shape, tensor.strides, name)

    def numbers(
        self, key: str, dtype: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], name: str
    ) -> Array:
        """Return the numbers of `shape` and `strides` from `offset` on in a storage; as `array`."""
        kind = np.dtype(self._order + np.dtype(_BITS.get(dtype, dtype)).str[1:])
        count = math.prod(shape)
        if math.prod(length or 1 for length in shape) * kind.itemsize > LARGEST:
            raise UnsafeFile(
                f"{self._label} is too large",
                why=f"{printable(name)} has shape {shape}, at most {LARGEST:,} bytes are read",
            )
        data = np.frombuffer(self._stored(key), np.uint8)
        last = _last(offset, shape, strides)
        if (last + 1) * kind.itemsize > data.size:
            raise DamagedFile(
                f"{self._label} is damaged",
                why=f"{printable(name)} needs {(last + 1) * kind.itemsize} bytes of {data.size} stored ones",
            )
        if count * kind.itemsize > max(1 << 20, EXPANSION * data.size):
            raise UnsafeFile(
                f"{self._label} is too large",
                why=f"{printable(name)} makes {count:,} numbers of {data.size:,} bytes, at most {EXPANSION} times",
            )
        self._count(count * kind.itemsize, name)
        numbers = data[: data.size // kind.itemsize * kind.itemsize].view(kind)
        # A stride along a single place says nothing, and may be any number.
        places = zip(shape, strides, strict=True)
        steps = tuple(stride * kind.itemsize if length > 1 else 0 for length, stride in places)
        view = np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps) if count else np.empty(shape, kind)
        return native(view, bfloat16=dtype == "bfloat16")

    def _stored(self, key: str) -> bytes:
        """Return a storage. Tensors that share one follow each other: the latest is kept."""
        if self._latest[0] != key or key not in self._sizes:
            self._latest = (key, self._fetch(key))
            self._sizes[key] = len(self._latest[1])
        return self._latest[1]

    def _count(self, size: int, name: str) -> None:
        """Count what is handed out: any number of tensors may be views of the same few bytes."""
        self._given += size
        if self._given > LARGEST + sum(self._sizes.values()):
            raise UnsafeFile(
                f"{self._label} is too large",
                why=f"up to {printable(name)} they have {self._given:,} bytes, stored in {sum(self._sizes.values()):,}",
            )


def _last(offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Return the place of the last number of a tensor; -1 if it has none."""
    steps = sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    return offset + steps if math.prod(shape) else -1


def in_zip(archive: Archive, folder: str, place: str = "") -> Storages:
    """Return the storages of a zip.

    Args:
        archive: the open zip.
        folder: name of the folder in it that the members begin with, such as `archive/`.
        place: folder of the storages within that one, such as `data/`, where their keys do not say it.
    """
    order = "<"
    if f"{folder}byteorder" in archive.names():
        written = archive.read(f"{folder}byteorder", 16)
        if written not in {b"little", b"big"}:
            raise DamagedFile(f"{archive.label} is damaged", why="its byte order is neither little nor big")
        order = "<" if written == b"little" else ">"
    return Storages(archive.label, lambda key: archive.read(folder + place + key, LARGEST), order)
