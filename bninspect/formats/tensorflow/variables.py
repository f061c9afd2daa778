"""The values of a graph's parameters: constants in the graph, variables in the checkpoint that it restores.

Which tensor of the checkpoint a variable gets is not guessed from names, which need not be unique: the graph's own
restore operation says so, `RestoreV2` -> `Assign`, in a function or not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bninspect.errors import DamagedFile
from bninspect.formats.algebra import Leaf
from bninspect.formats.stored_numbers import read_only
from bninspect.formats.tensorflow import tensor
from bninspect.formats.tensorflow.checkpoint_v2 import BundleEntry
from bninspect.formats.tensorflow.graph.expressions import Expressions
from bninspect.formats.tensorflow.graph.flatten import FlatGraph, FlatNode, Tensor, flatten
from bninspect.formats.tensorflow.graph.graph_def import GraphDef
from bninspect.records import Array
from bninspect.safe_text import printable

_ASSIGNING = frozenset(("Assign", "AssignVariableOp"))
_RESTORING = frozenset(("RestoreV2", "RestoreSlice", "Restore"))
_PASSING = frozenset(("Identity", "Reshape", "Cast"))


class Store(Protocol):
    """An open checkpoint, of either version."""

    @property
    def entries(self) -> Mapping[str, BundleEntry]:
        """Every tensor by its name."""

    def read(self, name: str) -> Array:
        """Return a tensor of numbers. Raises UnreadableFile."""

    def strings(self, name: str) -> list[bytes]:
        """Return a tensor of strings. Raises UnreadableFile."""


@dataclass(frozen=True)
class Restored:
    """What a variable gets: a tensor of the checkpoint, or a part of it."""

    key: str
    part: tuple[slice, ...] | None = None


@dataclass(frozen=True, eq=False)
class Variables:
    """The values behind the parameters of one graph."""

    restored: Mapping[str, Restored]
    """By the name of the variable's node."""
    store: Store | None

    def value(self, graph: FlatGraph, leaf: Leaf) -> Array | None:
        """Return the values of a parameter; `None` if no checkpoint gives them.

        Raises:
            UnreadableFile: the constant or the checkpoint is damaged.
        """
        parts = [self._value(graph, graph.nodes[name]) for name in leaf.sources]
        present = [part for part in parts if part is not None]
        if len(present) != len(parts):
            return None
        if len(present) == 1:
            return present[0]
        try:
            joined = np.concatenate(present)
        except ValueError as error:
            raise DamagedFile("the parts of a variable do not fit", why=str(error)) from error
        return read_only(joined)

    def keys(self, graph: FlatGraph, leaf: Leaf) -> tuple[str, ...]:
        """Return where the values are: keys of the checkpoint, or names of constants."""
        return tuple(
            self.restored[node.name].key if node.name in self.restored else node.name
            for node in (graph.nodes[name].node for name in leaf.sources)
        )

    def dtype(self, graph: FlatGraph, leaf: Leaf) -> str:
        """Return the type in which the values are stored; empty if they are not."""
        node = graph.nodes[leaf.sources[0]].node
        if node.name in self.restored and self.store is not None:
            entry = self.store.entries.get(self.restored[node.name].key)
            return "" if entry is None else tensor.float_name(entry.dtype)
        proto = node.attribute("value").message(8)
        return tensor.float_name(proto.integer(1) or node.dtype("T"))

    def _value(self, graph: FlatGraph, node: FlatNode) -> Array | None:
        if node.op == "Const":
            return tensor.value(node.node.attribute("value").message(8), printable(node.name))
        if node.op == "Fill":
            return _filled(graph, node)
        restored = self.restored.get(node.node.name)
        if restored is None or self.store is None:
            return None
        if restored.key not in self.store.entries:
            raise DamagedFile(f"the checkpoint has no tensor {printable(restored.key)!r}", why="the graph restores it")
        values = self.store.read(restored.key)
        return values if restored.part is None else values[restored.part]


def _filled(graph: FlatGraph, node: FlatNode) -> Array | None:
    """Return the value of `Fill`, whose inputs are a shape and one value."""
    shape, value = (graph.nodes[name] for name, _ in node.inputs)
    if shape.op != "Const" or value.op != "Const":
        return None
    lengths, fill = Expressions.constant(shape), Expressions.constant(value)
    if lengths is None or fill is None or lengths.ndim != 1 or fill.size != 1:
        return None
    tensor.bytes_of(2, tuple(int(length) for length in lengths), printable(node.name))
    values = np.full(tuple(int(length) for length in lengths), fill.ravel()[0])
    return read_only(values)


def restored_by(graph: GraphDef, operation: str) -> Mapping[str, Restored]:
    """Return what each variable gets from a graph's restore operation, by the name of the variable's node.

    Raises:
        UnreadableFile: the graph is damaged.
    """
    if not operation:
        return {}
    flat = flatten(graph, [operation], control=True)
    texts = functools.cache(functools.partial(_texts, flat))
    found = {}
    for node in flat.nodes.values():
        if node.op in _ASSIGNING and len(node.inputs) > 1:
            variable = _followed(flat, node.inputs[0])[0]
            origin, position = _followed(flat, node.inputs[1])
            if flat.nodes[origin].op in _RESTORING:
                restored = _source(flat.nodes[origin], position, texts)
                if restored is not None:
                    found[flat.nodes[variable].node.name] = restored
    return found


def _followed(graph: FlatGraph, one: Tensor) -> Tensor:
    node = graph.nodes[one[0]]
    while node.op in _PASSING and node.inputs:
        one = node.inputs[0]
        node = graph.nodes[one[0]]
    return one


def _source(node: FlatNode, position: int, texts: Callable[[Tensor], Sequence[str]]) -> Restored | None:
    """Return what an output of a restore operation is: its inputs are a path, names, and which part of each."""
    if len(node.inputs) < 2:
        return None
    names = texts(node.inputs[1])
    if position >= len(names):
        return None
    parts = texts(node.inputs[2]) if len(node.inputs) > 2 else []
    part = parts[position] if position < len(parts) else ""
    return Restored(names[position], _part(part) if part else None)


def _texts(graph: FlatGraph, one: Tensor) -> Sequence[str]:
    node = graph.nodes[one[0]].node
    return [str(text, "utf-8", "replace") for text in tensor.strings(node.attribute("value").message(8))]


def _part(text: str) -> tuple[slice, ...] | None:
    """Return a slice as TensorFlow writes it: `300 7 0,100:-`, the whole shape, then start and length or `-`."""
    parts = text.rpartition(" ")[2].split(":")
    try:
        pairs = [None if part == "-" else tuple(int(number) for number in part.split(",")) for part in parts]
        return tuple(slice(None) if pair is None else slice(pair[0], pair[0] + pair[1]) for pair in pairs)
    except (ValueError, IndexError) as error:
        raise DamagedFile("the graph is damaged", why=f"{printable(text)!r} is not part of a variable") from error
