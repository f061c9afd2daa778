"""What a graph has to be fed: the inputs of its signature, or the placeholders that its batch norms depend on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bninspect.errors import RuntimeFailure
from bninspect.formats.tensorflow import tensor
from bninspect.formats.tensorflow.graph.flatten import PLACEHOLDERS, FlatGraph, FlatNode, reached
from bninspect.formats.tensorflow.graph.graph_def import Signature, TensorInfo
from bninspect.runtimes.runtime import Input, RunSettings
from bninspect.runtimes.tensorflow import encoded
from bninspect.safe_text import printable

_LOOKUPS = frozenset(("ResourceGather", "GatherV2", "Gather"))
_PASSING = frozenset(("Identity", "Cast", "Reshape", "ExpandDims", "Squeeze", "StopGradient", "ReadVariableOp"))


@dataclass(frozen=True)
class Feed:
    """A tensor of the graph to feed, as an input of the model."""

    tensor: str
    taken: Input


def feeds(
    flat: FlatGraph, signature: Signature | None, wanted: Iterable[str], settings: RunSettings
) -> tuple[tuple[Feed, ...], tuple[str, ...]]:
    """Return the inputs to feed, and the placeholders that are to be false.

    Args:
        flat: the flat graph of the signature, or of all there is.
        signature: None where the graph has none: then every placeholder is an input that a wanted node needs.
        wanted: nodes of the flat graph that will be asked for.
        settings: seed of what is chosen, and shapes of inputs whose shape the graph leaves open.

    Raises:
        RuntimeFailure: the graph needs an input that the signature does not state, or that nobody describes.
    """
    nodes = reached(flat, wanted) if signature is None else flat.nodes.values()
    needed = {node.node.name: _info(node) for node in nodes if node.op in PLACEHOLDERS}
    stated = needed if signature is None else {name: one for name, one in signature.inputs.items() if one.tensor}
    switches = {_node(one) for one in (*needed.values(), *stated.values()) if _is_switch(one)} | set(flat.assumed)
    missing = needed.keys() - {_node(one) for one in stated.values()} - switches
    if missing:
        raise RuntimeFailure(
            "the signature does not state all that its graph takes", why=f"placeholder {printable(min(missing))!r}"
        )
    tables = dict(_tables(flat))
    inputs = [
        Feed(one.tensor, _input(name, one, tables.get(_node(one)), flat, settings))
        for name, one in stated.items()
        if _node(one) not in switches
    ]
    return tuple(inputs), tuple(sorted(switches))


def _node(info: TensorInfo) -> str:
    return info.tensor.partition(":")[0]


def _is_switch(info: TensorInfo) -> bool:
    return info.dtype == tensor.BOOL and info.shape in ((), None)


def _info(node: FlatNode) -> TensorInfo:
    shape = tensor.shape_of(node.node.attribute("shape").message(7)) if "shape" in node.node.attributes else None
    return TensorInfo(f"{node.node.name}:0", node.node.dtype("dtype"), shape)


def _input(name: str, info: TensorInfo, below: int | None, flat: FlatGraph, settings: RunSettings) -> Input:
    import tensorflow as tf

    shape = settings.input_shapes.get(name) if info.shape is None else info.shape
    if not info.dtype or shape is None:
        why = f"its shape is wholly open: --input-shape {printable(name)}=1,224,224,3"
        raise RuntimeFailure(
            f"the shape of input {printable(name)!r} is unknown", why=why if info.dtype else "it is not a single tensor"
        )
    kind = str(tf.as_dtype(info.dtype).name)
    if below is None and kind.startswith(("int", "uint")):
        below = 256 if len(shape) >= 4 else 2
    content = encoded.content(flat, _node(info), settings.seed) if kind == "string" else None
    return Input(name, shape, kind, below, content)


def _tables(flat: FlatGraph) -> Iterator[tuple[str, int]]:
    """Yield the placeholders that index into a table, and how long that is."""
    for node in flat.nodes.values():
        if node.op in _LOOKUPS and len(node.inputs) > 1:
            source = _behind(flat, node.inputs[1][0])
            table = _behind(flat, node.inputs[0][0])
            shape = tensor.shape_of(table.node.attribute("shape").message(7))
            if source.op in PLACEHOLDERS and shape and shape[0]:
                yield source.node.name, shape[0]


def _behind(flat: FlatGraph, name: str) -> FlatNode:
    node = flat.nodes[name]
    while node.op in _PASSING and node.inputs:
        node = flat.nodes[node.inputs[0][0]]
    return node
