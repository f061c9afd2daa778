"""Models without signatures: `tf.saved_model.save(module)` keeps their functions, but says nowhere what runs the model.

Each function of the saved objects is made a signature here: placeholders for what it is given, and a call with them and
with the variables that it has captured (saved_object_graph.proto). These few nodes are the only ones in a graph that
its file does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bninspect.formats.encodings.protobuf import Message, field
from bninspect.formats.norm_names import distinct
from bninspect.formats.tensorflow import tensor
from bninspect.formats.tensorflow.graph.graph_def import GraphDef, MetaGraph, NodeDef, Signature, TensorInfo
from bninspect.formats.tensorflow.object_graph import Object, paths

_SCOPE = "bninspect_function"
MOST_FUNCTIONS = 16


def with_functions(meta: MetaGraph, saved: Sequence[Object], variables: Mapping[int, str]) -> MetaGraph:
    """Return the graph with a signature for each of its functions.

    Args:
        meta: a graph without signatures.
        saved: its objects.
        variables: for the number of each object that is a variable, the name of its node.

    Raises:
        UnreadableFile: a function is damaged.
    """
    bound = {name: Message(data).integers(2) for name, data in meta.objects.entries(2).items()}
    named = [(title, name) for title, name in _functions(saved) if name in bound and name in meta.graph.library]
    nodes: dict[str, NodeDef] = {}
    signatures: dict[str, Signature] = {}
    titles = list(distinct((title for title, _ in named), "#"))
    for number, (title, (_, name)) in enumerate(zip(titles[:MOST_FUNCTIONS], named, strict=False)):
        captured = [_source(saved, one, variables) for one in bound[name]]
        if all(source in meta.graph.nodes for source in captured):
            added, signatures[title] = _signature(meta.graph, f"{_SCOPE}_{number}", title, name, captured)
            nodes.update({node.name: node for node in added})
    graph = replace(meta.graph, nodes={**meta.graph.nodes, **nodes}, added=frozenset(nodes))
    return replace(meta, graph=graph, signatures=signatures)


def _functions(saved: Sequence[Object]) -> Iterator[tuple[str, str]]:
    """Yield the path of each function, such as `encoder/__call__`, and its name in the library."""
    for number, path in paths(saved):
        for name in saved[number].message.message(6).texts(1):
            yield "/".join(path), name


def _source(saved: Sequence[Object], number: int, variables: Mapping[int, str]) -> str:
    """Return the node that a captured object is: a variable or a constant; empty if it is anything else."""
    if number in variables or not 0 <= number < len(saved):
        return variables.get(number, "")
    return saved[number].message.message(9).text(1)


def _signature(
    graph: GraphDef, scope: str, title: str, name: str, captured: list[str]
) -> tuple[list[NodeDef], Signature]:
    definition = Message(graph.library[name])
    function = graph.function(name)
    given = list(function.inputs[: max(0, len(function.inputs) - len(captured))])
    types = [argument.integer(3) for argument in definition.message(1).messages(2)]
    shapes = {entry.integer(1): _shape(entry.message(2)) for entry in definition.messages(7)}
    nodes, inputs = [], {}
    for number, argument in enumerate(given):
        shape = shapes.get(number, b"")
        nodes.append(_node(f"{scope}/{argument}", "Placeholder", [], {"dtype": _type(types[number]), "shape": shape}))
        info = TensorInfo(f"{scope}/{argument}:0", types[number], tensor.shape_of(Message(shape).message(7)))
        inputs[argument] = info if shape else replace(info, shape=None)
    call = f"{scope}/call"
    sources = [*(node.name for node in nodes), *captured]
    nodes.append(_node(call, "StatefulPartitionedCall", sources, {"f": field(10, field(1, name.encode()))}))
    outputs = {output: TensorInfo(f"{call}:{i}", 0, None) for i, output in enumerate(function.outputs)}
    return nodes, Signature(title, inputs, outputs)


def _shape(attributes: Message) -> bytes:
    """Return the shape of an argument as an AttrValue; empty if it is not stated."""
    shapes = Message(attributes.entries(1).get("_output_shapes", b"")).message(1).chunks(7)
    return field(7, bytes(shapes[0])) if shapes else b""


def _type(dtype: int) -> bytes:
    return b"\x30" + bytes([dtype & 0x7F])


def _node(name: str, op: str, inputs: Sequence[str], attributes: Mapping[str, bytes]) -> NodeDef:
    stated = {key: value for key, value in attributes.items() if value}
    parts = [field(1, name.encode()), field(2, op.encode()), *(field(3, source.encode()) for source in inputs)]
    parts += [field(5, field(1, key.encode()) + field(2, value)) for key, value in stated.items()]
    return NodeDef(b"".join(parts))
