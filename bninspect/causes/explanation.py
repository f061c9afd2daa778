"""What the detective answers: the causes that fit, and what it looked at. Plain records, for reports and for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cause:
    """One reading of the same parameters under which the whole difference vanishes."""

    name: str
    """Stable identifiers of the deviations, joined by ` + `: `epsilon-outside`, `gamma-ignored + epsilon=1e-05`."""
    sentence: str
    """What the kernel does, in plain words."""
    ratio: float
    """Largest |actual - predicted| in units of the rounding bound of this reading; at most 1."""
    explains: float = 1.0
    """Share of the values that were looked at and that the formula does not explain."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Numbers of the reading: `epsilon`, `factor` with the interval `low` to `high` it may lie in ..."""
    ties: tuple[str, ...] = ()
    """Names of the other causes that fit as well."""
    separated_by: str = ""
    """What further observation would tell it from the first of them."""


@dataclass(frozen=True)
class Explanation:
    """The answer on one layer."""

    matches: bool
    """Whether the formula itself explains everything: there is nothing to explain."""
    causes: tuple[Cause, ...]
    """All that fit, the simplest and most common first. Empty if none does."""
    tried: int
    """Number of hypotheses that were tried."""
    elements: int
    """Number of values that were looked at."""
    remarks: tuple[str, ...] = ()
    """What can be said of the difference otherwise: whether it is affine, where it is, what comes nearest."""

    @property
    def sentence(self) -> str:
        """The answer in one line."""
        if self.matches:
            return "the formula explains every value"
        if not self.causes:
            return f"none of {self.tried} hypotheses fits"
        first, *others = self.causes
        if not others:
            return first.sentence
        rest = "1 other" if len(others) == 1 else f"{len(others)} others"
        return f"{first.sentence}, or {rest} that cannot be told apart here"
