"""A graph as far as it may normalise data by moments of it: what each format says of its own, in one language."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from bninspect.formats.sample_axes import Shape

MOST = 48
"""Operations that are looked at around a root."""
VIEWS = frozenset(("view", "reshape", "transpose"))
POWERS: Mapping[float, str] = {0.5: "sqrt", -0.5: "rsqrt", 2.0: "square"}
"""What a power is, by its exponent."""


@dataclass(frozen=True, eq=False)
class MomentStep:
    """An operation of a graph, as far as it may be a part of a normalisation."""

    name: str
    kind: str
    """add, mul, sqrt, square, squared difference, mean, variance, deviation, view ...; any other word for the rest."""
    values: tuple[str, ...]
    """That it takes and that are computed."""
    lengths: tuple[int, ...]
    """Of the float constants that it takes: 1 for a single number."""
    output: str
    axes: tuple[int, ...] = ()
    """Of a mean, sum, variance or deviation, all if there are none; of a transpose the order."""
    number: float = 0.0
    """The single number among the constants."""


@dataclass(frozen=True, eq=False)
class MomentGraph:
    """What a format says of its graph."""

    steps: Sequence[MomentStep]
    shape: Callable[[str], Shape | None]
    """Return the shape of a value, None where a length is open; None if the graph does not tell."""

    @cached_property
    def makers(self) -> Mapping[str, MomentStep]:
        """The operation that each value comes out of."""
        return {step.output: step for step in self.steps}

    @cached_property
    def users(self) -> Mapping[str, list[MomentStep]]:
        """The operations that take each value."""
        found: dict[str, list[MomentStep]] = {}
        for step in self.steps:
            for value in dict.fromkeys(step.values):
                found.setdefault(value, []).append(step)
        return found

    def source(self, value: str) -> str:
        """Return what a value was before it was reshaped."""
        for _ in range(MOST):
            step = self.makers.get(value)
            if step is None or step.kind not in VIEWS or not step.values:
                break
            value = step.values[0]
        return value
