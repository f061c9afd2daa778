"""The TFLite file."""

from __future__ import annotations

from pathlib import Path

from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.formats import whole_file
from bninspect.formats.format import Format
from bninspect.formats.tflite import graph as operations
from bninspect.formats.tflite.model import IDENTIFIER, Subgraph, parse
from bninspect.records import Checkpoint
from bninspect.records.graph import Network
from bninspect.safe_text import printable

NAME = "tflite"
_EMPTY = "no MUL and ADD per channel: its batch norms may be folded, which verify MODEL --against finds"


def _matches(_path: Path, head: bytes) -> bool:
    return head[4:8] == IDENTIFIER


def _read(path: Path) -> Checkpoint:
    graph = parsed(path)
    layers = tuple(affine.layer(name) for name, affine in operations.affine_maps(graph))
    notes = []
    if graph.others:
        notes.append(f"{graph.others} further graphs, of loops or conditions, are not read")
    code = tuple(f"custom operator {printable(name)}" for name in graph.custom)
    return Checkpoint(str(path), NAME, graph.description, layers, tuple(notes), code=code, empty=_EMPTY)


def read_network(path: Path) -> Network:
    """Return what the main graph of a file computes. Raises as reading it."""
    return operations.read(parsed(path))


def parsed(path: Path) -> Subgraph:
    """Return the main graph of a file. Raises as reading it."""
    data = whole_file.read(path)
    try:
        return parse(data)
    except (DamagedFile, UnsafeFile) as error:
        raise type(error)(f"{path} is damaged", why=f"{error.what}: {error.why}", hint=error.hint) from error


FORMAT = Format(NAME, "TFLite (.tflite)", (".tflite", ".lite"), _matches, _read, read_network)
