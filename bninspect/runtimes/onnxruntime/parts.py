"""Parts of an ONNX model: from values that are given to values that are wanted, as models of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from bninspect.formats.encodings.protobuf import Message
from bninspect.formats.onnx import write
from bninspect.formats.onnx.model import NodeProto
from bninspect.runtimes.dissection import DissectedStep, dependent

_NODE, _INITIALIZER, _INPUT, _OUTPUT, _SPARSE, _GRAPH = 1, 5, 11, 12, 15, 7


def steps(stored: bytes, inputs: Collection[str], statistics: Mapping[str, str]) -> Iterator[DissectedStep]:
    """Return the nodes of a model that depend on its inputs, in its own order, in which they can run.

    Args:
        stored: the model, without functions of its own.
        inputs: names of the values that the data is fed to.
        statistics: by the name of a value, the layer whose moving mean or variance it is.
    """
    nodes = (NodeProto(Message(part)) for part in Message(stored).message(_GRAPH).chunks(_NODE))
    return dependent(((_taken(node), tuple(filter(None, node.outputs))) for node in nodes), inputs, statistics)


def _taken(node: NodeProto) -> tuple[str, ...]:
    """Return the values that a node takes, those that its graphs take from outside among them."""
    names = dict.fromkeys(filter(None, node.inputs))
    for _, graph in node.subgraphs():
        for part in graph.chunks(_NODE):
            names |= dict.fromkeys(_taken(NodeProto(Message(part))))
        names |= dict.fromkeys(message.text(1) for message in graph.messages(_OUTPUT))
    return tuple(names)


def part(stored: bytes, given: Mapping[str, str], names: Collection[str]) -> bytes:
    """Return the part of a model that computes values from others.

    Args:
        stored: the model, without functions of its own.
        given: type of each value that is given, by name.
        names: of the values that are wanted.
    """
    model = Message(stored)
    graph = model.message(_GRAPH)
    missing, kept = set(names), []
    for chunk in reversed(graph.chunks(_NODE)):
        node = NodeProto(Message(chunk))
        if missing.intersection(node.outputs):
            kept.append(write.data(_NODE, bytes(chunk)))
            missing.update(name for name in _taken(node) if name not in given)
    numbers = [chunk for chunk in graph.chunks(_INITIALIZER) if Message(chunk).text(8) in missing]
    # Up to IR version 3 every initializer is an input as well.
    inputs = [chunk for chunk in graph.chunks(_INPUT) if Message(chunk).text(1) in missing]
    encoded = (
        *reversed(kept),
        write.data(2, "bninspect"),
        *(write.data(_INITIALIZER, bytes(chunk)) for chunk in numbers),
        *(write.data(_SPARSE, bytes(chunk)) for chunk in graph.chunks(_SPARSE)),
        *(write.data(_INPUT, bytes(chunk)) for chunk in inputs),
        *(write.data(_INPUT, write.value(name, dtype, None)) for name, dtype in given.items()),
        *(write.data(_OUTPUT, write.data(1, name)) for name in names),
    )
    return model.without(_GRAPH) + write.data(_GRAPH, b"".join(encoded))
