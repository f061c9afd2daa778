"""A copy of a model file in which only the moving statistics are others, and checksums that depend on them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.exporters.copies import hdf5_places, onnx_places, saved_model_folder, torch_names, zip_patch
from bninspect.exporters.copies.place import ArrayPlace, New, refusal
from bninspect.exporters.copies.saved_model_folder import OpenedFolder
from bninspect.formats.torch.running_statistics import FIELDS
from bninspect.records import Array, BatchNorm, Checkpoint
from bninspect.safe_text import printable


@dataclass(frozen=True, eq=False)
class OpenedFile:
    """A file whose statistics can be replaced."""

    content: bytes
    places: Mapping[str, Mapping[str, ArrayPlace]]
    """By layer and parameter."""
    path: Path

    def dtype(self, layer: str, parameter: str) -> np.dtype[Any]:
        """Return the type in which numbers are kept."""
        return self.places[layer][parameter].dtype

    def read(self, layer: str, parameter: str) -> Array:
        """Return what is there."""
        return self.places[layer][parameter].read(self.content)

    def rewritten(self, new: New) -> bytes:
        """Return the bytes of the copy."""
        content = bytearray(self.content)
        changed: dict[str, None] = {}
        for layer, parameters in new.items():
            for parameter, values in parameters.items():
                place = self.places[layer][parameter]
                place.write(content, values)
                changed[place.member] = None
        if any(changed):
            zip_patch.correct_checksums(content, self.path, list(changed))
        return bytes(content)


def opened(checkpoint: Checkpoint, layers: tuple[BatchNorm, ...]) -> OpenedFile | OpenedFolder:
    """Find the statistics of layers in a file, and make sure that what is there is what our reader read.

    Raises:
        RuntimeFailure: the file is of a format whose statistics are not replaced, or they are not where they should be.
    """
    path = Path(checkpoint.path)
    find = _FINDERS.get(checkpoint.format)
    if find is None or not path.exists():
        raise RuntimeFailure(
            f"statistics are not replaced in files of the format {checkpoint.format}",
            why=f"they are in those of {', '.join(_FINDERS)}",
            hint="recalibrate the model that this file was made from, and convert that again",
        )
    file = find(path, layers)
    for layer in layers:
        for name in hdf5_places.WANTED:
            there, read = file.read(layer.name, name), getattr(layer, name)
            if there.tobytes() != np.asarray(read).astype(there.dtype).tobytes():
                raise refusal(layer.name, f"what is where {name} should be is not what was read")
    return file


def _hdf5(path: Path, layers: tuple[BatchNorm, ...]) -> OpenedFile:
    content = path.read_bytes()
    return OpenedFile(content, hdf5_places.places(io.BytesIO(content), layers), path)


def _keras_zip(path: Path, layers: tuple[BatchNorm, ...]) -> OpenedFile:
    member = "model.weights.h5"
    content, found = path.read_bytes(), zip_patch.members(path)
    if member not in found:
        raise RuntimeFailure("its weights are compressed or in several files", why=f"no member {member} as it is")
    start, size = found[member]
    places = hdf5_places.places(io.BytesIO(content[start : start + size]), layers, start, member)
    return OpenedFile(content, places, path)


def _onnx(path: Path, layers: tuple[BatchNorm, ...]) -> OpenedFile:
    from bninspect.formats.onnx import format as container
    from bninspect.formats.onnx import norms

    found = {norm.layer.name: norm.constants for norm in norms.find(container.parsed(path), path).found}
    names = {}
    for layer in layers:
        constants = found.get(layer.name, {})
        if any(name not in constants for name in hdf5_places.WANTED):
            raise refusal(layer.name, "its mean and variance are not constants of the graph")
        names[layer.name] = {name: constants[name] for name in hdf5_places.WANTED}
    content = path.read_bytes()
    return OpenedFile(content, onnx_places.places(content, names), path)


def _exported_program(path: Path, layers: tuple[BatchNorm, ...]) -> OpenedFile:
    content, found = path.read_bytes(), zip_patch.members(path)
    (listed,) = [name for name in found if name.endswith("weights_config.json")] or [""]
    if not listed:
        raise RuntimeFailure("the file does not list its weights", why="it was written before torch 2.9")
    start, size = found[listed]
    configuration = json.loads(content[start : start + size])["config"]
    places: dict[str, dict[str, ArrayPlace]] = {}
    for layer in layers:
        places[layer.name] = {}
        for name in hdf5_places.WANTED:
            theirs = FIELDS[name]
            entry = configuration.get(f"{layer.name}.{theirs}")
            member = f"{listed.rpartition('/')[0]}/{entry['path_name']}" if entry else ""
            if entry is None or member not in found or entry["tensor_meta"]["storage_offset"]["as_int"]:
                raise refusal(layer.name, f"{printable(theirs)} is not a member of its own")
            dtype = np.dtype({6: "<f2", 7: "<f4", 8: "<f8"}.get(entry["tensor_meta"]["dtype"], "<f4"))
            places[layer.name][name] = ArrayPlace(found[member][0], dtype, layer.channels, member)
    return OpenedFile(content, places, path)


_FINDERS: Mapping[str, Callable[[Path, tuple[BatchNorm, ...]], OpenedFile | OpenedFolder]] = {
    "keras-h5": _hdf5,
    "keras-zip": _keras_zip,
    "keras-weights": _hdf5,
    "onnx": _onnx,
    "torch-export": _exported_program,
    "torch-state-dict": lambda path, layers: OpenedFile(
        path.read_bytes(), torch_names.in_state_dict(path, layers), path
    ),
    "safetensors": lambda path, layers: OpenedFile(path.read_bytes(), torch_names.in_safetensors(path, layers), path),
    "saved-model": saved_model_folder.opened,
}
