"""Functions of a model put in the place of their calls, so that readers and taps see nothing but operators.

From IR version 8 on a model may bring functions of its own (FunctionProto), which its nodes call by domain and name;
exporters write whole layers so. ONNX Runtime puts them in place by itself when it loads a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from bninspect.errors import UnsafeFile
from bninspect.formats.encodings.protobuf import Buffer, Message, encoded_varint
from bninspect.formats.encodings.protobuf import field as field_of

DEPTH = 16
"""Functions within functions, and graphs within nodes."""
MOST_NODES = 200_000
"""That all functions together may come to: each level of calls may multiply them."""
DEFAULT_DOMAINS = ("", "ai.onnx")

Key = tuple[str, str, str]
"""Domain, name and overload of a function."""


@dataclass(frozen=True, eq=False)
class ModelFunction:
    """A function of a model."""

    key: Key
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    defaults: Mapping[str, bytes]
    """Encoded AttributeProto of attributes that a call may leave out."""
    nodes: tuple[Message, ...]
    opsets: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Inlined:
    """A model without the functions that could be put in the place of their calls."""

    data: Buffer
    calls: tuple[tuple[str, str], ...] = ()
    """Of each call the prefix that the names of its nodes have now, and the name of the function."""
    left: Mapping[Key, ModelFunction] = field(default_factory=dict)
    """Functions that are still there."""


def inline(data: Buffer) -> Inlined:
    """Put the functions of a model in the place of their calls; one written for other operators than the model stays.

    Raises:
        UnsafeFile: functions call each other deeper, or come to more nodes, than any model needs.
        DamagedFile: as `protobuf.Message`.
    """
    model = Message(data)
    versions = _versions(model, 8)
    functions = {function.key: function for function in map(_function, model.messages(25))}
    fitting = {key: one for key, one in functions.items() if _fits(one, versions)}
    left = {key: one for key, one in functions.items() if key not in fitting}
    if not fitting:
        return Inlined(data, left=left)
    further = {domain: version for function in fitting.values() for domain, version in function.opsets.items()}
    imports = ((domain, version) for domain, version in further.items() if domain not in versions)
    inliner = _Inliner(fitting)
    parts = [model.without(7, 25), field_of(7, inliner.graph(model.message(7), _Scope(""), 0))]
    parts += [field_of(25, message.encoded) for message in model.messages(25) if _function(message).key in left]
    parts += [
        field_of(8, field_of(1, domain.encode()) + encoded_varint(2 << 3) + encoded_varint(version))
        for domain, version in imports
    ]
    return Inlined(b"".join(parts), tuple(inliner.calls), left)


@dataclass(eq=False)
class _Scope:
    """What the names within one call stand for outside."""

    prefix: str
    """Of everything that is named within; empty for the graph of the model."""
    values: dict[str, str] = field(default_factory=dict)
    attributes: Mapping[str, bytes] = field(default_factory=dict)

    def outside(self, name: str) -> str:
        """Return the name that a value has outside of the call."""
        return self.values.setdefault(name, self.prefix + name) if name else ""


@dataclass(eq=False)
class _Inliner:
    functions: Mapping[Key, ModelFunction]
    calls: list[tuple[str, str]] = field(default_factory=list)
    nodes: int = 0

    def __post_init__(self) -> None:
        self._taken: set[str] = set()

    def graph(self, graph: Message, scope: _Scope, depth: int) -> bytes:
        """Return a graph whose calls are in place. Its own names hide those around it, and stay."""
        own = {message.text(1) for message in graph.messages(11)} | {message.text(8) for message in graph.messages(5)}
        own |= {name for node in graph.messages(1) for name in node.texts(2)}
        inside = _Scope("", {**scope.values, **{name: name for name in own}}, scope.attributes)
        nodes = self._nodes(graph.messages(1), inside, depth)
        return graph.without(1) + b"".join(field_of(1, node) for node in nodes)

    def _nodes(self, nodes: Iterable[Message], scope: _Scope, depth: int) -> Iterator[bytes]:
        if depth > DEPTH:
            raise UnsafeFile(
                "this model is nested too deeply", why=f"functions over {DEPTH} levels deep, at most {DEPTH} are read"
            )
        for node in nodes:
            self.nodes += 1
            if self.nodes > MOST_NODES:
                raise UnsafeFile(
                    "this model is too large", why=f"over {MOST_NODES:,} nodes with its functions written out"
                )
            function = self.functions.get(key_of(node))
            if function is None:
                yield self._copied(node, scope, depth)
            else:
                yield from self._body(node, function, scope, depth)

    def _body(self, node: Message, function: ModelFunction, scope: _Scope, depth: int) -> Iterator[bytes]:
        """Yield what a call computes, under the names that its inputs and outputs have outside."""
        prefix = self._free(f"{scope.prefix}{_label(node)}/")
        self.calls.append((prefix, function.key[1]))
        given = [scope.outside(name) for name in node.texts(1)]
        values = {**dict.fromkeys(function.inputs, ""), **dict(zip(function.inputs, given, strict=False))}
        passed = []
        for inner, name in zip(function.outputs, map(scope.outside, node.texts(2)), strict=False):
            # An output may be an input as it is, or a value that is another output as well.
            if inner in values:
                passed.append((values[inner], name))
            elif name:
                values[inner] = name
        attributes = {message.text(1): _resolved(message, scope.attributes) for message in node.messages(5)}
        stated = {name: data for name, data in attributes.items() if data}
        yield from self._nodes(function.nodes, _Scope(prefix, values, {**function.defaults, **stated}), depth + 1)
        for source, name in passed:
            yield b"".join(
                field_of(number, text.encode()) for number, text in ((1, source), (2, name), (4, "Identity"))
            )

    def _free(self, prefix: str) -> str:
        found, number = prefix, 1
        while found in self._taken:
            number += 1
            found = f"{prefix[:-1]}~{number}/"
        self._taken.add(found)
        return found

    def _copied(self, node: Message, scope: _Scope, depth: int) -> bytes:
        parts = [field_of(1, scope.outside(name).encode()) for name in node.texts(1)]
        parts += [field_of(2, scope.outside(name).encode()) for name in node.texts(2)]
        # Names are optional, but what is in a function must be told from what is outside.
        label = scope.prefix + _label(node) if scope.prefix else node.text(3)
        parts.append(field_of(3, label.encode()))
        resolved = (_resolved(message, scope.attributes) for message in node.messages(5))
        parts += [field_of(5, self._attribute(Message(attribute), scope, depth)) for attribute in resolved if attribute]
        return node.without(1, 2, 3, 5) + b"".join(parts)

    def _attribute(self, attribute: Message, scope: _Scope, depth: int) -> bytes:
        """Return an attribute, the graphs in it with the names that values around them have."""
        graphs = [
            field_of(number, self.graph(graph, scope, depth + 1))
            for number, found in ((6, [attribute.message(6)] if attribute.has(6) else []), (11, attribute.messages(11)))
            for graph in found
        ]
        return attribute.without(6, 11) + b"".join(graphs)


def key_of(node: Message) -> Key:
    """Return domain, name and overload of what a node calls."""
    return _domain(node.text(7)), node.text(4), node.text(8)


def _label(node: Message) -> str:
    return node.text(3) or next(filter(None, node.texts(2)), node.text(4))


def _function(message: Message) -> ModelFunction:
    return ModelFunction(
        (_domain(message.text(10)), message.text(1), message.text(13)),
        tuple(message.texts(4)),
        tuple(message.texts(5)),
        {entry.text(1): entry.encoded for entry in message.messages(11)},
        tuple(message.messages(7)),
        _versions(message, 9),
    )


def _versions(message: Message, number: int) -> dict[str, int]:
    return {_domain(entry.text(1)): entry.integer(2) for entry in message.messages(number)}


def _fits(function: ModelFunction, versions: Mapping[str, int]) -> bool:
    return all(versions.get(domain, version) == version for domain, version in function.opsets.items())


def _domain(text: str) -> str:
    return "" if text in DEFAULT_DOMAINS else text


def _resolved(attribute: Message, given: Mapping[str, bytes]) -> bytes:
    """Return an attribute, with the value from the call if it refers to one; empty if the call has none."""
    refers = attribute.text(21)
    if not refers:
        return attribute.encoded
    value = given.get(refers)
    return b"" if value is None else Message(value).without(1) + field_of(1, bytes(attribute.data(1)))
