"""What a graph has to be fed: the inputs of its signature, or the placeholders that its batch norms depend on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bninspect.errors import RuntimeFailure
from bninspect.formats.tensorflow import tensor
from bninspect.formats.tensorflow.flatten import FlatGraph, FlatNode
from bninspect.formats.tensorflow.graph import Signature
from bninspect.names import printable
from bninspect.runtimes.inputs import Input

_PLACEHOLDERS = frozenset(("Placeholder", "PlaceholderV2"))
_LOOKUPS = frozenset(("ResourceGather", "GatherV2", "Gather"))
_PASSING = frozenset(("Identity", "Cast", "Reshape", "ExpandDims", "Squeeze", "StopGradient", "ReadVariableOp"))


@dataclass(frozen=True)
class Feed:
    """A tensor of the graph to feed, as an input of the model."""

    tensor: str
    taken: Input


def feeds(flat: FlatGraph, signature: Signature | None) -> tuple[tuple[Feed, ...], tuple[str, ...]]:
    """Return the inputs to feed, and the placeholders that are to be false.

    Args:
        flat: the flat graph of the signature, or of all there is.
        signature: None where the graph has none.

    Raises:
        RuntimeFailure: the graph needs an input that the signature does not state.
    """
    needed = {node.node.name: node for node in flat.nodes.values() if node.op in _PLACEHOLDERS}
    tables = dict(_tables(flat))
    if signature is None:
        stated = {name: f"{name}:0" for name in needed}
    else:
        stated = {name: info.tensor for name, info in signature.inputs.items() if info.tensor}
    inputs, off = [], list(flat.assumed)
    for name, fed in stated.items():
        node = needed.pop(fed.partition(":")[0], None)
        if node is None and signature is None:
            continue
        if fed.partition(":")[0] in flat.assumed:
            continue
        info = signature.inputs[name] if signature is not None else None
        dtype = info.dtype if info is not None else node.node.dtype("dtype") if node is not None else 0
        shape = info.shape if info is not None else _shape(node)
        if dtype == tensor.BOOL and shape in ((), None):
            off.append(fed.partition(":")[0])
            continue
        inputs.append(Feed(fed, _input(name, dtype, shape, tables.get(fed.partition(":")[0]))))
    missing = sorted(needed.keys() - set(off))
    for name in list(missing):
        if needed[name].node.dtype("dtype") == tensor.BOOL:
            off.append(name)
            missing.remove(name)
    if missing:
        raise RuntimeFailure(
            "the signature does not state all that its graph takes", why=f"placeholder {printable(missing[0])!r}"
        )
    return tuple(inputs), tuple(dict.fromkeys(off))


def _shape(node: FlatNode | None) -> tuple[int | None, ...] | None:
    if node is None or "shape" not in node.node.attributes:
        return None
    return tensor.shape_of(node.node.attribute("shape").message(7))


def _input(name: str, dtype: int, shape: tuple[int | None, ...] | None, below: int | None) -> Input:
    import tensorflow as tf

    if shape is None:
        raise RuntimeFailure(
            f"the graph does not say what its input {printable(name)!r} is like", why="its shape is wholly open"
        )
    if not dtype:
        raise RuntimeFailure(f"input {printable(name)!r} is no single tensor", why="the signature says so")
    kind = str(tf.as_dtype(dtype).name)
    if below is None and kind.startswith(("int", "uint")):
        below = 256 if len(shape) >= 4 else 2
    return Input(name, shape, kind, below)


def _tables(flat: FlatGraph) -> Iterator[tuple[str, int]]:
    """Yield the placeholders that index into a table, and how long that is."""
    for node in flat.nodes.values():
        if node.op in _LOOKUPS and len(node.inputs) > 1:
            source = _behind(flat, node.inputs[1][0])
            table = _behind(flat, node.inputs[0][0])
            shape = tensor.shape_of(table.node.attribute("shape").message(7))
            if source.op in _PLACEHOLDERS and shape and shape[0]:
                yield source.node.name, shape[0]


def _behind(flat: FlatGraph, name: str) -> FlatNode:
    node = flat.nodes[name]
    while node.op in _PASSING and node.inputs:
        node = flat.nodes[node.inputs[0][0]]
    return node


def listed(found: tuple[Feed, ...]) -> Mapping[str, Feed]:
    """Return feeds by the name of the input."""
    return {feed.taken.name: feed for feed in found}
