"""Places of moving statistics in an ONNX file: initializers whose numbers are in the file itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bninspect.exporters.copies.place import ArrayPlace, fields, refusal
from bninspect.formats.encodings.protobuf import varint

_GRAPH, _INITIALIZER, _DIMS, _TYPE, _FLOATS, _NAME, _RAW, _DOUBLES = 7, 5, 1, 2, 4, 8, 9, 10
_TYPES: Mapping[int, str] = {1: "<f4", 10: "<f2", 11: "<f8"}
_BYTES = 2


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
    for number, _, start, end in fields(content):
        if number == _GRAPH:
            for inner, _, begin, stop in fields(content, start, end):
                if inner == _INITIALIZER and (known := _tensor(content, begin, stop)) is not None:
                    found[known[0]] = known[1]
    return found


def _tensor(content: bytes, start: int, end: int) -> tuple[str, ArrayPlace] | None:
    name, kind, data = "", 0, None
    for number, wire, begin, stop in fields(content, start, end):
        if number == _NAME:
            name = content[begin:stop].decode("utf-8", "surrogateescape")
        elif number == _TYPE:
            kind = varint(content, begin)[0]
        elif number in {_RAW, _FLOATS, _DOUBLES} and wire == _BYTES:
            data = (begin, stop)
    if data is None or kind not in _TYPES:
        return None
    dtype: np.dtype[Any] = np.dtype(_TYPES[kind])
    return name, ArrayPlace(data[0], dtype, (data[1] - data[0]) // dtype.itemsize)
