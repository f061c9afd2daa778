"""What is seen of an export on one input, and what several inputs show together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bninspect.arithmetic.compare import merge
from bninspect.equivalence.evidence.cut_off import CutOff
from bninspect.equivalence.evidence.hidden import Hidden, Lost
from bninspect.equivalence.evidence.local import Proof
from bninspect.equivalence.evidence.replay import Replay, Stretch
from bninspect.equivalence.evidence.wires import Wire
from bninspect.equivalence.pairing.places import Place
from bninspect.records import Array, Comparison
from bninspect.records.graph import Network, Node, Value
from bninspect.runtimes.runtime import Session


@dataclass(frozen=True, eq=False)
class Round:
    """What one input shows, or several together."""

    places: tuple[Place, ...] = ()
    proofs: Mapping[int, Proof] = field(default_factory=dict)
    """By the identity of the export's operation."""
    stretches: tuple[Stretch, ...] = ()
    outputs: tuple[Comparison, ...] = ()
    """Of the outputs of the two, each on its own."""
    off: float | None = None
    """Largest difference of the two's outputs, each run on its own, as a part of the largest output."""
    agreement: tuple[int, int] | None = None
    """Of how many samples the largest output is the same, and of how many."""
    unreached: tuple[str, ...] = ()
    """Limits of activations that no number reached, in words."""
    lost: tuple[str, ...] = ()
    """Outputs of the model that no output of the export can be, by their shape."""
    unseen: tuple[str, ...] = ()
    """Outputs of the model that nobody could see."""
    order: tuple[int, ...] = ()
    """Places of the export's outputs, in the order of the model's."""
    deployed: tuple[Comparison, ...] = ()
    """Of the outputs with the runtime's own optimisation with those without."""
    arithmetic: str = "float32"
    """The coarsest type of what the export's operations take and give."""
    hidden: Mapping[Node, Hidden] = field(default_factory=dict)
    """Of operations whose numbers the export does not hold, which channels show in nothing that was compared."""
    cut: Mapping[str, CutOff] = field(default_factory=dict)
    """Of the values that have a range, by name, how much the first input has beyond it."""

    @property
    def wrong(self) -> bool:
        """Whether anything was seen that is wrong."""
        proofs = (proof.compared for proof in self.proofs.values())
        return (
            bool(self.lost)
            or any(one.wrong for one in self.stretches)
            or any(one is not None and not one.agrees for one in proofs)
        )

    @property
    def is_open(self) -> bool:
        """Whether other input might show more: of what is in another form every scale has to agree."""
        return bool(self.unreached or self.hidden) or any(not one.moves for one in self.stretches)


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and its export, ready to be run."""

    source: Network
    export: Network
    session: Session
    replay: Replay | None
    forces: bool
    places: tuple[Place, ...]
    seed: int = 0
    outlines: Mapping[str, Value] = field(default_factory=dict)
    """Shape and type of values of the source, by label."""
    returned: Mapping[str, Array] = field(default_factory=dict)
    """What the source returned for `data` by itself, by label."""
    data: Sequence[Array] = ()
    lost: tuple[Lost, ...] = ()


def join(one: Round, other: Round) -> Round:
    """Return what two inputs show together."""
    before = {_key(each.wire): each for each in one.stretches}
    stretches = tuple(_joined(before.get(_key(each.wire)), each) for each in other.stretches)
    proofs = {key: _joined_proof(one.proofs.get(key), proof) for key, proof in other.proofs.items()}
    outputs = tuple(merge(a, b) for a, b in zip(one.outputs, other.outputs, strict=False))
    deployed = tuple(merge(a, b) for a, b in zip(one.deployed, other.deployed, strict=False))
    unreached = tuple(each for each in one.unreached if each in other.unreached)
    return replace(
        other,
        proofs=proofs,
        stretches=stretches,
        outputs=outputs,
        unreached=unreached,
        deployed=deployed,
        hidden={**one.hidden, **{key: each & one.hidden.get(key, each) for key, each in other.hidden.items()}},
        cut=one.cut,  # further input is louder than any data
        agreement=one.agreement,
        lost=one.lost,
        unseen=one.unseen,
        order=one.order,
    )


def _key(wire: Wire) -> tuple[str, str, str]:
    return wire.label, wire.value, wire.end


def _joined(before: Stretch | None, after: Stretch) -> Stretch:
    if before is None:
        return after
    if before.compared is None or after.compared is None:
        return before if before.wrong or after.compared is None else after
    worse = before if before.wrong else after
    kinds = before.kinds | after.kinds
    moves = before.moves or after.moves or len(kinds) > 1
    return replace(worse, compared=merge(before.compared, after.compared), moves=moves, kinds=kinds)


def _joined_proof(before: Proof | None, after: Proof) -> Proof:
    if before is None or before.compared is None or after.compared is None:
        return after if after.compared is not None or before is None else before
    costs = [one for one in (before.cost, after.cost) if one is not None]
    compared = merge(before.compared, after.compared)
    needs = min(before.needs[0], after.needs[0]), max(before.needs[1], after.needs[1])
    return replace(before, compared=compared, cost=max(costs, default=None), value=None, needs=needs)
