"""Calls of functions as frames: within one, names mean its function's nodes and arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.formats.tensorflow.graph.graph_def import Function, GraphDef, NodeDef
from bninspect.safe_text import printable

MOST_DEPTH = 64
MOST_CALLS = 50_000


@dataclass(frozen=True, eq=False)
class CallFrame:
    """One call of a function, or the graph itself."""

    nodes: Mapping[str, NodeDef]
    function: Function | None = None
    scope: str = ""
    """Names of the calls that led here, each with a `/` behind it."""
    arguments: Mapping[str, tuple[CallFrame, str]] = field(default_factory=dict)
    """Where each argument comes from: a tensor of another frame."""
    depth: int = 0
    hidden: str = ""
    """Why nothing in here can be observed; empty if it can."""
    calls: dict[tuple[str, str], CallFrame] = field(default_factory=dict)
    """By node and function."""

    def node(self, name: str) -> NodeDef:
        """Return a node. Raises DamagedFile if there is none of that name."""
        if name not in self.nodes:
            raise DamagedFile("the graph is damaged", why=f"it has no node {printable(name)!r}")
        return self.nodes[name]

    def returned(self, position: int) -> str:
        """Return the tensor that the function returns at a position. Raises DamagedFile if it returns none there."""
        outputs = () if self.function is None else self.function.outputs
        returned = {} if self.function is None else self.function.returned
        if position >= len(outputs) or outputs[position] not in returned:
            raise DamagedFile("the graph is damaged", why=f"a function has no output {position}")
        return returned[outputs[position]]


Place: TypeAlias = tuple[CallFrame, NodeDef, int]
"""A tensor: the position of an output, of a node, in a frame."""


class Calls:
    """The frames of one graph, each made when it is first called for."""

    def __init__(self, graph: GraphDef) -> None:
        self.graph = graph
        self._count = 0

    def call(self, frame: CallFrame, node: NodeDef, function: str, given: list[str], hidden: str) -> CallFrame:
        """Return the frame of a call.

        Raises:
            DamagedFile: there is no such function, or it takes another number of inputs.
            UnsafeFile: there are too many calls, or too many within each other.
        """
        key = (node.name, function)
        if key not in frame.calls:
            self._count += 1
            if frame.depth >= MOST_DEPTH or self._count > MOST_CALLS:
                raise UnsafeFile(
                    "this graph is too large",
                    why=f"over {MOST_CALLS:,} calls of functions, or over {MOST_DEPTH} within each other",
                )
            called = self.graph.function(function)
            if len(given) != len(called.inputs):
                raise DamagedFile("the graph is damaged", why=f"{printable(node.name)} calls with {len(given)} inputs")
            arguments = {argument: (frame, source) for argument, source in zip(called.inputs, given, strict=True)}
            scope = f"{frame.scope}{node.name}/"
            frame.calls[key] = CallFrame(called.nodes, called, scope, arguments, frame.depth + 1, hidden)
        return frame.calls[key]

    def located(self, frame: CallFrame, name: str) -> tuple[str, int]:
        """Return the node or argument that a tensor or control input names, and the position of the output."""
        local, _, rest = name.lstrip("^").partition(":")
        if frame.function is None or local in frame.arguments:
            return local, _number(rest)
        output, _, index = rest.partition(":")
        return local, self.graph.position(frame.node(local), output, _number(index)) if output else 0


def data_inputs(node: NodeDef, at_least: int = 0) -> list[str]:
    """Return the inputs that are not control inputs. Raises DamagedFile if there are fewer than `at_least`."""
    inputs = [source for source in node.inputs if not source.startswith("^")]
    if len(inputs) < at_least:
        raise DamagedFile("the graph is damaged", why=f"{printable(node.name)} has {len(inputs)} inputs")
    return inputs


def _number(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 9):
        raise DamagedFile("the graph is damaged", why=f"{printable(text)!r} is not the number of an output")
    return int(text or 0)
