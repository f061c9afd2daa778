"""Which calls of layers can be left out when a model is run again and values on the way are given.

What a convolution makes of a value is of no use where the value that comes out of it is given and nobody asks for what
the model itself would have made. The calls of a pass are known by their number: each pass makes the same ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bninspect.records.graph import Node

_OWN = ("keras.", "tf_keras.")


@dataclass(frozen=True, eq=False)
class LayerCall:
    """A call of a layer that returned one tensor."""

    made: frozenset[str]
    """Labels of the values that were computed in it."""
    returned: str
    """The label of what it returned."""
    shape: tuple[int, ...]
    dtype: Any
    count: int
    """Labels that had been given when it ended."""
    behind: int
    """The number of the first call behind it."""


class SkippableCalls:
    """The calls of a pass, and which of them a later pass can do without."""

    def __init__(self) -> None:
        self.place = 0
        """The number of the next call."""
        self.idle: Mapping[int, LayerCall] = {}
        """Calls, by number, that the pass at hand leaves out."""
        self._made: dict[int, LayerCall] = {}
        self._nodes: tuple[Node, ...] = ()
        self._plain = True

    def look_at(self, layer: Any) -> None:
        """Leave out nothing if a layer may know more of the others than its arguments say: one with code of a user."""
        own = type(layer).__module__.startswith(_OWN) and type(layer).__name__ != "Lambda"
        self._plain = self._plain and own

    def enter(self) -> int:
        """Return the number of a call that begins."""
        self.place += 1
        return self.place - 1

    def leave(
        self, place: int, nodes: Sequence[Node], returned: str, shape: tuple[int, ...], dtype: Any, count: int
    ) -> None:
        """Remember a call of the first pass that ends; `nodes` are what was computed in it."""
        made = frozenset(label for node in nodes for label in node.outputs)
        self._made[place] = LayerCall(made, returned, shape, dtype, count, self.place)

    def end(self, nodes: Sequence[Node]) -> None:
        """Remember all that the first pass computed."""
        self._nodes = tuple(nodes)

    def again(self, wanted: Iterable[str] | None, forced: Collection[str]) -> None:
        """Begin another pass, inside the call of the model.

        Args:
            wanted: labels of values that are to be computed; None where no call is to be left out.
            forced: labels of values that are given to whatever takes them.
        """
        self.place = 1
        self.idle = {} if wanted is None or not self._plain else self._left_out(wanted, forced)

    def _left_out(self, wanted: Iterable[str], forced: Collection[str]) -> Mapping[int, LayerCall]:
        """Return the calls that make nothing of which a wanted value is computed, as far as the nodes show all."""
        makers = {label: node for node in self._nodes for label in node.outputs}
        needed: set[str] = set()
        waiting = list(wanted)
        while waiting:
            label = waiting.pop()
            if label in needed or label.startswith("input "):
                continue
            if label not in makers:
                return {}
            needed.add(label)
            waiting += [one for one in makers[label].inputs if one not in forced]
        every = self._made.items()
        return {place: call for place, call in every if call.returned in call.made and call.made.isdisjoint(needed)}
