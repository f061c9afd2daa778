"""The ONNX file: a protocol buffer without any signature."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bninspect.errors import DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats import whole_file
from bninspect.formats.containers import parts
from bninspect.formats.format import Format
from bninspect.formats.onnx import model, operations, scales, tensor, unread
from bninspect.formats.onnx import norms as finding
from bninspect.formats.tensorflow import files
from bninspect.formats.unknown_files import CORE_ML
from bninspect.records import Checkpoint
from bninspect.records.graph import Network

NAME = "onnx"
_EMPTY = "no BatchNormalization, nor one that is spelt out in single operators"
_NONE_ALONE = "no batch norms by themselves: verify SOURCE --against this file proves which of them are"
_OF_SAMPLES = "normalise each sample by its own moments, as LayerNorm and GroupNorm do: none is counted"
_LOOSE = "verify SOURCE --against this file finds the batch norms that are folded"

# Writers put the IR version first, then one of the other fields of ModelProto. Version 1 was never released.
_BEGINNING = re.compile(rb"\x08[\x02-\x1f](?:[\x12\x1a\x22\x32\x3a\x42\x72\xca]|\x28[\x00-\xff])", re.DOTALL)


def _matches(_path: Path, head: bytes) -> bool:
    return _BEGINNING.match(head) is not None and CORE_ML.match(head) is None


def _read(path: Path) -> Checkpoint:
    stored = parsed(path)
    beside = _outside(stored, path)
    if not beside:
        return _checkpoint(stored, path)
    with files.counted([path, *beside]) as counted:
        for place, spans in beside.items():
            parts.prepare_vectors(place, spans)
        checkpoint = _checkpoint(stored, path)
        size, digest = counted()
    return replace(checkpoint, sha256=digest, bytes=size)


def digest(path: Path, data: bytes) -> str:
    """Return the SHA-256 that reading a file of these bytes gives, its external data included. Raises as `parsed`."""
    beside = _outside(model.parse(data), path)
    return files.digest([path, *beside]) if beside else hashlib.sha256(data).hexdigest()


def _outside(stored: model.ModelProto, path: Path) -> Mapping[Path, list[tuple[int, int]]]:
    """Return the files of external data, in order, and where in them vectors are. Raises as `tensor.reference`."""
    found: dict[Path, list[tuple[int, int]]] = {}
    for graph in stored.graphs:
        for initializer in graph.initializers.values():
            # The runtime will read all of them, so all of them must be where they may be.
            if initializer.integer(14) == 1:
                place, start, length = tensor.reference(initializer, path)
                vectors = found.setdefault(place, [])
                if len(initializer.integers(1)) == 1:
                    vectors.append((start, length or 0))
    return dict(sorted(found.items()))


def _checkpoint(stored: model.ModelProto, path: Path) -> Checkpoint:
    norms = finding.find(stored, path)
    scaled = sum(scales.count(graph, stored, path) for graph in stored.graphs)
    notes = [f"{scaled} scale and shift per channel, {_NONE_ALONE}"] if scaled else []
    notes += [f"{len(stored.calls)} calls of the model's own functions were put in their place"] if stored.calls else []
    notes += [f"{norms.disguised} BatchNormalization {_OF_SAMPLES}"] if norms.disguised else []
    return Checkpoint(
        str(path),
        NAME,
        stored.writer,
        tuple(norm.layer for norm in norms.found),
        tuple(notes),
        empty=f"{_EMPTY}; {notes[0] if scaled else _LOOSE}",
        unread=tuple(unread.unread(stored, norms)),
    )


def read_network(path: Path) -> Network:
    """Return what the main graph of a file computes. Raises as reading it."""
    return operations.read(parsed(path), path)


def parsed(path: Path) -> model.ModelProto:
    """Return the model in a file. Raises as reading it."""
    data = whole_file.read(path)
    try:
        found = model.parse(data)
    except (DamagedFile, UnsafeFile) as error:
        raise type(error)(f"{path} is damaged", why=f"{error.what}: {error.why}", hint=error.hint) from error
    if not found.graphs[0].nodes:
        raise UnreadableFile(f"{path} is not an ONNX model", why="its graph has no nodes")
    return found


FORMAT = Format(NAME, "ONNX (.onnx)", (".onnx",), _matches, _read, read_network)
