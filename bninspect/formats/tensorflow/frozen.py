"""Frozen graphs: one .pb file, a GraphDef whose variables have become constants."""

from __future__ import annotations

from pathlib import Path

from bninspect.errors import DamagedFile
from bninspect.formats.encodings import protobuf
from bninspect.formats.encodings.protobuf import Message
from bninspect.formats.format import Format
from bninspect.formats.tensorflow import files, model
from bninspect.formats.tensorflow.graph.graph_def import GraphDef
from bninspect.formats.tensorflow.model import GraphModel
from bninspect.records import Checkpoint
from bninspect.safe_text import printable

NAME = "tf-graph"


def open_frozen(path: Path) -> GraphModel:
    """Return the model of a frozen graph.

    Raises:
        UnreadableFile: it cannot be read.
    """
    graph = GraphDef.read(Message(files.whole(path)))
    if not graph.nodes:
        raise DamagedFile(f"{printable(path.name)} is damaged", why="it is a graph without nodes")
    return model.of_frozen(graph)


def begins_with_node(head: bytes) -> bool:
    """Return whether a file begins as a GraphDef does: with a node, that is a name, then an operation.

    A file of another kind that begins in the same way would also have to name its second field like an operation.
    """
    try:
        if not head.startswith(b"\x0a"):
            return False
        length, position = protobuf.varint(head, 1)
        node = head[position : position + length]
        if not node.startswith(b"\x0a"):
            return False
        size, position = protobuf.varint(node, 1)
        name, rest = node[position : position + size], node[position + size :]
        if not rest.startswith(b"\x12"):
            return False
        size, position = protobuf.varint(rest, 1)
        op = rest[position : position + size]
        return bool(name) and 0 < len(op) == size and op.replace(b"_", b"").isalnum() and op.isascii()
    except DamagedFile:
        return False


def _matches(path: Path, head: bytes) -> bool:
    return not path.is_dir() and begins_with_node(head)


def _read(path: Path) -> Checkpoint:
    return open_frozen(path).checkpoint(path, NAME, "")


FORMAT = Format(
    name=NAME,
    title="TensorFlow frozen graph (.pb)",
    suffixes=(".pb",),
    matches=_matches,
    read=_read,
)
