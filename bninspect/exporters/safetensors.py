"""Safetensors: what most programs outside TensorFlow read."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from bninspect.exporters.entries import entries
from bninspect.formats.export_metadata import to_text
from bninspect.formats.safetensors import DESCRIPTION, DIGEST, LENGTH, METADATA, TYPES, digest
from bninspect.records import Array, Checkpoint

_NAMES = {"bfloat16": "BF16", **{np.dtype(code).name: name for name, code in TYPES.items() if name != "BF16"}}


def encode(checkpoint: Checkpoint, *, folded: bool) -> bytes:
    """Return a safetensors file with a tensor `<layer>/gamma` and so on for each parameter, in the stored type.

    Its metadata hold, as `bninspect`, JSON with everything else that is known of the layers, and a SHA-256 of all of
    it. The same checkpoint gives the same bytes. Raises as `entries.fold`.
    """
    layers = entries(checkpoint, folded=folded)
    tensors = {name: _tensor(array, entry.dtype) for entry in layers for name, array in entry.named().items()}
    description = to_text(checkpoint, layers, folded=folded)
    return _joined(tensors, {DESCRIPTION: description, DIGEST: digest(description, tensors)})


def assembled(arrays: Mapping[str, tuple[Array, str]], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file of arrays, each with the name of the type that it stands for, and metadata."""
    return _joined({name: _tensor(array, dtype) for name, (array, dtype) in arrays.items()}, metadata)


def _joined(tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, object] = {METADATA: dict(metadata)}
    # Wide types first, as the safetensors library does: every tensor is then aligned to its own type.
    order = sorted(tensors, key=lambda name: -np.dtype(TYPES[tensors[name][0]]).itemsize)
    position = 0
    for name in order:
        kind, shape, data = tensors[name]
        offsets = [position, position + len(data)]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": offsets}
        position += len(data)
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return b"".join([LENGTH.pack(len(text)), text, *(tensors[name][2] for name in order)])


def _tensor(array: Array, dtype: str) -> tuple[str, tuple[int, ...], bytes]:
    """Return type name, shape and bytes of an array."""
    kind = _NAMES[array.dtype.name]
    little = np.asarray(array.astype(array.dtype.newbyteorder("<"), copy=False), order="C")
    if dtype == "bfloat16" and kind == "F32":
        upper, lower = little.view("<u4") >> 16, little.view("<u4") & 0xFFFF
        if not lower.any():
            return "BF16", array.shape, upper.astype("<u2").tobytes()
    return kind, array.shape, little.tobytes()
