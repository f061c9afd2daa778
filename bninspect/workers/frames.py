"""Messages between our processes: a length, a JSON text, and the raw bytes of the arrays in it."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from bninspect.records import codec

LONGEST_TEXT = 256 << 20
LARGEST_ARRAYS = 4 << 30
_HEADER = struct.Struct(">Q")


@dataclass(frozen=True)
class SentArray:
    """What an array behind a message is like."""

    dtype: str
    shape: tuple[int, ...]


def write_frame(stream: BinaryIO, message: Mapping[str, Any]) -> None:
    """Write one message, records and arrays in it included, and flush."""
    arrays: codec.Arrays = []
    content = codec.encode(message, arrays)
    described = [{"dtype": array.dtype.str, "shape": array.shape} for array in arrays]
    text = json.dumps({"message": content, "arrays": described}, allow_nan=False).encode()
    stream.write(_HEADER.pack(len(text)))
    stream.write(text)
    stream.writelines(np.ascontiguousarray(array).tobytes() for array in arrays)
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], codec.Arrays] | None:
    """Read one message and its arrays (read-only); None at the end of the stream.

    Raises ValueError for what is not a frame, so that a broken worker cannot break its supervisor.
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
    for sent in codec.decode(tuple[SentArray, ...], content["arrays"]):
        dtype = np.dtype(sent.dtype)
        size = math.prod(sent.shape) * dtype.itemsize
        room -= size
        if dtype.kind not in "biuf" or min(sent.shape, default=0) < 0 or room < 0:
            raise ValueError("an array that no worker sends")
        arrays.append(np.frombuffer(_exactly(stream, size), dtype).reshape(sent.shape))
    return content["message"], arrays


def _exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise ValueError("the message ends early")
    return data
