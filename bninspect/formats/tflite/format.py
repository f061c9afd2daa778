"""The TFLite file."""

from __future__ import annotations

from pathlib import Path

from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.formats import whole_file
from bninspect.formats.format import Format
from bninspect.formats.tflite import graph as norms
from bninspect.formats.tflite import operations, roots
from bninspect.formats.tflite.model import Subgraph, parse
from bninspect.formats.tflite.schema import IDENTIFIER
from bninspect.records import Checkpoint
from bninspect.records.graph import Network
from bninspect.safe_text import printable

NAME = "tflite"
_EMPTY = "TFLite has no operation for a batch norm, converters fold them"
_FOLDED = "verify SOURCE --against this file finds them"
_NONE_ALONE = "no batch norms by themselves: verify SOURCE --against this file proves which of them are"


def _matches(_path: Path, head: bytes) -> bool:
    return head[4:8] == IDENTIFIER


_WRITERS = {"MLIR Converted.": "TensorFlow's converter", "TOCO Converted.": "TensorFlow's old converter"}
"""What converters write as the description of a file, and who they are."""


def _read(path: Path) -> Checkpoint:
    graph = parsed(path)
    pairs = dict(norms.affine_maps(graph))
    # What a converter left as MUL and ADD may be anything; what we wrote so is a batch norm.
    ours = graph.description.startswith("bninspect ")
    layers = tuple(affine.layer(name) for name, affine in pairs.items()) if ours else ()
    notes = [f"{len(pairs)} scale and shift per channel, {_NONE_ALONE}"] if pairs and not ours else []
    if graph.others:
        notes.append(f"{len(graph.others)} further graphs, of loops or conditions, are not read")
    return Checkpoint(
        str(path),
        NAME,
        _WRITERS.get(graph.description, graph.description),
        (*layers, *roots.trained(graph)),
        tuple(notes),
        code=tuple(f"custom operator {printable(name)}" for name in graph.custom),
        empty=f"{_EMPTY}; {notes[0] if notes else _FOLDED}",
        unread=tuple(roots.unread(graph)),
    )


def read_network(path: Path) -> Network:
    """Return what the main graph of a file computes. Raises as reading it."""
    return operations.read(parsed(path))


def parsed(path: Path, content: bytes | None = None) -> Subgraph:
    """Return the main graph of a file, whose content may be known. Raises as reading it."""
    data = whole_file.read(path) if content is None else content
    try:
        return parse(data)
    except (DamagedFile, UnsafeFile) as error:
        raise type(error)(f"{path} is damaged", why=f"{error.what}: {error.why}", hint=error.hint) from error


FORMAT = Format(NAME, "TFLite (.tflite)", (".tflite", ".lite"), _matches, _read, read_network)
