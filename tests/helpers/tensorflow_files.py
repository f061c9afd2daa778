"""TensorFlow's files written by hand, without TensorFlow: encodings straight from their specifications.

Nothing of bninspect is used here, so that a reader's mistake cannot meet the same mistake in the writer.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Value = int | bytes | str | float

TYPES = {"float32": 1, "float64": 2, "int32": 3, "string": 7, "int64": 9, "bool": 10, "float16": 19, "resource": 20}


def varint(value: int) -> bytes:
    """Encode an integer of up to 64 bits, a negative one as its two's complement."""
    value &= (1 << 64) - 1
    data = b""
    while value > 0x7F:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def message(*fields: tuple[int, Value]) -> bytes:
    """Encode a message: integers as varints, floats as fixed32, text and bytes with their length."""
    parts = []
    for number, value in fields:
        if isinstance(value, float):
            parts += [varint(number << 3 | 5), struct.pack("<f", value)]
        elif isinstance(value, int):
            parts += [varint(number << 3), varint(value)]
        else:
            content = value.encode() if isinstance(value, str) else value
            parts += [varint(number << 3 | 2), varint(len(content)), content]
    return b"".join(parts)


def crc32c(data: bytes) -> int:
    """Return the CRC-32C bit by bit, as RFC 3720 defines it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """Return the CRC-32C as LevelDB stores it."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def block(items: Sequence[tuple[bytes, bytes]], *, compression: int = 0) -> bytes:
    """Return a block of a table with its trailer: keys share what they begin with, one restart point."""
    data, last = b"", b""
    for key, value in items:
        shared = 0
        while shared < min(len(key), len(last)) and key[shared] == last[shared]:
            shared += 1
        data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    data += struct.pack("<II", 0, 1) + bytes([compression])
    return data + struct.pack("<I", masked(data))


def table(items: Sequence[tuple[bytes, bytes]], *, per_block: int = 4, compression: int = 0) -> bytes:
    """Return a LevelDB table."""
    data, index = b"", []
    for start in range(0, max(1, len(items)), per_block):
        part = items[start : start + per_block]
        written = block(part, compression=compression)
        index.append((part[-1][0] if part else b"", varint(len(data)) + varint(len(written) - 5)))
        data += written
    empty, last = block([]), block(index)
    handles = varint(len(data)) + varint(len(empty) - 5)
    handles += varint(len(data) + len(empty)) + varint(len(last) - 5)
    return data + empty + last + handles.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def shape(*lengths: int) -> bytes:
    """Return a TensorShapeProto."""
    return message(*((2, message((1, length))) for length in lengths))


def entry(array: NDArray[Any], at: int, /, **changed: Value) -> bytes:
    """Return a BundleEntryProto; `changed` replaces fields by their names."""
    data = array.tobytes()
    fields: dict[str, Value] = {
        "dtype": TYPES[array.dtype.name],
        "shape": shape(*array.shape),
        "shard": 0,
        "offset": at,
        "size": len(data),
        "crc": masked(data),
        **changed,
    }
    parts = [(number, fields[name]) for number, name in enumerate(fields, 1) if name != "crc"]
    crc = fields["crc"]
    assert isinstance(crc, int)
    return message(*parts) + varint(6 << 3 | 5) + struct.pack("<I", crc)


def header(shards: int = 1, endianness: int = 0) -> bytes:
    """Return a BundleHeaderProto."""
    return message((1, shards), (2, endianness), (3, message((1, 1))))


def write_bundle(
    prefix: Path, arrays: Mapping[str, NDArray[Any]], changed: Mapping[str, Mapping[str, Value]] | None = None
) -> Path:
    """Write a checkpoint of one shard and return its prefix; `changed` replaces fields of entries."""
    items, data = [(b"", header())], b""
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        items.append((name.encode(), entry(array, len(data), **(changed or {}).get(name, {}))))
        data += array.tobytes()
    prefix.with_name(f"{prefix.name}.index").write_bytes(table(items))
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(data)
    return prefix


def attribute(value: object) -> bytes:
    """Return an AttrValue: a flag, a number, text or texts, a NumPy type, an array, or a function, `("func", name)`."""
    if isinstance(value, bool):
        return message((5, int(value)))
    if isinstance(value, float):
        return message((4, value))
    if isinstance(value, int):
        return message((3, value))
    if isinstance(value, str):
        return message((2, value))
    if isinstance(value, np.dtype):
        return message((6, TYPES[value.name]))
    if isinstance(value, np.ndarray):
        return message((8, tensor(value)))
    if isinstance(value, list):
        return message((1, message(*((2, text) for text in value))))
    assert isinstance(value, tuple)
    return message((10, message((1, str(value[1])))))


def tensor(array: NDArray[Any]) -> bytes:
    """Return a TensorProto."""
    return message((1, TYPES[array.dtype.name]), (2, shape(*array.shape)), (4, array.tobytes()))


def node(name: str, op: str, *inputs: str, **attributes: object) -> bytes:
    """Return a NodeDef."""
    entries = [(5, message((1, key), (2, attribute(value)))) for key, value in attributes.items()]
    return message((1, name), (2, op), *((3, one) for one in inputs), *entries)


def const(name: str, value: object) -> bytes:
    """Return a constant."""
    array = np.asarray(value, None if isinstance(value, np.ndarray) else np.float32)
    return node(name, "Const", dtype=array.dtype, value=array)


def function(
    name: str, inputs: Sequence[str], returned: Mapping[str, str], nodes: Sequence[bytes], dtype: str = "float32"
) -> bytes:
    """Return a FunctionDef."""
    arguments = [(2, message((1, one), (3, TYPES[dtype]))) for one in inputs]
    outputs = [(3, message((1, one), (3, TYPES[dtype]))) for one in returned]
    signature = message((1, name), *arguments, *outputs)
    results = [(4, message((1, key), (2, value))) for key, value in returned.items()]
    return message((1, signature), *((3, one) for one in nodes), *results)


def graph(*nodes: bytes, functions: Sequence[bytes] = ()) -> bytes:
    """Return a GraphDef."""
    library = [(2, message(*((1, one) for one in functions)))] if functions else []
    return message(*((1, one) for one in nodes), *library)


def tensor_info(name: str) -> bytes:
    """Return a TensorInfo of float32."""
    return message((1, name), (2, 1))


def write_saved_model(
    folder: Path, contents: bytes, outputs: Mapping[str, str], inputs: Mapping[str, str] | None = None
) -> Path:
    """Write a SavedModel without variables and with the signature `serving_default`."""
    stated = [(1, inputs or {}), (2, outputs)]
    signature = message(
        *((field, message((1, key), (2, tensor_info(name)))) for field, names in stated for key, name in names.items())
    )
    about = message((4, "serve"), (5, "2.99.0"))
    entry_ = message((1, "serving_default"), (2, signature))
    folder.mkdir(parents=True, exist_ok=True)
    meta = message((1, about), (2, contents), (5, entry_))
    (folder / "saved_model.pb").write_bytes(message((1, 1), (2, meta)))
    return folder
