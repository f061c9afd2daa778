"""ModelProto, GraphProto and NodeProto as plain records. Field numbers: onnx/onnx.proto."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from bninspect.errors import UnsafeFile
from bninspect.formats.encodings.protobuf import Buffer, Message
from bninspect.formats.onnx.inlining import DEFAULT_DOMAINS, Key, ModelFunction, inline, key_of
from bninspect.records.graph import Value

DEPTH = 16
"""Graphs within graphs: the branches of If, the bodies of Loop and Scan."""
TYPES: Mapping[int, str] = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
}


_ALIKE = frozenset(("com.microsoft", name) for name in ("QuantizeLinear", "DequantizeLinear"))
"""Operators of other domains that are what ONNX calls so; its quantiser wrote them before ONNX had them."""


class NodeProto:
    """An operation. `op` has its domain in front unless that is ONNX's own: what others call Add may be anything."""

    def __init__(self, message: Message) -> None:
        self.inputs = message.texts(1)
        self.outputs = message.texts(2)
        self.name = message.text(3)
        self.domain = message.text(7)
        own = self.domain in DEFAULT_DOMAINS or (self.domain, message.text(4)) in _ALIKE
        self.op = message.text(4) if own else f"{self.domain}::{message.text(4)}"
        self._message = message

    @property
    def key(self) -> Key:
        """Domain, name and overload of what it calls."""
        return key_of(self._message)

    @property
    def label(self) -> str:
        """The name, or that of the first output: names are optional."""
        return self.name or next(filter(None, self.outputs), self.op)

    @cached_property
    def attributes(self) -> Mapping[str, Message]:
        """AttributeProto by name."""
        return {message.text(1): message for message in self._message.messages(5)}

    def real(self, name: str, default: float) -> float:
        """Return a float attribute, which the file holds in float32."""
        return self.attributes[name].real(2) if name in self.attributes else default

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        return self.attributes[name].integer(3) if name in self.attributes else default

    def integers(self, name: str) -> list[int]:
        """Return a list of integers; empty if it is left out."""
        return self.attributes[name].integers(8) if name in self.attributes else []

    @property
    def is_same(self) -> bool:
        """Whether a convolution pads its input so that its output is of the same size."""
        return self.text("auto_pad").startswith("SAME")

    def text(self, name: str) -> str:
        """Return a text attribute; empty if it is left out."""
        return self.attributes[name].text(4) if name in self.attributes else ""

    def tensor(self, name: str) -> Message | None:
        """Return a tensor attribute."""
        return self.attributes[name].message(5) if name in self.attributes else None

    def takes(self, place: int) -> str:
        """Return the name of an input; empty if it is left out."""
        return self.inputs[place] if place < len(self.inputs) else ""

    def subgraphs(self) -> Iterator[tuple[str, Message]]:
        """Yield the graphs among the attributes."""
        for name, attribute in self.attributes.items():
            for graph in ([attribute.message(6)] if attribute.has(6) else []) + attribute.messages(11):
                yield name, graph


@dataclass(frozen=True, eq=False)
class GraphProto:
    """A graph, its constants not yet read."""

    path: str
    """Where it is: empty for the main graph, else the nodes and attributes that lead to it."""
    nodes: tuple[NodeProto, ...]
    initializers: Mapping[str, Message]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class ModelProto:
    """A model."""

    writer: str
    opset: int
    """Version of the operators of the default domain."""
    graphs: tuple[GraphProto, ...]
    """The main graph first, then those within its nodes."""
    calls: tuple[tuple[str, str], ...]
    """Of each call of a function, which stands in the graphs now, the prefix of its nodes and the function's name."""
    functions: Mapping[Key, ModelFunction]
    """Functions that could not be put in the place of their calls."""


def parse(data: Buffer) -> ModelProto:
    """Return the model in `data`, its functions in the place of their calls.

    Raises:
        DamagedFile, UnsafeFile: as `protobuf.Message` and `inlining.inline`.
    """
    inlined = inline(data)
    message = Message(inlined.data)
    versions = {entry.text(1): entry.integer(2) for entry in message.messages(8)}
    writer = " ".join(
        part for part in (message.text(2), message.text(3).removesuffix(" None")) if part not in {"", "None"}
    )
    opset = versions.get("", versions.get("ai.onnx", 1))
    return ModelProto(writer, opset, tuple(_graphs(message.message(7), "", 0)), inlined.calls, inlined.left)


def _graphs(message: Message, path: str, depth: int) -> Iterator[GraphProto]:
    if depth > DEPTH:
        raise UnsafeFile(
            "this model is nested too deeply", why=f"graphs over {DEPTH} levels deep, at most {DEPTH} are read"
        )
    nodes = tuple(NodeProto(node) for node in message.messages(1))
    initializers = {tensor.text(8): tensor for tensor in message.messages(5)}
    inputs = tuple(_value(value) for value in message.messages(11))
    yield GraphProto(
        path,
        nodes,
        initializers,
        # Up to IR version 3 every initializer was an input as well.
        tuple(source for source in inputs if source.name not in initializers),
        tuple(_value(value) for value in message.messages(12)),
    )
    for node in nodes:
        for name, graph in node.subgraphs():
            yield from _graphs(graph, f"{path}{node.label}/{name}/", depth + 1)


def _value(message: Message) -> Value:
    tensor = message.message(2).message(1)
    lengths = tuple(dimension.integer(1) if dimension.has(1) else None for dimension in tensor.message(2).messages(1))
    # An exporter may write 0 or -1 for a length that it does not know.
    shape = tuple(length if length and length > 0 else None for length in lengths)
    return Value(message.text(1), shape, TYPES.get(tensor.integer(1), "unknown"))
