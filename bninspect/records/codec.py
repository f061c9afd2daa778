"""Records to JSON and back, for reports on disk and for messages between our processes.

The types of the records' fields are the schema, so nothing is ever unpickled: a worker that a hostile file has taken
over can send wrong numbers, but no code. A frame is a length, a JSON text, and the raw bytes of the arrays in it.
"""

from __future__ import annotations

import json
import math
import struct
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, BinaryIO, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

T = TypeVar("T")

LONGEST_TEXT = 256 << 20
LARGEST_ARRAYS = 4 << 30
_HEADER = struct.Struct(">Q")


def encode(value: Any, arrays: list[np.ndarray[Any, Any]] | None = None) -> Any:
    """Return `value` as what `json.dumps` takes. Numbers that are not finite become None.

    Arrays are appended to `arrays` and referred to by their place; without that list an array raises TypeError.
    """
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.ndarray):
        if arrays is None:
            raise TypeError("an array where only numbers and texts belong")
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, np.generic):
        return encode(value.item(), arrays)
    if is_dataclass(value):
        return {item.name: encode(getattr(value, item.name), arrays) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(entry, arrays) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(entry, arrays) for entry in value]
    raise TypeError(f"{type(value).__name__} has no form in a report")


def decode(kind: type[T], data: Any, arrays: list[np.ndarray[Any, Any]] | None = None) -> T:
    """Return `data`, as `encode` made it, as a `kind`. Raises ValueError where it does not fit the record."""
    try:
        result: T = _decode(kind, data, arrays or [])
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"not a {getattr(kind, '__name__', kind)}: {error}") from error
    return result


def _decode(kind: Any, data: Any, arrays: list[np.ndarray[Any, Any]]) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return data
    if origin in (Union, types.UnionType):
        return _decode_union(get_args(kind), data, arrays)
    if origin is tuple:
        return tuple(_decode(get_args(kind)[0], entry, arrays) for entry in _expect(list, data))
    if origin is not None and issubclass(origin, Mapping):
        return {key: _decode(get_args(kind)[1], entry, arrays) for key, entry in _expect(dict, data).items()}
    if origin is np.ndarray or kind is np.ndarray:
        return arrays[_expect(int, data["array"])]
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        return kind(**{key: _decode(hints[key], entry, arrays) for key, entry in _expect(dict, data).items()})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    if kind is float:
        return float(_expect((int, float), data))
    return _expect(kind, data)


def _decode_union(kinds: tuple[Any, ...], data: Any, arrays: list[np.ndarray[Any, Any]]) -> Any:
    if data is None and type(None) in kinds:
        return None
    for kind in kinds:
        if (get_origin(kind) is tuple) == isinstance(data, list) and kind is not type(None):
            return _decode(kind, data, arrays)
    raise TypeError(f"{data!r} fits none of {kinds}")


def _expect(kind: Any, data: Any) -> Any:
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise TypeError(f"{type(data).__name__} instead of {kind}")
    return data


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def write_frame(stream: BinaryIO, message: Mapping[str, Any]) -> None:
    """Write one message, records and arrays in it included, and flush."""
    arrays: list[np.ndarray[Any, Any]] = []
    content = encode(message, arrays)
    described = [{"dtype": array.dtype.str, "shape": array.shape} for array in arrays]
    text = json.dumps({"message": content, "arrays": described}, allow_nan=False).encode()
    stream.write(_HEADER.pack(len(text)))
    stream.write(text)
    stream.writelines(np.ascontiguousarray(array).tobytes() for array in arrays)
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], list[np.ndarray[Any, Any]]] | None:
    """Read one message and its arrays (read-only); None at the end of the stream.

    Raises ValueError for what is no frame, so that a broken worker cannot break its supervisor.
    """
    head = stream.read(_HEADER.size)
    if len(head) < _HEADER.size:
        return None
    (length,) = _HEADER.unpack(head)
    if length > LONGEST_TEXT:
        raise ValueError(f"a message of {length} bytes")
    content = json.loads(_exactly(stream, length))
    arrays = []
    room = LARGEST_ARRAYS
    for entry in content["arrays"]:
        dtype = np.dtype(_expect(str, entry["dtype"]))
        shape = tuple(int(side) for side in entry["shape"])
        size = math.prod(shape) * dtype.itemsize
        room -= size
        if dtype.kind not in "biuf" or min(shape, default=0) < 0 or room < 0:
            raise ValueError("an array that no worker sends")
        arrays.append(np.frombuffer(_exactly(stream, size), dtype).reshape(shape))
    return content["message"], arrays


def _exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise ValueError("the message ends early")
    return data
