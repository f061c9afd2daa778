"""Data that lives in this process, written to a file for a process that runs a model: memory does not grow with it."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from bninspect.errors import UsageError
from bninspect.records import Array

_HEAD = 256
"""Bytes for the header of a .npy file, which states the number of samples and is written last."""


_BATCHES = "an iterable yields batches: arrays of samples, or (inputs, labels)"


def spool(data: Any, folder: Path, limit: int | None = None) -> Path:
    """Write data to a file in a folder, and return its path; the path of a file or folder is returned as it is.

    Args:
        data: an array or a mapping of arrays by the names of inputs, samples along the first axis; or an iterable of
            batches, each of which is that, or a tuple that begins with it, as a dataset for training yields them.
        folder: where to write.
        limit: samples that are enough.

    Raises:
        UsageError: it is none of these, or its batches do not fit each other.
    """
    if isinstance(data, (str, os.PathLike)):
        return Path(data)
    with ExitStack() as stack:
        files: dict[str, _Growing] = {}
        for batch in _batches(data):
            if files and batch.keys() != files.keys():
                raise UsageError("the batches of the data do not hold the same arrays", hint=_BATCHES)
            for place, (name, values) in enumerate(batch.items()):
                if name not in files:
                    files[name] = stack.enter_context(_Growing(folder / f"{place}.npy", values))
                files[name].add(values)
            if limit is not None and min(file.count for file in files.values()) >= limit:
                break
    if not files:
        raise UsageError("the data holds no samples", why="it yields no batch; a generator yields them only once")
    if list(files) == [""]:
        return files[""].path
    target = folder / "data.npz"
    with zipfile.ZipFile(target, "w") as archive:
        for name, file in files.items():
            archive.write(file.path, f"{name}.npy")
            file.path.unlink()
    return target


def _batches(data: Any) -> Iterator[Mapping[str, Array]]:
    if isinstance(data, Mapping) or hasattr(data, "shape") or hasattr(data, "__array__"):
        yield _named(data)
        return
    if not isinstance(data, Iterable):
        raise UsageError(
            f"{type(data).__name__} cannot be used as data",
            why="data is an array, arrays by name, or an iterable of batches",
            hint="torch.utils.data.DataLoader(data, batch_size=32)" if hasattr(data, "__getitem__") else "",
        )
    for batch in data:
        yield _named(batch[0] if isinstance(batch, (tuple, list)) and len(batch) in {2, 3} else batch)


def _named(batch: Any) -> Mapping[str, Array]:
    if isinstance(batch, Mapping):
        return {str(name): _array(values) for name, values in batch.items()}
    if isinstance(batch, (tuple, list)):
        return {str(place): _array(values) for place, values in enumerate(batch)}
    return {"": _array(batch)}


def _array(values: Any) -> Array:
    if isinstance(values, (list, tuple, int, float)):
        raise UsageError("lists of numbers are not arrays", hint="numpy.asarray(data, 'float32')")
    if hasattr(values, "detach"):
        # A tensor of torch, which may have a gradient, be on another device, or in a type that NumPy has not.
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    return np.asarray(values)


class _Growing:
    """A .npy file that grows by batches."""

    def __init__(self, path: Path, like: Array) -> None:
        if like.ndim == 0 or like.dtype.kind not in "biufSU":
            hint = "numpy.asarray(batch, 'float32')" if like.dtype == object else _BATCHES
            raise UsageError(
                f"a batch of type {like.dtype} and shape {like.shape} is not an array of samples", hint=hint
            )
        self.path, self.count = path, 0
        self._shape, self._dtype = like.shape[1:], like.dtype
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        self._file = self.path.open("wb")
        self._file.write(b"\0" * _HEAD)
        return self

    def add(self, values: Array) -> None:
        """Append samples."""
        if values.shape[1:] != self._shape or self._file is None:
            raise UsageError(
                "the batches of the data hold samples of different shapes",
                why=f"{self._shape}, then {values.shape[1:]}",
                hint=_BATCHES,
            )
        self._file.write(np.ascontiguousarray(values.astype(self._dtype)).tobytes())
        self.count += len(values)

    def __exit__(self, *_: object) -> None:
        if self._file is None:
            return
        shape = (self.count, *self._shape)
        text = f"{{'descr': {self._dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
        self._file.seek(0)
        length = _HEAD - 10
        self._file.write(b"\x93NUMPY\x01\0" + length.to_bytes(2, "little") + text.ljust(length - 1) + b"\n")
        self._file.close()
