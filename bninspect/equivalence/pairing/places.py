"""Where the operations and batch norms of a source are in its export, and what is left over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bninspect.equivalence.folding import FoldedKernel
from bninspect.equivalence.pairing.source_norms import SourceNorm
from bninspect.records import Array
from bninspect.records.graph import Network, Node


@dataclass(frozen=True, eq=False)
class Match:
    """Where a batch norm of the source is in the export."""

    norm: SourceNorm
    node: Node
    expected: FoldedKernel
    """What the weights and bias of `node` should be, or the scale and shift of a pair."""
    forward: bool = False
    """Whether it was taken into the operation behind it."""
    hidden: bool = False
    """Whether another batch norm is in the same operation behind it, so that what it returns is seen nowhere."""


@dataclass(frozen=True, eq=False)
class Place:
    """An operation of the export whose numbers are those of one of the source, with the batch norms next to it.

    Or of a batch norm of the source alone, which no linear operation holds.
    """

    node: Node
    expected: FoldedKernel
    operation: Node | None = None
    norms: tuple[SourceNorm, ...] = ()
    """The batch norms that are in it."""
    front: SourceNorm | None = None
    """The one of them that comes before the operation."""
    own_x: bool = True
    """Whether what goes in is a value of the source: not if a bias that was added before is added here."""
    own_y: bool = True
    """Whether what comes out is a value of the source: not if its bias is added by an operation behind it."""
    again: bool = False
    """Whether another place holds the same numbers, so that the source does not say which is which."""
    rebiased: bool = False
    """Whether its weights are right to half a step and its bias is another one, as the bias correction of quantisers
    makes it."""
    rows: Array | None = None
    """Of a dense layer whose inputs the export has in another order: which input of the source each of them is."""

    added: str = ""
    """What the source calls its result with a number added that is in the bias here; empty if none is."""

    @property
    def x(self) -> str:
        """The value of the source that goes in."""
        first = self.front.call if self.front is not None else self.operation or self.norms[0].call
        return first.inputs[0]

    @property
    def y(self) -> str:
        """The value of the source that comes out, before an activation."""
        behind = [norm for norm in self.norms if norm is not self.front]
        last = behind[-1].call if behind else self.operation
        return self.added or (last.outputs[0] if last is not None else "")


@dataclass(frozen=True, eq=False)
class Pairing:
    """What was found of every batch norm, and what is left over."""

    matches: Mapping[SourceNorm, Match]
    missing: tuple[SourceNorm, ...]
    kernels: tuple[Node, ...]
    """Linear operations of the export that hold no operation of the source, with or without batch norms."""
    pairs: tuple[Node, ...]
    """Batch norms, and scale-and-shift pairs, of the export that are not a batch norm of the source."""
    plain: Mapping[Node, Node] = field(default_factory=dict)
    """For a linear operation of the source the one of the export that is a copy of it."""
    places: tuple[Place, ...] = ()
    """Where the operations and batch norms of the source are."""
    lost: tuple[Node, ...] = ()
    """Linear operations of the source whose numbers no operation of the export holds."""


def matches(places: Sequence[Place]) -> dict[SourceNorm, Match]:
    """Return where each batch norm that is in a place is."""
    found: dict[SourceNorm, Match] = {}
    for one in places:
        for norm in one.norms:
            hidden = any(other.through is norm for other in one.norms)
            found.setdefault(norm, Match(norm, one.node, one.expected, norm is one.front, hidden))
    return found


def unsure(places: Sequence[Place]) -> Iterator[Place]:
    """Yield the places; those whose numbers stand at several places of the export or of the source are unsure."""
    counted: dict[tuple[int, str], int] = {}
    for one in places:
        key = (id(one.operation), one.y)
        counted[key] = counted.get(key, 0) + 1
    for one in places:
        yield replace(one, again=counted[id(one.operation), one.y] > 1)


def in_order(places: Iterable[Place], export: Network) -> list[Place]:
    """Return places in the order in which the export computes them."""
    order = {id(node): place for place, node in enumerate(export.nodes)}
    return sorted(places, key=lambda one: order[id(one.node)])
