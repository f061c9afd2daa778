"""Places of moving statistics in an ONNX file: initializers whose numbers are in the file itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bninspect.exporters.copies.place import ArrayPlace, refusal

_GRAPH, _INITIALIZER, _DIMS, _TYPE, _FLOATS, _NAME, _RAW, _DOUBLES = 7, 5, 1, 2, 4, 8, 9, 10
_TYPES: Mapping[int, str] = {1: "<f4", 10: "<f2", 11: "<f8"}
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5


def places(content: bytes, names: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, ArrayPlace]]:
    """Return the place of each statistic, by layer and parameter.

    Args:
        content: of the file, which our reader has accepted.
        names: of the initializers, by layer and parameter.

    Raises:
        RuntimeFailure: an array is in another file, or of another form.
    """
    found = _initializers(content)
    for layer, parameters in names.items():
        for parameter, name in parameters.items():
            if name not in found:
                raise refusal(layer, f"{parameter} is not among the numbers of the file itself")
    return {
        layer: {parameter: found[name] for parameter, name in parameters.items()} for layer, parameters in names.items()
    }


def _initializers(content: bytes) -> dict[str, ArrayPlace]:
    found = {}
    for number, _, start, end in _fields(content, 0, len(content)):
        if number == _GRAPH:
            for inner, _, begin, stop in _fields(content, start, end):
                if inner == _INITIALIZER and (known := _tensor(content, begin, stop)) is not None:
                    found[known[0]] = known[1]
    return found


def _tensor(content: bytes, start: int, end: int) -> tuple[str, ArrayPlace] | None:
    name, kind, data = "", 0, None
    for number, wire, begin, stop in _fields(content, start, end):
        if number == _NAME:
            name = content[begin:stop].decode("utf-8", "surrogateescape")
        elif number == _TYPE:
            kind = _varint(content, begin)[0]
        elif number in {_RAW, _FLOATS, _DOUBLES} and wire == _BYTES:
            data = (begin, stop)
    if data is None or kind not in _TYPES:
        return None
    dtype: np.dtype[Any] = np.dtype(_TYPES[kind])
    return name, ArrayPlace(data[0], dtype, (data[1] - data[0]) // dtype.itemsize)


def _fields(content: bytes, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type, and where the value begins and ends, of each field of a message."""
    while position < end:
        key, position = _varint(content, position)
        number, wire = key >> 3, key & 7
        if wire == _BYTES:
            length, position = _varint(content, position)
            yield number, wire, position, position + length
            position += length
        elif wire == _VARINT:
            start = position
            _, position = _varint(content, position)
            yield number, wire, start, position
        elif wire in {_EIGHT, _FOUR}:
            length = 8 if wire == _EIGHT else 4
            yield number, wire, position, position + length
            position += length
        else:
            return


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
