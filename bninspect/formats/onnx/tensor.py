"""TensorProto: constants, within the model file or in a file beside it."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bninspect.errors import DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats.containers.siblings import sibling
from bninspect.formats.onnx.model import TYPES
from bninspect.formats.stored_numbers import native
from bninspect.records import Array
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.formats.encodings.protobuf import Message

MOST_BYTES = 512 << 20
"""Of one array."""
_EXTERNAL = 1
_BITS = {"bfloat16": "uint16", "bool": "uint8"}
_AS_INT32 = ("uint8", "int8", "uint16", "int16", "int32", "bool", "float16", "bfloat16")


def array(tensor: Message, model: Path) -> tuple[Array, str]:
    """Return a constant as a read-only array, bfloat16 widened to float32, and the name of its stored type.

    Args:
        tensor: a TensorProto.
        model: path of the model, beside which external data lies.

    Raises:
        DamagedFile: its bytes are not those of its shape and type.
        UnsafeFile: it is larger than anything a model needs, or its data would be read from elsewhere.
        UnreadableFile: it is of a type that is not read.
    """
    name, dtype = tensor.text(8), TYPES.get(tensor.integer(2), "")
    if dtype in {"", "string"}:
        raise UnreadableFile(f"{model} holds a constant of a type that is not read", why=printable(name))
    shape = tuple(tensor.integers(1))
    kind = np.dtype(_BITS.get(dtype, dtype)).newbyteorder("<")
    if min(shape, default=0) < 0 or math.prod(shape) * kind.itemsize > MOST_BYTES:
        why = f"constant {printable(name)} has shape {shape}, at most {MOST_BYTES:,} bytes are read"
        raise UnsafeFile(f"{model} is too large", why=why)
    size = math.prod(shape) * kind.itemsize
    data = _external(tensor, model, size) if tensor.integer(14) == _EXTERNAL else _inside(tensor, dtype, kind)
    if len(data) != size:
        raise DamagedFile(
            f"{model} is damaged",
            why=f"constant {printable(name)} has {len(data)} bytes, shape {shape} of {dtype} takes {size}",
            hint="copy or download the file again",
        )
    return _native(data, kind, dtype, shape), dtype


def inside(tensor: Message) -> Array:
    """Return the numbers of a small tensor that is an attribute. Raises ValueError if they do not fit its shape."""
    dtype = TYPES.get(tensor.integer(2), "")
    if dtype in {"", "string"} or tensor.integer(14) == _EXTERNAL:
        raise ValueError("no numbers")
    kind = np.dtype(_BITS.get(dtype, dtype)).newbyteorder("<")
    return _native(_inside(tensor, dtype, kind), kind, dtype, tuple(tensor.integers(1)))


def _native(data: bytes | memoryview, kind: np.dtype[np.generic], dtype: str, shape: tuple[int, ...]) -> Array:
    values = np.frombuffer(data, kind).reshape(shape)
    return native(values, bfloat16=dtype == "bfloat16")


def _inside(tensor: Message, dtype: str, kind: np.dtype[np.generic]) -> bytes | memoryview:
    """Return the bytes of the raw field, or of the typed one in which each number stands alone."""
    if tensor.has(9):
        return tensor.data(9)
    if dtype == "float32":
        return tensor.fixed32(4)
    if dtype == "float64":
        return tensor.fixed64(10)
    field = 5 if dtype in _AS_INT32 else 7 if dtype == "int64" else 11
    bits = np.dtype("<u2") if dtype == "float16" else kind
    return np.array(tensor.integers(field), np.int64).astype(bits).tobytes()


def reference(tensor: Message, model: Path) -> tuple[Path, int, int | None]:
    """Return file, offset and length of a constant's external data, all of it checked.

    Only a file in the folder of the model is ever opened, and only one that is nothing else as well: a link, hard or
    soft, could be a file of the user's that the archive was packed to show (CVE-2024-27318, CVE-2026-34446).

    Raises:
        UnsafeFile: it would be read from elsewhere.
        DamagedFile: it is not there, or too short.
    """
    entries = {message.text(1): message.text(2) for message in tensor.messages(13)}
    label, name = str(model), printable(tensor.text(8))
    path = sibling(model.parent, entries.get("location", ""), label).resolve()
    if path.stat().st_nlink > 1:
        raise UnsafeFile(f"{label} leads to something else", why=f"{path.name} has a second name somewhere (hard link)")
    numbers = {key: entries[key] for key in ("offset", "length") if key in entries}
    if not all(text.isascii() and text.isdigit() and len(text) < 19 for text in numbers.values()):
        raise DamagedFile(f"{label} is damaged", why=f"the place of {name} in {path.name} is not a number")
    offset = int(numbers.get("offset", "0"))
    length = int(numbers["length"]) if "length" in numbers else None
    if offset + (length or 0) > path.stat().st_size:
        raise DamagedFile(f"{label} is incomplete", why=f"{path.name} ends before the numbers of {name}")
    return path, offset, length


def _external(tensor: Message, model: Path, size: int) -> bytes:
    path, offset, length = reference(tensor, model)
    if length is not None and length != size:
        raise DamagedFile(
            f"{model} is damaged", why=f"{printable(tensor.text(8))} has {length} bytes instead of {size}"
        )
    with path.open("rb") as file:
        if offset + size > file.seek(0, os.SEEK_END):
            raise DamagedFile(f"{model} is incomplete", why=f"{path.name} is shorter than {offset + size} bytes")
        file.seek(offset)
        return file.read(size)
