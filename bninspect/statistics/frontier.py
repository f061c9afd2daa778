"""The values at which a walk through a model stands, batch by batch: in memory up to a limit, then in a file.

The file has no name: it is gone when the process is, however that ends.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bninspect.records import Array
from bninspect.statistics.data.samples import Batch

IN_MEMORY = 1 << 28
"""Bytes that are kept in memory before a file is opened."""


@dataclass(frozen=True)
class _Kept:
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Frontier:
    """Batches of values, written once, one after the other, and then read in the same order as often as is needed.

    Args:
        folder: where a file may be.
    """

    def __init__(self, folder: Path) -> None:
        self._file: Any = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(folder))  # noqa: SIM115 - closed by `close`
        self._batches: list[tuple[tuple[_Kept, ...], int, int]] = []
        self.size = 0
        """Bytes that have been written."""

    def add(self, values: Mapping[str, Array], samples: int, size: int) -> None:
        """Write the values of one batch."""
        kept = tuple(_Kept(name, array.dtype, array.shape) for name, array in values.items())
        for array in values.values():
            self._file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        self._batches.append((kept, samples, size))
        self.size += sum(each.size for each in kept)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches."""
        self._file.seek(0)
        for kept, samples, size in self._batches:
            arrays = {}
            for each in kept:
                flat = np.frombuffer(self._file.read(each.size), np.uint8)
                arrays[each.name] = flat.view(each.dtype).reshape(each.shape)
            yield Batch(arrays, samples, size)

    def close(self) -> None:
        """Give memory and disk back."""
        self._file.close()
