"""The flat graph that certain outputs need at inference: functions inlined, conditionals resolved, nothing else.

It is made backwards from the outputs, so that of a library of a thousand functions only those are read that the outputs
reach: Keras also saves every layer's training function. A conditional is resolved where its predicate is a constant,
or a placeholder: of a placeholder without a default false is taken, which in every model that has one means inference.
Loops, and branches that the data chooses, stay as they are. Their bodies are expanded beside the graph, `hidden`, since
they may hold layers that nobody could observe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.formats.tensorflow import ops, tensor
from bninspect.formats.tensorflow.graph import Function, Graph, Node
from bninspect.names import printable

MOST_NODES = 500_000
MOST_DEPTH = 64

Tensor: TypeAlias = tuple[str, int]
"""A flat node's name and the position of its output."""

_IF = frozenset(("If", "StatelessIf"))
_SWITCH = frozenset(("Switch", "RefSwitch"))
_MERGE = frozenset(("Merge", "RefMerge"))
_HIDING = {
    "While": "inside a while loop",
    "StatelessWhile": "inside a while loop",
    "If": "inside a conditional that depends on the data",
    "StatelessIf": "inside a conditional that depends on the data",
    "Case": "inside a conditional that depends on the data",
    "StatelessCase": "inside a conditional that depends on the data",
}
_PASSING = frozenset(("Identity", "StopGradient", "PlaceholderWithDefault", "Squeeze", "Reshape", "Snapshot"))


@dataclass(frozen=True, eq=False, slots=True)
class FlatNode:
    """A node of the flat graph."""

    name: str
    node: Node
    inputs: tuple[Tensor, ...]
    control: tuple[str, ...]
    scope: str
    """Names of the calls that led to it, each with a `/` behind it; empty at the top."""
    hidden: str
    """Why its tensors cannot be observed; empty if they can."""
    rewired: bool
    """Whether an input comes from elsewhere than its own graph or function says."""

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


def flatten(graph: Graph, outputs: Iterable[str], *, control: bool = False) -> FlatGraph:
    """Return what the outputs need.

    Args:
        graph: the graph that they are in.
        outputs: tensors, or with `control` also operations.
        control: whether to follow what must merely run before, too. Without it nothing that only has an effect, such
            as the update of a moving average, is there.

    Raises:
        DamagedFile: something that is named does not exist.
        UnsafeFile: the graph calls functions too deeply, or is too large once it is flat.
    """
    flattener = _Flattener(graph, control=control)
    top = _Frame(graph.nodes, None, "", None, {}, 0, "")
    if control:
        found = [(name, 0) for one in outputs for name in flattener.before(top, [f"^{one}"])]
    else:
        found = [flattener.place(top, one) for one in outputs]
    flattener.expand()
    flattener.expand_hidden()
    return FlatGraph(flattener.ordered(), tuple(found), tuple(sorted(flattener.assumed)))


def flatten_all(graph: Graph) -> FlatGraph:
    """Return all of a graph that may run at inference: for graphs of which nobody says what their outputs are.

    Raises: as `flatten`.
    """
    flattener = _Flattener(graph, control=False)
    top = _Frame(graph.nodes, None, "", None, {}, 0, "")
    alive = [name for name in graph.nodes if flattener.is_dead(top, name) is not True]
    found = [flattener.place(top, name) for name in alive]
    flattener.expand()
    flattener.expand_hidden()
    return FlatGraph(flattener.ordered(), tuple(found), tuple(sorted(flattener.assumed)))


@dataclass(frozen=True, eq=False)
class _Frame:
    """One call of a function, or the graph itself."""

    nodes: Mapping[str, Node]
    function: Function | None
    scope: str
    parent: _Frame | None
    arguments: Mapping[str, tuple[_Frame, str]]
    depth: int
    hidden: str
    calls: dict[tuple[str, str], _Frame] = field(default_factory=dict)


_Place: TypeAlias = tuple[_Frame, Node, int]


class _Flattener:
    def __init__(self, graph: Graph, *, control: bool) -> None:
        self._graph = graph
        self._control = control
        self._names: dict[tuple[int, str], str] = {}
        self._taken: set[str] = set()
        self._waiting: list[tuple[_Frame, Node]] = []
        self._predicates: dict[tuple[int, str], bool | None] = {}
        self._dead: dict[tuple[int, str], bool | None] = {}
        self._frames: dict[str, _Frame] = {}
        self.nodes: dict[str, FlatNode] = {}
        self.assumed: set[str] = set()

    def place(self, frame: _Frame, name: str) -> Tensor:
        """Return the flat tensor behind the name of one, and see to it that its node is expanded."""
        at, node, position = self._resolve(frame, name)
        return self._flat_name(at, node), position

    def before(self, frame: _Frame, inputs: Iterable[str]) -> tuple[str, ...]:
        """Return the flat nodes that control inputs, `^node`, stand for; of a call all that it runs."""
        found: list[str] = []
        waiting = [(frame, one) for one in inputs if one.startswith("^")]
        while waiting:
            at, name = waiting.pop()
            local = name.lstrip("^").partition(":")[0]
            if local in at.arguments:
                continue
            called = self._called(at, _node(at, local))
            if called is None:
                found.append(self._flat_name(at, _node(at, local)))
            elif called.function is not None:
                inner = (*called.function.control, *called.function.returned.values())
                waiting.extend((called, one) for one in inner)
        return tuple(found)

    def expand(self) -> None:
        while self._waiting:
            frame, node = self._waiting.pop()
            name = self._flat_name(frame, node)
            if name in self.nodes:
                continue
            if len(self.nodes) >= MOST_NODES:
                raise UnsafeFile(
                    "this graph is beyond what a model needs", why=f"it has over {MOST_NODES} nodes once it is flat"
                )
            inputs, rewired = [], False
            for source in node.inputs:
                if not source.startswith("^"):
                    at, origin, position = self._resolve(frame, source)
                    rewired |= at is not frame or origin.name != source.partition(":")[0]
                    inputs.append((self._flat_name(at, origin), position))
            control = self.before(frame, node.inputs) if self._control else ()
            self.nodes[name] = FlatNode(name, node, tuple(inputs), control, frame.scope, frame.hidden, rewired)
            self._frames[name] = frame

    def expand_hidden(self) -> None:
        """Expand the bodies of loops and of undecided branches, as if they were called once."""
        seen: set[str] = set()
        while pending := [one for one in self.nodes.values() if one.op in _HIDING and one.name not in seen]:
            for node in pending:
                seen.add(node.name)
                frame = self._frames[node.name]
                given = _data(node.node)[0 if "While" in node.op else 1 :]
                for attribute, function in node.node.functions():
                    body = self._call(frame, node.node, function, given, frame.hidden or _HIDING[node.op])
                    for output in body.function.outputs if body.function and attribute != "cond" else ():
                        self.place(body, _returned(body, output))
            self.expand()

    def is_dead(self, frame: _Frame, name: str) -> bool | None:
        """Return whether a tensor is never computed, because a Switch sends its data the other way.

        Only as far back as the nearest Switches: where they are not reached at all, neither is their Merge.
        """
        stack, opened = [name], set()
        while stack:
            one = stack[-1]
            key = (id(frame), one)
            if key in self._dead:
                stack.pop()
                continue
            decided, sources = self._fate(frame, one)
            missing = [source for source in sources if (id(frame), source) not in self._dead]
            if missing and one not in opened:
                opened.add(one)
                stack.extend(missing)
                continue
            fates = [self._dead.get((id(frame), source), False) for source in sources]
            if sources and _node(frame, self._located(frame, one)[0]).op in _MERGE:
                decided = False if False in fates else None if None in fates else True
            elif sources:
                decided = True if True in fates else None if None in fates else False
            self._dead[key] = decided
            stack.pop()
        return self._dead[id(frame), name]

    def ordered(self) -> dict[str, FlatNode]:
        """Return the nodes so that each comes after what it takes its data from."""
        ordered: dict[str, FlatNode] = {}
        opened: set[str] = set()
        for first in self.nodes:
            stack = [first]
            while stack:
                name = stack[-1]
                if name in opened:
                    stack.pop()
                    ordered.setdefault(name, self.nodes[name])
                    continue
                opened.add(name)
                stack.extend(source for source, _ in reversed(self.nodes[name].inputs) if source not in opened)
        return ordered

    def _flat_name(self, frame: _Frame, node: Node) -> str:
        key = (id(frame), node.name)
        if key not in self._names:
            name = frame.scope + node.name
            while name in self._taken:
                name += "_"
            self._names[key] = name
            self._taken.add(name)
            self._waiting.append((frame, node))
        return self._names[key]

    def _resolve(self, frame: _Frame, name: str) -> _Place:
        """Follow a tensor through arguments, calls and resolved conditionals to the node that computes it."""
        while True:
            local, position = self._located(frame, name)
            if local in frame.arguments:
                frame, name = frame.arguments[local]
                continue
            node = _node(frame, local)
            called = self._called(frame, node)
            if called is not None:
                function = called.function
                assert function is not None  # noqa: S101 - narrows the type: a call always has one
                if position >= len(function.outputs):
                    raise DamagedFile(
                        "the graph is damaged", why=f"{printable(function.name)} has no output {position}"
                    )
                frame, name = called, _returned(called, function.outputs[position])
                continue
            chosen = self._chosen(frame, node)
            if not chosen or (node.op in _MERGE and position):  # A Merge also says which input it took.
                return frame, node, position
            name = chosen

    def _located(self, frame: _Frame, name: str) -> tuple[str, int]:
        """Return the node or argument of a tensor, and the position of the output."""
        local, _, rest = name.lstrip("^").partition(":")
        if frame.function is None or local in frame.arguments:
            return local, _number(rest)
        output, _, index = rest.partition(":")
        return local, self._graph.position(_node(frame, local), output, _number(index)) if output else 0

    def _called(self, frame: _Frame, node: Node) -> _Frame | None:
        """Return the call of a function that a node makes, `None` if it makes none or does not say which."""
        if node.op in ops.CALLS:
            return self._call(frame, node, node.function("f"), _data(node), frame.hidden)
        if node.op in self._graph.library:
            return self._call(frame, node, node.op, _data(node), frame.hidden)
        if node.op in _IF:
            decided = self._predicate(frame, _data(node)[0])
            if decided is not None:
                branch = node.function("then_branch" if decided else "else_branch")
                return self._call(frame, node, branch, _data(node)[1:], frame.hidden)
        return None

    def _call(self, frame: _Frame, node: Node, name: str, given: list[str], hidden: str) -> _Frame:
        key = (node.name, name)
        if key not in frame.calls:
            if frame.depth >= MOST_DEPTH:
                raise UnsafeFile("this graph calls itself, or functions too deeply", why=f"over {MOST_DEPTH} levels")
            function = self._graph.function(name)
            if len(given) != len(function.inputs):
                raise DamagedFile("the graph is damaged", why=f"{printable(node.name)} calls with {len(given)} inputs")
            arguments = {argument: (frame, source) for argument, source in zip(function.inputs, given, strict=True)}
            scope = f"{frame.scope}{node.name}/"
            frame.calls[key] = _Frame(function.nodes, function, scope, frame, arguments, frame.depth + 1, hidden)
        return frame.calls[key]

    def _chosen(self, frame: _Frame, node: Node) -> str:
        """Return the input that a Switch or Merge passes on, empty if that is not decided."""
        if node.op in _SWITCH:
            return "" if self._predicate(frame, node.inputs[1]) is None else node.inputs[0]
        if node.op in _MERGE:
            alive = [source for source in _data(node) if not self.is_dead(frame, source)]
            undecided = any(self.is_dead(frame, source) is None for source in _data(node))
            return alive[0] if len(alive) == 1 and not undecided else ""
        return ""

    def _predicate(self, frame: _Frame, name: str) -> bool | None:
        """Return the value of a predicate at inference, `None` if the data decides."""
        at, node, _ = self._resolve(frame, name)
        key = (id(at), node.name)
        if key not in self._predicates:
            self._predicates[key] = None  # A predicate that depends on itself is that of a loop.
            self._predicates[key] = self._decided(at, node)
        return self._predicates[key]

    def _decided(self, frame: _Frame, node: Node) -> bool | None:
        inputs = _data(node)
        match node.op:
            case "Const":
                value = tensor.value(node.attribute("value").message(8), printable(node.name))
                return bool(value.ravel()[0]) if value.size == 1 else None
            case "Placeholder":
                if node.dtype("dtype") == tensor.BOOL:
                    self.assumed.add(node.name)
                    return False
            case "LogicalNot":
                inner = self._predicate(frame, inputs[0])
                return None if inner is None else not inner
            case "LogicalAnd" | "LogicalOr":
                both = [self._predicate(frame, one) for one in inputs[:2]]
                deciding = node.op == "LogicalOr"
                return deciding if deciding in both else None if None in both else not deciding
            case passing if passing in _PASSING:
                return self._predicate(frame, inputs[0])
        return None

    def _fate(self, frame: _Frame, name: str) -> tuple[bool | None, list[str]]:
        """Return whether a tensor is dead, or the inputs on which that depends."""
        local, position = self._located(frame, name)
        if local in frame.arguments:
            return False, []
        node = _node(frame, local)
        if node.op in _SWITCH:
            predicate = self._predicate(frame, node.inputs[1])
            return (None if predicate is None else predicate != bool(position)), []
        if node.op in ("NextIteration", "Enter", "Exit", "RefEnter"):
            return False, []
        return False, list(node.inputs)


def _data(node: Node) -> list[str]:
    return [one for one in node.inputs if not one.startswith("^")]


def _node(frame: _Frame, name: str) -> Node:
    if name not in frame.nodes:
        raise DamagedFile("the graph is damaged", why=f"it has no node {printable(name)!r}")
    return frame.nodes[name]


def _returned(frame: _Frame, output: str) -> str:
    function = frame.function
    if function is None or output not in function.returned:
        raise DamagedFile("the graph is damaged", why=f"a function does not return {printable(output)!r}")
    return function.returned[output]


def _number(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 9):
        raise DamagedFile("the graph is damaged", why=f"{printable(text)!r} is no number of an output")
    return int(text or 0)


def reached(graph: FlatGraph, starts: Iterable[str]) -> Iterator[FlatNode]:
    """Yield every node from which data flows to `starts`, these included."""
    waiting, seen = list(starts), set[str]()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            yield graph.nodes[name]
            waiting.extend(source for source, _ in graph.nodes[name].inputs)
