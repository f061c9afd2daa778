"""Safetensors: a JSON header of names, types and offsets, then the bytes.

What `bninspect export` wrote is read back whole. In a file of another program batch norms are what PyTorch names so.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from bninspect.arithmetic.rounding import from_bfloat16
from bninspect.errors import DamagedFile, LimitExceeded, UnsafeFile
from bninspect.formats import named_kernels, whole_file
from bninspect.formats.containers import parts
from bninspect.formats.export_metadata import from_text, strict_json
from bninspect.formats.format import Format
from bninspect.formats.stored_numbers import read_only
from bninspect.formats.torch import running_statistics
from bninspect.records import Array, BatchNorm, Checkpoint
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.formats.named_kernels import NamedKernel

NAME = "safetensors"
LENGTH = struct.Struct("<Q")
HEADER_BYTES = 100_000_000  # as in the safetensors library
METADATA = "__metadata__"
DESCRIPTION = "bninspect"
DIGEST = "sha256"
TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "<u1",
}
"""Type names of the format, and NumPy's for their bytes. NumPy lacks bfloat16, the upper half of a float32's bits."""

Tensor: TypeAlias = tuple[str, tuple[int, ...], bytes | memoryview]
"""Type name, shape and bytes."""


Place: TypeAlias = tuple[str, tuple[int, ...], int, int]
"""Type name, shape, and where its bytes begin and end behind the header."""


def digest(description: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a description and of the tensors (type, shape, data) by name, wherever they are placed.

    The format itself has no checksum: without this a flipped bit would be a parameter.
    """
    total = hashlib.sha256(description.encode("utf-8", "surrogatepass"))
    for name in sorted(tensors):
        kind, shape, data = tensors[name]
        total.update(f"\0{name}\0{kind}\0{shape}\0".encode("utf-8", "surrogatepass"))
        total.update(data)
    return total.hexdigest()


def _matches(_path: Path, head: bytes) -> bool:
    return (
        len(head) > LENGTH.size and head[LENGTH.size :].startswith(b"{") and 2 <= LENGTH.unpack_from(head)[0] < 1 << 40
    )


def _read(path: Path) -> Checkpoint:
    with whole_file.opened(path) as file:
        size = file.seek(0, os.SEEK_END)
        header, start = _header(file, size, path)
        metadata = header.pop(METADATA, {})
        places = _places(header, size - start, path)
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            raise DamagedFile(f"{path} is damaged", why="its metadata is not text")
        ours = DESCRIPTION in metadata
        tensors = _tensors(file, start, places if ours else _norms_of(places), path)
    if not ours:
        found = _foreign(list(places), tensors, metadata.get(running_statistics.EPSILON), path)
        other = [name for name, (kind, *_) in places.items() if kind not in TYPES]
        return replace(found, unread=running_statistics.unread(places, other))
    known = all(kind in TYPES for kind, _, _ in tensors.values())
    if not known or metadata.get(DIGEST) != digest(metadata[DESCRIPTION], tensors):
        raise DamagedFile(
            f"{path} is not what was exported",
            why="its SHA-256 does not fit: it was damaged, or changed by another program",
            hint="export the parameters again",
        )
    arrays = {name: _array(*tensor) for name, tensor in tensors.items()}
    return from_text(metadata[DESCRIPTION], arrays, path, NAME)


def read_kernels(path: Path) -> tuple[NamedKernel, ...]:
    """Return the kernels of the file, by torch's names. Raises as reading it."""
    with whole_file.opened(path) as file:
        header, start = _header(file, size := file.seek(0, os.SEEK_END), path)
        header.pop(METADATA, None)
        every = _places(header, size - start, path)
        floats = {name: place for name, place in every.items() if place[0] in _FLOATS}
        tensors = _tensors(file, start, floats, path)
    shapes = {name: shape for name, (_, shape, _, _) in floats.items()}
    return tuple(named_kernels.of_torch(shapes, partial(_numbers, tensors)))


def read_places(path: Path) -> tuple[Mapping[str, Place], int]:
    """Return the tensors of a file that another program wrote, and where the first begins. Raises as reading it.

    None is returned of an export of ours: its digest is of the numbers.
    """
    with whole_file.opened(path) as file:
        header, start = _header(file, size := file.seek(0, os.SEEK_END), path)
        metadata = header.pop(METADATA, {})
        places = _places(header, size - start, path)
    return ({} if DESCRIPTION in metadata else places), start


_FLOATS = ("F64", "F32", "F16", "BF16")


def _norms_of(places: Mapping[str, Place]) -> dict[str, Place]:
    """Return the tensors of batch norms, by torch's names, of types that are read."""
    fields = running_statistics.FIELDS.values()
    other = {name for name, place in places.items() if place[0] not in TYPES}
    found = [[prefix + field for field in fields] for prefix in running_statistics.prefixes(places)]
    wanted = {name for names in found if not other.intersection(names) for name in names}
    wanted |= {prefix + "num_batches_tracked" for prefix in running_statistics.prefixes(places)} - other
    return {name: place for name, place in places.items() if name in wanted}


def _foreign(names: list[str], tensors: dict[str, Tensor], epsilons: str | None, path: Path) -> Checkpoint:
    """Return the batch norms of a file that another program wrote: what torch calls running_mean and running_var.

    An export of ours under torch's names keeps epsilon by layer in `epsilons`.
    """
    if any(name.endswith("/moving_mean") for name in names):
        raise DamagedFile(
            f"{path} is not what was exported",
            why=f"its metadata '{DESCRIPTION}', which would hold epsilon, is missing",
            hint="write it again from the model: bninspect export MODEL --format safetensors",
        )
    layers = running_statistics.layers(tensors, partial(_numbers, tensors))
    if epsilons is not None:
        values = strict_json(epsilons, path)
        layers = tuple(_with_epsilon(layer, values.get(layer.name)) for layer in layers)
        return Checkpoint(str(path), NAME, "bninspect", layers)
    note = running_statistics.NOTE if layers else running_statistics.NONE
    return Checkpoint(str(path), NAME, "", layers, (note,))


def _with_epsilon(layer: BatchNorm, epsilon: object) -> BatchNorm:
    if not isinstance(epsilon, float) or not math.isfinite(epsilon):
        return layer
    return replace(layer, epsilon=epsilon, epsilon_source="file")


def _header(file: BinaryIO, size: int, path: Path) -> tuple[dict[str, Any], int]:
    """Return the JSON header and where the tensors begin."""
    file.seek(0)
    length = LENGTH.unpack(file.read(LENGTH.size))[0] if size >= LENGTH.size else 0
    start = LENGTH.size + length
    if length > HEADER_BYTES:
        raise UnsafeFile(
            f"{path} is too large",
            why=f"a header of {length:,} bytes, at most {HEADER_BYTES:,} are read",
        )
    if start > size:
        raise DamagedFile(
            f"{path} is cut off",
            why=f"it has {size} bytes, its header alone ends at {start}",
            hint="copy or download the file again",
        )
    # What is not UTF-8 ends up in a name or text that the digest knows nothing of.
    return strict_json(file.read(length).decode("utf-8", "replace"), path), start


def _tensors(file: BinaryIO, start: int, places: Mapping[str, Place], path: Path) -> dict[str, Tensor]:
    """Return type, shape and bytes of tensors. Raises LimitExceeded for too many bytes, DamagedFile if some lack."""
    total = sum(end - begin for _, _, begin, end in places.values())
    if total > whole_file.LARGEST:
        raise LimitExceeded(
            f"{path} is too large", why=f"{total} bytes of tensors, at most {whole_file.LARGEST} are read"
        )
    parts.prepare(file, [(start + begin, end - begin) for _, _, begin, end in places.values()])
    tensors: dict[str, Tensor] = {}
    for name, (kind, shape, begin, end) in places.items():
        file.seek(start + begin)
        data = file.read(end - begin)
        if len(data) != end - begin:
            raise DamagedFile(f"{path} is cut off", why=f"it ends within '{printable(name)}'")
        tensors[name] = (kind, shape, data)
    return tensors


def _places(header: dict[str, Any], body: int, path: Path) -> dict[str, Place]:
    """Return type, shape and place of each tensor; together they are the body, without a hole or an overlap."""
    placed = []
    for name, tensor in header.items():
        match tensor:
            case {"dtype": str(kind), "shape": list(shape), "data_offsets": [begin, end], **rest}:
                numbers = [begin, end, *shape]
                whole = not rest and all(type(n) is int and 0 <= n < 1 << 63 for n in numbers)
                if whole and begin <= end and end - begin == _size(kind, tuple(shape), end - begin):
                    placed.append((begin, end, name, kind, tuple(shape)))
                    continue
        raise DamagedFile(f"{path} is damaged", why=f"its header contradicts itself about '{printable(name)}'")
    position = 0
    for begin, end, name, _, _ in sorted(placed):
        if begin != position:
            raise DamagedFile(f"{path} is damaged", why=f"'{printable(name)}' overlaps another tensor or leaves a hole")
        position = end
    if position != body:
        raise DamagedFile(
            f"{path} is damaged",
            why=f"{body} bytes of tensors, its header says {position}",
            hint="copy or download the file again",
        )
    return {name: (kind, shape, begin, end) for begin, end, name, kind, shape in placed}


def _size(kind: str, shape: tuple[int, ...], otherwise: int) -> int:
    """Return the bytes that a tensor takes; `otherwise` for the types of other programs, which stay unread."""
    return math.prod(shape) * np.dtype(TYPES[kind]).itemsize if kind in TYPES else otherwise


def _numbers(tensors: Mapping[str, Tensor], name: str) -> tuple[Array, str]:
    kind = tensors[name][0]
    return _array(*tensors[name]), "bfloat16" if kind == "BF16" else np.dtype(TYPES[kind]).name


def _array(kind: str, shape: tuple[int, ...], data: bytes | memoryview) -> Array:
    array: Array = np.frombuffer(data, TYPES[kind])
    if kind == "BF16":
        array = from_bfloat16(array)
    array = array.astype(array.dtype.newbyteorder("="), copy=False).reshape(shape)
    return read_only(array)


FORMAT = Format(NAME, "safetensors", (".safetensors",), _matches, _read, kernels=read_kernels)
