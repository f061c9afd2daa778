"""What a verdict on an export follows from, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bninspect.equivalence.diagnosis.diagnose import Diagnosis
from bninspect.equivalence.evidence.rounds import Round
from bninspect.equivalence.pairing.places import Pairing
from bninspect.equivalence.pairing.source_norms import SourceNorm
from bninspect.records import Comparison, Counterpart
from bninspect.records.graph import Network, Node

FOLDED, FORWARD, PAIR, NODE = "folded", "folded forward", "scale and shift", "batch norm"


@dataclass(frozen=True, eq=False)
class Judged:
    """The verdict on one call of a batch norm."""

    norm: SourceNorm
    counterpart: Counterpart
    wrong: bool
    """Whether its own numbers are wrong, or stand where they must not."""
    passed_on: bool = False
    """Whether nothing is wrong but its shape, or what goes into it, which it may have from an operation before it."""


@dataclass(frozen=True, eq=False)
class WrongKernel:
    """A kernel of the model, not of a batch norm, that the export does not hold or compute as the model does."""

    name: str
    sentence: str
    place: str = ""
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True, eq=False)
class Sentence:
    """The verdict on an export."""

    judged: tuple[Judged, ...]
    same: bool
    kernels: tuple[WrongKernel, ...] = ()
    outputs: tuple[str, ...] = ()
    """What is wrong with what the export returns."""
    open: tuple[str, ...] = ()
    """What could not be compared, and closes the gate."""
    condition: str = ""
    """What a verdict of yes depends on that neither file says."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Case:
    """All that a verdict follows from."""

    norms: Sequence[SourceNorm]
    source: Network
    export: Network
    pairing: Pairing
    diagnoses: Mapping[SourceNorm, Diagnosis]
    kernels: Mapping[Node, Diagnosis]
    """Of the kernels of the model that no operation of the export holds."""
    seen: Round | None
    """None if the export was not run."""
    reason: str = ""
    """Why not."""
    given: bool = False
    """Whether what both were run on is the user's own data."""
    replayed: bool = True
    """Whether the model could be run again on the export's values."""
