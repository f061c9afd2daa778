"""ONNX models as bytes, so that no test of reading needs the onnx package. Field numbers: onnx/onnx.proto."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

TYPES = {"float32": 1, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "float64": 11}


def varint(value: int) -> bytes:
    value %= 1 << 64
    data = b""
    while value > 0x7F:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def field(number: int, value: float | str | bytes) -> bytes:
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name: str, array: np.ndarray[Any, Any], external: Mapping[str, str] | None = None) -> bytes:
    data = b"".join(field(1, length) for length in array.shape)
    data += field(2, TYPES[array.dtype.name]) + field(8, name)
    if external is None:
        return data + field(9, array.tobytes())
    entries = b"".join(field(13, field(1, key) + field(2, value)) for key, value in external.items())
    return data + entries + field(14, 1)


def node(op: str, inputs: Iterable[str], outputs: Iterable[str], name: str = "", **attributes: Any) -> bytes:
    data = b"".join(field(1, one) for one in inputs) + b"".join(field(2, one) for one in outputs)
    data += field(3, name) + field(4, op)
    for key, value in attributes.items():
        if isinstance(value, np.ndarray):
            content, kind = field(5, tensor("", value)), 4
        elif isinstance(value, list):
            content, kind = b"".join(field(8, one) for one in value), 7
        elif isinstance(value, bytes):
            content, kind = field(6, value), 5
        else:
            content, kind = (field(2, value), 1) if isinstance(value, float) else (field(3, int(value)), 2)
        data += field(5, field(1, key) + content + field(20, kind))
    return data


def value(name: str, *shape: int | str) -> bytes:
    lengths = b"".join(field(1, field(1, one) if isinstance(one, int) else field(2, one)) for one in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, lengths)))


def graph(
    nodes: Iterable[bytes],
    arrays: Mapping[str, np.ndarray[Any, Any]],
    inputs: Iterable[bytes] = (value("x", "N", 3, 4, 4),),
    outputs: Iterable[bytes] = (value("y", "N", 3, 4, 4),),
    tensors: Iterable[bytes] = (),
) -> bytes:
    data = b"".join(field(1, one) for one in nodes) + field(2, "g")
    data += b"".join(field(5, tensor(name, array)) for name, array in arrays.items())
    data += b"".join(field(5, one) for one in tensors)
    return data + b"".join(field(11, one) for one in inputs) + b"".join(field(12, one) for one in outputs)


def model(content: bytes, opset: int = 17) -> bytes:
    version = field(1, "") + field(2, opset)
    return field(1, 8) + field(2, "test") + field(3, "1.0") + field(7, content) + field(8, version)


def function(
    domain: str, name: str, inputs: Iterable[str], outputs: Iterable[str], nodes: Iterable[bytes], opset: int = 17
) -> bytes:
    """Return a FunctionProto that is written for a version of ONNX's operators, and may call others of its domain."""
    data = field(1, name) + b"".join(field(4, one) for one in inputs) + b"".join(field(5, one) for one in outputs)
    data += b"".join(field(7, one) for one in nodes)
    data += b"".join(field(9, field(1, one) + field(2, version)) for one, version in (("", opset), (domain, 1)))
    return data + field(10, domain)


def with_functions(content: bytes, domain: str, *functions: bytes) -> bytes:
    """Return a model that brings functions of a domain of its own."""
    return content + field(8, field(1, domain) + field(2, 1)) + b"".join(field(25, one) for one in functions)


def of_domain(encoded: bytes, domain: str) -> bytes:
    """Return a node that calls an operator of another domain."""
    return encoded + field(7, domain)


def write_norm(path: Path, number: float = 1) -> Path:
    """Write a model of one batch norm, whose runtime starts in a fraction of the time that others take."""
    arrays = {name: np.array([0.5, 1, 2], np.float32) * number for name in ("scale", "shift", "mean", "variance")}
    norm = node("BatchNormalization", ["x", *arrays], ["y"], "bn")
    path.write_bytes(model(graph([norm], {name: array.astype(np.float32) for name, array in arrays.items()})))
    return path
