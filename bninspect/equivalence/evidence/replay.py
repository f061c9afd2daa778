"""The model run again on the export's own values: what it is given, and how each stretch of it came out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from bninspect.equivalence.evidence.local import Proof
from bninspect.equivalence.evidence.wires import Wire
from bninspect.equivalence.pairing.places import Place
from bninspect.records import Array, Comparison
from bninspect.records.graph import Network

Replay: TypeAlias = Callable[[Sequence[Array] | None, Mapping[str, Array], Iterable[str]], Mapping[str, Array]]
"""Runs the source on input in its order, some values given; returns the wanted ones as it computed them."""


FLOOR = 32.0
"""Roundings of its largest element that a value may be off behind the few operations between two kernels: measured,
5.4 at most in 566 stretches of right exports of seven networks (benchmarks/README.md)."""


RUNS = 8
"""Runs with values moved by one rounding."""


MARGIN = 8.0
"""How many times the largest change of those runs a right export may be off: 5 at most in the same stretches."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """How the end of one stretch compares."""

    wire: Wire
    compared: Comparison | None = None
    why: str = ""
    """Why it was not compared, or what is wrong with it."""
    wrong: bool = False
    exact: bool = False
    """Whether nothing was allowed for rounding to integers or float16 on the way, and it is not counted itself."""
    moves: bool = True
    """Whether it depends visibly on what went in: else that it agrees says nothing."""
    kinds: frozenset[float] = frozenset()
    """Of whole numbers, some of those that were seen: where there are several, it depends on what goes in."""
    given: bool = False
    """Whether what comes behind it was computed from the export's value: what came before it shows nowhere else."""

    @property
    def proves(self) -> bool:
        """Whether it agrees with no room for rounding, and what it depends on shows."""
        return self.compared is not None and self.compared.agrees and self.exact and self.moves

    @property
    def allowed(self) -> float:
        """By how much it may be off."""
        worst = self.compared.worst if self.compared is not None else None
        return worst.bound or 0.0 if worst is not None else 0.0


@dataclass(frozen=True, eq=False)
class Comparing:
    """Everything that stretches are compared with."""

    network: Network
    """Of the export."""
    stored: Mapping[str, Array]
    """What the export's runtime had at each value, integers as they are."""
    values: Mapping[str, Array]
    """The same, as what the integers stand for."""
    proofs: Mapping[int, Proof]
    """By the identity of the export's operation."""
    replay: Replay
    data: Sequence[Array] | None
    forces: bool = True
    """Whether the source can be given values on the way; if not, it runs on its own, and errors add up."""
    seed: int = 0
    source: Network | None = None
    """Of the model; None where nobody asks what it rounds itself."""


@dataclass(frozen=True, eq=False)
class Given:
    """The export's values that the source is run again with."""

    arrays: Mapping[str, Array] = field(default_factory=dict)
    """By label of the source."""
    values: Mapping[str, str] = field(default_factory=dict)
    """What the export calls each."""
    made: Mapping[str, Array] = field(default_factory=dict)
    """What came out of a kernel, by label: what goes into the next is compared with it."""

    def enters(self, place: Place) -> bool:
        """Return whether the source was given what goes into a place as the export had it there."""
        return bool(place.node.inputs) and self.values.get(place.x) == place.node.inputs[0]
