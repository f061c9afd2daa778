"""Graphs, functions and SavedModels as plain records, read from protocol buffers.

Field numbers: tensorflow/core/framework/{graph,node_def,function,attr_value,op_def}.proto and
core/protobuf/{meta_graph,saver,saved_model}.proto. Default attributes are stripped from SavedModels: whoever asks for
an attribute says what its absence means, and that is the operation's default, not the Python API's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.formats.encodings.protobuf import Buffer, Message, decoded
from bninspect.formats.tensorflow import op_lists
from bninspect.safe_text import printable

MOST_FUNCTIONS = 100_000
MOST_NODES = 200_000


class NodeDef:
    """A node of a graph or of a function."""

    def __init__(self, data: Buffer) -> None:
        self.data = data
        """The encoded NodeDef."""
        message = Message(data)
        self.name = message.text(1)
        self.op = message.text(2)
        self.inputs = message.texts(3)
        self._message = message

    @cached_property
    def attributes(self) -> Mapping[str, memoryview]:
        """The encoded AttrValue of every attribute that is stated."""
        return self._message.entries(5)

    def attribute(self, name: str) -> Message:
        """Return an AttrValue; an empty one where the default was stripped."""
        return Message(self.attributes.get(name, b""))

    def text(self, name: str, default: str = "") -> str:
        """Return a string attribute, such as `data_format`."""
        return self.attribute(name).text(2) if name in self.attributes else default

    def real(self, name: str, default: float) -> float:
        """Return a float attribute."""
        return self.attribute(name).real(4) if name in self.attributes else default

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a boolean attribute."""
        return bool(self.attribute(name).integer(5)) if name in self.attributes else default

    def integers(self, name: str) -> tuple[int, ...]:
        """Return an attribute that is a list of whole numbers, such as `strides`; empty if it is missing."""
        return tuple(self.attribute(name).message(1).integers(3))

    def dtype(self, name: str) -> int:
        """Return a type attribute; 0 if it is missing."""
        return self.attribute(name).integer(6)

    def functions(self) -> Iterator[tuple[str, str]]:
        """Yield each attribute that names a function, and the function, lists of functions included."""
        for name, data in self.attributes.items():
            value = Message(data)
            for function in (*value.messages(10), *value.message(1).messages(9)):
                if function.has(1):
                    yield name, function.text(1)

    def function(self, name: str) -> str:
        """Return the function that an attribute names; empty if there is none."""
        return next((function for attribute, function in self.functions() if attribute == name), "")


@dataclass(frozen=True, eq=False)
class Function:
    """A function: its nodes name their inputs by `argument` or `node:output:position`."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    returned: Mapping[str, str]
    """Tensor of each output."""
    control: tuple[str, ...]
    """Nodes that run even though no output depends on them."""
    nodes: Mapping[str, NodeDef]

    @classmethod
    def read(cls, data: Buffer) -> Function:
        """Read a FunctionDef."""
        message = Message(data)
        signature = message.message(1)
        return cls(
            name=signature.text(1),
            inputs=tuple(argument.text(1) for argument in signature.messages(2)),
            outputs=tuple(argument.text(1) for argument in signature.messages(3)),
            returned={key: decoded(value) for key, value in message.entries(4).items()},
            control=tuple(decoded(value) for value in message.entries(6).values()),
            nodes=by_name(NodeDef(node) for node in message.chunks(3)),
        )


@dataclass(frozen=True, eq=False)
class GraphDef:
    """A GraphDef. Its nodes name their inputs by `node`, `node:position` or `^node`."""

    nodes: Mapping[str, NodeDef]
    library: Mapping[str, Buffer]
    """The encoded FunctionDef of every function, which `function` reads when it is called for."""
    definitions: Mapping[str, Message] = field(default_factory=dict)
    """OpDef of operations, as far as the file holds them."""
    added: frozenset[str] = frozenset()
    """Nodes that the file does not hold."""
    _read: dict[str, Function] = field(default_factory=dict)

    @classmethod
    def read(cls, graph: Message, definitions: Iterable[Message] = ()) -> GraphDef:
        """Read a GraphDef.

        Raises:
            DamagedFile: two nodes or functions have one name, or the encoding is broken.
            UnsafeFile: it is larger than any model.
        """
        encoded, functions = graph.chunks(1), graph.message(2).chunks(1)
        for count, most, what in ((len(encoded), MOST_NODES, "nodes"), (len(functions), MOST_FUNCTIONS, "functions")):
            if count > most:
                raise UnsafeFile("this graph is too large", why=f"it has {count:,} {what}, at most {most:,} are read")
        nodes = by_name(NodeDef(data) for data in encoded)
        library = {Message(data).message(1).text(1): data for data in functions}
        if len(library) != len(functions):
            raise DamagedFile("the graph is damaged", why="two functions have one name")
        return cls(nodes, library, {definition.text(1): definition for definition in definitions})

    def function(self, name: str) -> Function:
        """Return a function of the library.

        Raises:
            DamagedFile: there is none of that name.
        """
        if name not in self._read:
            if name not in self.library:
                raise DamagedFile("the graph is damaged", why=f"it has no function {printable(name)!r}")
            self._read[name] = Function.read(self.library[name])
        return self._read[name]

    def position(self, node: NodeDef, output: str, index: int) -> int:
        """Return which of the node's outputs a function calls `node:output:index`."""
        if node.op in self.library:
            outputs: list[str] = list(self.function(node.op).outputs)
        elif node.op in self.definitions:
            return _counted(self.definitions[node.op], node, output, index)
        else:
            outputs = op_lists.OUTPUTS.get(node.op, [])
        return outputs.index(output) + index if output in outputs else index


def _counted(definition: Message, node: NodeDef, output: str, index: int) -> int:
    """Count the tensors of the output arguments before `output`: OpDef.ArgDef says where their number stands."""
    count = 0
    for argument in definition.messages(3):
        if argument.text(1) == output:
            return count + index
        number, types = argument.text(5), argument.text(6)
        if number:
            count += node.attribute(number).integer(3)
        elif types:
            count += len(node.attribute(types).message(1).integers(6))
        else:
            count += 1
    return index


def by_name(nodes: Iterable[NodeDef]) -> dict[str, NodeDef]:
    """Return nodes by their name.

    Raises:
        DamagedFile: two have the same.
    """
    named: dict[str, NodeDef] = {}
    for node in nodes:
        if node.name in named:
            raise DamagedFile("the graph is damaged", why=f"two nodes are called {printable(node.name)!r}")
        named[node.name] = node
    return named


@dataclass(frozen=True)
class Signature:
    """What a model is called with and returns: names of its own and the tensors of the graph."""

    name: str
    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of the graph, its type and, as far as it is known, its shape."""

    tensor: str
    dtype: int
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, eq=False)
class MetaGraph:
    """A MetaGraphDef: a graph with its signatures, and how its variables are restored."""

    graph: GraphDef
    tags: frozenset[str]
    version: str
    """Of the TensorFlow that wrote it."""
    signatures: Mapping[str, Signature]
    restore: str
    """Operation that restores the variables; empty if there are none."""
    filename: str
    """Tensor that tells that operation where the checkpoint is."""
    initialisers: tuple[str, ...]
    """Operations that TensorFlow runs after loading."""
    objects: Message
    """SavedObjectGraph."""

    @classmethod
    def read(cls, message: Message) -> MetaGraph:
        """Read a MetaGraphDef. Raises as `GraphDef.read`."""
        about, saver = message.message(1), message.message(3)
        signatures = {name: _signature(name, Message(data)) for name, data in message.entries(5).items()}
        collections = {name: Message(data).message(1).texts(1) for name, data in message.entries(4).items()}
        # `tf.saved_model.loader` runs the first of these that is there.
        initialisers = next(
            (found for name in _INITIALISERS if (found := _initialisers(name, signatures, collections))), ()
        )
        return cls(
            graph=GraphDef.read(message.message(2), about.message(2).messages(1)),
            tags=frozenset(about.texts(4)),
            version=about.text(5),
            signatures={name: one for name, one in signatures.items() if name not in _INITIALISERS and one.outputs},
            restore=saver.text(3),
            filename=saver.text(1),
            initialisers=initialisers,
            objects=message.message(7),
        )


_INITIALISERS = ("__saved_model_init_op", "saved_model_main_op", "legacy_init_op")


def _initialisers(
    name: str, signatures: Mapping[str, Signature], collections: Mapping[str, list[str]]
) -> tuple[str, ...]:
    if name in signatures:
        return tuple(output.tensor for output in signatures[name].outputs.values())
    return tuple(collections.get(name, ()))


def _signature(name: str, message: Message) -> Signature:
    # Sparse and composite tensors have no `name`; they are inputs that nobody can be given at random.
    return Signature(
        name,
        inputs={key: _info(Message(data)) for key, data in message.entries(1).items()},
        outputs={key: _info(Message(data)) for key, data in message.entries(2).items() if Message(data).has(1)},
    )


def _info(message: Message) -> TensorInfo:
    from bninspect.formats.tensorflow.tensor import shape_of

    return TensorInfo(message.text(1), message.integer(2), shape_of(message.message(3)))
