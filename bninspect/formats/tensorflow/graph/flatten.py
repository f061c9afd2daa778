"""The flat graph that certain outputs need at inference: functions inlined, conditionals resolved, nothing else.

It is made backwards from the outputs, so that of a library of a thousand functions only those are read that the outputs
reach: Keras also saves every layer's training function. Loops, and branches that the data chooses, stay as they are.
Their bodies are expanded beside the graph, `hidden`, since they may hold layers that nobody could observe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.formats.tensorflow import op_lists
from bninspect.formats.tensorflow.graph.calls import CallFrame, Calls, Place, data_inputs
from bninspect.formats.tensorflow.graph.conditionals import MERGE, Conditionals
from bninspect.formats.tensorflow.graph.graph_def import MOST_NODES, GraphDef, NodeDef

MOST_STEPS = 100_000
"""From a tensor to the node that computes it."""

Tensor: TypeAlias = tuple[str, int]
"""A flat node's name and the position of its output."""

PLACEHOLDERS = frozenset(("Placeholder", "PlaceholderV2"))
_IF = frozenset(("If", "StatelessIf"))
HIDING: Mapping[str, str] = {
    "While": "inside a while loop",
    "StatelessWhile": "inside a while loop",
    "If": "inside a conditional that depends on the data",
    "StatelessIf": "inside a conditional that depends on the data",
    "Case": "inside a conditional that depends on the data",
    "StatelessCase": "inside a conditional that depends on the data",
}
"""Why nobody can observe what is in the functions of an operation."""


@dataclass(frozen=True, eq=False, slots=True)
class FlatNode:
    """A node of the flat graph."""

    name: str
    node: NodeDef
    inputs: tuple[Tensor, ...]
    control: tuple[str, ...]
    scope: str
    """Names of the calls that led to it, each with a `/` behind it; empty at the top."""
    hidden: str
    """Why its tensors cannot be observed; empty if they can."""
    rewired: bool
    """Whether the file holds no such node, or with other inputs."""

    @property
    def op(self) -> str:
        """The operation."""
        return self.node.op


@dataclass(frozen=True, eq=False)
class FlatGraph:
    """What certain outputs need."""

    nodes: Mapping[str, FlatNode]
    """Every node after those it takes its data from, except where loops lead back."""
    outputs: tuple[Tensor, ...]
    assumed: tuple[str, ...]
    """Placeholders that were taken as false."""

    def changed(self) -> frozenset[str]:
        """Return the nodes that the original graph does not hold as they are here."""
        users: dict[str, list[str]] = {}
        for node in self.nodes.values():
            for source, _ in node.inputs:
                users.setdefault(source, []).append(node.name)
        waiting = [node.name for node in self.nodes.values() if node.scope or node.rewired]
        found = set(waiting)
        while waiting:
            fresh = [user for user in users.get(waiting.pop(), ()) if user not in found]
            found.update(fresh)
            waiting.extend(fresh)
        return frozenset(found)

    def impure(self) -> frozenset[str]:
        """Return the nodes that do more than compute, such as to read a file, and those that take from one."""
        return self._behind(lambda node: node.op not in op_lists.PURE)

    def ends(self) -> tuple[Tensor, ...]:
        """Return what is computed from what the graph is fed, and read by nothing."""
        read = {source for node in self.nodes.values() for source, _ in node.inputs}
        fed = self._behind(lambda node: node.op in PLACEHOLDERS) - read
        ends = (node for node in self.nodes.values() if node.name in fed and not node.hidden)
        return tuple((node.name, 0) for node in ends if node.op in op_lists.PURE - PLACEHOLDERS)

    def _behind(self, begins: Callable[[FlatNode], bool]) -> frozenset[str]:
        """Return the nodes that begin something, and all that take from them."""
        found: set[str] = set()
        for node in self.nodes.values():
            if begins(node) or any(source in found for source, _ in node.inputs):
                found.add(node.name)
        return frozenset(found)


def flatten(graph: GraphDef, outputs: Iterable[str], *, control: bool = False) -> FlatGraph:
    """Return what the outputs need.

    Args:
        graph: the graph that they are in.
        outputs: tensors, or with `control` also operations.
        control: whether to follow what must merely run before, too. Without it nothing that only has an effect, such
            as the update of a moving average, is there.

    Raises:
        DamagedFile: something that is named does not exist, or leads back to itself.
        UnsafeFile: the graph is too large with its functions written out.
    """
    flattener = _Flattener(graph, control=control)
    if control:
        found = [(name, 0) for output in outputs for name in flattener.before(flattener.top, [f"^{output}"])]
    else:
        found = [flattener.place(flattener.top, output) for output in outputs]
    return flattener.flat(found)


def flatten_all(graph: GraphDef) -> FlatGraph:
    """Return all of a graph that may run at inference: for graphs of which nobody says what their outputs are.

    They are then the ends of what is computed from what the graph is fed.

    Raises: as `flatten`.
    """
    flattener = _Flattener(graph, control=False)
    alive = [name for name in graph.nodes if flattener.conditionals.is_dead(flattener.top, name) is not True]
    flat = flattener.flat([flattener.place(flattener.top, name) for name in alive])
    return replace(flat, outputs=flat.ends())


class _Flattener:
    def __init__(self, graph: GraphDef, *, control: bool) -> None:
        self.top = CallFrame(graph.nodes)
        self._calls = Calls(graph)
        self.conditionals = Conditionals(self._calls, self._resolve)
        self._control = control
        self._names: dict[tuple[int, str], str] = {}
        self._taken: set[str] = set()
        self._waiting: list[tuple[CallFrame, NodeDef]] = []
        self._frames: dict[str, CallFrame] = {}
        self._nodes: dict[str, FlatNode] = {}

    def flat(self, outputs: list[Tensor]) -> FlatGraph:
        """Return the graph of everything that was asked for."""
        self._expand()
        self._expand_hidden()
        return FlatGraph(self._ordered(), tuple(outputs), tuple(sorted(self.conditionals.assumed)))

    def place(self, frame: CallFrame, name: str) -> Tensor:
        """Return the flat tensor behind the name of one, and see to it that its node is expanded."""
        at, node, position = self._resolve(frame, name)
        return self._flat_name(at, node), position

    def before(self, frame: CallFrame, inputs: Iterable[str]) -> tuple[str, ...]:
        """Return the flat nodes that control inputs, `^node`, stand for; of a call all that it runs."""
        found: list[str] = []
        waiting = [(frame, source) for source in inputs if source.startswith("^")]
        while waiting:
            at, name = waiting.pop()
            local = name.lstrip("^").partition(":")[0]
            if local in at.arguments:
                continue
            node = at.node(local)
            called = self._called(at, node)
            if called is None:
                found.append(self._flat_name(at, node))
            elif called.function is not None:
                inner = (*called.function.control, *called.function.returned.values())
                waiting.extend((called, one) for one in inner)
        return tuple(found)

    def _expand(self) -> None:
        while self._waiting:
            frame, node = self._waiting.pop()
            name = self._flat_name(frame, node)
            if len(self._nodes) >= MOST_NODES:
                raise UnsafeFile(
                    "this graph is too large", why=f"over {MOST_NODES:,} nodes with its functions written out"
                )
            inputs, rewired = [], node.name in self._calls.graph.added
            for source in data_inputs(node):
                at, origin, position = self._resolve(frame, source)
                rewired |= at is not frame or origin.name != source.partition(":")[0]
                inputs.append((self._flat_name(at, origin), position))
            control = self.before(frame, node.inputs) if self._control else ()
            self._nodes[name] = FlatNode(name, node, tuple(inputs), control, frame.scope, frame.hidden, rewired)
            self._frames[name] = frame

    def _expand_hidden(self) -> None:
        """Expand the bodies of loops and of undecided branches, as if they were called once."""
        seen: set[str] = set()
        while pending := [one for one in self._nodes.values() if one.op in HIDING and one.name not in seen]:
            for flat in pending:
                seen.add(flat.name)
                frame, node = self._frames[flat.name], flat.node
                given = data_inputs(node)[0 if "While" in node.op else 1 :]
                for attribute, function in node.functions():
                    body = self._calls.call(frame, node, function, given, frame.hidden or HIDING[node.op])
                    outputs = 0 if attribute == "cond" or body.function is None else len(body.function.outputs)
                    for position in range(outputs):
                        self.place(body, body.returned(position))
            self._expand()

    def _ordered(self) -> dict[str, FlatNode]:
        """Return the nodes so that each comes after what it takes its data from."""
        ordered: dict[str, FlatNode] = {}
        opened: set[str] = set()
        for first in self._nodes:
            stack = [first]
            while stack:
                name = stack[-1]
                if name in opened:
                    stack.pop()
                    ordered.setdefault(name, self._nodes[name])
                    continue
                opened.add(name)
                stack.extend(source for source, _ in reversed(self._nodes[name].inputs) if source not in opened)
        return ordered

    def _flat_name(self, frame: CallFrame, node: NodeDef) -> str:
        key = (id(frame), node.name)
        if key not in self._names:
            name = frame.scope + node.name
            while name in self._taken:
                name += "_"
            self._names[key] = name
            self._taken.add(name)
            self._waiting.append((frame, node))
        return self._names[key]

    def _resolve(self, frame: CallFrame, name: str) -> Place:
        """Follow a tensor through arguments, calls and decided conditionals to the node that computes it."""
        for _ in range(MOST_STEPS):
            local, position = self._calls.located(frame, name)
            if local in frame.arguments:
                frame, name = frame.arguments[local]
                continue
            node = frame.node(local)
            called = self._called(frame, node)
            if called is not None:
                frame, name = called, called.returned(position)
                continue
            chosen = self.conditionals.chosen(frame, node)
            if not chosen or (node.op in MERGE and position):  # A Merge also says which input it took.
                return frame, node, position
            name = chosen
        raise DamagedFile("the graph is damaged", why="a tensor leads back to itself")

    def _called(self, frame: CallFrame, node: NodeDef) -> CallFrame | None:
        """Return the call of a function that a node makes, `None` if it makes none or the data decides which."""
        if node.op in op_lists.CALLS:
            return self._calls.call(frame, node, node.function("f"), data_inputs(node), frame.hidden)
        if node.op in self._calls.graph.library:
            return self._calls.call(frame, node, node.op, data_inputs(node), frame.hidden)
        if node.op in _IF:
            predicate, *given = data_inputs(node, 1)
            decided = self.conditionals.predicate(frame, predicate)
            if decided is not None:
                branch = node.function("then_branch" if decided else "else_branch")
                return self._calls.call(frame, node, branch, given, frame.hidden)
        return None


def reached(graph: FlatGraph, starts: Iterable[str]) -> Iterator[FlatNode]:
    """Yield every node from which data flows to `starts`, these included."""
    waiting, seen = list(starts), set[str]()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            yield graph.nodes[name]
            waiting.extend(source for source, _ in graph.nodes[name].inputs)
