"""Which way conditionals go at inference: those whose predicate is a constant or a placeholder.

Of a placeholder without a default false is taken, which in every model that has one means inference. Functional
conditionals (If) choose a function. TF1's older ones send their data through a Switch to one side, where it computes,
and leave the other side dead; a Merge passes on what is not dead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from bninspect.formats.tensorflow import tensor
from bninspect.formats.tensorflow.graph.calls import CallFrame, Calls, Place, data_inputs
from bninspect.formats.tensorflow.graph.graph_def import NodeDef
from bninspect.safe_text import printable

SWITCH = frozenset(("Switch", "RefSwitch"))
MERGE = frozenset(("Merge", "RefMerge"))
_PASSING = frozenset(("Identity", "StopGradient", "PlaceholderWithDefault", "Squeeze", "Reshape", "Snapshot"))
_LOOPING = frozenset(("NextIteration", "RefNextIteration", "Enter", "RefEnter", "Exit", "RefExit"))
MOST_NESTED = 50

_Key: TypeAlias = tuple[int, str]


class Conditionals:
    """The conditionals of one graph.

    Args:
        calls: the frames of the graph.
        resolve: follows a tensor through calls and decided conditionals to the node that computes it.
    """

    def __init__(self, calls: Calls, resolve: Callable[[CallFrame, str], Place]) -> None:
        self.assumed: set[str] = set()
        """Placeholders that were taken as false."""
        self._calls = calls
        self._resolve = resolve
        self._predicates: dict[_Key, bool | None] = {}
        self._dead: dict[_Key, bool | None] = {}
        self._nested = 0

    def predicate(self, frame: CallFrame, name: str) -> bool | None:
        """Return the value of a predicate at inference, `None` if the data decides."""
        if self._nested >= MOST_NESTED:
            return None
        self._nested += 1
        try:
            at, node, _ = self._resolve(frame, name)
            key = (id(at), node.name)
            if key not in self._predicates:
                self._predicates[key] = None  # A predicate that depends on itself is that of a loop.
                self._predicates[key] = self._decided(at, node)
            return self._predicates[key]
        finally:
            self._nested -= 1

    def chosen(self, frame: CallFrame, node: NodeDef) -> str:
        """Return the input that a Switch or Merge passes on; empty if that is not decided."""
        if node.op in SWITCH:
            data, predicate = data_inputs(node, 2)[:2]
            return "" if self.predicate(frame, predicate) is None else data
        if node.op in MERGE:
            fates = {source: self.is_dead(frame, source) for source in data_inputs(node)}
            alive = [source for source, dead in fates.items() if not dead]
            return alive[0] if len(alive) == 1 and None not in fates.values() else ""
        return ""

    def is_dead(self, frame: CallFrame, name: str) -> bool | None:
        """Return whether a tensor is never computed, because a Switch sends its data the other way.

        Only as far back as the nearest Switches: where they are not reached at all, neither is their Merge. `None` if
        a Switch is not decided.
        """
        stack, opened = [name], set()
        while stack:
            one = stack[-1]
            if (id(frame), one) in self._dead:
                stack.pop()
                continue
            decided, sources, merges = self._fate(frame, one)
            missing = [source for source in sources if (id(frame), source) not in self._dead]
            if missing and one not in opened:
                opened.add(one)
                stack.extend(missing)
                continue
            # What is still missing leads back to this tensor: a loop decides nothing.
            fates = [self._dead.get((id(frame), source), False) for source in sources]
            if fates:
                deciding = not merges
                decided = deciding if deciding in fates else None if None in fates else not deciding
            self._dead[id(frame), one] = decided
            stack.pop()
        return self._dead[id(frame), name]

    def _fate(self, frame: CallFrame, name: str) -> tuple[bool | None, list[str], bool]:
        """Return whether a tensor is dead, or the inputs on which that depends, and whether one alive is enough."""
        local, position = self._calls.located(frame, name)
        if local in frame.arguments:
            return False, [], False
        node = frame.node(local)
        if node.op in SWITCH:
            predicate = self.predicate(frame, data_inputs(node, 2)[1])
            return (None if predicate is None else predicate != bool(position)), [], False
        if node.op in _LOOPING:
            return False, [], False
        return False, list(node.inputs), node.op in MERGE

    def _decided(self, frame: CallFrame, node: NodeDef) -> bool | None:
        match node.op:
            case "Const":
                value = tensor.value(node.attribute("value").message(8), printable(node.name))
                return bool(value.ravel()[0]) if value.size == 1 else None
            case "Placeholder" if node.dtype("dtype") == tensor.BOOL:
                self.assumed.add(node.name)
                return False
            case "LogicalNot":
                inner = self.predicate(frame, data_inputs(node, 1)[0])
                return None if inner is None else not inner
            case "LogicalAnd" | "LogicalOr":
                both = [self.predicate(frame, one) for one in data_inputs(node, 2)[:2]]
                deciding = node.op == "LogicalOr"
                return deciding if deciding in both else None if None in both else not deciding
            case passing if passing in _PASSING:
                return self.predicate(frame, data_inputs(node, 1)[0])
        return None
