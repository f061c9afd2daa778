"""The numbers of tensors, read from the zip when they are asked for, every size checked against what is there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bninspect.arithmetic.rounding import from_bfloat16
from bninspect.errors import DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats.containers.zip_archive import EXPANSION
from bninspect.formats.encodings.npy import LARGEST
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.formats.containers.zip_archive import Archive
    from bninspect.formats.torch.objects import PickledTensor
    from bninspect.records import Array

_NUMBERS = {"bfloat16": "u2", "bool": "u1"}


class Storages:
    """The storages of one zip.

    Args:
        archive: the open zip.
        folder: name of the folder in it that the members begin with, such as `archive/`.
    """

    def __init__(self, archive: Archive, folder: str) -> None:
        self._archive = archive
        self._folder = folder
        self._order = "<"
        if f"{folder}byteorder" in archive.names():
            written = archive.read(f"{folder}byteorder", 16)
            if written not in {b"little", b"big"}:
                raise DamagedFile(f"{archive.label} is damaged", why="its byte order is neither little nor big")
            self._order = "<" if written == b"little" else ">"

    def array(self, tensor: PickledTensor, name: str) -> Array:
        """Return a tensor's numbers as a read-only array; bfloat16 widened to float32.

        Raises:
            DamagedFile: the storage is smaller than the tensor needs, or missing.
            UnsafeFile: the tensor is beyond what is read.
            UnreadableFile: it is of a type that is not read.
        """
        held = tensor.storage
        if held.dtype == "unread":
            raise UnreadableFile(f"{self._archive.label} holds a type that is not read", why=printable(name))
        return self.numbers(f"data/{held.key}", held.dtype, tensor.offset, tensor.shape, tensor.strides, name)

    def numbers(
        self, member: str, dtype: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], name: str
    ) -> Array:
        """Return the numbers of `shape` and `strides` from `offset` on in a member; as `array`."""
        kind = np.dtype(self._order + np.dtype(_NUMBERS.get(dtype, dtype)).str[1:])
        count = math.prod(shape)
        if count * kind.itemsize > LARGEST:
            raise UnsafeFile(
                f"{self._archive.label} is beyond what a model needs",
                why=f"{printable(name)} has shape {shape}, at most {LARGEST} bytes are read",
            )
        data = np.frombuffer(self._archive.read(self._folder + member, LARGEST), np.uint8)
        last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
        if count and (last + 1) * kind.itemsize > data.size:
            raise DamagedFile(
                f"{self._archive.label} is damaged",
                why=f"{printable(name)} needs {(last + 1) * kind.itemsize} bytes of {data.size} stored ones",
            )
        if count * kind.itemsize > max(1 << 20, EXPANSION * data.size):
            raise UnsafeFile(
                f"{self._archive.label} is beyond what a model needs",
                why=f"{printable(name)} makes {count} numbers of {data.size} stored bytes",
            )
        numbers = data[: data.size // kind.itemsize * kind.itemsize].view(kind)
        steps = tuple(stride * kind.itemsize for stride in strides)
        view = np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps) if count else np.empty(shape, kind)
        values = view.astype(kind.newbyteorder("="))
        if dtype == "bfloat16":
            values = from_bfloat16(values)
        values.flags.writeable = False
        return values
