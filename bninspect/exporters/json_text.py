"""JSON, for people and for programs without NumPy."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from bninspect.exporters.entries import entries
from bninspect.formats.export_metadata import describe, describe_layer, number
from bninspect.records import Array, Checkpoint


def encode(checkpoint: Checkpoint, *, folded: bool) -> bytes:
    """Return the checkpoint as strict JSON in ASCII, one line per setting and per array.

    Numbers are the stored ones, exactly, in the shortest form that a double needs: float32's 0.1 is
    0.10000000149011612. What JSON lacks is the text "NaN", "Infinity" or "-Infinity". Raises as `entries.fold`.
    """
    layers = [
        {**describe_layer(entry), "parameters": {name: numbers(array) for name, array in entry.arrays.items()}}
        for entry in entries(checkpoint, folded=folded)
    ]
    return (_lines({**describe(checkpoint, folded=folded), "layers": layers}) + "\n").encode("ascii")


def numbers(array: Array) -> Any:
    """Return an array as nested lists of what JSON can hold, without loss."""
    if array.dtype.kind != "f":
        return array.tolist()
    with np.errstate(invalid="ignore"):  # signalling NaNs
        values = array.astype(np.float64)
    return values.tolist() if np.isfinite(values).all() else _spelled(values.tolist())


def _spelled(values: Any) -> Any:
    return [_spelled(value) for value in values] if isinstance(values, list) else number(values)


def _lines(value: Any, indent: str = "") -> str:
    """Return JSON with objects, and lists of them, over several lines and everything else in one."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        items = [f"{inner}{json.dumps(key)}: {_lines(entry, inner)}" for key, entry in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(inner + _lines(entry, inner) for entry in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)
