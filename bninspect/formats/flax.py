"""Flax: what `flax.serialization.to_bytes` writes, MessagePack with arrays as extensions.

Parameters are in `params/<path>/{scale,bias}`, statistics in `batch_stats/<path>/{mean,var}`. The epsilon is in the
Python code of the model alone (flax/linen/normalization.py: 1e-5 unless given), so here it is unknown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bninspect.errors import DamagedFile, UnreadableFile
from bninspect.formats import whole_file
from bninspect.formats.encodings import msgpack
from bninspect.formats.format import Format
from bninspect.formats.stored_numbers import native
from bninspect.records import Array, BatchNorm, Checkpoint
from bninspect.safe_text import printable

NAME = "flax"
_ARRAY = 1
_TYPES = ("float16", "bfloat16", "float32", "float64")
_FIELDS = {"gamma": ("params", "scale"), "beta": ("params", "bias")}
_FIELDS |= {"moving_mean": ("batch_stats", "mean"), "moving_variance": ("batch_stats", "var")}

# A mapping of at least one entry whose first key is a text, and one of the collections near the beginning.
_BEGINNING = re.compile(rb"(?:[\x81-\x8f]|\xde..|\xdf....)(?:[\xa1-\xbf]|\xd9.)[!-~]", re.DOTALL)
_COLLECTIONS = (b"\xa6params", b"\xabbatch_stats")


def _matches(_path: Path, head: bytes) -> bool:
    return _BEGINNING.match(head) is not None and any(name in head for name in _COLLECTIONS)


def _read(path: Path) -> Checkpoint:
    content = msgpack.unpack(whole_file.read(path))
    layers = tuple(_layers(content))
    note = "Flax keeps no epsilon in the file" if layers else "no entry of batch_stats holds mean and var"
    return Checkpoint(str(path), NAME, "Flax", layers, (note,))


def _layers(content: Any) -> Iterator[BatchNorm]:
    """Yield the batch norms in the order of the statistics, wherever in a training state the collections are."""
    for prefix, collections in _states(content, ()):
        for path, node in _walk(collections["batch_stats"], ()):
            if {"mean", "var"} <= node.keys():
                beside = _at(collections.get("params"), path)
                found = {"params": beside, "batch_stats": node}
                yield _layer("/".join((*prefix, *path)), "/".join((*prefix, "batch_stats", *path)), found)


def _states(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    for one, node in _walk(value, path):
        if isinstance(node.get("batch_stats"), dict):
            yield one, node


def _walk(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield every mapping with the keys that lead to it; `unpack` has bounded their depth."""
    if isinstance(value, dict):
        yield path, value
        for key, one in value.items():
            yield from _walk(one, (*path, key))


def _at(value: Any, path: tuple[str, ...]) -> Mapping[str, Any]:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _layer(name: str, location: str, found: Mapping[str, Mapping[str, Any]]) -> BatchNorm:
    stored = {
        field: _array(found[collection][key], f"{name}/{key}")
        for field, (collection, key) in _FIELDS.items()
        if key in found[collection]
    }
    arrays: dict[str, Any] = {field: array for field, (array, _) in stored.items()}
    return BatchNorm(
        name=name or "BatchNorm",
        **arrays,
        axis=(-1,),
        dtype="+".join(dict.fromkeys(dtype for _, dtype in stored.values())),
        location=location,
    )


def _array(value: Any, name: str) -> tuple[Array, str]:
    """Return an array and its type's name: the extension holds (shape, type, bytes)."""
    if not isinstance(value, msgpack.Extension) or value.code != _ARRAY:
        raise UnreadableFile("this file is not one of flax.linen", why=f"{printable(name)} is not an array")
    match msgpack.unpack(value.data):
        case [list(shape), str(dtype), memoryview() as data] if dtype in _TYPES:
            kind = np.dtype("<u2") if dtype == "bfloat16" else np.dtype(dtype).newbyteorder("<")
            if all(type(n) is int and n >= 0 for n in shape) and math.prod(shape) * kind.itemsize == len(data):
                numbers = np.frombuffer(data, kind).reshape(shape)
                return native(numbers, bfloat16=dtype == "bfloat16"), dtype
    raise DamagedFile("this file is damaged", why=f"{printable(name)} is not an array of numbers that fit its shape")


FORMAT = Format(NAME, "Flax (MessagePack)", (".msgpack",), _matches, _read)
