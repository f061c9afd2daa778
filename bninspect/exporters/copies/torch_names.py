"""Where running statistics are in files of weights that name tensors as torch does: a state_dict, safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.exporters.copies import zip_patch
from bninspect.exporters.copies.hdf5_places import WANTED
from bninspect.exporters.copies.place import ArrayPlace, refusal
from bninspect.formats.torch.running_statistics import FIELDS
from bninspect.records import BatchNorm

_PICKLED: Mapping[str, str] = MappingProxyType({"float16": "<f2", "float32": "<f4", "float64": "<f8"})
_LITTLE = b"little"


def in_state_dict(path: Path, layers: tuple[BatchNorm, ...]) -> dict[str, dict[str, ArrayPlace]]:
    """Return the places of the statistics of layers in a zip of torch.save.

    Raises:
        RuntimeFailure: the file is not a zip archive, as before torch 1.6, or a tensor is not stored as it is.
    """
    from bninspect.formats.torch import format as torch_format

    with path.open("rb") as file:
        if file.read(2) != b"PK":
            raise RuntimeFailure(
                "statistics are not replaced in a file of torch before 1.6",
                why="it is not a zip",
                hint="load it in torch, and write it again with torch.save",
            )
    folder, stored = torch_format.read_statistics(path)
    found = zip_patch.members(path)
    _require_little(path, found.get(f"{folder}byteorder"))
    places: dict[str, dict[str, ArrayPlace]] = {}
    for layer in layers:
        places[layer.name] = {}
        for name in WANTED:
            theirs = FIELDS[name]
            tensor = stored.get(layer.name, {}).get(theirs)
            if tensor is None:
                raise refusal(layer.name, f"its {theirs} is not a tensor of a state_dict")
            member = f"{folder}data/{tensor.storage.key}"
            if tensor.storage.dtype not in _PICKLED or tensor.strides != (1,) or member not in found:
                raise refusal(layer.name, f"its {theirs} is not stored as plain float16, float32 or float64")
            dtype = np.dtype(_PICKLED[tensor.storage.dtype])
            start = found[member][0] + (tensor.storage.start + tensor.offset) * dtype.itemsize
            places[layer.name][name] = ArrayPlace(start, dtype, layer.channels, member)
    return places


def _require_little(path: Path, place: tuple[int, int] | None) -> None:
    if place is None:
        return
    with path.open("rb") as file:
        file.seek(place[0])
        if file.read(place[1]) != _LITTLE:
            raise RuntimeFailure("statistics are not replaced in a file of a big-endian machine")


def in_safetensors(path: Path, layers: tuple[BatchNorm, ...]) -> dict[str, dict[str, ArrayPlace]]:
    """Return the places of the statistics of layers. Raises RuntimeFailure where a tensor is not stored as it is."""
    from bninspect.formats import safetensors

    tensors, body = safetensors.read_places(path)
    if not tensors:
        raise RuntimeFailure(
            "statistics are not replaced in an export of bninspect",
            why="it holds a digest of its numbers",
            hint="recalibrate the model that it was made from, and export that again",
        )
    places: dict[str, dict[str, ArrayPlace]] = {}
    for layer in layers:
        places[layer.name] = {}
        for name in WANTED:
            theirs = FIELDS[name]
            kind, _, start, _ = tensors.get(f"{layer.location}.{theirs}" if layer.location else theirs, ("", (), 0, 0))
            if kind not in {"F16", "F32", "F64"}:
                raise refusal(layer.name, f"its {theirs} is not stored as F16, F32 or F64")
            places[layer.name][name] = ArrayPlace(body + start, np.dtype(safetensors.TYPES[kind]), layer.channels)
    return places
