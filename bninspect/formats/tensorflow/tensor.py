"""Types, shapes and values of tensors as TensorFlow's protocol buffers state them.

Field numbers: tensorflow/core/framework/{types,tensor_shape,tensor}.proto.
"""

from __future__ import annotations

import math

import numpy as np

from bninspect.arithmetic.rounding import from_bfloat16
from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.formats.encodings.protobuf import Message
from bninspect.formats.stored_numbers import read_only
from bninspect.records import Array

BOOL = 10
STRING = 7
BFLOAT16 = 14
_REFERENCE = 100
"""Added to the type of a TF1 variable's reference."""

# DataType -> NumPy type as stored, and the field of TensorProto that holds values one by one.
_TYPES: dict[int, tuple[str, int]] = {
    1: ("<f4", 5),
    2: ("<f8", 6),
    3: ("<i4", 7),
    4: ("u1", 7),
    5: ("<i2", 7),
    6: ("i1", 7),
    8: ("<c8", 9),
    9: ("<i8", 10),
    10: ("?", 11),
    11: ("i1", 7),
    12: ("u1", 7),
    13: ("<i4", 7),
    BFLOAT16: ("<u2", 13),
    15: ("<i2", 7),
    16: ("<u2", 7),
    17: ("<u2", 7),
    18: ("<c16", 12),
    19: ("<f2", 13),
    22: ("<u4", 16),
    23: ("<u8", 17),
}
_NAMES = {1: "float32", 2: "float64", 19: "float16", BFLOAT16: "bfloat16"}

MOST_BYTES = 512 << 20
"""Of one array."""
MOST_RANK = 254


def float_name(dtype: int) -> str:
    """Return the name of a float type as `BatchNorm.dtype` has it; empty for any other type."""
    return _NAMES.get(dtype % _REFERENCE, "")


def shape_of(shape: Message) -> tuple[int | None, ...] | None:
    """Return the shape of a TensorShapeProto, `None` for an open length; `None` for an unknown rank."""
    if shape.integer(3):
        return None
    lengths = [dimension.integer(1) for dimension in shape.messages(2)]
    return tuple(None if length < 0 else length for length in lengths)


def known_shape(shape: Message, label: str) -> tuple[int, ...]:
    """Return the shape of stored data.

    Raises:
        DamagedFile: a length is open or negative, or there are more dimensions than TensorFlow allows.
    """
    lengths = tuple(dimension.integer(1) for dimension in shape.messages(2))
    if shape.integer(3) or len(lengths) > MOST_RANK or any(length < 0 for length in lengths):
        raise DamagedFile(f"{label} has no valid shape", why=f"it says {lengths[:8]}")
    return lengths


def bytes_of(dtype: int, shape: tuple[int, ...], label: str) -> int:
    """Return how many bytes an array of numbers takes.

    Raises:
        DamagedFile: the type is none of numbers.
        UnsafeFile: more than `MOST_BYTES`.
    """
    if dtype not in _TYPES:
        raise DamagedFile(f"{label} holds no numbers", why=f"its type is number {dtype}")
    size = math.prod(shape) * np.dtype(_TYPES[dtype][0]).itemsize
    if size > MOST_BYTES:
        raise UnsafeFile(f"{label} is too large", why=f"{size:,} bytes, at most {MOST_BYTES:,} are read")
    return size


def fits(dtype: int, shape: tuple[int, ...], size: int) -> bool:
    """Return whether an array takes that many bytes; of strings and other objects the shape does not tell."""
    return dtype not in _TYPES or math.prod(shape) * np.dtype(_TYPES[dtype][0]).itemsize == size


def array(dtype: int, shape: tuple[int, ...], data: bytes | memoryview) -> Array:
    """Return little-endian data as a read-only array; bfloat16 is widened to float32, which is exact."""
    values = np.frombuffer(data, _TYPES[dtype][0]).reshape(shape)
    if dtype == BFLOAT16:
        values = from_bfloat16(values)
    return read_only(values)


def value(proto: Message, label: str) -> Array:
    """Return the value of a TensorProto of numbers.

    Values may be raw bytes, or single ones of which the last fills the rest of the shape.

    Raises:
        DamagedFile: it contradicts itself, or does not hold numbers.
        UnsafeFile: it is larger than anything a batch norm needs.
    """
    dtype, shape = proto.integer(1) % _REFERENCE, known_shape(proto.message(2), label)
    size = bytes_of(dtype, shape, label)
    content = proto.data(4)
    if len(content):
        if len(content) != size:
            raise DamagedFile(f"{label} is damaged", why=f"shape {shape} takes {size} bytes, not {len(content)}")
        return array(dtype, shape, content)
    return _filled(proto, dtype, shape, label)


def listed(proto: Message, dtype: int, shape: tuple[int, ...], label: str) -> Array:
    """Return the single values of a TensorProto whose type and shape are known from elsewhere.

    Raises: as `value`.
    """
    bytes_of(dtype, shape, label)
    return _filled(proto, dtype, shape, label)


def _filled(proto: Message, dtype: int, shape: tuple[int, ...], label: str) -> Array:
    single = _single_values(proto, dtype)
    count = math.prod(shape)
    if single.size > count:
        raise DamagedFile(f"{label} is damaged", why=f"it has {single.size} values for shape {shape}")
    values = np.zeros(count, single.dtype)
    values[: single.size] = single
    if single.size:
        values[single.size :] = single[-1]
    return array(dtype, shape, values.tobytes())


def _single_values(proto: Message, dtype: int) -> Array:
    stored, field = _TYPES[dtype]
    target = np.dtype(stored)
    if target.kind in "fc" and dtype != 19:
        data = proto.fixed32(field) if target in (np.dtype("<f4"), np.dtype("<c8")) else proto.fixed64(field)
        if len(data) % target.itemsize:
            raise DamagedFile("a constant of the graph is damaged", why="its values are cut off")
        return np.frombuffer(data, target)
    # Integers are cut to their type as in C; float16 and bfloat16 travel as the integer of their bits.
    integers = [integer & 0xFFFF_FFFF_FFFF_FFFF for integer in proto.integers(field)]
    wide = np.array(integers, np.uint64)
    values: Array = wide != 0 if target.kind == "b" else wide.astype(f"u{target.itemsize}").view(target)
    return values


def strings(proto: Message) -> list[bytes]:
    """Return the values of a TensorProto of strings, in their order; one that fills its shape only once."""
    return [bytes(part) for part in proto.chunks(8)] if proto.integer(1) % _REFERENCE == STRING else []
